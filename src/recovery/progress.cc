// SPDX-License-Identifier: GPL-2.0-or-later
#include "recovery/progress.h"

namespace mirrorfs {

void HealProgress::Begin(LegSet legs) {
  std::lock_guard lock(mutex_);
  legs.ForEach([&](LegSlot slot) { legs_[slot] = Leg(); });
}

void HealProgress::Compared(LegSlot leg, uint64_t bytes, uint64_t copied) {
  std::lock_guard lock(mutex_);
  legs_[leg].numbers.done_bytes += bytes;
  legs_[leg].numbers.copied_bytes += copied;
  legs_[leg].rate.Add(Now(), bytes);
}

void HealProgress::Skipped(LegSet legs, uint64_t bytes) {
  std::lock_guard lock(mutex_);
  legs.ForEach([&](LegSlot slot) { legs_[slot].numbers.done_bytes += bytes; });
}

void HealProgress::RegionDone(LegSet legs) {
  std::lock_guard lock(mutex_);
  legs.ForEach([&](LegSlot slot) { ++legs_[slot].numbers.regions; });
}

LegProgress HealProgress::ConflictKept(LegSlot leg) {
  std::lock_guard lock(mutex_);
  const LegProgress before = legs_[leg].numbers;
  ++legs_[leg].numbers.conflicts_kept;
  legs_[leg].numbers.conflict_waits = false;
  return before;
}

LegProgress HealProgress::ConflictWaits(LegSlot leg) {
  std::lock_guard lock(mutex_);
  const LegProgress before = legs_[leg].numbers;
  legs_[leg].numbers.conflict_waits = true;
  return before;
}

LegProgress HealProgress::Of(LegSlot leg) const {
  std::lock_guard lock(mutex_);
  LegProgress numbers = legs_[leg].numbers;
  numbers.bytes_per_second = legs_[leg].rate.PerSecond(Now());
  return numbers;
}

}  // namespace mirrorfs
