// SPDX-License-Identifier: GPL-2.0-or-later
//
// How far the repair of each leg is: since it began, or, when it is over,
// what it came to.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "base/clock.h"
#include "recovery/rate_meter.h"
#include "recovery/setbacks.h"
#include "region/leg_set.h"

namespace mirrorfs {

struct LegProgress {
  uint64_t done_bytes = 0;    // of what was known to be missing; holes included
  uint64_t copied_bytes = 0;  // of them, those that differed
  uint64_t regions = 0;
  uint64_t bytes_per_second = 0;
  // Versions of others that were kept.
  uint64_t conflicts_kept = 0;
  // There is no room to keep one, which is left as it is.
  bool conflict_waits = false;
};

// Threads: all calls from any thread.
class HealProgress {
 public:
  // The clock outlives it.
  explicit HealProgress(const Clock* clock)
      : setbacks(clock), clock_(clock), legs_(kLegsMax) {}

  // A repair of these legs begins.
  void Begin(LegSet legs);
  // Bytes that were compared on a leg, and those that had to be written.
  void Compared(LegSlot leg, uint64_t bytes, uint64_t copied);
  // Bytes in which no leg has data.
  void Skipped(LegSet legs, uint64_t bytes);
  void RegionDone(LegSet legs);

  // A version of others was kept, or there was no room. Answers the leg's
  // numbers before that.
  LegProgress ConflictKept(LegSlot leg);
  LegProgress ConflictWaits(LegSlot leg);

  LegProgress Of(LegSlot leg) const;

  // Something was healed since the log was last cleared for it.
  std::atomic<bool> unannounced{false};
  // What could not be healed.
  Setbacks setbacks;

 private:
  struct Leg {
    LegProgress numbers;
    RateMeter rate;
  };

  absl::Time Now() const { return absl::FromUnixNanos(clock_->RealtimeNs()); }

  const Clock* const clock_;
  mutable std::mutex mutex_;
  mutable std::vector<Leg> legs_;  // by slot; asking makes a meter forget
};

}  // namespace mirrorfs
