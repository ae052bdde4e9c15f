// SPDX-License-Identifier: GPL-2.0-or-later
#include "recovery/rate_meter.h"

#include <algorithm>

namespace mirrorfs {

void RateMeter::Add(absl::Time now, uint64_t amount) {
  Forget(now);
  if (buckets_.empty() || now - buckets_.back().begin >= kGrain) {
    buckets_.push_back({now, 0});
  }
  buckets_.back().amount += amount;
}

uint64_t RateMeter::PerSecond(absl::Time now) {
  Forget(now);
  if (buckets_.empty()) return 0;
  uint64_t sum = 0;
  for (const Bucket& bucket : buckets_) sum += bucket.amount;
  // Of a moment nothing can be said.
  const absl::Duration elapsed = std::max(now - buckets_.front().begin, kGrain);
  return static_cast<uint64_t>(sum / absl::ToDoubleSeconds(elapsed));
}

void RateMeter::Forget(absl::Time now) {
  while (!buckets_.empty() && now - buckets_.front().begin > kWindow) {
    buckets_.pop_front();
  }
}

}  // namespace mirrorfs
