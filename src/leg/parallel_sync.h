// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <vector>

#include "base/errno.h"

namespace mirrorfs {

// fsync(2), or fdatasync(2) when `data_only`, of all descriptors at once; one
// result for each. Returns when all are done. The kernel does them in parallel
// (io_uring, a ring for each calling thread); where it has none, one after the
// other. Thread-safe.
std::vector<Errno> SyncTogether(const std::vector<int>& fds, bool data_only);

}  // namespace mirrorfs
