// SPDX-License-Identifier: GPL-2.0-or-later
#include "mirror/region_gate.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/kill_point.h"

namespace mirrorfs {
namespace {

// "Idle for two ticks" as md's write-intent bitmap has it: a region written
// again and again costs no log I/O.
constexpr int64_t kCoolingTicks = 2;

std::vector<std::string> Encode(const std::vector<RegionMark>& marks) {
  std::vector<std::string> encoded;
  encoded.reserve(marks.size());
  for (const RegionMark& mark : marks) {
    encoded.push_back(EncodeRegionKey(mark.key));
  }
  return encoded;
}

// Legs that miss the move of a directory lack all that lies in it.
void AddMissing(RegionRecord& record, LegSet legs) {
  record.missing |= legs;
  if (record.dirty_deep) record.deep |= legs;
}

}  // namespace

RegionChange::RegionChange(RegionChange&& other) noexcept
    : gate_(std::exchange(other.gate_, nullptr)),
      encoded_(std::move(other.encoded_)),
      marks_(std::move(other.marks_)),
      covered_(std::move(other.covered_)),
      nameless_(std::move(other.nameless_)),
      missing_(other.missing_) {}

RegionChange::~RegionChange() {
  if (gate_ != nullptr) gate_->End(encoded_);
}

Errno RegionChange::Fail(LegSet legs) {
  if (nameless_ != nullptr) nameless_->NoteBehind(legs);
  for (std::vector<RegionMark>* marks : {&marks_, &covered_}) {
    for (RegionMark& mark : *marks) {
      AddMissing(mark.record, legs);
      gate_->Mark(mark);
    }
  }
  return gate_->Flush();
}

void RegionChange::Pardon(LegSet legs) {
  for (std::vector<RegionMark>* marks : {&marks_, &covered_}) {
    for (RegionMark& mark : *marks) {
      mark.record.missing -= legs;
      mark.record.deep -= legs;
      gate_->log_->Pardon(mark.key, legs);
    }
  }
}

ErrnoOr<RegionChange> RegionGate::Begin(Request request) {
  std::vector<std::string> encoded = Encode(request.marks);
  if (request.cover) encoded.push_back(EncodeRegionKey(request.cover->key));
  for (const RegionMark& mark : request.covered) {
    encoded.push_back(EncodeRegionKey(mark.key));
  }
  for (const RegionMark& mark : request.moved) {
    encoded.push_back(EncodeRegionKey(mark.key));
  }
  for (const auto* keys : {&request.sources, &request.names}) {
    for (const RegionKey& key : *keys) encoded.push_back(EncodeRegionKey(key));
  }
  std::string trail_dir;
  LegSet trail_legs;
  {
    std::unique_lock lock(mutex_);
    ++waiters_;
    changed_.wait(lock, [&] { return !paused_ && states_.TryBegin(encoded); });
    --waiters_;
    ++under_way_;
    if (!trail_legs_.empty()) {
      NoteTrailLocked(request.names);
      trail_dir = trail_dir_;
      trail_legs = trail_legs_;
    }
    for (const RegionMark& mark : request.ahead) {
      states_.Adopt(EncodeRegionKey(mark.key), tick_);
    }
  }
  RegionChange change(this, std::move(encoded), std::move(request.marks),
                      std::move(request.covered));
  if (!hooks_.before_first_change().ok()) return Errno(EIO);
  bool flush = request.also && request.also(request.down);
  // A leg that lacks any of it, or what lies on the way to it, takes nothing
  // of the change; so it lacks all of it from now on.
  LegSet lacking;
  for (const RegionMark& mark : change.marks_) {
    lacking |= log_->Lacking(mark.key);
  }
  for (const RegionMark& mark : change.covered_) {
    lacking |= log_->Lacking(mark.key);
  }
  for (const RegionKey& key : request.sources) lacking |= log_->Lacking(key);
  if (request.linked) lacking |= log_->LackingAnything();
  std::move(request.moved.begin(), request.moved.end(),
            std::back_inserter(change.marks_));
  change.missing_ = request.down | lacking;
  if (request.unnamed) change.missing_ |= request.unnamed->behind();
  if (request.loses_name) {
    const RegionKey& name = request.names.back();
    request.loses_name->NoteBehind(log_->LackingAnyOf(name.path));
  }
  change.nameless_ = request.unnamed ? std::move(request.unnamed)
                                     : std::move(request.loses_name);
  if (change.nameless_) change.nameless_->NoteBehind(change.missing_);
  NoteNamesMissed(change.marks_, lacking - request.down);
  for (RegionMark& mark : change.marks_) {
    // What the trail tells of need not be looked for in all of the directory,
    // on legs that lack that anyway.
    LegSet told;
    if (mark.key == RegionKey::Entries(trail_dir) && !mark.record.dirty_deep) {
      const std::optional<RegionRecord> record = log_->Find(mark.key);
      if (record) told = trail_legs & record->missing;
    }
    AddMissing(mark.record, change.missing_ - told);
    flush |= Mark(mark);
  }
  if (request.cover) {
    AddMissing(request.cover->record, request.down);
    flush |= Mark(*request.cover);
  }
  if (!(lacking - request.down).empty()) {
    for (RegionMark& mark : change.covered_) {
      AddMissing(mark.record, change.missing_);
      flush |= Mark(mark);
    }
  }
  for (RegionMark& mark : request.ahead) {
    AddMissing(mark.record, request.down);
    Mark(mark);
  }
  if (flush) {
    if (const Errno error = Flush(); !error.ok()) return error;
    KillPoint("mark-flushed");
  }
  return change;
}

void RegionGate::NoteNamesMissed(const std::vector<RegionMark>& marks,
                                 LegSet legs) {
  if (legs.empty() || !hooks_.names_missed) return;
  for (const RegionMark& mark : marks) {
    if (mark.key.kind != RegionKind::kEntries) continue;
    const std::optional<RegionRecord> record = log_->Find(mark.key);
    if (!record || !record->missing.contains(legs)) hooks_.names_missed();
  }
}

Errno RegionGate::Flush() {
  absl::Status status = log_->Flush();
  if (!status.ok() && hooks_.mend_log && hooks_.mend_log()) {
    status = log_->Flush();
  }
  if (status.ok()) return kOk;
  return Errno(absl::IsResourceExhausted(status) ? ENOSPC : EIO);
}

bool RegionGate::Mark(RegionMark& mark) {
  mark.record.dirty = true;
  return log_->MarkRegion(mark.key, mark.record);
}

void RegionGate::End(const std::vector<std::string>& encoded) {
  bool wake;
  {
    std::lock_guard lock(mutex_);
    states_.End(encoded, tick_);
    --under_way_;
    wake = waiters_ > 0;
  }
  if (wake) changed_.notify_all();
}

void RegionGate::StartRecovery(const std::vector<RegionKey>& keys) {
  std::vector<std::string> encoded;
  for (const RegionKey& key : keys) encoded.push_back(EncodeRegionKey(key));
  const auto any = [&](auto is) {
    return std::any_of(encoded.begin(), encoded.end(), is);
  };
  std::unique_lock lock(mutex_);
  ++waiters_;
  changed_.wait(lock, [&] {
    return !any([&](auto& key) { return states_.IsRecovering(key); });
  });
  for (const std::string& key : encoded) states_.StartRecovery(key);
  changed_.wait(lock, [&] {
    return !any([&](auto& key) { return !states_.IsQuiesced(key); });
  });
  --waiters_;
}

void RegionGate::FinishRecovery(const std::vector<RegionKey>& keys) {
  {
    std::lock_guard lock(mutex_);
    for (const RegionKey& key : keys) {
      states_.FinishRecovery(EncodeRegionKey(key), tick_);
    }
  }
  changed_.notify_all();
}

void RegionGate::StartTrail(const std::string& dir, LegSet legs) {
  std::lock_guard lock(mutex_);
  trail_dir_ = dir;
  trail_legs_ = legs;
  trail_ = {};
}

RegionGate::NamesTrail RegionGate::TakeTrail() {
  std::lock_guard lock(mutex_);
  return std::exchange(trail_, {});
}

void RegionGate::EndTrail() {
  std::lock_guard lock(mutex_);
  trail_legs_ = LegSet();
}

void RegionGate::NoteTrailLocked(const std::vector<RegionKey>& names) {
  for (const RegionKey& name : names) {
    if (ParentPath(name.path) == trail_dir_) {
      trail_.names.emplace_back(BaseName(name.path));
    } else if (LiesIn(trail_dir_, name.path)) {
      trail_.moved = true;
    }
  }
}

void RegionGate::Carry(const std::function<std::vector<RegionKey>()>& carry) {
  // In the log within the same critical section, as in Clear.
  std::lock_guard lock(mutex_);
  for (const RegionKey& key : carry()) {
    states_.Touch(EncodeRegionKey(key), tick_);
  }
}

void RegionGate::Tick() {
  std::lock_guard lock(mutex_);
  ++tick_;
}

std::vector<RegionStates::IdleRegion> RegionGate::Idle(bool all) {
  std::lock_guard lock(mutex_);
  return states_.Idle(all ? tick_ : tick_ - kCoolingTicks);
}

void RegionGate::Clear(const std::vector<RegionStates::IdleRegion>& regions) {
  for (const RegionStates::IdleRegion& region : regions) {
    const std::optional<RegionKey> key = DecodeRegionKey(region.key);
    // In the log within the same critical section: a mark that comes between
    // would be overtaken by this clear.
    std::lock_guard lock(mutex_);
    if (clears_held_ > 0) return;
    if (states_.ClearIfUnchanged(region) && key) log_->ClearRegion(*key);
  }
}

bool RegionGate::Pause(absl::Duration patience) {
  std::unique_lock lock(mutex_);
  if (paused_) return false;
  paused_ = true;
  ++waiters_;
  const bool quiet =
      changed_.wait_for(lock, absl::ToChronoMilliseconds(patience),
                        [this] { return under_way_ == 0; });
  --waiters_;
  if (quiet) return true;
  paused_ = false;
  lock.unlock();
  changed_.notify_all();
  return false;
}

void RegionGate::Resume() {
  {
    std::lock_guard lock(mutex_);
    paused_ = false;
  }
  changed_.notify_all();
}

void RegionGate::HoldClears() {
  std::lock_guard lock(mutex_);
  ++clears_held_;
  ++holds_;
}

void RegionGate::ReleaseClears() {
  std::lock_guard lock(mutex_);
  --clears_held_;
  states_.TouchAll();
}

void RegionGate::AdoptDirty() {
  log_->ForEach([&](const RegionKey& key, const RegionRecord& record) {
    if (!record.dirty) return;
    std::lock_guard lock(mutex_);
    states_.Adopt(EncodeRegionKey(key), tick_);
  });
}

RegionGate::Tails RegionGate::HealedTails(uint64_t regions_min) {
  std::lock_guard lock(mutex_);
  if (clears_held_ > 0) return {};
  return {log_->HealedTails(regions_min), holds_};
}

void RegionGate::SettleTails(const Tails& healed) {
  std::lock_guard lock(mutex_);
  if (healed.holds == holds_) log_->SettleTails(healed.tails);
}

void RegionGate::AdvanceSince(
    const std::vector<RegionStates::IdleRegion>& directories,
    int64_t since_ns) {
  for (const RegionStates::IdleRegion& directory : directories) {
    const std::optional<RegionKey> key = DecodeRegionKey(directory.key);
    std::lock_guard lock(mutex_);
    if (key && clears_held_ == 0 && states_.IsUnchanged(directory)) {
      log_->AdvanceSince(*key, since_ns);
    }
  }
}

size_t RegionGate::region_count() {
  std::lock_guard lock(mutex_);
  return states_.size();
}

}  // namespace mirrorfs
