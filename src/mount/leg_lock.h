// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "leg/leg.h"

namespace mirrorfs {

// Keeps a second daemon off the same legs, by whatever path it comes: a lock
// on .mirrorfs/lock of each, given back by the kernel however we end.
class LegLocks {
 public:
  absl::Status Take(const std::vector<std::unique_ptr<Leg>>& legs);
  // One that comes later. A leg that was locked before may be given again.
  absl::Status TakeOne(const Leg& leg);

 private:
  struct Lock {
    dev_t dev;
    ino_t ino;
    LegFd fd;
  };
  std::vector<Lock> locks_;
};

}  // namespace mirrorfs
