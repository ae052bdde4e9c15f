// SPDX-License-Identifier: GPL-2.0-or-later
//
// Which regions lack legs, sorted by what has to be healed first, for each
// leg. Without it every question for work would walk the whole table, and a
// leg that is away for a week can make that a million records.
#pragma once

#include <array>

#include "absl/container/btree_set.h"
#include "absl/strings/string_view.h"
#include "region/leg_set.h"
#include "region/region_key.h"
#include "region/region_record.h"

namespace mirrorfs {

// The order of healing. A name has to be there before what it names can be
// written, and a leg that lacks names goes on missing what is done beneath
// them; directories' attributes are last, because healing what lies in a
// directory changes its times. A deep record turns into records of all that
// lies in the directory: so contents go before it while many of them wait.
enum class WorkRank { kEntries, kDeepEntries, kContents, kDirectoryAttributes };
inline constexpr int kWorkRanks = 4;

// What `leg`, which lacks the region, is to be healed of.
WorkRank RankOf(RegionKind kind, const RegionRecord& record, LegSlot leg);

// Holds views of keys, never copies: what it indexes must outlive its place in
// here. Not thread-safe.
class WorkIndex {
 public:
  using Keys = absl::btree_set<absl::string_view>;

  // Moves `key` from where `before` put it to where `after` puts it.
  void Replace(absl::string_view key, RegionKind kind,
               const RegionRecord& before, const RegionRecord& after);

  // Legs that lack anything at all.
  LegSet legs() const { return legs_; }
  const Keys& Get(LegSlot leg, WorkRank rank) const {
    return keys_[leg][static_cast<size_t>(rank)];
  }

  // Whether a leg of `legs` lacks anything in `range` but the attributes of
  // directories.
  bool AnyIn(const EncodedRange& range, LegSet legs) const;

 private:
  Keys& Mutable(LegSlot leg, WorkRank rank) {
    return keys_[leg][static_cast<size_t>(rank)];
  }
  bool LacksAnything(LegSlot leg) const;

  std::array<std::array<Keys, kWorkRanks>, kLegsMax> keys_;
  LegSet legs_;
};

}  // namespace mirrorfs
