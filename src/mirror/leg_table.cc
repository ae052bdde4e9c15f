// SPDX-License-Identifier: GPL-2.0-or-later
#include "mirror/leg_table.h"

#include <utility>

namespace mirrorfs {

LegTable::LegTable(std::vector<std::unique_ptr<Leg>> legs, LegSet all,
                   LegSlot primary)
    : all_(all.bits()), primary_(static_cast<uint64_t>(primary)) {
  for (auto& state : states_) state = LegState::kMissing;
  for (std::unique_ptr<Leg>& leg : legs) {
    if (leg == nullptr) continue;
    const LegSlot slot = leg->slot();
    Put(std::move(leg));
    SetUp(slot);
  }
}

void LegTable::AddMember(LegSlot slot) {
  all_.fetch_or(LegSet::Of(slot).bits());
}

void LegTable::RemoveMember(LegSlot slot) {
  all_.fetch_and(~LegSet::Of(slot).bits());
}

void LegTable::Put(std::unique_ptr<Leg> leg) {
  const LegSlot slot = leg->slot();
  // Descriptors of the leg before must not pass for descriptors of this one.
  if (known(slot)) leg->StartAfter(at(slot));
  std::lock_guard lock(mutex_);
  legs_[slot] = leg.get();
  owned_.push_back(std::move(leg));
}

void LegTable::SetUp(LegSlot slot) {
  states_[slot] = LegState::kUp;
  up_.fetch_or(LegSet::Of(slot).bits());
}

std::string LegTable::reason(LegSlot slot) const {
  std::lock_guard lock(mutex_);
  return reasons_[slot];
}

void LegTable::SetReason(LegSlot slot, const std::string& reason) {
  std::lock_guard lock(mutex_);
  reasons_[slot] = reason;
}

void LegTable::SetDown(LegSlot slot, LegState why, const std::string& reason) {
  SetReason(slot, reason);
  states_[slot] = why;
  up_.fetch_and(~LegSet::Of(slot).bits());
}

void LegTable::SetPrimary(LegSlot slot) {
  primary_ = (primary_epoch() + 1) << kSlotBits | static_cast<uint64_t>(slot);
}

}  // namespace mirrorfs
