// SPDX-License-Identifier: GPL-2.0-or-later
#include "region/region_states.h"

namespace mirrorfs {

bool RegionStates::TryBegin(absl::Span<const std::string> keys) {
  for (const std::string& key : keys) {
    if (IsRecovering(key)) return false;
  }
  for (const std::string& key : keys) {
    Entry& entry = entries_[key];
    ++entry.pending;
    entry.epoch = next_epoch_++;
  }
  return true;
}

void RegionStates::End(absl::Span<const std::string> keys, int64_t tick) {
  for (const std::string& key : keys) {
    const auto found = entries_.find(key);
    if (found == entries_.end() || found->second.pending == 0) continue;
    --found->second.pending;
    found->second.tick = tick;
  }
}

bool RegionStates::StartRecovery(const std::string& key) {
  Entry& entry = entries_[key];
  if (entry.recovering) return false;
  entry.recovering = true;
  entry.epoch = next_epoch_++;
  return true;
}

bool RegionStates::IsQuiesced(const std::string& key) const {
  return PendingCount(key) == 0;
}

void RegionStates::FinishRecovery(const std::string& key, int64_t tick) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return;
  found->second.recovering = false;
  found->second.tick = tick;
}

std::vector<RegionStates::IdleRegion> RegionStates::Idle(int64_t tick) const {
  std::vector<IdleRegion> idle;
  for (const auto& [key, entry] : entries_) {
    if (entry.pending == 0 && !entry.recovering && entry.tick <= tick) {
      idle.push_back({key, entry.epoch});
    }
  }
  return idle;
}

bool RegionStates::IsUnchanged(const IdleRegion& region) const {
  const auto found = entries_.find(region.key);
  if (found == entries_.end()) return false;
  const Entry& entry = found->second;
  return entry.pending == 0 && !entry.recovering && entry.epoch == region.epoch;
}

void RegionStates::TouchAll() {
  for (auto& [key, entry] : entries_) entry.epoch = next_epoch_++;
}

bool RegionStates::ClearIfUnchanged(const IdleRegion& region) {
  if (!IsUnchanged(region)) return false;
  entries_.erase(region.key);
  return true;
}

void RegionStates::Adopt(const std::string& key, int64_t tick) {
  const auto [found, inserted] = entries_.try_emplace(key);
  if (!inserted) return;
  found->second.epoch = next_epoch_++;
  found->second.tick = tick;
}

void RegionStates::Touch(const std::string& key, int64_t tick) {
  Entry& entry = entries_[key];
  entry.epoch = next_epoch_++;
  entry.tick = tick;
}

bool RegionStates::IsRecovering(const std::string& key) const {
  const auto found = entries_.find(key);
  return found != entries_.end() && found->second.recovering;
}

int RegionStates::PendingCount(const std::string& key) const {
  const auto found = entries_.find(key);
  return found == entries_.end() ? 0 : found->second.pending;
}

}  // namespace mirrorfs
