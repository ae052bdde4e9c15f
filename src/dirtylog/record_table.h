// SPDX-License-Identifier: GPL-2.0-or-later
//
// The records of all regions that are not clean, in memory, and what follows
// from them together: what a leg lacks, and what is to be healed next. No I/O,
// no locks: the log that owns it does both.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/strings/string_view.h"
#include "dirtylog/dirty_log.h"
#include "dirtylog/work_index.h"
#include "region/leg_set.h"
#include "region/region_key.h"
#include "region/region_record.h"

namespace mirrorfs {

class RecordTable {
 public:
  struct Entry {
    std::string key;  // encoded
    RegionKind kind = RegionKind::kEntries;
    RegionRecord record;
    // For the owner: which of its changes made the record say more last.
    uint64_t change = 0;

    // Data regions before this are healed there, see DirtyLog::AdvanceTail.
    uint64_t healed_to = 0;
    LegSet healed_legs;
    // For the owner: another one whenever some of that is lost or begun anew.
    uint64_t healing = 0;

    bool handed_out = false;
    // Counted in deep_handed_out_.
    bool handed_out_deep = false;
    // For the owner: legs marked missing while the region was handed out. The
    // copy that runs may not have seen what they lack.
    LegSet missed_again;
    // Legs that may have lost since then what they were given.
    LegSet suspected;

    // Those two are about a copy: it begins anew, or has ended.
    void ForgetMisses() { missed_again = suspected = LegSet(); }
  };

  Entry* Find(absl::string_view encoded);
  // Replaces the record of `key`, whose encoded form is `encoded`. A clean
  // record leaves the table; null is returned then.
  Entry* Set(const RegionKey& key, absl::string_view encoded,
             const RegionRecord& record);

  // See DirtyLog::Lacking.
  LegSet Lacking(const RegionKey& key, absl::string_view encoded);
  // Legs that lack anything at all. Zero cost.
  LegSet lacking_legs() const { return work_.legs(); }

  // See DirtyLog::LackingNames.
  LegSet LackingNames() const;

  // See DirtyLog::GetResyncWork: work of one rank only.
  std::vector<Entry*> TakeWork(LegSet reachable, size_t count_max);
  void EndWork(Entry& entry);
  void EndAllWork();

  DirtyLog::SyncCount Count(LegSet legs) const;

  // Objects that `leg` has at `origin` or beneath it, see Origins.
  std::vector<Entry*> MovedFrom(absl::string_view origin, LegSlot leg) const;

  size_t size() const { return entries_.size(); }
  // Calls visit(Entry&) in key order; it must not change the table.
  template <typename Visit>
  void ForEach(Visit visit) const {
    for (const auto& [key, entry] : entries_) visit(*entry);
  }
  template <typename Visit>
  void ForEachIn(const EncodedRange& range, Visit visit) const {
    for (auto at = entries_.lower_bound(range.begin);
         at != entries_.end() && at->first < range.end; ++at) {
      visit(*at->second);
    }
  }

 private:
  // What to do with a key that was met on the way through an index.
  struct Verdict {
    bool offer = false;
    // Everything in here has to wait too, for the same reason.
    std::optional<EncodedRange> blocked;
  };

  LegSet RecordMissing(const RegionKey& key);
  LegSet NamesLacking(absl::string_view path);
  std::optional<EncodedRange> BlockedSubtree(absl::string_view path,
                                             LegSlot leg);
  Verdict Consider(absl::string_view encoded, LegSlot leg, LegSet reachable);
  void CollectUp(WorkRank rank, LegSlot leg, LegSet reachable, size_t count_max,
                 WorkIndex::Keys& found);
  void CollectDown(WorkRank rank, LegSlot leg, LegSet reachable,
                   size_t count_max, WorkIndex::Keys& found);
  std::vector<Entry*> TakeRank(WorkRank rank, LegSet reachable,
                               size_t count_max);
  void HandOut(Entry& entry);
  void IndexOrigins(Entry* entry, const Origins& before, const Origins& after);

  // The views point into the entries, which stay where they are.
  absl::btree_map<absl::string_view, std::unique_ptr<Entry>> entries_;
  // By each of their origins, encoded like a key.
  absl::btree_set<std::pair<std::string, Entry*>> moved_;
  WorkIndex work_;
  size_t deep_handed_out_ = 0;
  size_t dirty_ = 0;
};

}  // namespace mirrorfs
