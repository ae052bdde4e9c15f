// SPDX-License-Identifier: GPL-2.0-or-later
//
// The life of one mounted mirror: assemble the legs, set up the log, mount,
// serve, and end in order. Everything is built and wired here.
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "mount/options.h"

namespace mirrorfs {

// Serves until the mount is gone. `ready` is called once it is usable; an
// error before that means that nothing is mounted and nothing was changed.
// `leg_hangs`: some threads are in calls that do not return. The end was an
// orderly one all the same, but the process must not wait for them, nor clean
// up after itself while they may go on.
absl::Status RunDaemon(const MountCommand& command, std::function<void()> ready,
                       bool* leg_hangs);

}  // namespace mirrorfs
