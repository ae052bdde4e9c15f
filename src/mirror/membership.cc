// SPDX-License-Identifier: GPL-2.0-or-later
#include "mirror/membership.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "base/kill_point.h"
#include "base/uuid.h"

namespace mirrorfs {
namespace {

// A leg that somebody has emptied, label and all, must not pass for a whole one
// again by a new label. A damaged one is written anew.
absl::Status CheckStillLabelled(const Leg& leg) {
  const absl::StatusOr<Label> there = ReadLabel(leg);
  if (absl::IsNotFound(there.status())) return there.status();
  if (there.ok() && there->leg_uuid != leg.uuid()) {
    return absl::FailedPreconditionError("another leg's label is there");
  }
  return absl::OkStatus();
}

// What the log accounts for the leg from.
void NoteLeft(LabelMember& member, const Label& own) {
  member.left_at = own.generation.id;
  member.left_uses = own.uses;
}

void NoteJoined(LabelMember& member) {
  member.in_sync = true;
  member.left_at.clear();
  member.left_uses = 0;
}

}  // namespace

Membership::Membership(Label label, const LegTable* legs, LegSet in_sync,
                       const Clock* clock)
    : legs_(legs), clock_(clock), label_(std::move(label)), in_sync_(in_sync) {
  written_uses_.fill(label_.uses);
  NoteTime();
  Show(in_sync_);
}

void Membership::BeginUse() {
  const Change change(this);
  for (LabelMember& member : label_.members) {
    if (!legs_->up().has(member.slot)) continue;
    Leg& leg = legs_->at(member.slot);
    leg.SetAway(AwayUntilNow(member, leg));
    member.away = leg.away();
    member.away_since_ns = 0;
  }
  NoteAway();
}

AwayTimes Membership::AwayUntilNow(const Leg& leg) const {
  const Label label = this->label();
  const LabelMember* member = label.FindMember(leg.uuid());
  return member == nullptr ? AwayTimes() : AwayUntilNow(*member, leg);
}

AwayTimes Membership::AwayUntilNow(const LabelMember& member,
                                   const Leg& leg) const {
  const ErrnoOr<int64_t> stamp = leg.StampNs();
  const int64_t now = clock_->RealtimeNs();
  int64_t since = member.away_since_ns;
  // A call that hung until lately may have changed something when it ended.
  if (since != 0) since = std::max(since, leg.target()->last_late_end_ns());
  return EndAway(member.away, since, now, stamp.ok() ? *stamp : now);
}

void Membership::NoteTime() {
  const int64_t now = clock_->RealtimeNs();
  int64_t latest = latest_ns_.load();
  while (now > latest && !latest_ns_.compare_exchange_weak(latest, now)) {
  }
}

int64_t Membership::LatestTime() const {
  return std::max(latest_ns_.load(), clock_->RealtimeNs());
}

// Since when those are away that are. mutex_ is held.
void Membership::NoteAway() {
  // One that returns is not up yet, but is about to be.
  const LegSet used = stopped_ ? LegSet() : legs_->up() | healing_;
  for (LabelMember& member : label_.members) {
    if (used.has(member.slot)) {
      member.away_since_ns = 0;
    } else if (member.away_since_ns == 0) {
      member.away_since_ns = LatestTime();
    }
  }
}

void Membership::SetLog(const LabelLog& log) {
  const Change change(this);
  label_.log = log;
}

void Membership::SetAccounted(LegSet legs) {
  const Change change(this);
  for (LabelMember& member : label_.members) {
    if (!legs.has(member.slot) || !legs_->known(member.slot)) continue;
    const absl::StatusOr<Label> own = ReadLabel(legs_->at(member.slot));
    if (own.ok()) NoteLeft(member, *own);
    member.in_sync = false;
  }
}

LegSet Membership::NameLog() {
  const Change change(this);
  label_.clean = false;
  label_.primary_uuid = legs_->at(legs_->primary()).uuid();
  return UnwrittenLabels();
}

LegSet Membership::BeforeFirstChange() {
  if (ready_for_changes_.load(std::memory_order_acquire)) return LegSet();
  std::unique_lock lock(mutex_);
  recorded_.wait(lock, [this] { return !changes_held_; });
  if (ready_for_changes_.load()) return LegSet();
  StartGenerationIfNeeded();
  CountUse();
  const LegSet unwritten = UnwrittenLabels();
  if (unwritten.empty()) {
    ready_for_changes_.store(true, std::memory_order_release);
  }
  return unwritten;
}

absl::Status Membership::BeforeHealing(LegSet legs) {
  const Change change(this);
  LegSet untold;
  (legs - healing_).ForEach([&](LegSlot slot) {
    const LegSet leg = LegSet::Of(slot);
    in_sync_ -= leg;
    (MarkNotWhole(legs_->at(slot)).ok() ? healing_ : untold) |= leg;
  });
  if (untold.empty()) return absl::OkStatus();
  // A leg that cannot even be told: the others go on without it.
  StartGenerationIfNeeded();
  const absl::Status status = WriteLabels();
  if (status.ok()) healing_ |= untold;
  return status;
}

absl::Status Membership::MarkNotWhole(const Leg& leg) {
  absl::StatusOr<Label> own = ReadLabel(leg);
  if (!own.ok()) return own.status();
  for (LabelMember& member : own->members) {
    if (member.uuid == own->leg_uuid) member.in_sync = false;
  }
  return WriteLabelDurable(leg, *own);
}

LegSet Membership::LegsCaughtUp(LegSet legs) {
  const Change change(this);
  in_sync_ |= legs;
  healing_ -= legs;
  if (changed_) {
    StartGenerationIfNeeded();
  } else {
    // Those that are not here have missed nothing yet.
    for (LabelMember& member : label_.members) {
      if (legs.has(member.slot)) NoteJoined(member);
    }
  }
  return UnwrittenLabels();
}

void Membership::HoldChanges() {
  std::lock_guard lock(mutex_);
  ready_for_changes_.store(false);
  changes_held_ = true;
}

void Membership::ReleaseChanges() {
  std::lock_guard lock(mutex_);
  changes_held_ = false;
  recorded_.notify_all();
}

LegSet Membership::LegsLeft(LegSet out, const LabelLog& log) {
  const Change change(this);
  in_sync_ -= out;
  healing_ -= out;
  label_.log = log;
  StartGenerationIfNeeded();
  CountUse();  // changes may follow that have not asked us before
  const LegSet unwritten = UnwrittenLabels();
  if (!unwritten.empty()) return unwritten;
  changes_held_ = false;
  ready_for_changes_.store(true, std::memory_order_release);
  recorded_.notify_all();
  return unwritten;
}

absl::Status Membership::LegReturned(LegSet leg) {
  const Change change(this);
  const std::vector<LabelMember> before = label_.members;
  bool marked = true;
  leg.ForEach(
      [&](LegSlot slot) { marked &= MarkNotWhole(legs_->at(slot)).ok(); });
  if (!marked) return absl::UnavailableError("its label cannot be written");
  healing_ |= leg;
  for (LabelMember& member : label_.members) {
    if (!leg.has(member.slot)) continue;
    const absl::StatusOr<Label> own = ReadLabel(legs_->at(member.slot));
    if (own.ok()) NoteLeft(member, *own);
    member.away = legs_->at(member.slot).away();
    member.away_since_ns = 0;
  }
  const absl::Status status = WriteLabels();
  if (status.ok()) return status;
  // It is away still.
  healing_ -= leg;
  label_.members = before;
  return status;
}

void Membership::LegStays(LegSlot slot) {
  const Change change(this);
  in_sync_ |= LegSet::Of(slot);
}

absl::Status Membership::Edit(const std::function<void(Label&)>& edit) {
  const Change change(this);
  const std::vector<LabelMember> before = label_.members;
  edit(label_);
  const absl::Status status = WriteLabels();
  if (!status.ok()) label_.members = before;
  return status;
}

absl::Status Membership::Overrule(const Generation& theirs) {
  const Change change(this);
  const Generation ours = label_.generation;
  StartGenerationIfNeeded();
  if (label_.generation == ours) StartGeneration(ours);
  label_.generation.number =
      std::max(label_.generation.number, theirs.number + 1);
  label_.history.insert(label_.history.begin() + 1, theirs.id);
  return WriteLabels();
}

absl::Status Membership::Stop(bool log_empty) {
  const Change change(this);
  if (!recorded_use_) return absl::OkStatus();
  label_.clean = log_empty;
  stopped_ = true;
  return WriteLabels();
}

Label Membership::label() const {
  std::lock_guard lock(mutex_);
  return label_;
}

LegSet Membership::in_sync() const {
  std::lock_guard lock(mutex_);
  return in_sync_;
}

Membership::View Membership::view() const {
  std::lock_guard lock(view_mutex_);
  return view_;
}

// mutex_ is held.
void Membership::Show(LegSet in_sync) {
  std::lock_guard lock(view_mutex_);
  view_ = {label_, in_sync};
}

// Changes follow the next labels.
void Membership::CountUse() {
  if (!std::exchange(changed_, true)) ++label_.uses;
  label_.clean = false;
}

void Membership::StartGenerationIfNeeded() {
  const Generation old = label_.generation;
  // A leg that is not here may have been told that we had left already, and
  // have gone on: what is changed without it needs an id that it does not know.
  bool differs = !changed_ && !in_sync_.contains(legs_->all());
  for (LabelMember& member : label_.members) {
    const bool now = in_sync_.has(member.slot);
    if (now == member.in_sync) continue;
    differs = true;
    if (now) {
      NoteJoined(member);
      continue;
    }
    member.in_sync = false;
    member.left_at = old.id;
    member.left_uses = written_uses_[member.slot];
  }
  label_.primary_uuid = legs_->at(legs_->primary()).uuid();
  if (differs) StartGeneration(old);
}

void Membership::StartGeneration(const Generation& old) {
  label_.history.insert(label_.history.begin(), old.id);
  if (label_.history.size() > kHistoryMax) label_.history.resize(kHistoryMax);
  label_.generation = {old.number + 1, NewUuid()};
}

absl::Status Membership::WriteLabels() {
  const LegSet unwritten = UnwrittenLabels();
  if (unwritten.empty()) return absl::OkStatus();
  return absl::UnavailableError("a label cannot be written");
}

LegSet Membership::UnwrittenLabels() {
  LegSet unwritten;
  recorded_use_ = true;
  NoteAway();
  Show(in_sync_ & view().in_sync);
  in_sync_.ForEach([&](LegSlot slot) {
    Leg& leg = legs_->at(slot);
    Label own = label_;
    own.leg_uuid = leg.uuid();
    KillPoint("label-write");
    absl::Status status = CheckStillLabelled(leg);
    if (status.ok()) status = WriteLabelDurable(leg, own);
    if (status.ok()) {
      written_uses_[slot] = own.uses;
      return;
    }
    spdlog::error("leg \"{}\": label: {}", leg.name(), status.ToString());
    unwritten |= LegSet::Of(slot);
  });
  return unwritten;
}

}  // namespace mirrorfs
