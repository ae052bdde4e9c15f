// SPDX-License-Identifier: GPL-2.0-or-later
//
// The set of legs changes while requests are under way: a leg fails, is taken
// out, comes back, becomes the primary.
//
// What keeps it safe, for a leg that leaves:
//   1. Clears are held: what is not yet durable on it stays marked.
//   2. It is down: who begins a change from now on does not count on it. Who
//      began before finds it down, or gets its error, and records what it
//      missed.
//   3. New labels, durably, on those that stay, before any change is
//      acknowledged that it does not see (I8): changes that begin wait for
//      them (Membership::BeforeFirstChange), those that had begun wait in
//      FailLeg.
//   4. Everything dirty is missing on it: it may not have been durable there.
#include <spdlog/spdlog.h>

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/kill_point.h"
#include "dirtylog/log_factory.h"
#include "leg/label.h"
#include "mirror/mirror.h"

namespace mirrorfs {
namespace {

// How long applications may be held up for a new primary.
constexpr absl::Duration kPauseMax = absl::Seconds(1);

constexpr char kNoSpaceForLog[] =
    "it has no space for the dirty log, and no other leg in sync has";

const char* Describe(LegState why) {
  switch (why) {
    case LegState::kOffline:
      return "offline";
    case LegState::kConflict:
      return "in conflict";
    default:
      return "failed";
  }
}

}  // namespace

LegSlot Mirror::Heir(LegSet without) {
  const LegSet whole = membership_->in_sync() & legs_->up();
  const LegSet heirs = whole - log_->LackingAnything() - without;
  LegSlot heir = -1;
  heirs.ForEach([&](LegSlot slot) {
    if (heir < 0 || joined_[slot] < joined_[heir]) heir = slot;
  });
  return heir;
}

// Who could be the heir of `without` and has that name.
LegSlot Mirror::HeirWithName(const std::string& path, LegSet without) {
  for (;;) {
    const LegSlot heir = Heir(without);
    if (heir < 0) return heir;
    const Errno error = leg(heir).Stat(path).error();
    if (error.ok()) return heir;
    if (IsLegFailure(error)) (void)FailLeg(leg(heir), error);
    without |= LegSet::Of(heir);
  }
}

// Once nobody is changing it.
LegSlot Mirror::SettledPrimary() {
  std::lock_guard lock(changing_legs_);
  return legs_->primary();
}

void Mirror::StartListening() {
  {
    std::lock_guard lock(changing_legs_);
    listening_ = true;
  }
  legs_->up().ForEach([this](LegSlot slot) { ListenToHangs(slot); });
}

void Mirror::StopListening() {
  {
    std::lock_guard lock(changing_legs_);
    listening_ = false;
  }
  legs_->all().ForEach([this](LegSlot slot) {
    if (legs_->known(slot)) leg(slot).target()->SetListeners({});
  });
}

// Not with changing_legs_, which who is failing a leg right now, because it was
// told to by the listener before, waits for.
void Mirror::ListenToHangs(LegSlot slot) {
  const Leg& listened = leg(slot);
  const std::shared_ptr<CallTarget> target = listened.target();
  const auto is_listening = [this] {
    std::lock_guard lock(changing_legs_);
    return listening_;
  };
  if (!is_listening()) return;
  target->SetListeners(
      {.slow = [this, slot] { AskOthers(slot); },
       .hung = [this,
                &listened] { (void)FailLeg(listened, Errno(ETIMEDOUT)); }});
  if (!is_listening()) target->SetListeners({});
  // One that has been hanging since before tells nobody.
  if (target->hung()) (void)FailLeg(listened, Errno(ETIMEDOUT));
}

// Who waits for that one will ask them next.
void Mirror::AskOthers(LegSlot slot) {
  if (read_only_) return;
  (legs_->up() - LegSet::Of(slot)).ForEach([this](LegSlot other) {
    asker_.Ask(leg(other));
  });
}

bool Mirror::FailLeg(const Leg& leg, Errno error) {
  return TakeLegOut(leg, LegState::kFailed, ErrnoText(error), -1);
}

bool Mirror::TakeLegOut(const Leg& leg, LegState why, const std::string& reason,
                        LegSlot heir, Leaving leaving) {
  std::lock_guard lock(changing_legs_);
  return TakeLegOutHeld(leg, why, reason, heir, leaving);
}

bool Mirror::TakeLegOutHeld(const Leg& leg, LegState why,
                            const std::string& reason, LegSlot heir,
                            Leaving leaving) {
  const LegSlot slot = leg.slot();
  if (!legs_->up().has(slot) || &legs_->at(slot) != &leg) return true;
  if (read_only_) return false;
  const LegSet out = LegSet::Of(slot);
  const bool was_primary = legs_->primary() == slot;
  if (was_primary) {
    if (heir < 0 || Heir(legs_->all() - LegSet::Of(heir)) != heir) {
      heir = Heir(out);
    }
    if (heir < 0) return false;
  }
  const bool was_in_sync = membership_->in_sync().has(slot);
  const bool was_whole = membership_->in_sync().contains(legs_->all());
  const bool wanted = why == LegState::kOffline;
  spdlog::log(wanted ? spdlog::level::info : spdlog::level::err,
              "leg \"{}\" is {}: {}", legs_->at(slot).name(), Describe(why),
              reason);
  KillPoint("leg-failing");
  const bool recorded = WhileHeld([&] {
    legs_->SetDown(slot, why, reason);
    if (was_primary) legs_->SetPrimary(heir);
    if (was_primary && leaving == Leaving::kEmptied) {
      CompareWithHeirHeld(out);
    }
    if (RecordLegGone(slot, was_primary)) return true;
    // Nobody is left who could be told: as if nothing had been.
    legs_->SetUp(slot);
    if (was_primary) legs_->SetPrimary(slot);
    if (was_in_sync) membership_->LegStays(slot);
    return false;
  });
  KillPoint("leg-failed");
  if (!recorded) return false;
  Post(wanted ? EventName::kLegOffline : EventName::kLegFailed,
       legs_->at(slot).name(), reason);
  if (was_whole && leaving != Leaving::kForGood) {
    Post(EventName::kDegraded, "",
         absl::StrCat(membership_->in_sync().size(), " of ",
                      legs_->all().size(), " legs up to date"));
  }
  if (was_primary) Post(EventName::kPrimaryChanged, primary().name(), "");
  if (on_work_) on_work_();
  return true;
}

bool Mirror::FailIfLabelIsGone() {
  const Leg& asked = primary();
  return !HasLabel(asked) &&
         TakeLegOut(asked, LegState::kFailed, "its label is gone", -1,
                    Leaving::kEmptied);
}

// Recovery may have removed, or not copied, on other legs what was gone from
// the primary. Their own labels say that they are not whole before anything
// else.
void Mirror::CompareWithHeirHeld(LegSet emptied) {
  const LegSet others = legs_->all() - LegSet::Of(legs_->primary()) - emptied;
  if (others.empty()) return;
  MarkAll(*log_, others);
  const absl::Status status = membership_->BeforeHealing(others & legs_->up());
  if (!status.ok()) spdlog::error("labels: {}", status.ToString());
}

bool Mirror::FailIfNameIsGone(const std::string& path) {
  const Leg& asked = primary();
  const LegSet out = LegSet::Of(asked.slot());
  if (Heir(out) < 0) return false;
  // Who is about to change the names there has been to the primary first.
  const std::vector<RegionKey> held = {
      RegionKey::Entries(std::string(ParentPath(path)))};
  gate_.StartRecovery(held);
  const bool failed = FailIfOthersHave(path);
  gate_.FinishRecovery(held);
  return failed || legs_->primary() != asked.slot();
}

// One that has missed what was under way is nobody's heir.
bool Mirror::FailIfOthersHave(const std::string& path) {
  const Leg& asked = primary();
  const LegSet out = LegSet::Of(asked.slot());
  if (asked.Stat(path).error() != Errno(ENOENT)) return false;
  const LegSlot heir = HeirWithName(path, out);
  if (heir < 0) return false;
  std::unique_lock lock(changing_legs_);
  if (Heir(legs_->all() - LegSet::Of(heir)) != heir) return false;
  const std::string reason =
      absl::StrCat("somebody has removed \"", path, "\" there");
  if (!TakeLegOutHeld(asked, LegState::kFailed, reason, heir,
                      Leaving::kEmptied)) {
    return false;
  }
  MarkAll(*log_, out);
  lock.unlock();
  // Its label says that it lacks only what the log knows.
  (void)gate_.Flush();
  return true;
}

bool Mirror::WhileHeld(const std::function<bool()>& change) {
  gate_.HoldClears();
  membership_->HoldChanges();
  const bool recorded = change();
  if (!recorded) membership_->ReleaseChanges();  // else the labels did it
  gate_.ReleaseClears();
  return recorded;
}

// Labels without `out`, and the log where it can be written.
LegSet Mirror::RecordLegs(LegSet out) {
  const Label label = membership_->label();
  const LabelMember* host = label.FindMember(label.log.leg_uuid);
  const bool host_is_gone = host != nullptr && !legs_->up().has(host->slot);
  if (!move_log_ || !(host_is_gone || log_is_lost_)) {
    return membership_->LegsLeft(out, label.log);
  }
  LegSet unwritten;
  const bool moved = MoveLog(out, LegSet(), &unwritten);
  if (!moved && unwritten.empty()) unwritten = LegSet::Of(legs_->primary());
  return unwritten;
}

// The log moves to the primary or, as long as there is no space for it, to
// another leg in sync, but to none of `full`. With it, labels without `out`;
// `unwritten`: the legs whose label could not be written.
bool Mirror::MoveLog(LegSet out, LegSet full, LegSet* unwritten) {
  const auto record = [&](const LabelLog& log) {
    *unwritten = membership_->LegsLeft(out, log);
    return unwritten->empty() ? absl::OkStatus()
                              : absl::UnavailableError("labels");
  };
  absl::Status moved = absl::ResourceExhaustedError("");
  const auto move_to = [&](LegSlot slot) {
    if (full.has(slot) || !absl::IsResourceExhausted(moved)) return;
    spdlog::warn("the dirty log moves to leg \"{}\"", leg(slot).name());
    moved = move_log_(leg(slot), record);
    if (!moved.ok()) spdlog::error("dirty log: {}", moved.ToString());
  };
  const LegSet first = LegSet::Of(legs_->primary());
  first.ForEach(move_to);
  ((membership_->in_sync() & legs_->up()) - out - first).ForEach(move_to);
  if (moved.ok()) log_is_lost_ = false;
  return moved.ok();
}

bool Mirror::RecordLegGone(LegSlot slot, bool was_primary) {
  LegSet out = LegSet::Of(slot);
  for (;;) {
    const LegSet unwritten = RecordLegs(out);
    if (unwritten.empty()) break;
    // A leg that cannot even be told is gone, too.
    out |= unwritten;
    if (unwritten.has(legs_->primary())) {
      const LegSlot heir = Heir(out);
      if (heir < 0) {
        // Those are out all the same.
        log_->SuspectDirty(out - LegSet::Of(slot) -
                           LegSet::Of(legs_->primary()));
        return false;
      }
      legs_->SetPrimary(heir);
      was_primary = true;
    }
    unwritten.ForEach(
        [&](LegSlot gone) { legs_->SetDown(gone, LegState::kFailed); });
  }
  // A new primary is right by definition; what is under way may be on others
  // and not on it.
  log_->SuspectDirty(was_primary ? legs_->all() - LegSet::Of(legs_->primary())
                                 : out);
  return log_->Flush().ok();
}

// The log cannot be written: the leg it lies on fails, unless it is only full
// and another has space; if it lies elsewhere, it moves to the primary. The
// last leg in sync does not fail, and its log may work again: as long as it
// does not, nothing is changed.
bool Mirror::MendLog() {
  // With the lock, because who moves the log holds it: what labels say of where
  // it lies and what it says of itself belong together.
  std::lock_guard lock(changing_legs_);
  const absl::Status failure = log_->Flush();
  if (failure.ok()) return true;  // another thread was here first
  const Label label = membership_->label();
  const LabelMember* host = label.FindMember(label.log.leg_uuid);
  const bool on_leg = host != nullptr && legs_->up().has(host->slot);
  if (on_leg && absl::IsResourceExhausted(failure)) {
    bool mended = true;
    LeaveFullLegHeld().ForEach([&](LegSlot slot) {
      mended &=
          TakeLegOutHeld(leg(slot), LegState::kFailed, kNoSpaceForLog, -1);
    });
    return mended || ResumeLog();
  }
  if (on_leg) {
    return TakeLegOutHeld(leg(host->slot), LegState::kFailed,
                          ErrnoText(Errno(EIO)), -1) ||
           ResumeLog();
  }
  if (!move_log_) return false;
  Post(EventName::kLogFailed, "", label.log.dir);
  log_is_lost_ = true;
  return WhileHeld([this] { return RecordLegs(LegSet()).empty(); });
}

// In the place where it is. What it lost meanwhile is known, and written anew.
bool Mirror::ResumeLog() {
  const absl::Status status = log_->Resume(LegSet());
  if (!status.ok()) spdlog::error("dirty log: {}", status.ToString());
  // One that has no space has it again when the leg has. Any other is not to be
  // trusted with a write any more, and is made anew.
  if (!status.ok() && !absl::IsResourceExhausted(status)) {
    LegSet unwritten;
    return move_log_ &&
           WhileHeld([&] { return MoveLog(LegSet(), LegSet(), &unwritten); });
  }
  if (!status.ok() || !log_->Flush().ok()) return false;
  log_is_lost_ = false;
  return true;
}

// The leg that the log lies on has no space for it, and is not broken: the log
// moves to another. Answers the legs that cannot stay, none when it has moved.
LegSet Mirror::LeaveFullLegHeld() {
  const Label label = membership_->label();
  const LabelMember* host = label.FindMember(label.log.leg_uuid);
  const LegSet full = host == nullptr ? LegSet() : LegSet::Of(host->slot);
  if (!move_log_) return full;
  full.ForEach([&](LegSlot slot) {
    Post(EventName::kEnospc, leg(slot).name(), "for the dirty log");
  });
  log_is_lost_ = true;
  LegSet unwritten;
  const bool moved =
      WhileHeld([&] { return MoveLog(LegSet(), full, &unwritten); });
  if (moved) return LegSet();
  return unwritten.empty() ? full : unwritten;
}

bool Mirror::ReadyForChanges() {
  for (;;) {
    const LegSet unwritten = membership_->BeforeFirstChange();
    if (unwritten.empty()) return true;
    bool failed = true;
    unwritten.ForEach(
        [&](LegSlot slot) { failed &= FailLeg(leg(slot), Errno(EIO)); });
    if (!failed) return false;
  }
}

absl::Status Mirror::TakeLegIn(std::unique_ptr<Leg> leg, bool accounted) {
  // Labels that say nothing of a log would let a crash forget what it lacks.
  if (!accounted && !ReadyForChanges()) {
    return absl::UnavailableError("the labels cannot be written");
  }
  const LegSlot slot = leg->slot();
  const absl::Status status = TakeLegInHeld(std::move(leg), accounted);
  if (status.ok()) ListenToHangs(slot);
  return status;
}

absl::Status Mirror::TakeLegInHeld(std::unique_ptr<Leg> leg, bool accounted) {
  std::lock_guard lock(changing_legs_);
  const LegSlot slot = leg->slot();
  const LegSet in = LegSet::Of(slot);
  // As names of files of several names they would be looked for in vain.
  leg->RemoveTemporaries();
  leg->SetAway(membership_->AwayUntilNow(*leg));
  legs_->Put(std::move(leg));
  KillPoint("leg-returning");
  if (!accounted) {
    MarkAll(*log_, in);
    if (!log_->Flush().ok()) {
      return absl::UnavailableError("the dirty log failed");
    }
  }
  // The labels of the others say that what it lacks is in the log; its own,
  // that it is not whole.
  absl::Status status = membership_->LegReturned(in);
  if (!status.ok()) return status;
  legs_->SetUp(slot);
  spdlog::info("leg \"{}\" is back, and catches up", legs_->at(slot).name());
  const Label label = membership_->label();
  const LabelMember* member = label.FindMember(legs_->at(slot).uuid());
  if (member != nullptr && member->joining) {
    Post(EventName::kLegAttached, legs_->at(slot).name(), "");
  } else {
    Post(EventName::kLegBack, legs_->at(slot).name(),
         accounted ? "" : "compared whole");
  }
  if (on_work_) on_work_();
  return absl::OkStatus();
}

LegSet Mirror::CaughtUp() const {
  return secondaries() - membership_->in_sync() - log_->LackingAnything();
}

absl::StatusOr<LegSet> Mirror::AdmitCaughtUp() {
  std::vector<const Leg*> synced;
  CaughtUp().ForEach([&](LegSlot slot) { synced.push_back(&leg(slot)); });
  if (synced.empty()) return LegSet();
  // What was copied must be durable before a label says so.
  std::set<std::string> paths;
  log_->ForEach([&](const RegionKey& key, const RegionRecord& record) {
    if (record.dirty) paths.insert(key.path);
  });
  const Errno error = SyncLegs(paths);
  if (!error.ok()) return ToStatus(error, "sync");
  // So must be what the log says of it. Where a label says that a leg is whole,
  // and the log that it is not, the log is believed at the next start.
  if (const absl::Status status = log_->FlushWhole(); !status.ok()) {
    (void)MendLog();
    return status;
  }
  KillPoint("leg-admitting");
  std::lock_guard lock(changing_legs_);
  // Who went meanwhile has nothing to say, and who is back since is another.
  LegSet admitted;
  for (const Leg* leg : synced) {
    if (&legs_->at(leg->slot()) == leg) admitted |= LegSet::Of(leg->slot());
  }
  admitted = admitted & CaughtUp();
  if (admitted.empty()) return admitted;
  const LegSet unwritten = membership_->LegsCaughtUp(admitted);
  FailUnwrittenHeld(unwritten);
  admitted.ForEach([this](LegSlot slot) { joined_[slot] = ++joins_; });
  if (unwritten.empty()) return admitted;
  return absl::UnavailableError("a label cannot be written");
}

void Mirror::FailUnwrittenHeld(LegSet legs) {
  legs.ForEach([&](LegSlot slot) {
    (void)TakeLegOutHeld(
        leg(slot), LegState::kFailed, ErrnoText(Errno(EIO)), -1,
        HasLabel(leg(slot)) ? Leaving::kForNow : Leaving::kEmptied);
  });
}

absl::Status Mirror::Promote(LegSlot slot) {
  // With nothing under way, all legs in sync hold the same, and the others need
  // not be repaired. Waited for without the lock: what is under way may have to
  // take a leg out.
  const bool quiet = gate_.Pause(kPauseMax);
  const absl::Status status = PromotePaused(slot, quiet);
  if (quiet) gate_.Resume();
  return status;
}

absl::Status Mirror::PromotePaused(LegSlot slot, bool quiet) {
  std::lock_guard lock(changing_legs_);
  if (legs_->primary() == slot) return absl::OkStatus();
  if (!legs_->up().has(slot) || !membership_->in_sync().has(slot) ||
      log_->LackingAnything().has(slot)) {
    return absl::FailedPreconditionError(
        "only a leg that is in sync can become the primary");
  }
  const LegSlot before = legs_->primary();
  LegSet unwritten;
  const bool recorded = WhileHeld([&] {
    legs_->SetPrimary(slot);
    KillPoint("leg-promoted");
    unwritten = RecordLegs(LegSet());
    if (!unwritten.empty()) {
      legs_->SetPrimary(before);
      return false;
    }
    if (!quiet) log_->SuspectDirty(legs_->all() - LegSet::Of(slot));
    return log_->Flush().ok();
  });
  FailUnwrittenHeld(unwritten);
  if (on_work_) on_work_();
  if (!recorded) {
    return absl::UnavailableError("the change could not be recorded");
  }
  Post(EventName::kPrimaryChanged, legs_->at(slot).name(), "promoted");
  return absl::OkStatus();
}

absl::Status Mirror::Resync(LegSet legs,
                            const std::optional<RegionMark>& first) {
  if (!ReadyForChanges()) {
    return absl::UnavailableError("the labels cannot be written");
  }
  std::lock_guard lock(changing_legs_);
  legs = legs & secondaries();
  absl::Status status = membership_->BeforeHealing(legs);
  if (!status.ok()) return status;
  if (first) {
    RegionRecord record = first->record;
    record.missing = legs;
    log_->MarkRegion(first->key, record);
  }
  MarkAll(*log_, legs);
  status = log_->Flush();
  if (on_work_) on_work_();
  return status;
}

void Mirror::LetGo(LegSlot slot) {
  uint64_t epoch = 0;
  {
    // One that is coming back is another leg, and must not be meant.
    std::lock_guard lock(changing_legs_);
    if (legs_->up().has(slot) || !legs_->known(slot)) return;
    leg(slot).LetGo();
    epoch = leg(slot).replaced_epoch() + 1;
  }
  if (on_let_go_) on_let_go_(slot, epoch);
}

void Mirror::LetGoOfLegsDown() {
  for (LegSlot slot = 0; slot < kLegsMax; ++slot) {
    if (!legs_->known(slot) || legs_->up().has(slot)) continue;
    const bool being_taken_out =
        legs_->state(slot) == LegState::kOffline && !leg(slot).is_let_go();
    if (!being_taken_out) LetGo(slot);
  }
}

void Mirror::SetLegDown(LegSlot slot, LegState why) {
  std::lock_guard lock(changing_legs_);
  if (!legs_->up().has(slot)) legs_->SetDown(slot, why);
}

void Mirror::Post(EventName event, const std::string& leg,
                  const std::string& detail) {
  if (events_ != nullptr) events_->Post(event, leg, detail);
}

}  // namespace mirrorfs
