// SPDX-License-Identifier: GPL-2.0-or-later
#include "mirror/leg_probe.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "mirror/assembly.h"

namespace mirrorfs {
namespace {

// A leg that never stays is tried after 2, 4, 8 and at most this many probes.
constexpr int kDoublingsMax = 6;

}  // namespace

Returning JudgeReturn(const Label& ours, const Label& theirs) {
  if (theirs.mirror_uuid != ours.mirror_uuid) return Returning::kForeign;
  const LabelMember* member = ours.FindMember(theirs.leg_uuid);
  if (member == nullptr) return Returning::kForeign;
  const LabelMember* own = theirs.FindMember(theirs.leg_uuid);
  const bool whole = own == nullptr || own->in_sync;
  if (theirs.generation == ours.generation && !whole) {
    // It was being healed, and the log knows what it lacks still.
    return Returning::kAccounted;
  }
  const LabelOrder order = CompareLabels(theirs, ours);
  if (order == LabelOrder::kConflict || order == LabelOrder::kNewer) {
    return Returning::kConflict;
  }
  // It is late and nothing was changed yet. Then it lacks nothing, if both
  // ended in order; else what may differ is known to the log of the last time,
  // where there is one.
  if (order == LabelOrder::kSame) {
    return ours.clean && !theirs.clean ? Returning::kUnaccounted
                                       : Returning::kAccounted;
  }
  return !member->in_sync && member->left_at == theirs.generation.id &&
                 member->left_uses == theirs.uses
             ? Returning::kAccounted
             : Returning::kUnaccounted;
}

std::string LegProbe::path(LegSlot slot) {
  std::lock_guard lock(mutex_);
  return paths_[slot];
}

void LegProbe::SetPath(LegSlot slot, const std::string& path) {
  std::lock_guard lock(mutex_);
  paths_[slot] = path;
}

void LegProbe::ProbeAll() {
  mirror_->all().ForEach([this](LegSlot slot) {
    if (mirror_->present().has(slot)) {
      ProbeUp(slot);
    } else if (mirror_->legs().state(slot) != LegState::kOffline) {
      ProbeDown(slot);
    }
  });
}

void LegProbe::ProbeUp(LegSlot slot) {
  if (mirror_->membership().in_sync().has(slot)) tries_[slot] = Tries();
  CheckRoot(slot);
}

void LegProbe::ProbeDown(LegSlot slot) {
  Tries& tries = tries_[slot];
  if (std::exchange(tries.taken_in, false)) {
    tries.in_vain = std::min(tries.in_vain + 1, kDoublingsMax);
    tries.to_skip = (1 << tries.in_vain) - 1;
  }
  if (tries.to_skip > 0) {
    --tries.to_skip;
    return;
  }
  const absl::Status taken = TakeIn(slot);
  tries.taken_in = taken.ok();
  if (taken.ok()) return;
  mirror_->legs().SetReason(slot, ReasonOf(taken, path(slot)));
}

// A leg that was unmounted lazily, or removed, or has another directory in its
// place, still takes what we write; nobody would ever find it. One without its
// label has been emptied, or would not be known again.
void LegProbe::CheckRoot(LegSlot slot) {
  const Leg& leg = mirror_->leg(slot);
  const ErrnoOr<struct stat> st = MakeCall(
      *leg.target(), [where = path(slot)]() -> ErrnoOr<struct stat> {
        struct stat st;
        if (stat(where.c_str(), &st) != 0) return Errno::Last();
        return st;
      });
  std::string why;
  if (!st.ok()) {
    why = ErrnoText(st.error());
  } else if (st->st_dev != leg.dev() || st->st_ino != leg.root_ino()) {
    why = "another directory is there";
  } else if (absl::IsNotFound(ReadLabel(leg).status())) {
    why = "its label is gone";
  }
  if (why.empty()) return;
  // One whose disk was only unmounted has its label still.
  mirror_->TakeLegOut(
      leg, LegState::kFailed, absl::StrCat(path(slot), ": ", why), -1,
      HasLabel(leg) ? Mirror::Leaving::kForNow : Mirror::Leaving::kEmptied);
}

absl::Status LegProbe::TakeIn(LegSlot slot) {
  std::lock_guard one_at_a_time(probing_);
  if (mirror_->present().has(slot)) return absl::OkStatus();
  return TryTakeIn(slot);
}

absl::Status LegProbe::TryTakeIn(LegSlot slot) {
  const std::string where = path(slot);
  if (where.empty()) return absl::NotFoundError("its path is not known");
  // What is late may still change something there.
  const std::shared_ptr<CallTarget> target = targets_->For(where);
  if (target->hung() ||
      (mirror_->legs().known(slot) && mirror_->leg(slot).target()->hung())) {
    return absl::UnavailableError("it does not answer");
  }
  mirror_->LetGo(slot);  // its lock, too
  absl::StatusOr<std::unique_ptr<Leg>> leg = Leg::Open(where, target);
  if (!leg.ok()) return leg.status();
  const ErrnoOr<struct statvfs> st = (*leg)->Statvfs();
  if (st.ok() && st->f_flag & ST_RDONLY) {
    return absl::FailedPreconditionError(
        absl::StrCat("leg ", where, ": its file system is read-only"));
  }
  const absl::StatusOr<Label> label = ReadLabel(**leg);
  if (!label.ok()) return label.status();
  const Label ours = mirror_->membership().label();
  const Returning returning = JudgeReturn(ours, *label);
  const LabelMember* member = ours.FindMember(label->leg_uuid);
  if (returning == Returning::kForeign || member->slot != slot) {
    return absl::FailedPreconditionError(
        absl::StrCat("leg ", where, ": another leg is there"));
  }
  if (returning == Returning::kConflict) {
    if (mirror_->legs().state(slot) != LegState::kConflict) {
      spdlog::error(
          "leg \"{}\" was changed without the others; choose what to keep "
          "with `mirrorfs resolve`",
          member->name);
      mirror_->SetLegDown(slot, LegState::kConflict);
      mirror_->Post(EventName::kConflict, member->name, "");
    }
    return absl::AbortedError("it was changed without the others");
  }
  if (absl::Status status = take_lock_(**leg); !status.ok()) return status;
  const absl::StatusOr<Label> locked = ReadLabel(**leg);
  if (!locked.ok()) return locked.status();
  if (*locked != *label) {
    return absl::UnavailableError("another daemon has it");
  }
  (*leg)->Identify(slot, member->name, member->uuid);
  absl::Status status =
      mirror_->TakeLegIn(*std::move(leg), returning == Returning::kAccounted);
  // Its file system is to be unmounted still, and repaired.
  if (!status.ok()) mirror_->LetGo(slot);
  return status;
}

}  // namespace mirrorfs
