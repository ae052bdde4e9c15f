// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/remount.h"

#include "absl/strings/str_cat.h"
#include "control/control_client.h"

namespace mirrorfs {
namespace {

constexpr absl::Duration kAnswerMax = absl::Seconds(10);

// The socket of the daemon at that mount point, or empty.
std::string SocketOf(const std::string& mount_point) {
  for (const std::string& socket : ListControlSockets(ControlRunDir())) {
    const absl::StatusOr<nlohmann::json> status =
        ControlCall(socket, {{"command", "status"}}, kAnswerMax);
    if (status.ok() && status->value("mountpoint", "") == mount_point) {
      return socket;
    }
  }
  return "";
}

bool IsForDaemon(const GivenOption& option) {
  const MountOptionInfo* info = FindMountOption(option.name);
  return info != nullptr && info->kind == MountOptionInfo::Kind::kValue;
}

}  // namespace

absl::Status Remount(const MountCommand& command) {
  nlohmann::json options = nlohmann::json::object();
  for (const GivenOption& option : command.options.given) {
    if (IsForDaemon(option)) options[option.name] = option.value;
  }
  const std::string socket = SocketOf(command.mount_point);
  if (socket.empty()) {
    return absl::NotFoundError(
        absl::StrCat("remount: no mirror is mounted at ", command.mount_point));
  }
  return ControlCall(socket, {{"command", "set"}, {"options", options}},
                     kAnswerMax)
      .status();
}

}  // namespace mirrorfs
