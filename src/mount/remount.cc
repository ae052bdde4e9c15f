// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/remount.h"

#include <sys/mount.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <iterator>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/errno.h"
#include "control/control_client.h"

namespace mirrorfs {
namespace {

constexpr absl::Duration kAnswerMax = absl::Seconds(10);

// What mount(2) can change of a mount without asking the daemon.
struct KernelFlag {
  absl::string_view option;
  unsigned long flag;
  bool set;
};
constexpr KernelFlag kKernelFlags[] = {
    {"ro", MS_RDONLY, true},          {"rw", MS_RDONLY, false},
    {"nosuid", MS_NOSUID, true},      {"suid", MS_NOSUID, false},
    {"nodev", MS_NODEV, true},        {"dev", MS_NODEV, false},
    {"noexec", MS_NOEXEC, true},      {"exec", MS_NOEXEC, false},
    {"allow-suid", MS_NOSUID, false}, {"allow-dev", MS_NODEV, false},
};

const KernelFlag* FindKernelFlag(absl::string_view option) {
  const auto* found = std::find_if(
      std::begin(kKernelFlags), std::end(kKernelFlags),
      [&](const KernelFlag& flag) { return flag.option == option; });
  return found == std::end(kKernelFlags) ? nullptr : found;
}

// Say something about the start of a mount only.
bool IsForTheStart(absl::string_view option) {
  return option == "remount" || option == "create" || option == "foreground" ||
         option == "wait-legs";
}

unsigned long FlagsOf(const struct statvfs& st) {
  unsigned long flags = 0;
  if (st.f_flag & ST_RDONLY) flags |= MS_RDONLY;
  if (st.f_flag & ST_NOSUID) flags |= MS_NOSUID;
  if (st.f_flag & ST_NODEV) flags |= MS_NODEV;
  if (st.f_flag & ST_NOEXEC) flags |= MS_NOEXEC;
  return flags;
}

// `writable`: the daemon is not read-only itself.
absl::Status ChangeKernelFlags(const MountCommand& command, bool writable) {
  const std::string& where = command.mount_point;
  const auto error = [&] { return ToStatus(Errno::Last(), where); };
  struct statvfs st;
  if (statvfs(where.c_str(), &st) != 0) return error();
  const unsigned long before = FlagsOf(st);
  unsigned long flags = before;
  for (const GivenOption& option : command.options.given) {
    const KernelFlag* known = FindKernelFlag(option.name);
    if (known == nullptr) continue;
    flags = known->set ? flags | known->flag : flags & ~known->flag;
  }
  if (flags == before) return absl::OkStatus();
  if (!writable && !(flags & MS_RDONLY)) {
    return absl::FailedPreconditionError(
        "option \"rw\": it was mounted read-only; unmount and mount again");
  }
  // Of the mount point alone: the daemon goes on healing legs. Flags of access
  // times stay as they are when none is given.
  if (mount("none", where.c_str(), nullptr, MS_REMOUNT | MS_BIND | flags,
            nullptr) != 0) {
    return error();
  }
  return absl::OkStatus();
}

struct Served {
  std::string socket;
  bool read_only = false;
};

// The daemon at that mount point.
std::optional<Served> FindDaemon(const std::string& mount_point) {
  for (const std::string& socket : ListControlSockets(ControlRunDir())) {
    const absl::StatusOr<nlohmann::json> status =
        ControlCall(socket, {{"command", "status"}}, kAnswerMax);
    if (status.ok() && status->value("mountpoint", "") == mount_point) {
      return Served{socket, status->value("read_only", false)};
    }
  }
  return std::nullopt;
}

}  // namespace

absl::Status Remount(const MountCommand& command) {
  nlohmann::json options = nlohmann::json::object();
  for (const GivenOption& option : command.options.given) {
    if (FindKernelFlag(option.name) || IsForTheStart(option.name)) continue;
    options[option.name] = option.value;
  }
  const std::optional<Served> daemon = FindDaemon(command.mount_point);
  if (!daemon) {
    return absl::NotFoundError(
        absl::StrCat("remount: no mirror is mounted at ", command.mount_point));
  }
  const absl::Status status =
      ControlCall(daemon->socket, {{"command", "set"}, {"options", options}},
                  kAnswerMax)
          .status();
  return status.ok() ? ChangeKernelFlags(command, !daemon->read_only) : status;
}

}  // namespace mirrorfs
