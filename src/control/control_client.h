// SPDX-License-Identifier: GPL-2.0-or-later
//
// The other end of the control socket, for programs that talk to daemons.
// Every call ends by its timeout, whatever the daemon does, but for following.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"

namespace mirrorfs {

// Where daemons put their sockets: $MIRRORFS_RUN_DIR or /run/mirrorfs.
std::string ControlRunDir();

// The socket of a mirror, by its uuid.
std::string ControlSocketPath(absl::string_view mirror_uuid);

// Paths of all sockets in `run_dir`, sorted. Some may be left over from
// daemons that were killed. No directory is no sockets.
std::vector<std::string> ListControlSockets(const std::string& run_dir);

// Sends one request and returns the `result` of its answer (null when it has
// none). Fails with Unavailable when no daemon listens there, DeadlineExceeded
// when it does not answer in time, FailedPrecondition with the daemon's own
// words when it refuses, DataLoss when its answer makes no sense.
absl::StatusOr<nlohmann::json> ControlCall(const std::string& socket_path,
                                           const nlohmann::json& request,
                                           absl::Duration timeout);

// Sends one request whose answer goes on, and gives its `result` and then each
// line that follows to `on_line`, until that returns false (OK) or the daemon
// ends the stream (Unavailable). Only the answer has to come by `timeout`.
absl::Status ControlFollow(
    const std::string& socket_path, const nlohmann::json& request,
    absl::Duration timeout,
    const std::function<bool(const nlohmann::json&)>& on_line);

}  // namespace mirrorfs
