// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/leg_admin.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <functional>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/call_target.h"
#include "base/fiber.h"
#include "base/kill_point.h"
#include "mirror/assembly.h"
#include "region/region_key.h"

namespace mirrorfs {
namespace {

// After the primary has changed, every other leg lacks for a moment what was
// under way then. That is waited for, up to this long.
constexpr absl::Duration kSettleTime = absl::Seconds(5);
constexpr absl::Duration kSettlePause = absl::Milliseconds(20);

absl::Status Refuse(absl::string_view leg, absl::string_view why) {
  return absl::FailedPreconditionError(
      absl::StrCat("leg \"", leg, "\": ", why));
}

// `attempt` until it succeeds or the time is over.
absl::Status WithPatience(absl::Duration patience,
                          const std::function<absl::Status()>& attempt) {
  const absl::Time deadline = absl::Now() + patience;
  for (;;) {
    absl::Status status = attempt();
    if (status.ok() || absl::Now() >= deadline) return status;
    absl::SleepFor(kSettlePause);
  }
}

// What legs must lack for `path` to be healed before what only lies beneath a
// deep record.
RegionMark WholeObject(const std::string& path, mode_t mode) {
  if (S_ISDIR(mode)) return {RegionKey::Entries(path), {.since_ns = 0}};
  RegionMark mark = {RegionKey::Attributes(path), {}};
  if (S_ISREG(mode)) mark.record.tail_from = 0;
  return mark;
}

}  // namespace

absl::Status LegAdmin::CheckOpen() const {
  if (read_only_) {
    return absl::FailedPreconditionError("the mirror is mounted read-only");
  }
  if (closed_) {
    return absl::FailedPreconditionError("the mirror is being unmounted");
  }
  return absl::OkStatus();
}

absl::StatusOr<LabelMember> LegAdmin::Find(const std::string& leg) const {
  const Label label = mirror_->membership().label();
  std::vector<std::string> names;
  for (const LabelMember& member : label.members) {
    if (member.name == leg || member.uuid == leg) return member;
    names.push_back(member.name);
  }
  for (const LabelMember& member : label.members) {
    if (!leg.empty() && probe_->path(member.slot) == leg) return member;
  }
  return absl::NotFoundError(absl::StrCat("no leg is named \"", leg,
                                          "\"; the legs are ",
                                          absl::StrJoin(names, ", ")));
}

absl::Status LegAdmin::CheckSpare(const LabelMember& member) const {
  LegSet others = mirror_->membership().in_sync() & mirror_->present();
  others -= LegSet::Of(member.slot);
  if (!mirror_->present().has(member.slot) || !others.empty()) {
    return absl::OkStatus();
  }
  return Refuse(member.name, "no other leg is in sync");
}

absl::Status LegAdmin::TakeOut(const LabelMember& member,
                               const std::string& reason,
                               absl::Duration patience,
                               Mirror::Leaving leaving) {
  if (!mirror_->ReadyForChanges()) {
    return absl::UnavailableError("the labels cannot be written");
  }
  // Another leg becomes the primary first, which costs the rest nothing.
  LegSet heirs = mirror_->membership().in_sync() & mirror_->present();
  heirs -= LegSet::Of(member.slot);
  heirs.ForEach([&](LegSlot heir) {
    if (mirror_->primary_slot() == member.slot) (void)mirror_->Promote(heir);
  });
  // One that has not been here since the mount.
  if (!mirror_->legs().known(member.slot)) return absl::OkStatus();
  return WithPatience(patience, [&] {
    return mirror_->TakeLegOut(mirror_->leg(member.slot), LegState::kOffline,
                               reason, -1, leaving)
               ? absl::OkStatus()
               : Refuse(member.name, "no other leg is in sync");
  });
}

absl::Status LegAdmin::SetOffline(const LabelMember& member, bool offline) {
  return mirror_->membership().Edit([&](Label& label) {
    LabelMember* own = label.FindMember(member.uuid);
    if (own != nullptr) own->offline = offline;
  });
}

absl::StatusOr<LabelMember> LegAdmin::FindSpare(const std::string& leg) {
  if (absl::Status status = CheckOpen(); !status.ok()) return status;
  absl::StatusOr<LabelMember> member = Find(leg);
  if (!member.ok()) return member;
  if (absl::Status status = CheckSpare(*member); !status.ok()) return status;
  return member;
}

absl::Status LegAdmin::Offline(const std::string& leg, bool dry_run) {
  std::lock_guard lock(mutex_);
  const absl::StatusOr<LabelMember> member = FindSpare(leg);
  if (!member.ok() || dry_run) return member.status();
  const absl::Status status = TakeOffline(*member);
  // Its disk may be unmounted from now on.
  mirror_->LetGo(member->slot);
  return status;
}

absl::Status LegAdmin::TakeOffline(const LabelMember& member) {
  const bool was_up = mirror_->present().has(member.slot);
  absl::Status status = TakeOut(member, "taken out by the administrator",
                                kSettleTime, Mirror::Leaving::kForNow);
  if (!status.ok()) return status;
  KillPoint("leg-offline");
  mirror_->SetLegDown(member.slot, LegState::kOffline);
  status = SetOffline(member, true);
  if (!status.ok()) mirror_->SetLegDown(member.slot, LegState::kFailed);
  if (!status.ok() || !was_up) return status;
  // So that it is not served alone, without what the others get from now on.
  const Leg& gone = mirror_->leg(member.slot);
  absl::StatusOr<Label> own = ReadLabel(gone);
  if (own.ok() && own->FindMember(member.uuid) != nullptr) {
    own->FindMember(member.uuid)->offline = true;
    (void)WriteLabelDurable(gone, *own);
  }
  return absl::OkStatus();
}

absl::Status LegAdmin::TakeIn(const LabelMember& member) {
  if (absl::Status status = probe_->TakeIn(member.slot); !status.ok()) {
    return status;
  }
  return member.offline ? SetOffline(member, false) : absl::OkStatus();
}

absl::Status LegAdmin::Online(const std::string& leg, bool dry_run) {
  std::lock_guard lock(mutex_);
  if (absl::Status status = CheckOpen(); !status.ok()) return status;
  const absl::StatusOr<LabelMember> member = Find(leg);
  if (!member.ok()) return member.status();
  if (dry_run) return absl::OkStatus();
  const absl::Status status = TakeIn(*member);
  if (status.ok()) return status;
  return Refuse(member->name, ReasonOf(status, probe_->path(member->slot)));
}

absl::Status LegAdmin::Promote(const std::string& leg, bool dry_run) {
  std::lock_guard lock(mutex_);
  if (absl::Status status = CheckOpen(); !status.ok()) return status;
  const absl::StatusOr<LabelMember> member = Find(leg);
  if (!member.ok()) return member.status();
  if (!mirror_->present().has(member->slot)) {
    return Refuse(member->name, "is not here");
  }
  if (dry_run) return absl::OkStatus();
  const absl::Status status =
      WithPatience(kSettleTime, [&] { return mirror_->Promote(member->slot); });
  return status.ok() ? status : Refuse(member->name, status.message());
}

absl::Status LegAdmin::ClearErrors(const std::string& leg) {
  std::lock_guard lock(mutex_);
  LegSet legs = mirror_->all();
  if (!leg.empty()) {
    const absl::StatusOr<LabelMember> member = Find(leg);
    if (!member.ok()) return member.status();
    legs = LegSet::Of(member->slot);
  }
  legs.ForEach([this](LegSlot slot) {
    mirror_->legs().errors(slot).read = 0;
    mirror_->legs().errors(slot).write = 0;
  });
  return absl::OkStatus();
}

absl::Status LegAdmin::Resync(const std::string& leg,
                              const std::optional<std::string>& first,
                              bool dry_run) {
  std::lock_guard lock(mutex_);
  if (absl::Status status = CheckOpen(); !status.ok()) return status;
  LegSet legs = mirror_->secondaries();
  if (!leg.empty()) {
    const absl::StatusOr<LabelMember> member = Find(leg);
    if (!member.ok()) return member.status();
    if (member->slot == mirror_->primary_slot()) {
      return Refuse(member->name,
                    "is the primary, which the others are compared with");
    }
    legs = LegSet::Of(member->slot);
    if (!mirror_->present().has(member->slot)) {
      return Refuse(member->name, "is not here");
    }
  }
  std::optional<RegionMark> mark;
  if (first) {
    const ErrnoOr<struct stat> st = mirror_->StatPath(*first);
    if (!st.ok()) return ToStatus(st.error(), *first);
    mark = WholeObject(*first, st->st_mode);
  }
  return dry_run ? absl::OkStatus() : mirror_->Resync(legs, mark);
}

std::vector<std::string> LegAdmin::PathsOfPresent() const {
  std::vector<std::string> paths;
  mirror_->present().ForEach(
      [&](LegSlot slot) { paths.push_back(probe_->path(slot)); });
  return paths;
}

absl::Status LegAdmin::CheckOutside(const std::string& path) const {
  if (LiesIn(path, mount_point_)) {
    return absl::FailedPreconditionError(
        absl::StrCat("leg ", path, ": lies inside the mirror itself"));
  }
  return absl::OkStatus();
}

// A leg of this mirror that is at `path` now, wherever it was before.
absl::Status LegAdmin::ReturnFrom(const std::string& path,
                                  const LabelMember& member, bool dry_run) {
  if (mirror_->present().has(member.slot)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "leg ", path, ": is leg \"", member.name, "\" of this mirror already"));
  }
  if (dry_run) return absl::OkStatus();
  const std::string before = probe_->path(member.slot);
  probe_->SetPath(member.slot, path);
  const absl::Status status = TakeIn(member);
  if (status.ok()) return status;
  // One in conflict stays there: who resolves that looks for it.
  if (!absl::IsAborted(status)) probe_->SetPath(member.slot, before);
  return Refuse(member.name, ReasonOf(status, path));
}

absl::Status LegAdmin::Attach(NewLegOptions options, bool dry_run) {
  std::lock_guard lock(mutex_);
  absl::Status status = CheckOpen();
  if (status.ok()) status = CheckOutside(options.path);
  if (!status.ok()) return status;
  if (!options.replaces.empty()) {
    const absl::StatusOr<LabelMember> old = Find(options.replaces);
    if (!old.ok()) return old.status();
    options.replaces = old->uuid;
  }
  const Label label = mirror_->membership().label();
  const absl::StatusOr<std::unique_ptr<Leg>> leg = Leg::Open(options.path);
  if (!leg.ok()) return leg.status();
  const absl::StatusOr<Label> own = ReadLabel(**leg);
  if (own.ok() && own->mirror_uuid == label.mirror_uuid) {
    const LabelMember* member = label.FindMember(own->leg_uuid);
    if (member != nullptr && options.replaces.empty()) {
      return ReturnFrom(options.path, *member, dry_run);
    }
    if (member == nullptr) {
      return absl::FailedPreconditionError(absl::StrCat(
          "leg ", options.path,
          ": was detached from this mirror; empty it, .mirrorfs included"));
    }
  }
  const absl::StatusOr<LabelMember> member = NewMember(options, label);
  if (!member.ok()) return member.status();
  return dry_run ? absl::OkStatus() : Join(options.path, *member);
}

// Looks at the other legs, too, of which one may hang without anybody having
// noticed yet.
absl::StatusOr<LabelMember> LegAdmin::NewMember(const NewLegOptions& options,
                                                const Label& label) const {
  const auto legs = std::make_shared<CallTarget>("the legs");
  absl::StatusOr<LabelMember> member =
      MakeCall(*legs, [options, paths = PathsOfPresent(), label] {
        return CheckNewLeg(options, paths, label);
      });
  if (!absl::IsDeadlineExceeded(member.status())) return member;
  return absl::UnavailableError(
      "one of the legs does not answer; try again when it has failed");
}

absl::Status LegAdmin::Join(const std::string& path,
                            const LabelMember& member) {
  if (!mirror_->ReadyForChanges()) {
    return absl::UnavailableError("the labels cannot be written");
  }
  mirror_->legs().AddMember(member.slot);
  mirror_->SetLegDown(member.slot, LegState::kMissing);
  probe_->SetPath(member.slot, path);
  Label own;
  absl::Status status = mirror_->membership().Edit(
      [&](Label& label) { own = AddMember(member, label); });
  KillPoint("leg-attaching");
  if (status.ok()) {
    const absl::StatusOr<std::unique_ptr<Leg>> leg = Leg::Open(path);
    status = leg.ok() ? WriteLabelDurable(**leg, own) : leg.status();
  }
  KillPoint("leg-attached");
  if (status.ok()) status = probe_->TakeIn(member.slot);
  if (status.ok()) {
    status = mirror_->membership().Edit(
        [&](Label& label) { label.FindMember(member.uuid)->joining = false; });
  }
  if (!status.ok()) {
    const absl::StatusOr<std::unique_ptr<Leg>> leg = Leg::Open(path);
    if (leg.ok()) (void)RetireLabel(**leg);
    (void)Remove(member, kSettleTime);
  }
  return status;
}

absl::Status LegAdmin::Detach(const std::string& leg, bool dry_run) {
  std::lock_guard lock(mutex_);
  const absl::StatusOr<LabelMember> member = FindSpare(leg);
  if (!member.ok() || dry_run) return member.status();
  return Remove(*member, kSettleTime);
}

absl::Status LegAdmin::Remove(const LabelMember& member,
                              absl::Duration patience) {
  const LegSlot slot = member.slot;
  const bool was_up = mirror_->present().has(slot);
  absl::Status status =
      TakeOut(member, "detached", patience, Mirror::Leaving::kForGood);
  if (!status.ok()) return status;
  KillPoint("leg-detaching");
  status = mirror_->membership().Edit([&](Label& label) {
    label.next_slot = std::max(label.next_slot, slot + 1);
    std::erase_if(label.members, [&](const LabelMember& other) {
      return other.uuid == member.uuid;
    });
    for (LabelMember& other : label.members) {
      if (other.replaces == member.uuid) other.replaces.clear();
    }
  });
  if (!status.ok()) return status;
  KillPoint("leg-detached");
  mirror_->legs().RemoveMember(slot);
  mirror_->log().ForgetLegs(LegSet::Of(slot));
  (void)mirror_->log().Flush();
  probe_->SetPath(slot, "");
  spdlog::info("leg \"{}\" is no leg of this mirror any more", member.name);
  // One that was down may be down because it hangs.
  if (!was_up) return absl::OkStatus();
  const Leg& gone = mirror_->leg(slot);
  status = RetireLabel(gone);
  if (!status.ok()) {
    spdlog::warn("leg \"{}\" still has its label: {}", member.name,
                 status.ToString());
  }
  mirror_->LetGo(slot);
  return absl::OkStatus();
}

absl::Status LegAdmin::Resolve(const std::string& keep, bool dry_run) {
  std::lock_guard lock(mutex_);
  if (absl::Status status = CheckOpen(); !status.ok()) return status;
  const absl::StatusOr<LabelMember> kept = Find(keep);
  if (!kept.ok()) return kept.status();
  if (!mirror_->present().has(kept->slot)) {
    return Refuse(kept->name,
                  "takes no part in the mount; unmount to keep what it has");
  }
  std::vector<LabelMember> in_conflict;
  for (const LabelMember& member : mirror_->membership().label().members) {
    if (mirror_->legs().state(member.slot) == LegState::kConflict) {
      in_conflict.push_back(member);
    }
  }
  if (in_conflict.empty()) {
    return absl::FailedPreconditionError("no leg is in conflict");
  }
  if (dry_run) return absl::OkStatus();
  if (!mirror_->ReadyForChanges()) {
    return absl::UnavailableError("the labels cannot be written");
  }
  for (const LabelMember& member : in_conflict) {
    const absl::StatusOr<std::unique_ptr<Leg>> leg =
        Leg::Open(probe_->path(member.slot));
    if (!leg.ok()) return leg.status();
    const absl::StatusOr<Label> theirs = ReadLabel(**leg);
    if (!theirs.ok()) return theirs.status();
    if (theirs->leg_uuid != member.uuid) {
      return Refuse(member.name, "another leg is in its place");
    }
    absl::Status status = mirror_->membership().Overrule(theirs->generation);
    KillPoint("conflict-overruled");
    if (status.ok()) status = probe_->TakeIn(member.slot);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

void LegAdmin::FinishReplacing() {
  const auto next = [this]() -> std::optional<LabelMember> {
    const Label label = mirror_->membership().label();
    const LegSet whole = mirror_->membership().in_sync() & mirror_->present();
    for (const LabelMember& member : label.members) {
      if (member.replaces.empty() || !whole.has(member.slot)) continue;
      const LabelMember* old = label.FindMember(member.replaces);
      if (old != nullptr) return *old;
    }
    return std::nullopt;
  };
  if (!next()) return;
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock() || !CheckOpen().ok()) return;
  while (const std::optional<LabelMember> old = next()) {
    const absl::Status status = Remove(*old, absl::ZeroDuration());
    if (!status.ok()) {
      spdlog::warn("leg \"{}\" is not replaced yet: {}", old->name,
                   status.ToString());
      return;
    }
  }
}

void LegAdmin::Close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
}

}  // namespace mirrorfs
