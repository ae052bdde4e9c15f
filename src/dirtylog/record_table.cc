// SPDX-License-Identifier: GPL-2.0-or-later
#include "dirtylog/record_table.h"

#include <algorithm>
#include <array>
#include <utility>

namespace mirrorfs {
namespace {

// A deep record stands for a whole tree and is mostly turned into records of
// what lies directly in it; working on many at once, or on more while contents
// wait, would fill the log with a list of the tree instead of a place in it.
constexpr size_t kDeepHandedOutMax = 64;
constexpr size_t kContentsWaitingMax = 4096;

// The part of an encoded key that two regions of one object share.
absl::string_view ObjectOf(absl::string_view encoded) {
  return encoded.substr(0, encoded.find('\0'));
}

}  // namespace

RecordTable::Entry* RecordTable::Find(absl::string_view encoded) {
  const auto found = entries_.find(encoded);
  return found == entries_.end() ? nullptr : found->second.get();
}

RecordTable::Entry* RecordTable::Set(const RegionKey& key,
                                     absl::string_view encoded,
                                     const RegionRecord& record) {
  Entry* entry = Find(encoded);
  if (entry == nullptr) {
    if (record.clean()) return nullptr;
    auto made = std::make_unique<Entry>();
    entry = made.get();
    entry->key = std::string(encoded);
    entry->kind = key.kind;
    entries_.emplace(entry->key, std::move(made));
  }
  work_.Replace(entry->key, entry->kind, entry->record, record);
  dirty_ += record.dirty;
  dirty_ -= entry->record.dirty;
  // A leg that lacks it from now on lacks all of it.
  entry->healed_legs = entry->healed_legs & entry->record.missing;
  RegionRecord kept = record;
  kept.moved_from.Keep(record.missing);
  IndexOrigins(entry, entry->record.moved_from, kept.moved_from);
  entry->record = std::move(kept);
  if (!record.clean()) return entry;
  EndWork(*entry);
  entries_.erase(encoded);
  return nullptr;
}

void RecordTable::IndexOrigins(Entry* entry, const Origins& before,
                               const Origins& after) {
  if (before == after) return;
  const auto indexed = [&](const std::string& path) {
    return std::pair(EncodeRegionKey(RegionKey::Attributes(path)), entry);
  };
  before.ForEach(
      [&](const std::string& path, LegSet) { moved_.erase(indexed(path)); });
  after.ForEach(
      [&](const std::string& path, LegSet) { moved_.insert(indexed(path)); });
}

std::vector<RecordTable::Entry*> RecordTable::MovedFrom(
    absl::string_view origin, LegSlot leg) const {
  std::vector<Entry*> found;
  if (moved_.empty()) return found;
  const EncodedRange range = SubtreeRange(origin);
  for (auto at = moved_.lower_bound({range.begin, nullptr});
       at != moved_.end() && at->first < range.end; ++at) {
    const std::string* path = at->second->record.moved_from.Of(leg);
    // A leg at another of its origins stands elsewhere.
    if (path != nullptr &&
        EncodeRegionKey(RegionKey::Attributes(*path)) == at->first) {
      found.push_back(at->second);
    }
  }
  return found;
}

LegSet RecordTable::RecordMissing(const RegionKey& key) {
  const Entry* entry = Find(EncodeRegionKey(key));
  return entry == nullptr ? LegSet() : entry->record.missing;
}

LegSet RecordTable::NamesLacking(absl::string_view path) {
  LegSet lacking;
  while (!path.empty()) {
    path = ParentPath(path);
    lacking |= RecordMissing(RegionKey::Entries(std::string(path)));
  }
  return lacking;
}

LegSet RecordTable::Lacking(const RegionKey& key, absl::string_view encoded) {
  if (work_.legs().empty()) return LegSet();
  LegSet lacking = NamesLacking(key.path);
  if (const Entry* own = Find(encoded)) lacking |= own->record.missing;
  if (key.kind == RegionKind::kEntries) return lacking;

  const Entry* entries = Find(EncodeRegionKey(RegionKey::Entries(key.path)));
  if (entries != nullptr) lacking |= entries->record.deep;
  if (key.kind != RegionKind::kData) return lacking;

  const Entry* attributes =
      Find(EncodeRegionKey(RegionKey::Attributes(key.path)));
  if (attributes != nullptr && attributes->record.tail_from <= key.index) {
    const bool healed = key.index < attributes->healed_to;
    lacking |= attributes->record.missing -
               (healed ? attributes->healed_legs : LegSet());
  }
  return lacking;
}

LegSet RecordTable::LackingNames() const {
  LegSet lacking;
  work_.legs().ForEach([&](LegSlot leg) {
    if (!work_.Get(leg, WorkRank::kEntries).empty() ||
        !work_.Get(leg, WorkRank::kDeepEntries).empty()) {
      lacking |= LegSet::Of(leg);
    }
  });
  return lacking;
}

std::vector<RecordTable::Entry*> RecordTable::TakeWork(LegSet reachable,
                                                       size_t count_max) {
  using Order = std::array<WorkRank, kWorkRanks>;
  constexpr Order kNamesFirst = {WorkRank::kEntries, WorkRank::kDeepEntries,
                                 WorkRank::kContents,
                                 WorkRank::kDirectoryAttributes};
  constexpr Order kContentsFirst = {WorkRank::kEntries, WorkRank::kContents,
                                    WorkRank::kDeepEntries,
                                    WorkRank::kDirectoryAttributes};
  bool many = false;
  reachable.ForEach([&](LegSlot leg) {
    many |= work_.Get(leg, WorkRank::kContents).size() > kContentsWaitingMax;
  });
  for (const WorkRank rank : many ? kContentsFirst : kNamesFirst) {
    std::vector<Entry*> work = TakeRank(rank, reachable, count_max);
    if (!work.empty()) return work;
  }
  return {};
}

std::vector<RecordTable::Entry*> RecordTable::TakeRank(WorkRank rank,
                                                       LegSet reachable,
                                                       size_t count_max) {
  if (rank == WorkRank::kDeepEntries) {
    count_max = std::min(count_max, kDeepHandedOutMax - deep_handed_out_);
  }
  // Children before parents: a child's key is greater than its parent's.
  const bool down = rank == WorkRank::kDirectoryAttributes;
  WorkIndex::Keys found;
  (reachable & work_.legs()).ForEach([&](LegSlot leg) {
    if (down) {
      CollectDown(rank, leg, reachable, count_max, found);
    } else {
      CollectUp(rank, leg, reachable, count_max, found);
    }
  });
  std::vector<Entry*> work;
  for (const absl::string_view key : found) work.push_back(Find(key));
  if (down) std::reverse(work.begin(), work.end());
  if (work.size() > count_max) work.resize(count_max);
  for (Entry* entry : work) HandOut(*entry);
  return work;
}

void RecordTable::CollectUp(WorkRank rank, LegSlot leg, LegSet reachable,
                            size_t count_max, WorkIndex::Keys& found) {
  const WorkIndex::Keys& keys = work_.Get(leg, rank);
  size_t taken = 0;
  auto at = keys.begin();
  while (at != keys.end() && taken < count_max) {
    const Verdict verdict = Consider(*at, leg, reachable);
    if (verdict.blocked) {
      at = keys.lower_bound(verdict.blocked->end);
      continue;
    }
    if (verdict.offer) {
      found.insert(*at);
      ++taken;
    }
    ++at;
  }
}

void RecordTable::CollectDown(WorkRank rank, LegSlot leg, LegSet reachable,
                              size_t count_max, WorkIndex::Keys& found) {
  const WorkIndex::Keys& keys = work_.Get(leg, rank);
  size_t taken = 0;
  auto at = keys.end();
  while (at != keys.begin() && taken < count_max) {
    --at;
    const Verdict verdict = Consider(*at, leg, reachable);
    if (verdict.blocked) {
      at = keys.lower_bound(verdict.blocked->begin);
    } else if (verdict.offer) {
      found.insert(*at);
      ++taken;
    }
  }
}

RecordTable::Verdict RecordTable::Consider(absl::string_view encoded,
                                           LegSlot leg, LegSet reachable) {
  const Entry& entry = *Find(encoded);
  if (entry.handed_out) return {};
  const std::string path = DecodeRegionKey(encoded)->path;
  if (auto blocked = BlockedSubtree(path, leg)) {
    return {.blocked = std::move(blocked)};
  }
  const LegSet wanted = entry.record.missing & reachable;
  if (!(NamesLacking(path) & wanted).empty()) return {};
  if (RankOf(entry.kind, entry.record, leg) != WorkRank::kDirectoryAttributes) {
    return {.offer = true};
  }
  // What is still to be healed beneath a directory would change its times. One
  // leg that is long in coming does not hold up the others.
  bool any_ready = false;
  wanted.ForEach([&](LegSlot slot) {
    any_ready |= !work_.AnyIn(SubtreeRange(path), LegSet::Of(slot));
  });
  return {.offer = any_ready};
}

std::optional<EncodedRange> RecordTable::BlockedSubtree(absl::string_view path,
                                                        LegSlot leg) {
  std::optional<absl::string_view> highest;
  while (!path.empty()) {
    path = ParentPath(path);
    if (RecordMissing(RegionKey::Entries(std::string(path))).has(leg)) {
      highest = path;
    }
  }
  if (!highest) return std::nullopt;
  return SubtreeRange(*highest);
}

void RecordTable::HandOut(Entry& entry) {
  entry.handed_out = true;
  entry.ForgetMisses();
  entry.handed_out_deep = !entry.record.deep.empty();
  deep_handed_out_ += entry.handed_out_deep;
}

void RecordTable::EndWork(Entry& entry) {
  deep_handed_out_ -= entry.handed_out_deep;
  entry.handed_out = false;
  entry.handed_out_deep = false;
  entry.ForgetMisses();
}

void RecordTable::EndAllWork() {
  ForEach([this](Entry& entry) { EndWork(entry); });
}

DirtyLog::SyncCount RecordTable::Count(LegSet legs) const {
  DirtyLog::SyncCount count;
  count.dirty = dirty_;
  if ((legs & work_.legs()).empty()) return count;
  // The regions of one object stand together.
  absl::string_view last_file;
  bool any_file = false;
  ForEach([&](const Entry& entry) {
    if ((entry.record.missing & legs).empty()) return;
    ++count.regions;
    if (entry.kind == RegionKind::kEntries) {
      ++count.directories;
      return;
    }
    const absl::string_view object = ObjectOf(entry.key);
    if (any_file && object == last_file) return;
    any_file = true;
    last_file = object;
    ++count.files;
  });
  return count;
}

}  // namespace mirrorfs
