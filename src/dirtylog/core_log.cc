// SPDX-License-Identifier: GPL-2.0-or-later
#include "dirtylog/core_log.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace mirrorfs {
namespace {

constexpr LegSet kAllLegs(UINT64_MAX);

}  // namespace

CoreLog::CoreLog(uint64_t region_bytes) : region_bytes_(region_bytes) {}

// ---------------------------------------------------------------------------
// Life

absl::Status CoreLog::Resume(LegSet suspects) {
  Lock lock(mutex_);
  WaitForWriter(lock);
  std::vector<Loaded> loaded;
  if (absl::Status status = Load(loaded); !status.ok()) return status;
  MergeLoadedLocked(loaded);
  SuspectDirtyLocked(suspects);
  table_.EndAllWork();
  lacking_legs_ = table_.lacking_legs().bits();
  failure_ = absl::OkStatus();
  handing_out_ = true;
  phase_ = Phase::kRunning;
  return absl::OkStatus();
}

// What was in memory before stays: after a store that failed and came back,
// memory knows more than the store, and the store has to learn it.
void CoreLog::MergeLoadedLocked(const std::vector<Loaded>& loaded) {
  absl::flat_hash_set<std::string> known;
  for (const Loaded& one : loaded) {
    const std::string encoded = EncodeRegionKey(one.key);
    const RecordTable::Entry* entry = table_.Find(encoded);
    const RegionRecord memory = entry ? entry->record : RegionRecord();
    const RegionRecord merged = Merge(memory, one.record);
    const bool durable = entry == nullptr || entry->change <= durable_change_;
    if (durable && merged == one.record) known.insert(encoded);
    table_.Set(one.key, encoded, merged);
  }
  table_.ForEach([&](RecordTable::Entry& entry) {
    if (known.contains(entry.key)) return;
    entry.change = ++last_change_;
    queue_.insert(entry.key);
  });
}

void CoreLog::SuspectDirtyLocked(LegSet suspects) {
  ++suspicions_;
  std::vector<std::pair<std::string, RegionRecord>> dirty;
  table_.ForEach([&](RecordTable::Entry& entry) {
    if (!(entry.healed_legs & suspects).empty()) entry.healing = ++healings_;
    entry.healed_legs -= suspects;
    if (entry.handed_out) {
      entry.missed_again |= suspects;
      entry.suspected |= suspects;
    }
    if (!entry.record.dirty) return;
    const LegSet deep = entry.record.dirty_deep ? suspects : LegSet();
    if (entry.record.missing.contains(suspects) &&
        entry.record.deep.contains(deep)) {
      return;
    }
    dirty.emplace_back(entry.key,
                       RegionRecord{.missing = suspects, .deep = deep});
  });
  for (const auto& [encoded, suspicion] : dirty) {
    MarkLocked(*DecodeRegionKey(encoded), suspicion);
  }
}

void CoreLog::SuspectDirty(LegSet legs) {
  Lock lock(mutex_);
  SuspectDirtyLocked(legs);
}

void CoreLog::ForgetLegs(LegSet legs) {
  Lock lock(mutex_);
  std::vector<std::pair<std::string, RegionRecord>> changed;
  table_.ForEach([&](const RecordTable::Entry& entry) {
    if ((entry.record.missing & legs).empty()) return;
    changed.emplace_back(entry.key, entry.record);
    changed.back().second.missing -= legs;
  });
  for (const auto& [encoded, record] : changed) {
    ReplaceLocked(*DecodeRegionKey(encoded), encoded, record);
  }
}

absl::Status CoreLog::Presuspend() {
  Lock lock(mutex_);
  handing_out_ = false;
  return absl::OkStatus();
}

absl::Status CoreLog::Postsuspend() {
  Lock lock(mutex_);
  handing_out_ = false;
  WaitForWriter(lock);
  const absl::Status usable = UsableLocked();
  const absl::Status status =
      usable.ok() ? WriteBatch(lock, Take::kAll) : usable;
  phase_ = Phase::kSuspended;
  return status;
}

// ---------------------------------------------------------------------------
// Questions

bool CoreLog::IsClean(const RegionKey& key) {
  if (phase_ == Phase::kNew) return false;
  Lock lock(mutex_);
  return table_.Find(EncodeRegionKey(key)) == nullptr;
}

DirtyLog::InSyncAnswer CoreLog::InSync(const RegionKey& key, LegSet legs,
                                       bool can_block) {
  return (Lacking(key) & legs).empty() ? InSyncAnswer::kYes : InSyncAnswer::kNo;
}

LegSet CoreLog::Lacking(const RegionKey& key) {
  // Not loaded yet: what is unknown is lacking (L9).
  if (phase_ == Phase::kNew) return kAllLegs;
  if (lacking_legs_ == 0) return LegSet();
  const std::string encoded = EncodeRegionKey(key);
  Lock lock(mutex_);
  return table_.Lacking(key, encoded);
}

LegSet CoreLog::LackingNames() {
  Lock lock(mutex_);
  return table_.LackingNames();
}

DirtyLog::SyncCount CoreLog::GetSyncCount(LegSet legs) {
  Lock lock(mutex_);
  return table_.Count(legs);
}

std::string CoreLog::Status(StatusKind kind) {
  if (kind == StatusKind::kInfo) return "1 core";
  return absl::StrCat("core 1 ", region_bytes_);
}

char CoreLog::Health() {
  Lock lock(mutex_);
  return failure_.ok() ? 'A' : 'D';
}

std::optional<RegionRecord> CoreLog::Find(const RegionKey& key) {
  Lock lock(mutex_);
  const RecordTable::Entry* entry = table_.Find(EncodeRegionKey(key));
  if (entry == nullptr) return std::nullopt;
  return entry->record;
}

LegSet CoreLog::LackingAnyOf(absl::string_view path) {
  LegSet legs = Lacking(RegionKey::Attributes(std::string(path)));
  Lock lock(mutex_);
  table_.ForEachIn(SubtreeRange(path), [&](const RecordTable::Entry& entry) {
    legs |= entry.record.missing;
  });
  return legs;
}

bool CoreLog::HasRecords(absl::string_view path) {
  Lock lock(mutex_);
  bool any = false;
  table_.ForEachIn(SubtreeRange(path),
                   [&](const RecordTable::Entry&) { any = true; });
  return any;
}

void CoreLog::ForEach(
    const std::function<void(const RegionKey&, const RegionRecord&)>& visit) {
  std::vector<std::pair<std::string, RegionRecord>> snapshot;
  {
    Lock lock(mutex_);
    snapshot.reserve(table_.size());
    table_.ForEach([&](const RecordTable::Entry& entry) {
      snapshot.emplace_back(entry.key, entry.record);
    });
  }
  for (const auto& [encoded, record] : snapshot) {
    visit(*DecodeRegionKey(encoded), record);
  }
}

// ---------------------------------------------------------------------------
// Changes

bool CoreLog::MarkRegion(const RegionKey& key, const RegionRecord& add) {
  Lock lock(mutex_);
  return MarkLocked(key, add);
}

bool CoreLog::MarkLocked(const RegionKey& key, const RegionRecord& add) {
  const std::string encoded = EncodeRegionKey(key);
  RecordTable::Entry* entry = table_.Find(encoded);
  const RegionRecord before = entry ? entry->record : RegionRecord();
  const RegionRecord after = Merge(before, add);
  if (after != before) entry = ReplaceLocked(key, encoded, after);
  if (entry == nullptr) return false;  // nothing was said
  if (entry->handed_out) entry->missed_again |= add.missing;
  if (!(add.missing & entry->healed_legs).empty() &&
      add.tail_from < entry->healed_to) {
    entry->healed_to = add.tail_from;
    entry->healing = ++healings_;
  }
  // A store that failed may be gone with its leg, and what it held with it.
  return entry->change > durable_change_ || !UsableLocked().ok();
}

void CoreLog::ClearRegion(const RegionKey& key) {
  Lock lock(mutex_);
  const std::string encoded = EncodeRegionKey(key);
  const RecordTable::Entry* entry = table_.Find(encoded);
  if (entry == nullptr || !entry->record.dirty) return;
  RegionRecord after = entry->record;
  after.dirty = false;
  ReplaceLocked(key, encoded, after);
}

void CoreLog::StartCopy(const RegionKey& key) {
  Lock lock(mutex_);
  RecordTable::Entry* entry = table_.Find(EncodeRegionKey(key));
  if (entry == nullptr) return;
  entry->ForgetMisses();
}

void CoreLog::AdvanceTail(const RegionKey& key, RegionRange range,
                          LegSet legs) {
  Lock lock(mutex_);
  RecordTable::Entry* entry = table_.Find(EncodeRegionKey(key));
  if (entry == nullptr || TailToHealLocked(*entry, legs) < range.first) return;
  const LegSet healed = (legs & entry->record.missing) - entry->suspected;
  if (!entry->healed_legs.contains(healed)) entry->healing = ++healings_;
  entry->healed_to = range.end;
  entry->healed_legs = healed;
  healing_.insert(entry->key);
}

std::vector<DirtyLog::HealedTail> CoreLog::HealedTails(uint64_t regions_min) {
  Lock lock(mutex_);
  std::vector<HealedTail> tails;
  absl::erase_if(healing_, [&](const std::string& encoded) {
    const RecordTable::Entry* entry = table_.Find(encoded);
    if (entry == nullptr || entry->record.missing.empty()) return true;
    const uint64_t end = TailToHealLocked(*entry, entry->record.missing);
    // It may get a tail again, and what was healed counts for that.
    if (end == kNoTail) return false;
    if (end - entry->record.tail_from >= regions_min) {
      tails.push_back({*DecodeRegionKey(encoded), end, entry->healing,
                       entry->record.dirty});
    }
    return false;
  });
  return tails;
}

void CoreLog::SettleTails(const std::vector<HealedTail>& tails) {
  Lock lock(mutex_);
  for (const HealedTail& tail : tails) {
    const std::string encoded = EncodeRegionKey(tail.key);
    const RecordTable::Entry* entry = table_.Find(encoded);
    if (entry == nullptr || entry->healing != tail.healing ||
        !entry->healed_legs.contains(entry->record.missing) ||
        entry->record.dirty || entry->record.tail_from >= tail.end) {
      continue;
    }
    RegionRecord after = entry->record;
    after.tail_from = tail.end;
    ReplaceLocked(tail.key, encoded, after);
  }
}

uint64_t CoreLog::TailToHeal(const RegionKey& key, LegSet legs) {
  Lock lock(mutex_);
  const RecordTable::Entry* entry = table_.Find(EncodeRegionKey(key));
  return entry == nullptr ? kNoTail : TailToHealLocked(*entry, legs);
}

uint64_t CoreLog::TailToHealLocked(const RecordTable::Entry& entry,
                                   LegSet legs) {
  const LegSet lacking = legs & entry.record.missing;
  if (entry.record.tail_from == kNoTail || lacking.empty()) return kNoTail;
  const bool counts = entry.healed_legs.contains(lacking);
  return std::max(entry.record.tail_from, counts ? entry.healed_to : 0);
}

void CoreLog::AdvanceSince(const RegionKey& key, int64_t since_ns) {
  Lock lock(mutex_);
  const std::string encoded = EncodeRegionKey(key);
  const RecordTable::Entry* entry = table_.Find(encoded);
  if (entry == nullptr || !entry->record.missing.empty() ||
      entry->record.since_ns >= since_ns) {
    return;
  }
  RegionRecord after = entry->record;
  after.since_ns = since_ns;
  ReplaceLocked(key, encoded, after);
}

RecordTable::Entry* CoreLog::ReplaceLocked(const RegionKey& key,
                                           const std::string& encoded,
                                           const RegionRecord& record) {
  const RegionRecord after = Tidied(record);
  const RecordTable::Entry* old = table_.Find(encoded);
  const RegionRecord before = old ? old->record : RegionRecord();
  RecordTable::Entry* entry = table_.Set(key, encoded, after);
  RegionRecord merged = Merge(before, after);
  merged.moved_from = before.moved_from;  // a hint, nobody waits for it
  const bool says_more = merged != before;
  if (says_more && entry != nullptr) entry->change = ++last_change_;
  queue_.insert(encoded);
  lacking_legs_ = table_.lacking_legs().bits();
  return entry;
}

// ---------------------------------------------------------------------------
// Resync

std::vector<DirtyLog::Work> CoreLog::GetResyncWork(LegSet reachable,
                                                   size_t count_max) {
  if ((LegSet(lacking_legs_) & reachable).empty()) return {};
  Lock lock(mutex_);
  if (!handing_out_) return {};
  std::vector<Work> work;
  for (const RecordTable::Entry* entry :
       table_.TakeWork(reachable, count_max)) {
    work.push_back({*DecodeRegionKey(entry->key), entry->record});
  }
  return work;
}

void CoreLog::SetRegionSync(const RegionKey& key, LegSet legs, bool in_sync) {
  Lock lock(mutex_);
  const std::string encoded = EncodeRegionKey(key);
  RecordTable::Entry* entry = table_.Find(encoded);
  const RegionRecord before = entry ? entry->record : RegionRecord();
  RegionRecord after = before;
  if (in_sync) {
    const LegSet healed = entry ? legs - entry->missed_again : legs;
    after.missing -= healed;
    after.dirty = true;
    after.dirty_deep |= !(after.deep & healed).empty();
  } else {
    after.missing |= legs;
  }
  if (after != before) entry = ReplaceLocked(key, encoded, after);
  if (entry != nullptr) table_.EndWork(*entry);
}

void CoreLog::Pardon(const RegionKey& key, LegSet legs) {
  Lock lock(mutex_);
  const std::string encoded = EncodeRegionKey(key);
  RecordTable::Entry* entry = table_.Find(encoded);
  if (entry == nullptr) return;
  entry->missed_again -= legs;
  RegionRecord after = entry->record;
  after.missing -= legs;
  after.deep -= legs;
  if (after != entry->record) ReplaceLocked(key, encoded, after);
}

void CoreLog::ReleaseResyncWork(const RegionKey& key) {
  Lock lock(mutex_);
  RecordTable::Entry* entry = table_.Find(EncodeRegionKey(key));
  if (entry != nullptr) table_.EndWork(*entry);
}

// ---------------------------------------------------------------------------
// Durability

absl::Status CoreLog::Flush() {
  Lock lock(mutex_);
  const uint64_t mine = last_change_;
  while (true) {
    const absl::Status usable = UsableLocked();
    if (usable.ok() && durable_change_ >= mine) return absl::OkStatus();
    // What failed may just be moving to where it works.
    if (writing_) {
      written_.wait(lock);
    } else if (usable.ok()) {
      WriteBatch(lock, Take::kAll).IgnoreError();  // UsableLocked says it
    } else {
      return usable;
    }
  }
}

absl::Status CoreLog::FlushLazily() {
  Lock lock(mutex_);
  // A batch on its way may hold what a clear undoes; the order counts.
  WaitForWriter(lock);
  if (absl::Status usable = UsableLocked(); !usable.ok()) return usable;
  return WriteBatch(lock, Take::kClears);
}

absl::Status CoreLog::FlushWhole() {
  Lock lock(mutex_);
  WaitForWriter(lock);
  if (absl::Status usable = UsableLocked(); !usable.ok()) return usable;
  return WriteBatch(lock, Take::kAll);
}

void CoreLog::QueueAllLocked() {
  table_.ForEach([&](RecordTable::Entry& entry) {
    entry.change = ++last_change_;
    queue_.insert(entry.key);
  });
}

absl::Status CoreLog::MoveStore(
    const StorePlace& place, const std::string& log_uuid,
    const std::function<absl::Status(const std::string& session)>& note) {
  Lock lock(mutex_);
  WaitForWriter(lock);
  if (phase_ != Phase::kRunning) return UsableLocked();
  writing_ = true;  // who flushes waits
  lock.unlock();
  const absl::StatusOr<std::string> session = Rebind(place, log_uuid);
  lock.lock();
  QueueAllLocked();
  const uint64_t covered = last_change_;
  const std::vector<Change> batch = TakeBatchLocked(Take::kAll);
  lock.unlock();
  absl::Status status = session.status();
  if (status.ok()) status = Store(batch, /*durable=*/true);
  if (status.ok()) status = note(*session);
  lock.lock();
  writing_ = false;
  failure_ = status;
  if (status.ok()) durable_change_ = covered;
  written_.notify_all();
  return status;
}

absl::StatusOr<std::string> CoreLog::Rebind(const StorePlace& place,
                                            const std::string& log_uuid) {
  return std::string();
}

absl::Status CoreLog::UsableLocked() const {
  if (!failure_.ok()) return failure_;
  if (phase_ == Phase::kRunning) return absl::OkStatus();
  return absl::FailedPreconditionError("the dirty log is not resumed");
}

void CoreLog::WaitForWriter(Lock& lock) {
  written_.wait(lock, [this] { return !writing_; });
}

std::vector<CoreLog::Change> CoreLog::TakeBatchLocked(Take take) {
  std::vector<Change> batch;
  batch.reserve(queue_.size());
  absl::flat_hash_set<std::string> left;
  for (const std::string& encoded : queue_) {
    const RecordTable::Entry* entry = table_.Find(encoded);
    if (entry == nullptr) {
      batch.push_back({encoded, std::nullopt});
    } else if (take == Take::kAll || entry->change <= durable_change_) {
      batch.push_back({encoded, entry->record});
    } else {
      left.insert(encoded);  // a mark; it is not done until it is durable
    }
  }
  queue_ = std::move(left);
  return batch;
}

absl::Status CoreLog::WriteBatch(Lock& lock, Take take) {
  const uint64_t covered = last_change_;
  const std::vector<Change> batch = TakeBatchLocked(take);
  absl::Status status;
  const bool durable = take == Take::kAll;
  if (!batch.empty() || (durable && lazily_stored_)) {
    writing_ = true;
    lock.unlock();
    status = Store(batch, durable);
    lock.lock();
    lazily_stored_ = !durable;
    writing_ = false;
    written_.notify_all();
  }
  if (!status.ok()) {
    failure_ = status;
  } else if (durable) {
    durable_change_ = covered;
  }
  return status;
}

absl::Status CoreLog::Load(std::vector<Loaded>& loaded) {
  return absl::OkStatus();
}

absl::Status CoreLog::Store(const std::vector<Change>& batch, bool durable) {
  return absl::OkStatus();
}

}  // namespace mirrorfs
