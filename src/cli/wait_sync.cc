// SPDX-License-Identifier: GPL-2.0-or-later
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
#include "cli/text.h"
#include "control/control_client.h"

namespace mirrorfs {
namespace {

// Quick at first, since most waits are short.
constexpr absl::Duration kPollMin = absl::Milliseconds(50);
constexpr absl::Duration kPollMax = absl::Seconds(1);

struct WaitArgs {
  std::string what;
  std::string timeout;
  bool json = false;
};

// A leg that is not here cannot be waited for.
bool IsPresent(const LegStatus& leg) {
  return leg.state != "missing" && leg.state != "failed" &&
         leg.state != "offline";
}

bool IsInSync(const MirrorStatus& mirror) {
  return std::all_of(mirror.legs.begin(), mirror.legs.end(),
                     [](const LegStatus& leg) {
                       return !IsPresent(leg) || leg.state == "in-sync";
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
    std::cout << Printable(mirror.status.name) << ": "
              << mirror.status.InSyncLegs() << " of "
              << Count(mirror.status.legs.size(), "leg", "legs")
              << " in sync\n";
  } else if (exit_code == kExitResyncing) {
    PrintError(absl::StrCat(args.what, ": not in sync after ", args.timeout));
  } else {
    PrintError(
        absl::StrCat(args.what,
                     ": legs were changed without each other; unmount, then "
                     "`mirrorfs resolve`"));
  }
  return exit_code;
}

int Wait(const WaitArgs& args, MountedMirror mirror, absl::Time deadline) {
  for (absl::Duration pause = kPollMin;;
       pause = std::min(pause * 1.5, kPollMax)) {
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
      PrintError(absl::StrCat(args.what, ": was unmounted meanwhile"));
      return kExitNotMounted;
    } else if (!absl::IsDeadlineExceeded(json.status())) {
      // A daemon too busy to answer is waited for.
      PrintError(absl::StrCat(args.what, ": ", json.status().message()));
      return kExitUsage;
    }
  }
}

int RunWaitSync(const WaitArgs& args) {
  absl::Time deadline = absl::InfiniteFuture();
  if (!args.timeout.empty()) {
    const absl::StatusOr<absl::Duration> timeout = ParseDuration(args.timeout);
    if (!timeout.ok()) {
      PrintError(absl::StrCat("--timeout: ", timeout.status().message()));
      return kExitUsage;
    }
    deadline = absl::Now() + *timeout;
  }
  absl::StatusOr<MountedMirror> mirror = FindMirror(args.what);
  if (mirror.ok()) return Wait(args, *std::move(mirror), deadline);
  PrintError(mirror.status());
  return absl::IsNotFound(mirror.status()) ? kExitNotMounted : kExitUsage;
}

}  // namespace

void AddWaitSyncCommand(CLI::App& app, int* exit_code) {
  auto* command = app.add_subcommand(
      "wait-sync", "Wait until every leg that is there is in sync");
  auto args = std::make_shared<WaitArgs>();
  command->add_option("MIRROR", args->what, "mount point, name, uuid or a leg")
      ->required();
  command->add_option("--timeout", args->timeout,
                      "give up after this long, with exit status 4 [never]");
  command->add_flag("--json", args->json, "print JSON");
  command->callback([args, exit_code] { *exit_code = RunWaitSync(*args); });
}

}  // namespace mirrorfs
