// SPDX-License-Identifier: GPL-2.0-or-later
#include "mirror/mirror.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "base/kill_point.h"
#include "leg/object.h"

namespace mirrorfs {
namespace {

bool IsOutOfSpace(Errno error) {
  return error == Errno(ENOSPC) || error == Errno(EDQUOT);
}

// Errors that can come in the middle, unlike those about the arguments.
bool MayBeHalfDone(Errno error) {
  return IsOutOfSpace(error) || error == Errno(EIO) || error == Errno(EFBIG) ||
         error == Errno(EINTR);
}

}  // namespace

Mirror::Mirror(const MirrorSetup& setup, DirtyLog* log, Membership* membership,
               const Clock* clock)
    : legs_(*setup.legs),
      primary_(setup.primary),
      all_(setup.all),
      read_from_(setup.read_from),
      preferred_(setup.preferred),
      log_(log),
      membership_(membership),
      clock_(clock),
      clock_slack_ns_(kClockGrainNs + setup.clock_lag_ns),
      gate_(log, [membership] { return membership->BeforeFirstChange(); }) {
  for (const std::unique_ptr<Leg>& leg : legs_) {
    if (leg != nullptr) present_ |= LegSet::Of(leg->slot());
  }
}

void Mirror::SetReadFrom(ReadFrom read_from, LegSlot preferred) {
  preferred_ = preferred;
  read_from_ = read_from;
}

Errno Mirror::OnAllLegs(RegionGate::Request request, Atomic atomic,
                        const OnLeg& change, const OnLeg& undo) {
  ErrnoOr<RegionChange> begun = gate_.Begin(std::move(request));
  if (!begun.ok()) return begun.error();
  const Errno error = change(primary());
  if (error.ok()) {
    const Errno result = OnOthers(*begun, atomic, change, undo);
    UnsettleDirs(*begun);
    return result;
  }
  const LegSet others = secondaries() - begun->lacking();
  if (atomic == Atomic::kNo && MayBeHalfDone(error) && !others.empty()) {
    // The primary may have done a part of it, and the others did none.
    return RecordFailures(*begun, others, error);
  }
  return error;
}

Errno Mirror::OnOthers(RegionChange& change, Atomic atomic, const OnLeg& apply,
                       const OnLeg& undo) {
  KillPoint("primary-changed");
  LegSet done;
  LegSet failed;
  Errno no_space;
  (secondaries() - change.lacking()).ForEach([&](LegSlot slot) {
    const Errno error = apply(*legs_[slot]);
    if (error.ok()) {
      done |= LegSet::Of(slot);
      return;
    }
    failed |= LegSet::Of(slot);
    if (IsOutOfSpace(error)) no_space = error;
    spdlog::warn("leg \"{}\": {}", legs_[slot]->name(), ErrnoText(error));
  });
  if (failed.empty()) return kOk;
  if (!no_space.ok() && undo) {
    // What does not fit on one leg is not done on any. The regions stay marked
    // until the taking back is durable, too.
    bool undone = undo(primary()).ok();
    done.ForEach([&](LegSlot slot) { undone &= undo(*legs_[slot]).ok(); });
    if (undone) return no_space;
  }
  // What stands on the primary has happened, for names and attributes; content
  // may well be there in part when there is no space.
  return RecordFailures(change, failed, atomic == Atomic::kNo ? no_space : kOk);
}

Errno Mirror::RecordFailures(RegionChange& change, LegSet failed, Errno error) {
  const Errno recorded = change.Fail(failed);
  if (!recorded.ok()) return recorded;
  if (!membership_->BeforeHealing(failed).ok()) return Errno(EIO);
  if (on_work_) on_work_();
  return error;
}

ErrnoOr<UniqueFd> Mirror::ObjectFd(Leg& leg, const ObjectRef& object) {
  if (object.named) return leg.OpenObject(object.path, O_PATH);
  const int fd = object.open == nullptr ? -1 : object.open->read_fd(leg.slot());
  if (fd < 0) return Errno(ESTALE);
  const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return Errno::Last();
  return UniqueFd(copy);
}

Errno Mirror::OnObjectOfAllLegs(const ObjectRef& object,
                                const OnObject& change) {
  return OnAllLegs(
      AttributesRequest(object), Atomic::kYes,
      [&](Leg& leg) {
        const ErrnoOr<UniqueFd> fd = ObjectFd(leg, object);
        if (fd.ok()) return change(leg, fd->get());
        // Without a name, a leg that never had the file open misses nothing.
        const bool primary = leg.slot() == primary_;
        return object.named || primary ? fd.error() : kOk;
      },
      nullptr);
}

void Mirror::EqualizeMtime(absl::string_view path, LegSet legs) {
  const ErrnoOr<struct stat> truth = primary().Stat(path);
  if (!truth.ok()) return;
  legs.ForEach([&](LegSlot slot) {
    const ErrnoOr<struct stat> copy = legs_[slot]->Stat(path);
    if (!copy.ok() || SameTime(copy->st_mtim, truth->st_mtim)) return;
    const Errno error = legs_[slot]->SetMtime(path, truth->st_mtim);
    if (!error.ok()) {
      spdlog::warn("leg \"{}\": setting a time: {}", legs_[slot]->name(),
                   ErrnoText(error));
    }
  });
}

// Before the change ends, so that no clear comes between.
void Mirror::UnsettleDirs(const RegionChange& change) {
  for (const RegionMark& mark : change.marks()) {
    if (mark.key.kind == RegionKind::kEntries) {
      unsettled_dirs_.Add(mark.key.path);
    }
  }
}

void Mirror::SettleDirs() {
  const std::shared_lock names(names_lock_);
  for (const std::string& path : unsettled_dirs_.Take()) {
    EqualizeMtime(path, secondaries());
  }
}

ErrnoOr<struct stat> Mirror::Stat(const ObjectRef& object) {
  const int fd = object.open == nullptr ? -1 : object.open->read_fd(primary_);
  if (fd >= 0) return StatObject(fd);
  if (!object.named) return Errno(ESTALE);
  return primary().Stat(object.path);
}

ErrnoOr<std::string> Mirror::Readlink(absl::string_view path) {
  return primary().Readlink(path);
}

ErrnoOr<UniqueFd> Mirror::OpenDir(absl::string_view path) {
  return primary().OpenObject(path, O_RDONLY | O_DIRECTORY);
}

ErrnoOr<struct statvfs> Mirror::Statvfs() {
  ErrnoOr<struct statvfs> smallest = primary().Statvfs();
  if (!smallest.ok()) return smallest;
  secondaries().ForEach([&](LegSlot slot) {
    const ErrnoOr<struct statvfs> st = legs_[slot]->Statvfs();
    if (!st.ok()) return;
    const unsigned long name_max = std::min(smallest->f_namemax, st->f_namemax);
    if (st->f_bavail * st->f_frsize < smallest->f_bavail * smallest->f_frsize) {
      smallest = st;
    }
    smallest->f_namemax = name_max;
  });
  return smallest;
}

ErrnoOr<std::string> Mirror::GetXattr(const ObjectRef& object,
                                      const std::string& name) {
  // Before each write the kernel asks for security.capability: no opening then.
  const int open_fd = object.open ? object.open->read_fd(primary_) : -1;
  if (open_fd >= 0) return mirrorfs::GetXattr(open_fd, name);
  const ErrnoOr<UniqueFd> fd = ObjectFd(primary(), object);
  if (!fd.ok()) return fd.error();
  return mirrorfs::GetXattr(fd->get(), name);
}

ErrnoOr<std::vector<std::string>> Mirror::ListXattr(const ObjectRef& object) {
  const ErrnoOr<UniqueFd> fd = ObjectFd(primary(), object);
  if (!fd.ok()) return fd.error();
  return ListXattrs(fd->get());
}

Errno Mirror::SyncLegs() {
  Errno result;
  present_.ForEach([&](LegSlot slot) {
    const Errno error = legs_[slot]->SyncAll();
    if (error.ok()) return;
    spdlog::error("leg \"{}\": making it durable: {}", legs_[slot]->name(),
                  ErrnoText(error));
    result = error;
  });
  return result;
}

// Directories in which names are made all the time, so that their mark never
// cools. What they made before now is about to be durable; were their marks
// not moved on, a crash would compare all that was made since the first.
std::vector<RegionStates::IdleRegion> Mirror::HotDirectories() {
  const int64_t old = CoverSince() - kCoverNs;
  std::vector<RegionStates::IdleRegion> hot;
  for (RegionStates::IdleRegion& region : gate_.Idle(/*all=*/true)) {
    const std::optional<RegionKey> key = DecodeRegionKey(region.key);
    if (!key || key->kind != RegionKind::kEntries) continue;
    const std::optional<RegionRecord> record = log_->Find(*key);
    if (record && record->dirty && record->since_ns < old) {
      hot.push_back(std::move(region));
    }
  }
  return hot;
}

void Mirror::ClearIdle(bool all, const std::function<void()>& settle) {
  const std::vector<RegionStates::IdleRegion> idle = gate_.Idle(all);
  // Records that came by a rename or by marking ahead.
  if (log_->GetSyncCount(LegSet()).dirty > gate_.region_count()) {
    gate_.AdoptDirty();
  }
  const int64_t since = CoverSince();  // before it is seen who is quiet
  const std::vector<RegionStates::IdleRegion> hot = HotDirectories();
  if (idle.empty() && hot.empty()) return;
  settle();
  SettleDirs();
  // Legs first, then the log (I2). Were a leg's sync to fail, what it lost
  // could be anything that is still marked; so nothing is cleared.
  if (!SyncLegs().ok()) return;
  KillPoint("before-clear");
  gate_.Clear(idle);
  gate_.AdvanceSince(hot, since);
  if (const absl::Status status = log_->FlushLazily(); !status.ok()) {
    spdlog::error("dirty log: {}", status.ToString());
  }
}

}  // namespace mirrorfs
