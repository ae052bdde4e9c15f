// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "absl/status/status.h"
#include "mount/options.h"

namespace mirrorfs {

// mount -o remount,...: hands the options that were written to the daemon that
// serves the mount point. Words that mount(8) repeats from the mount table are
// not for it.
absl::Status Remount(const MountCommand& command);

}  // namespace mirrorfs
