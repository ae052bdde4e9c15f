// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/wait_sync.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/mirror_lookup.h"
#include "cli/output.h"
#include "cli/resync_text.h"
#include "cli/text.h"
#include "control/control_client.h"

namespace mirrorfs {
namespace {

// Quick at first, since most waits are short; who has waited long gets to know
// of the end about a tenth of that later.
constexpr absl::Duration kPollMin = absl::Milliseconds(50);
constexpr absl::Duration kPollMax = absl::Seconds(1);
constexpr double kPollGrowth = 1.1;

// Says how far it is, on standard error: as a bar that stays on its line when
// that is a terminal, else as a line from time to time.
class ProgressShow {
 public:
  ProgressShow(std::string mirror, absl::Duration every, bool quiet)
      : mirror_(std::move(mirror)),
        every_(every),
        quiet_(quiet),
        terminal_(isatty(STDERR_FILENO) == 1) {}
  ~ProgressShow() { Wipe(); }

  void Say(const MirrorStatus& mirror) {
    if (quiet_) return;
    const ResyncState state = ResyncOf(mirror);
    const std::string head = absl::StrCat(Printable(mirror_), ": ");
    if (terminal_) {
      const int columns = Columns() - static_cast<int>(head.size());
      std::cerr << "\r" << head << ResyncBar(state, columns) << "\x1b[K"
                << std::flush;
      drawn_ = true;
    } else if (absl::Now() - said_at_ >= every_) {
      std::cerr << head << ResyncLine(state) << std::endl;
      said_at_ = absl::Now();
    }
  }

  // Leaves the line free for what comes next.
  void Wipe() {
    if (drawn_) std::cerr << "\r\x1b[K" << std::flush;
    drawn_ = false;
  }

  // A bar moves more often.
  absl::Duration pause_max() const {
    return terminal_ && !quiet_ ? kPollMax / 4 : kPollMax;
  }

 private:
  // One less than there are: a cursor behind the last one would wrap.
  static int Columns() {
    winsize size = {};
    const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0;
    return (known && size.ws_col > 0 ? size.ws_col : 80) - 1;
  }

  const std::string mirror_;
  const absl::Duration every_;
  const bool quiet_;
  const bool terminal_;
  bool drawn_ = false;
  absl::Time said_at_ = absl::Now();
};

// A leg that is not here cannot be waited for.
bool IsPresent(const LegStatus& leg) {
  return leg.state != "missing" && leg.state != "failed" &&
         leg.state != "offline";
}

bool IsInSync(const MirrorStatus& mirror) {
  return std::all_of(mirror.legs.begin(), mirror.legs.end(),
                     [](const LegStatus& leg) {
                       // One that replaces another one is not done before
                       // that is gone.
                       return !IsPresent(leg) ||
                              (leg.state == "in-sync" && leg.replaces.empty());
                     });
}

absl::StatusOr<nlohmann::json> AskAgain(const MountedMirror& mirror,
                                        absl::Time deadline) {
  const absl::Duration left = deadline - absl::Now();
  return ControlCall(mirror.socket, {{"command", "status"}},
                     std::clamp(left, absl::Milliseconds(100), kStatusTimeout));
}

int Finish(const WaitArgs& args, const MountedMirror& mirror, int exit_code) {
  if (args.json) {
    PrintJson({{"mirrors", nlohmann::ordered_json::array({mirror.json})},
               {"in_sync", exit_code == kExitHealthy}});
  } else if (exit_code == kExitHealthy) {
    if (args.quiet) return exit_code;
    std::cout << Printable(mirror.status.name) << ": "
              << mirror.status.InSyncLegs() << " of "
              << Count(mirror.status.legs.size(), "leg", "legs")
              << " in sync\n";
  } else if (exit_code == kExitResyncing) {
    PrintError(absl::StrCat(args.what, ": not in sync after ", args.timeout));
  } else {
    PrintError(absl::StrCat(args.what,
                            ": legs were changed without each other; `mirrorfs "
                            "resolve` says which to keep"));
  }
  return exit_code;
}

int Wait(const WaitArgs& args, MountedMirror mirror, absl::Time deadline,
         absl::Duration every) {
  ProgressShow progress(mirror.status.name, every, args.json || args.quiet);
  for (absl::Duration pause = kPollMin;;
       pause = std::min(pause * kPollGrowth, progress.pause_max())) {
    const bool over = mirror.status.state == "conflict" ||
                      IsInSync(mirror.status) || absl::Now() >= deadline;
    if (over) {
      progress.Wipe();
    } else {
      progress.Say(mirror.status);
    }
    if (mirror.status.state == "conflict") {
      return Finish(args, mirror, kExitConflict);
    }
    if (IsInSync(mirror.status)) return Finish(args, mirror, kExitHealthy);
    if (absl::Now() >= deadline) return Finish(args, mirror, kExitResyncing);
    absl::SleepFor(std::min(pause, deadline - absl::Now()));

    absl::StatusOr<nlohmann::json> json = AskAgain(mirror, deadline);
    if (json.ok()) {
      mirror.status = ParseMirrorStatus(*json);
      mirror.json = *std::move(json);
    } else if (absl::IsUnavailable(json.status())) {
      progress.Wipe();
      PrintError(absl::StrCat(args.what, ": was unmounted meanwhile"));
      return kExitNotMounted;
    } else if (!absl::IsDeadlineExceeded(json.status())) {
      // A daemon too busy to answer is waited for.
      progress.Wipe();
      PrintError(absl::StrCat(args.what, ": ", json.status().message()));
      return kExitUsage;
    }
  }
}

}  // namespace

int WaitForSync(const WaitArgs& args) {
  absl::Time deadline = absl::InfiniteFuture();
  if (!args.timeout.empty()) {
    const absl::StatusOr<absl::Duration> timeout = ParseDuration(args.timeout);
    if (!timeout.ok()) {
      PrintError(absl::StrCat("--timeout: ", timeout.status().message()));
      return kExitUsage;
    }
    deadline = absl::Now() + *timeout;
  }
  const absl::StatusOr<absl::Duration> every = ParseDuration(args.every);
  if (!every.ok()) {
    PrintError(absl::StrCat("--every: ", every.status().message()));
    return kExitUsage;
  }
  absl::StatusOr<MountedMirror> mirror = FindMirror(args.what);
  if (mirror.ok()) return Wait(args, *std::move(mirror), deadline, *every);
  PrintError(mirror.status());
  return absl::IsNotFound(mirror.status()) ? kExitNotMounted : kExitUsage;
}

void AddWaitSyncCommand(CLI::App& app, int* exit_code) {
  auto* command = app.add_subcommand(
      "wait-sync", "Wait until every leg that is there is in sync");
  auto args = std::make_shared<WaitArgs>();
  command->add_option("MIRROR", args->what, "mount point, name, uuid or a leg")
      ->required();
  command->add_option("--timeout", args->timeout,
                      "give up after this long, with exit status 4 [never]");
  command->add_option("--every", args->every,
                      "say how far it is that often [10s]; a terminal gets a "
                      "bar instead");
  command->add_flag("--json", args->json, "print JSON");
  command->callback([args, exit_code] { *exit_code = WaitForSync(*args); });
}

}  // namespace mirrorfs
