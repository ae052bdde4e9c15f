// SPDX-License-Identifier: GPL-2.0-or-later
#include "recovery/setbacks.h"

#include <utility>

namespace mirrorfs {

std::string DescribeSetback(const Setback& setback) {
  return setback.error.ok() ? "it cannot be healed" : ErrnoText(setback.error);
}

void Setbacks::NoteError(LegSlot leg, Errno error) {
  std::lock_guard lock(mutex_);
  errors_[leg] = error;
}

LegSet Setbacks::EndPass(const std::vector<Failed>& failed) {
  const int64_t now_ns = clock_->RealtimeNs();
  std::lock_guard lock(mutex_);
  std::map<std::string, int64_t> since_ns;
  std::map<LegSlot, Setback> stuck;
  for (const Failed& one : failed) {
    const std::string key = EncodeRegionKey(one.key);
    const auto known = since_ns_.find(key);
    const int64_t began = known == since_ns_.end() ? now_ns : known->second;
    since_ns[key] = began;
    if (now_ns - began < absl::ToInt64Nanoseconds(kPatience)) continue;
    one.legs.ForEach([&](LegSlot leg) {
      stuck.try_emplace(leg, Setback{one.key.path, errors_[leg]});
    });
  }
  LegSet news;
  for (const auto& [leg, setback] : stuck) {
    if (!stuck_.contains(leg)) news |= LegSet::Of(leg);
  }
  since_ns_ = std::move(since_ns);
  stuck_ = std::move(stuck);
  return news;
}

std::optional<Setback> Setbacks::Of(LegSlot leg) const {
  std::lock_guard lock(mutex_);
  const auto found = stuck_.find(leg);
  if (found == stuck_.end()) return std::nullopt;
  return found->second;
}

}  // namespace mirrorfs
