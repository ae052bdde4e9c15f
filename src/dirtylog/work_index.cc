// SPDX-License-Identifier: GPL-2.0-or-later
#include "dirtylog/work_index.h"

namespace mirrorfs {

WorkRank RankOf(RegionKind kind, const RegionRecord& record, LegSlot leg) {
  switch (kind) {
    case RegionKind::kEntries:
      return record.deep.has(leg) ? WorkRank::kDeepEntries : WorkRank::kEntries;
    case RegionKind::kAttributes:
      return record.directory ? WorkRank::kDirectoryAttributes
                              : WorkRank::kContents;
    case RegionKind::kData:
      break;
  }
  return WorkRank::kContents;
}

void WorkIndex::Replace(absl::string_view key, RegionKind kind,
                        const RegionRecord& before, const RegionRecord& after) {
  if (before.missing == after.missing && before.deep == after.deep &&
      before.directory == after.directory) {
    return;
  }
  before.missing.ForEach(
      [&](LegSlot leg) { Mutable(leg, RankOf(kind, before, leg)).erase(key); });
  after.missing.ForEach(
      [&](LegSlot leg) { Mutable(leg, RankOf(kind, after, leg)).insert(key); });
  legs_ |= after.missing;
  (before.missing - after.missing).ForEach([&](LegSlot leg) {
    if (!LacksAnything(leg)) legs_ -= LegSet::Of(leg);
  });
}

bool WorkIndex::AnyIn(const EncodedRange& range, LegSet legs) const {
  bool found = false;
  (legs & legs_).ForEach([&](LegSlot leg) {
    for (const WorkRank rank :
         {WorkRank::kEntries, WorkRank::kContents, WorkRank::kDeepEntries}) {
      const Keys& keys = Get(leg, rank);
      const auto first = keys.lower_bound(range.begin);
      if (first != keys.end() && *first < range.end) found = true;
    }
  });
  return found;
}

bool WorkIndex::LacksAnything(LegSlot leg) const {
  for (const Keys& keys : keys_[leg]) {
    if (!keys.empty()) return true;
  }
  return false;
}

}  // namespace mirrorfs
