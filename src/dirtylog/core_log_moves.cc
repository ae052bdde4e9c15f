// SPDX-License-Identifier: GPL-2.0-or-later
//
// What CoreLog says of objects that get other names.
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "dirtylog/core_log.h"

namespace mirrorfs {

DirtyLog::Moving CoreLog::CopyObject(absl::string_view from,
                                     absl::string_view to) {
  Lock lock(mutex_);
  Moving moving;
  const std::vector<Loaded> object = LoadedIn(ObjectRange(from));
  TakeOriginsLocked(object, &moving);
  CopyLocked(object, from, to, &moving);
  return moving;
}

DirtyLog::Moving CoreLog::BeginMove(absl::string_view from,
                                    absl::string_view to, bool tree,
                                    bool exchange) {
  Lock lock(mutex_);
  const auto at = [&](absl::string_view place) {
    return LoadedIn(tree ? SubtreeRange(place) : ObjectRange(place));
  };
  const std::vector<Loaded> goes = at(from);
  const std::vector<Loaded> comes = exchange ? at(to) : std::vector<Loaded>();
  Moving moving;
  moving.suspicions = suspicions_;
  NoteLeft(goes, from, comes, to, &moving);
  NoteLeft(comes, to, goes, from, &moving);
  // All of them before anything is added: it is as of now that they are known.
  TakeOriginsLocked(goes, &moving);
  TakeOriginsLocked(comes, &moving);
  CopyLocked(goes, from, to, &moving);
  CopyLocked(comes, to, from, &moving);
  return moving;
}

// `goes` is said of what leaves `place`, `comes` of what comes there from
// `other`.
void CoreLog::NoteLeft(const std::vector<Loaded>& goes, absl::string_view place,
                       const std::vector<Loaded>& comes,
                       absl::string_view other, Moving* moving) {
  absl::flat_hash_map<std::string, LegSet> coming;
  for (const Loaded& one : comes) {
    RegionKey key = one.key;
    key.path = RebasePath(key.path, other, place);
    coming[EncodeRegionKey(key)] = one.record.missing;
  }
  for (const Loaded& one : goes) {
    Moving::Left& left = moving->left.emplace_back();
    left.key = one.key;
    left.missing = one.record.missing;
    const auto there = coming.find(EncodeRegionKey(one.key));
    if (there != coming.end()) {
      left.missing -= there->second;
    } else if (one.key.path != place) {
      left.beneath = std::string(place);
    }
  }
}

// What is said of where legs have the objects goes along with them.
void CoreLog::TakeOriginsLocked(const std::vector<Loaded>& objects,
                                Moving* moving) {
  for (const Loaded& one : objects) {
    if (one.record.moved_from.empty()) continue;
    RegionRecord left = one.record;
    left.moved_from = Origins();
    ReplaceLocked(one.key, EncodeRegionKey(one.key), left);
    NoteChange(one, moving);
  }
}

// `before`: what was said of that region until now.
void CoreLog::NoteChange(const Loaded& before, Moving* moving) {
  RegionRecord after = RecordLocked(before.key);
  if (after == before.record) return;
  moving->changes.push_back({before.key, before.record, std::move(after)});
}

RegionRecord CoreLog::RecordLocked(const RegionKey& key) {
  const RecordTable::Entry* entry = table_.Find(EncodeRegionKey(key));
  return entry == nullptr ? RegionRecord() : entry->record;
}

void CoreLog::CopyLocked(std::vector<Loaded> copies, absl::string_view from,
                         absl::string_view to, Moving* moving) {
  for (Loaded& copy : copies) {
    copy.key.path = RebasePath(copy.key.path, from, to);
    copy.record.moved_from.Forget(copy.key.path);
    const Loaded before = {copy.key, RecordLocked(copy.key)};
    moving->unflushed |= MarkLocked(copy.key, copy.record);
    NoteChange(before, moving);
    moving->copies.push_back(copy.key);
  }
}

void CoreLog::MarkMissed(const RegionKey& key, const RegionRecord& add,
                         Moving* moving) {
  Lock lock(mutex_);
  const Loaded before = {key, RecordLocked(key)};
  RegionRecord missed = add;
  missed.moved_from = Origins();
  moving->unflushed |= MarkLocked(key, missed);
  add.moved_from.ForEach([&](const std::string& origin, LegSet there) {
    there.ForEach([&](LegSlot leg) { SetOriginLocked(key, leg, origin); });
  });
  NoteChange(before, moving);
}

void CoreLog::UndoMove(const Moving& moving) {
  Lock lock(mutex_);
  if (moving.suspicions != suspicions_) return;
  // Backwards: one region may have been changed more than once.
  for (size_t i = moving.changes.size(); i > 0; --i) {
    const Moving::Change& change = moving.changes[i - 1];
    if (RecordLocked(change.key) != change.after) continue;
    ReplaceLocked(change.key, EncodeRegionKey(change.key), change.before);
  }
}

void CoreLog::FinishMove(const Moving& moving, LegSet took) {
  Lock lock(mutex_);
  if (moving.suspicions != suspicions_) return;
  for (const Moving::Left& left : moving.left) {
    const std::string encoded = EncodeRegionKey(left.key);
    const RecordTable::Entry* entry = table_.Find(encoded);
    if (entry == nullptr) continue;
    RegionRecord after = entry->record;
    after.missing -= left.missing & took;
    after.dirty |= after.missing != entry->record.missing;
    if (left.beneath && CoversLocked(*left.beneath, after.missing)) {
      after = RegionRecord();
    }
    if (after != entry->record) ReplaceLocked(left.key, encoded, after);
  }
}

// Whether the directory says, durably, that after a crash every leg may lack
// all beneath it, and that `legs` lack it already.
bool CoreLog::CoversLocked(absl::string_view path, LegSet legs) {
  const RecordTable::Entry* entry =
      table_.Find(EncodeRegionKey(RegionKey::Entries(std::string(path))));
  return entry != nullptr && entry->record.dirty_deep &&
         entry->record.deep.contains(legs) && entry->change <= durable_change_;
}

std::vector<CoreLog::Loaded> CoreLog::LoadedIn(
    const EncodedRange& range) const {
  std::vector<Loaded> all;
  table_.ForEachIn(range, [&](const RecordTable::Entry& entry) {
    all.push_back({*DecodeRegionKey(entry.key), entry.record});
  });
  return all;
}

std::string CoreLog::OriginOf(absl::string_view path, LegSlot leg) {
  Lock lock(mutex_);
  for (absl::string_view at = path; !at.empty(); at = ParentPath(at)) {
    const RecordTable::Entry* entry =
        table_.Find(EncodeRegionKey(RegionKey::Attributes(std::string(at))));
    const std::string* origin =
        entry == nullptr ? nullptr : entry->record.moved_from.Of(leg);
    if (origin != nullptr) return RebasePath(path, at, *origin);
  }
  return std::string(path);
}

void CoreLog::SetOrigin(const std::string& path, LegSlot leg,
                        absl::string_view origin) {
  Lock lock(mutex_);
  SetOriginLocked(RegionKey::Attributes(path), leg, origin);
}

void CoreLog::SetOriginLocked(const RegionKey& key, LegSlot leg,
                              absl::string_view origin) {
  const RegionRecord before = RecordLocked(key);
  if (!before.missing.has(leg)) return;
  RegionRecord after = before;
  after.moved_from.Set(leg, origin);
  after.moved_from.Forget(key.path);
  if (after != before) ReplaceLocked(key, EncodeRegionKey(key), after);
}

std::vector<std::string> CoreLog::MovedTo(absl::string_view origin,
                                          LegSlot leg) {
  Lock lock(mutex_);
  std::vector<std::string> paths;
  for (const RecordTable::Entry* entry : table_.MovedFrom(origin, leg)) {
    if (*entry->record.moved_from.Of(leg) == origin) {
      paths.push_back(DecodeRegionKey(entry->key)->path);
    }
  }
  return paths;
}

void CoreLog::MoveOrigins(absl::string_view from, absl::string_view to,
                          LegSlot leg) {
  Lock lock(mutex_);
  for (const RecordTable::Entry* entry : table_.MovedFrom(from, leg)) {
    const RegionKey key = *DecodeRegionKey(entry->key);
    const std::string encoded = entry->key;
    RegionRecord after = entry->record;
    after.moved_from.Set(leg, RebasePath(*after.moved_from.Of(leg), from, to));
    after.moved_from.Forget(key.path);
    ReplaceLocked(key, encoded, after);
  }
}

}  // namespace mirrorfs
