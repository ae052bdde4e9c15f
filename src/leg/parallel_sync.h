// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <vector>

#include "base/errno.h"
#include "leg/leg_fd.h"

namespace mirrorfs {

inline constexpr size_t kSyncedTogetherMax = 64;

// fsync(2), or fdatasync(2) when `data_only`, of all descriptors (so many at
// most) at once; one result for each. Returns when all are done, or do not
// answer in time (ETIMEDOUT). The kernel does them in parallel (io_uring);
// where it has none, one after the other. Thread-safe.
std::vector<Errno> SyncTogether(const std::vector<LegFd>& fds, bool data_only);

}  // namespace mirrorfs
