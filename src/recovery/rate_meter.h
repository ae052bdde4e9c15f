// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <deque>

#include "absl/time/time.h"

namespace mirrorfs {

// How fast something goes, over the last ten seconds. No locks.
class RateMeter {
 public:
  static constexpr absl::Duration kWindow = absl::Seconds(10);
  static constexpr absl::Duration kGrain = absl::Milliseconds(250);

  void Add(absl::Time now, uint64_t amount);
  // A second; 0 when nothing came for as long as the window.
  uint64_t PerSecond(absl::Time now);
  void Reset() { buckets_.clear(); }

 private:
  struct Bucket {
    absl::Time begin;
    uint64_t amount = 0;
  };

  void Forget(absl::Time now);

  std::deque<Bucket> buckets_;
};

}  // namespace mirrorfs
