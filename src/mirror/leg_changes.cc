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

#include <bit>

#include "absl/time/time.h"
#include "base/kill_point.h"
#include "dirtylog/log_factory.h"
#include "leg/label.h"
#include "mirror/mirror.h"

namespace mirrorfs {
namespace {

// How long applications may be held up for a new primary.
constexpr absl::Duration kPauseMax = absl::Seconds(1);

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
  return heirs.empty() ? -1 : std::countr_zero(heirs.bits());
}

bool Mirror::FailLeg(LegSlot slot, Errno error) {
  return TakeLegOut(slot, LegState::kFailed, ErrnoText(error), -1);
}

bool Mirror::TakeLegOut(LegSlot slot, LegState why, const std::string& reason,
                        LegSlot heir) {
  std::lock_guard lock(changing_legs_);
  if (!legs_->up().has(slot)) return true;
  if (read_only_) return false;
  const LegSet out = LegSet::Of(slot);
  const bool was_primary = legs_->primary() == slot;
  if (was_primary) {
    if (heir < 0 || !membership_->in_sync().has(heir)) heir = Heir(out);
    if (heir < 0) return false;
  }
  const bool wanted = why == LegState::kOffline;
  spdlog::log(wanted ? spdlog::level::info : spdlog::level::err,
              "leg \"{}\" is {}: {}", legs_->at(slot).name(), Describe(why),
              reason);
  KillPoint("leg-failing");
  const bool recorded = WhileHeld([&] {
    legs_->SetDown(slot, why);
    if (was_primary) legs_->SetPrimary(heir);
    if (RecordLegGone(slot, was_primary)) return true;
    // Nobody is left who could be told: as if nothing had been.
    legs_->SetUp(slot);
    if (was_primary) legs_->SetPrimary(slot);
    return false;
  });
  KillPoint("leg-failed");
  if (!recorded) return false;
  Post(wanted ? EventName::kLegOffline : EventName::kLegFailed,
       legs_->at(slot).name(), reason);
  if (was_primary) Post(EventName::kPrimaryChanged, primary().name(), "");
  if (on_work_) on_work_();
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
  LegSet unwritten;
  const auto record = [&](const LabelLog& log) {
    unwritten = membership_->LegsLeft(out, log);
    return unwritten.empty() ? absl::OkStatus()
                             : absl::UnavailableError("labels");
  };
  const Label label = membership_->label();
  const LabelMember* host = label.FindMember(label.log.leg_uuid);
  const bool host_is_gone = host != nullptr && !legs_->up().has(host->slot);
  if (!move_log_ || !(host_is_gone || log_is_lost_)) {
    (void)record(label.log);
    return unwritten;
  }
  spdlog::warn("the dirty log moves to leg \"{}\"", primary().name());
  const absl::Status moved = move_log_(primary(), record);
  if (moved.ok()) {
    log_is_lost_ = false;
  } else if (unwritten.empty()) {
    spdlog::error("dirty log: {}", moved.ToString());
    unwritten = LegSet::Of(legs_->primary());
  }
  return unwritten;
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
      if (heir < 0) return false;
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

// The log cannot be written: the leg it lies on fails, or, if it lies
// elsewhere, it moves to the primary.
bool Mirror::MendLog() {
  const Label label = membership_->label();
  const LabelMember* host = label.FindMember(label.log.leg_uuid);
  if (host != nullptr && legs_->up().has(host->slot)) {
    return FailLeg(host->slot, Errno(EIO));
  }
  std::lock_guard lock(changing_legs_);
  if (log_->Flush().ok()) return true;  // another thread was here first
  if (!move_log_) return false;
  Post(EventName::kLogFailed, "", label.log.dir);
  log_is_lost_ = true;
  return WhileHeld([this] { return RecordLegs(LegSet()).empty(); });
}

bool Mirror::ReadyForChanges() {
  for (;;) {
    const LegSet unwritten = membership_->BeforeFirstChange();
    if (unwritten.empty()) return true;
    bool failed = true;
    unwritten.ForEach(
        [&](LegSlot slot) { failed &= FailLeg(slot, Errno(EIO)); });
    if (!failed) return false;
  }
}

absl::Status Mirror::TakeLegIn(std::unique_ptr<Leg> leg, bool accounted) {
  // Labels that say nothing of a log would let a crash forget what it lacks.
  if (!accounted && !ReadyForChanges()) {
    return absl::UnavailableError("the labels cannot be written");
  }
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
  ListenToHangs(slot);
  spdlog::info("leg \"{}\" is back, and catches up", legs_->at(slot).name());
  Post(EventName::kLegBack, legs_->at(slot).name(),
       accounted ? "" : "compared whole");
  if (on_work_) on_work_();
  return absl::OkStatus();
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
  const bool recorded = WhileHeld([&] {
    legs_->SetPrimary(slot);
    KillPoint("leg-promoted");
    const bool written = RecordLegs(LegSet()).empty();
    if (!quiet) log_->SuspectDirty(legs_->all() - LegSet::Of(slot));
    return log_->Flush().ok() && written;
  });
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

void Mirror::SetLegDown(LegSlot slot, LegState why) {
  std::lock_guard lock(changing_legs_);
  if (!legs_->up().has(slot)) legs_->SetDown(slot, why);
}

void Mirror::Post(EventName event, const std::string& leg,
                  const std::string& detail) {
  if (events_ != nullptr) events_->Post(event, leg, detail);
}

}  // namespace mirrorfs
