// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "base/fd.h"
#include "leg/leg.h"

namespace mirrorfs {

// Keeps a second daemon off the same legs, by whatever path it comes: a lock
// on .mirrorfs/lock of each, given back by the kernel however we end.
class LegLocks {
 public:
  absl::Status Take(const std::vector<std::unique_ptr<Leg>>& legs);

 private:
  std::vector<UniqueFd> locks_;
};

}  // namespace mirrorfs
