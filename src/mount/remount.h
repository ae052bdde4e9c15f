// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "absl/status/status.h"
#include "mount/options.h"

namespace mirrorfs {

// mount -o remount,...: hands the options that were written to the daemon that
// serves the mount point, and those of any mount (ro, noexec, ...) to the
// kernel. mount(8) repeats the words of the mount table.
absl::Status Remount(const MountCommand& command);

}  // namespace mirrorfs
