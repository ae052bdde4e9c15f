// SPDX-License-Identifier: GPL-2.0-or-later
#include "mirror/log_setup.h"

#include <sys/stat.h>

#include <bit>

#include "absl/strings/str_cat.h"
#include "base/errno.h"
#include "base/uuid.h"
#include "dirtylog/log_factory.h"

namespace mirrorfs {
namespace {

LegSet AllMembers(const Label& label) {
  LegSet all;
  for (const LabelMember& member : label.members) {
    all |= LegSet::Of(member.slot);
  }
  return all;
}

const Leg* LegByUuid(const Assembly& assembly, const std::string& uuid) {
  for (const std::unique_ptr<Leg>& leg : assembly.legs) {
    if (leg != nullptr && leg->uuid() == uuid) return leg.get();
  }
  return nullptr;
}

StorePlace PlaceOn(const Leg& leg) {
  return {absl::StrCat(leg.path(), "/", kPrivateDir, "/log"), leg.target()};
}

LabelLog NewLogOn(const Leg& leg) {
  LabelLog log;
  log.type = "disk";
  log.uuid = NewUuid();
  log.leg_uuid = leg.uuid();
  return log;
}

// Where the store of `log` is; nowhere when its leg is not here.
StorePlace PlaceOf(const Assembly& assembly, const LabelLog& log) {
  if (!log.dir.empty()) {
    return {absl::StrCat(log.dir, "/", assembly.label.mirror_uuid), nullptr};
  }
  const Leg* leg = LegByUuid(assembly, log.leg_uuid);
  return leg == nullptr ? StorePlace() : PlaceOn(*leg);
}

LogOptions OptionsFor(const Assembly& assembly, const LabelLog& log) {
  LogOptions options;
  options.type = log.type;
  options.region_bytes = assembly.label.region_bytes;
  options.mirror_uuid = assembly.label.mirror_uuid;
  options.log_uuid = log.uuid;
  options.expected_session = log.session;
  options.check_apart = true;
  if (log.type != "core") options.place = PlaceOf(assembly, log);
  return options;
}

// Opens the log that the labels name and loads it. NotFound when there is
// none to be had.
absl::StatusOr<OpenedLog> OpenOld(const Assembly& assembly) {
  const LogOptions options = OptionsFor(assembly, assembly.label.log);
  if (options.type == "core") {
    return absl::NotFoundError(
        "the log was in memory, and the last end was no orderly one");
  }
  if (options.place.dir.empty()) {
    return absl::NotFoundError("the dirty log lies on a leg that is missing");
  }
  absl::StatusOr<OpenedLog> old = OpenLog(options);
  if (!old.ok()) return old;
  absl::Status status = old->log->Resume(LegSet());
  if (!status.ok()) return status;
  return old;
}

absl::StatusOr<OpenedLog> OpenNew(const Assembly& assembly, LabelLog* log) {
  log->uuid = NewUuid();
  log->session.clear();
  absl::StatusOr<OpenedLog> opened = OpenLog(OptionsFor(assembly, *log));
  if (!opened.ok()) return opened;
  absl::Status status = opened->log->Resume(LegSet());
  if (!status.ok()) return status;
  log->session = opened->session;
  return opened;
}

// The same, on another leg in sync when there is no space on that one, and in
// memory when there is none anywhere: only who can mount a full mirror can
// remove something from it.
absl::StatusOr<OpenedLog> OpenNewWhereSpaceIs(const Assembly& assembly,
                                              LabelLog* log) {
  absl::StatusOr<OpenedLog> opened = OpenNew(assembly, log);
  if (log->leg_uuid.empty()) return opened;
  assembly.verdict.in_sync.ForEach([&](LegSlot slot) {
    const std::string& uuid = assembly.legs[slot]->uuid();
    if (!absl::IsResourceExhausted(opened.status()) || uuid == log->leg_uuid) {
      return;
    }
    LabelLog there = *log;
    there.leg_uuid = uuid;
    opened = OpenNew(assembly, &there);
    if (opened.ok()) *log = there;
  });
  if (!absl::IsResourceExhausted(opened.status())) return opened;
  *log = LabelLog();
  log->type = "core";
  return OpenNew(assembly, log);
}

// Whether to go on without the old log. What else keeps us from asking it says
// nothing about the answer.
bool MayBeGivenUp(const absl::Status& old) {
  return absl::IsDataLoss(old) || absl::IsNotFound(old) ||
         absl::IsResourceExhausted(old);
}

// The primary that the labels name, unless the log knows better: in a mount
// without that one, in which nothing was changed, another took its place. What
// the log says that a leg lacks was acknowledged without it, or is about to be
// copied to it.
absl::StatusOr<LegSlot> PrimaryBy(DirtyLog& log, const LabelVerdict& verdict) {
  const LegSet whole = verdict.in_sync - log.LackingAnything();
  if (whole.has(verdict.primary)) return verdict.primary;
  if (!whole.empty()) return std::countr_zero(whole.bits());
  return absl::FailedPreconditionError(
      "it says that no leg that is here has everything; bring the others back, "
      "or keep what one has with `mirrorfs resolve --keep LEG LEG...`");
}

LabelLog Wish(const Assembly& assembly, LegSlot primary,
              const WantedLog& wanted) {
  LabelLog log;
  log.type = wanted.type;
  if (wanted.type == "core") return log;
  log.dir = wanted.dir;
  if (wanted.dir.empty()) {
    log.leg_uuid = assembly.legs[primary]->uuid();
  }
  return log;
}

}  // namespace

absl::StatusOr<ReadyLog> SetUpLog(const Assembly& assembly,
                                  const WantedLog& wanted) {
  const bool old_counts = !assembly.label.clean;
  ReadyLog ready;
  ready.primary = assembly.verdict.primary;
  ready.in_use = old_counts;
  absl::StatusOr<OpenedLog> old = absl::NotFoundError("not needed");
  if (old_counts) old = OpenOld(assembly);
  if (!old.ok() && !MayBeGivenUp(old.status())) return old.status();
  if (old.ok()) {
    const absl::StatusOr<LegSlot> primary =
        PrimaryBy(*old->log, assembly.verdict);
    if (!primary.ok()) return primary.status();
    ready.primary = *primary;
  }
  const LegSet others = AllMembers(assembly.label) - LegSet::Of(ready.primary);
  if (old.ok()) old->log->SuspectDirty(others);
  ready.label_log = Wish(assembly, ready.primary, wanted);
  const LabelLog& named = assembly.label.log;
  const bool same_place = ready.label_log.type == named.type &&
                          ready.label_log.leg_uuid == named.leg_uuid &&
                          ready.label_log.dir == named.dir;
  absl::StatusOr<OpenedLog> opened = absl::NotFoundError("not needed");
  const bool keeps_old = old.ok() && same_place;
  if (!keeps_old) {
    opened = old.ok() ? OpenNew(assembly, &ready.label_log)
                      : OpenNewWhereSpaceIs(assembly, &ready.label_log);
  }
  if (keeps_old || (old.ok() && absl::IsResourceExhausted(opened.status()))) {
    // The second: it had left a leg that is full still.
    ready.log = std::move(old->log);
    ready.label_log = named;
    ready.label_log.session = old->session;
  } else {
    if (!opened.ok()) return opened.status();
    ready.log = std::move(opened->log);
    if (old.ok()) {
      absl::Status status = CopyAll(*old->log, *ready.log);
      if (!status.ok()) return status;
    }
  }
  // A crash may have come between a member's end and that of its records.
  ready.log->ForgetLegs(LegSet(~uint64_t{0}) - AllMembers(assembly.label));
  LegSet unknown = assembly.verdict.unaccounted;
  if (old_counts && !old.ok()) {
    unknown |= others;
    ready.note =
        absl::StrCat(old.status().message(), "; everything is compared");
  }
  if (ready.label_log.type != wanted.type) {
    ready.note = absl::StrCat(
        ready.note, ready.note.empty() ? "" : "; ",
        "no leg in sync has space for the dirty log, which is kept in memory "
        "until the next mount");
  }
  if (unknown.empty()) return ready;
  ready.in_use = true;
  MarkAll(*ready.log, unknown);
  if (absl::Status status = ready.log->Flush(); !status.ok()) return status;
  return ready;
}

absl::StatusOr<LabelLog> SaveLog(const Label& label, const Leg& to,
                                 DirtyLog& log) {
  LabelLog label_log = NewLogOn(to);
  LogOptions options;
  options.type = label_log.type;
  options.region_bytes = label.region_bytes;
  options.place = PlaceOn(to);
  options.mirror_uuid = label.mirror_uuid;
  options.log_uuid = label_log.uuid;
  absl::StatusOr<OpenedLog> store = OpenLog(options);
  if (!store.ok()) return store.status();
  absl::Status status = store->log->Resume(LegSet());
  if (status.ok()) status = CopyAll(log, *store->log);
  if (status.ok()) status = store->log->Postsuspend();
  if (!status.ok()) return status;
  label_log.session = store->session;
  return label_log;
}

absl::Status MoveLog(const Leg& to, DirtyLog& log,
                     const std::function<absl::Status(const LabelLog&)>& note) {
  LabelLog label_log = NewLogOn(to);
  return log.MoveStore(PlaceOn(to), label_log.uuid,
                       [&](const std::string& session) {
                         label_log.session = session;
                         return note(label_log);
                       });
}

}  // namespace mirrorfs
