// SPDX-License-Identifier: GPL-2.0-or-later
//
// umount(8) returns before the daemon has written what it still holds. This
// returns after it: the legs may be taken away then.
#include <poll.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errno.h"
#include "base/fd.h"
#include "base/mount_table.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/mirror_lookup.h"
#include "cli/output.h"
#include "cli/text.h"

namespace mirrorfs {
namespace {

struct UmountArgs {
  std::string what;
  std::string timeout;
  bool json = false;
};

// How long a process may take to go once its daemon has ended in order.
constexpr absl::Duration kLingerMax = absl::Seconds(2);
constexpr int kLookMs = 100;

// 0 when there is none.
ino_t FileNumber(const std::string& path) {
  struct stat st;
  return lstat(path.c_str(), &st) == 0 ? st.st_ino : 0;
}

// The daemon of a mirror that is being unmounted.
class EndingDaemon {
 public:
  explicit EndingDaemon(const MountedMirror& mirror)
      : socket_(mirror.socket),
        socket_file_(FileNumber(mirror.socket)),
        // Now, so that its number cannot be another process's yet.
        process_(
            static_cast<int>(syscall(SYS_pidfd_open, mirror.status.pid, 0))),
        error_(process_.valid() ? kOk : Errno::Last()) {}

  // Why its end cannot be waited for.
  Errno error() const { return error_ == Errno(ESRCH) ? kOk : error_; }

  // An orderly end takes the control socket along, last of all; see
  // ControlServer::Stop.
  bool ended_in_order() const {
    return socket_file_ == 0 || FileNumber(socket_) != socket_file_;
  }

  enum class Wait { kGone, kLingers, kWorks };
  // kLingers: it ended in order, but its process cannot go: a leg does not
  // answer one of its threads. kWorks: it was still at work at `deadline`.
  Wait WaitForEnd(absl::Time deadline) const {
    absl::Time ended = absl::InfiniteFuture();
    while (process_.valid()) {
      pollfd wait = {process_.get(), POLLIN, 0};
      if (poll(&wait, 1, kLookMs) > 0) break;
      const absl::Time now = absl::Now();
      if (socket_file_ != 0 && ended_in_order()) ended = std::min(ended, now);
      if (now - ended >= kLingerMax) return Wait::kLingers;
      if (now >= deadline && ended == absl::InfiniteFuture()) {
        return Wait::kWorks;
      }
    }
    return Wait::kGone;
  }

 private:
  const std::string socket_;
  const ino_t socket_file_;
  const UniqueFd process_;
  const Errno error_;
};

// The kernel may let go of a file a moment after the program that closed it has
// gone on.
constexpr int kBusyTries = 10;
constexpr absl::Duration kBusyPause = absl::Milliseconds(50);

absl::Status Unmount(const std::string& mount_point) {
  Errno error;
  for (int tries = 0; tries < kBusyTries; ++tries) {
    error = FromSyscall(umount2(mount_point.c_str(), UMOUNT_NOFOLLOW));
    if (error != Errno(EBUSY)) break;
    absl::SleepFor(kBusyPause);
  }
  if (error.ok()) return absl::OkStatus();
  if (error == Errno(EBUSY)) {
    return absl::FailedPreconditionError(
        absl::StrCat(mount_point, ": is in use; `fuser -vm ", mount_point,
                     "` shows by whom"));
  }
  return ToStatus(error, mount_point);
}

// More mounts of the same file system (bind mounts): its daemon lives as long
// as any. To be asked before it is unmounted; the device's number can be
// another file system's right after it.
std::vector<MountEntry> OtherMounts(const std::vector<MountEntry>& table,
                                    const MountEntry& entry) {
  std::vector<MountEntry> others;
  for (const MountEntry& other : table) {
    if (&other != &entry && other.device == entry.device) {
      others.push_back(other);
    }
  }
  return others;
}

// Takes a mirror's mount away, if it is there: somebody may have unmounted
// already and the daemon is about to end.
absl::Status UnmountIfMounted(const std::string& mount_point) {
  const std::vector<MountEntry> table = ReadMountTable();
  const MountEntry* entry = FindMount(table, mount_point);
  if (entry == nullptr) return absl::OkStatus();
  if (!IsMirrorMount(*entry)) {
    return absl::FailedPreconditionError(
        absl::StrCat(mount_point, ": a ", entry->type, " is mounted over it"));
  }
  const std::vector<MountEntry> others = OtherMounts(table, *entry);
  const absl::Status status = Unmount(mount_point);
  if (!status.ok() || others.empty()) return status;
  return absl::FailedPreconditionError(
      absl::StrCat("unmounted from ", mount_point, " but still mounted at ",
                   others.front().mount_point, "; the daemon goes on"));
}

int Done(const UmountArgs& args, const std::string& mount_point,
         absl::string_view daemon) {
  if (args.json) {
    PrintJson({{"mountpoint", mount_point}, {"daemon", std::string(daemon)}});
  } else {
    std::cout << "unmounted " << Printable(mount_point) << "; the daemon "
              << daemon << "\n";
  }
  return kExitHealthy;
}

int Fail(absl::string_view message) {
  PrintError(message);
  return kExitUsage;
}

int UmountLiving(const UmountArgs& args, const MountedMirror& mirror,
                 absl::Time deadline) {
  const std::string& mount_point = mirror.status.mountpoint;
  const EndingDaemon daemon(mirror);
  if (!daemon.error().ok()) {
    return Fail(absl::StrCat("process ", mirror.status.pid, ": ",
                             ErrnoText(daemon.error())));
  }
  const absl::Status unmounted = UnmountIfMounted(mount_point);
  if (!unmounted.ok()) return Fail(unmounted.message());
  switch (daemon.WaitForEnd(deadline)) {
    case EndingDaemon::Wait::kWorks:
      return Fail(absl::StrCat("unmounted ", mount_point,
                               " but its daemon (pid ", mirror.status.pid,
                               ") still works after ", args.timeout));
    case EndingDaemon::Wait::kLingers:
      return Done(args, mount_point,
                  "ended in order, but a leg does not let its process go");
    case EndingDaemon::Wait::kGone:
      break;
  }
  if (daemon.ended_in_order()) {
    return Done(args, mount_point, "ended in order");
  }
  return Fail(absl::StrCat("unmounted ", mount_point, " but its daemon (pid ",
                           mirror.status.pid,
                           ") did not end in order; the next mount recovers"));
}

// A mount in the table whose daemon cannot be asked, mostly because it was
// killed.
int UmountSilent(const UmountArgs& args, const absl::Status& not_found,
                 bool some_daemon_hangs) {
  const std::vector<MountEntry> table = ReadMountTable();
  for (const std::string& mount_point :
       {AbsolutePath(args.what), PathWithRealParent(args.what)}) {
    const MountEntry* entry = FindMount(table, mount_point);
    if (entry == nullptr || !IsMirrorMount(*entry)) continue;
    // To look at a mount whose daemon hangs would hang, too.
    struct stat st;
    const bool dead = !some_daemon_hangs &&
                      stat(mount_point.c_str(), &st) != 0 && errno == ENOTCONN;
    const absl::Status unmounted = UnmountIfMounted(mount_point);
    if (!unmounted.ok()) return Fail(unmounted.message());
    if (dead) return Done(args, mount_point, "was gone already");
    return Fail(absl::StrCat(
        "unmounted ", mount_point, " but its daemon could not be asked (",
        not_found.message(), "); see with ps when it has ended"));
  }
  PrintError(not_found);
  return kExitNotMounted;
}

int RunUmount(const UmountArgs& args) {
  absl::Time deadline = absl::InfiniteFuture();
  if (!args.timeout.empty()) {
    const absl::StatusOr<absl::Duration> timeout = ParseDuration(args.timeout);
    if (!timeout.ok()) {
      return Fail(absl::StrCat("--timeout: ", timeout.status().message()));
    }
    deadline = absl::Now() + *timeout;
  }
  const MountedMirrors all = AskAllDaemons();
  const absl::StatusOr<MountedMirror> mirror = FindMirrorAmong(all, args.what);
  if (mirror.ok()) return UmountLiving(args, *mirror, deadline);
  if (absl::IsNotFound(mirror.status())) {
    return UmountSilent(args, mirror.status(), !all.silent.empty());
  }
  return Fail(mirror.status().message());
}

}  // namespace

void AddUmountCommand(CLI::App& app, int* exit_code) {
  auto* command = app.add_subcommand(
      "umount", "Unmount a mirror and wait until its daemon has ended");
  auto args = std::make_shared<UmountArgs>();
  command->add_option("MIRROR", args->what, "mount point, name, uuid or a leg")
      ->required();
  command->add_option("--timeout", args->timeout,
                      "wait no longer than this for the daemon [for ever]");
  command->add_flag("--json", args->json, "print JSON");
  command->callback([args, exit_code] { *exit_code = RunUmount(*args); });
}

}  // namespace mirrorfs
