// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/status.h"
#include "base/handover_lock.h"
#include "leg/leg.h"

namespace mirrorfs {

// Keeps a second daemon off the same legs, by whatever path it comes: a lock
// on .mirrorfs/lock of each, given back by the kernel however we end.
// Thread-safe.
class LegLocks {
 public:
  absl::Status Take(const std::vector<std::unique_ptr<Leg>>& legs);
  // One that comes later. A leg that was locked before may be given again.
  absl::Status TakeOne(const Leg& leg);
  // It is no leg of ours any more.
  void Release(const Leg& leg);

 private:
  struct Lock {
    dev_t dev;
    ino_t ino;
    LegFd fd;
  };
  HandoverMutex mutex_;
  std::vector<Lock> locks_;  // guarded by mutex_
};

}  // namespace mirrorfs
