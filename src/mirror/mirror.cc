// SPDX-License-Identifier: GPL-2.0-or-later
#include "mirror/mirror.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <shared_mutex>

#include "base/kill_point.h"
#include "leg/object.h"
#include "leg/walk.h"

namespace mirrorfs {
namespace {

// A tail is settled in steps of this.
constexpr uint64_t kTailStepBytes = uint64_t{64} << 20;

// Errors that can come in the middle, unlike those about the arguments.
bool MayBeHalfDone(Errno error) {
  return IsOutOfSpace(error) || error == Errno(EFBIG) || error == Errno(EINTR);
}

// Which objects these records are about.
std::set<std::string> PathsOf(const std::vector<RegionStates::IdleRegion>& idle,
                              const std::vector<RegionStates::IdleRegion>& hot,
                              const std::vector<DirtyLog::HealedTail>& tails) {
  std::set<std::string> paths;
  for (const auto* regions : {&idle, &hot}) {
    for (const RegionStates::IdleRegion& region : *regions) {
      std::optional<RegionKey> key = DecodeRegionKey(region.key);
      if (key) paths.insert(std::move(key->path));
    }
  }
  for (const DirtyLog::HealedTail& tail : tails) paths.insert(tail.key.path);
  return paths;
}

}  // namespace

Mirror::Mirror(const MirrorSetup& setup, DirtyLog* log, Membership* membership,
               const Clock* clock)
    : legs_(setup.legs),
      asker_(setup.watchdog),
      read_from_(setup.reading.from),
      preferred_(setup.reading.preferred),
      write_mostly_(setup.reading.write_mostly.bits()),
      on_enospc_(setup.on_enospc),
      log_(log),
      membership_(membership),
      clock_(clock),
      clock_slack_ns_(kClockGrainNs + setup.clock_lag_ns),
      read_only_(setup.read_only),
      gate_(log, {[this] {
                    return ReadyForChanges() ? absl::OkStatus()
                                             : absl::UnavailableError("labels");
                  },
                  [this] { return MendLog(); }, [this] { backlog_.Added(); }}) {
}

Mirror::~Mirror() { StopListening(); }

void Mirror::SetReading(const ReadRules& rules) {
  preferred_ = rules.preferred;
  write_mostly_ = rules.write_mostly.bits();
  read_from_ = rules.from;
}

ErrnoOr<RegionChange> Mirror::Begin(RegionGate::Request request) {
  request.down = legs_->all() - legs_->up();
  return gate_.Begin(std::move(request));
}

// The legs that count for this change. One that has gone down since it began is
// among them, and it is on record that it takes nothing.
LegSet Mirror::TakersOf(const RegionChange& change) const {
  return legs_->all() - change.missing();
}

Errno Mirror::OnAllLegs(RegionGate::Request request, Atomic atomic,
                        const OnLeg& change, const OnLeg& undo) {
  ErrnoOr<RegionChange> begun = Begin(std::move(request));
  if (!begun.ok()) return begun.error();
  const LegSet takers = TakersOf(*begun);
  LegSlot decided = -1;
  const Errno error = OnPrimary(takers, change, &decided);
  if (error.ok()) {
    const Errno result = OnOthers(*begun, decided, atomic, change, undo);
    UnsettleDirs(*begun);
    return result;
  }
  // A part may have been done until the space was used up.
  const bool in_part = atomic == Atomic::kNo && IsOutOfSpace(error);
  if (in_part && undo && undo(leg(decided)).ok()) return error;
  return Undecided(*begun, decided, atomic, error);
}

// The leg that decides may have done it, or a part, and the others did none.
Errno Mirror::Undecided(RegionChange& change, LegSlot decided, Atomic atomic,
                        Errno error) {
  const LegSet others = TakersOf(change) - LegSet::Of(decided);
  const bool in_doubt =
      MayBeMade(error) || (atomic == Atomic::kNo && MayBeHalfDone(error));
  if (!in_doubt || others.empty()) return error;
  return RecordFailures(change, others, error);
}

Errno Mirror::OnPrimary(LegSet takers, const OnLeg& change, LegSlot* decided) {
  if (!takers.has(legs_->primary())) return OnHolder(takers, change, decided);
  LegSet tried;
  for (;;) {
    const LegSlot slot = legs_->primary();
    Leg& broken = leg(slot);
    *decided = slot;
    const Errno error = change(broken);
    if (IsOutOfSpace(error)) space_was_short_ = true;
    if (!TakesLegOut(error)) return error;
    ++legs_->errors(slot).write;
    tried |= LegSet::Of(slot) | (legs_->all() - takers);
    LegSlot heir = -1;
    Errno there = error;
    // What every leg answers alike is no failure of one.
    while (there == error && legs_->primary() == slot) {
      heir = Heir(tried);
      if (heir < 0) return error;
      tried |= LegSet::Of(heir);
      there = change(leg(heir));
    }
    if (there == error) continue;  // another request was faster
    // One that cannot be taken out decides, and the heir may have what it has
    // not.
    if (!TakeLegOut(broken, LegState::kFailed, ErrnoText(error), heir)) {
      return Errno(EIO);
    }
    *decided = heir;
    if (!TakesLegOut(there)) return there;
  }
}

// Of a file without a name, which the primary missed: it was away then.
Errno Mirror::OnHolder(LegSet takers, const OnLeg& change, LegSlot* decided) {
  Errno error(EIO);
  *decided = legs_->primary();
  bool done = false;
  (takers & legs_->up()).ForEach([&](LegSlot slot) {
    if (done) return;
    *decided = slot;
    Leg& holder = leg(slot);
    error = change(holder);
    done = !TakesLegOut(error) || !FailLeg(holder, error);
  });
  return error;
}

bool Mirror::TakesLegOut(Errno error) const {
  return IsLegFailure(error) ||
         (IsOutOfSpace(error) && on_enospc_ == OnEnospc::kDegrade);
}

Errno Mirror::OnOthers(RegionChange& change, LegSlot decided, Atomic atomic,
                       const OnLeg& apply, const OnLeg& undo) {
  KillPoint("primary-changed");
  LegSet done;
  Misses misses;
  (TakersOf(change) - LegSet::Of(decided)).ForEach([&](LegSlot slot) {
    if (!legs_->up().has(slot)) return MissedByOneDown(slot, &misses);
    Leg& taker = leg(slot);
    const Errno error = apply(taker);
    if (error.ok()) {
      done |= LegSet::Of(slot);
    } else {
      Missed(taker, error, "changing", &misses);
    }
  });
  if (misses.legs.empty()) return kOk;
  if (!misses.refused.ok() && undo) {
    // What does not fit on one leg is not done on any. The regions stay marked
    // until the taking back is durable, too.
    if (undo(leg(decided)).ok()) {
      if (atomic == Atomic::kNo) done |= misses.legs & legs_->up();
      LegSet kept;
      done.ForEach([&](LegSlot slot) {
        if (!undo(leg(slot)).ok()) kept |= LegSet::Of(slot);
      });
      if (kept.empty()) return misses.refused;
      return RecordFailures(change, kept, misses.refused);
    }
  }
  // What stands on the primary has happened, for names and attributes; content
  // may well be there in part when there is no space.
  const bool in_part = atomic == Atomic::kNo && IsOutOfSpace(misses.refused);
  return RecordFailures(change, misses.legs, in_part ? misses.refused : kOk);
}

// A leg did not take a change that the primary took. One that is broken is
// taken out; one that is full, too, if that is wanted; on any other it is the
// regions that are on record afterwards.
void Mirror::Missed(const Leg& leg, Errno error, absl::string_view what,
                    Misses* misses) {
  misses->legs |= LegSet::Of(leg.slot());
  ++legs_->errors(leg.slot()).write;
  if (IsOutOfSpace(error)) {
    space_was_short_ = true;
    Post(EventName::kEnospc, leg.name(), "");
  }
  if (TakesLegOut(error)) {
    (void)FailLeg(leg, error);
    return;
  }
  spdlog::warn("leg \"{}\": {}: {}", leg.name(), std::string(what),
               ErrnoText(error));
  if (IsRefusal(error)) misses->refused = error;
}

// A leg has gone down since the change began. That it has is on record when
// this returns.
void Mirror::MissedByOneDown(LegSlot slot, Misses* misses) {
  misses->legs |= LegSet::Of(slot);
  (void)SettledPrimary();
}

Errno Mirror::RecordFailures(RegionChange& change, LegSet failed, Errno error) {
  // One that is on record is nobody's heir; but it may have been before, and
  // what others are compared with cannot lack anything.
  LegSet primary;
  do {
    primary = LegSet::Of(SettledPrimary());
    if (failed.contains(primary)) {
      change.Pardon(primary);
      failed = TakersOf(change) - primary;
      if (error.ok()) error = Errno(EIO);
    }
    const Errno recorded = change.Fail(failed);
    if (!recorded.ok()) return recorded;
  } while (LegSet::Of(SettledPrimary()) != primary);
  if (!change.on_record()) return error;  // of a file without a name
  // Those that are down are on record as a whole. The caller may hear of it by
  // the name of what it is: no space for a label.
  const LegSet up = failed & legs_->up();
  if (!membership_->BeforeHealing(up).ok()) {
    return error.ok() ? Errno(EIO) : error;
  }
  if (on_work_) on_work_();
  return error;
}

ErrnoOr<LegFd> Mirror::ObjectFd(Leg& leg, const ObjectRef& object) {
  if (object.named) return leg.OpenObject(object.path, O_PATH);
  LegFd fd = OpenFdOn(leg, object);
  if (!fd.valid()) return Errno(ENOENT);
  return fd;
}

Errno Mirror::OnObjectOfAllLegs(const ObjectRef& object, const OnObject& change,
                                const OnObject& undo) {
  const auto on_leg = [&](const OnObject& what) -> OnLeg {
    return [this, &object, &what](Leg& leg) {
      const ErrnoOr<LegFd> fd = ObjectFd(leg, object);
      if (fd.ok()) return what(leg, *fd);
      return fd.error();
    };
  };
  return OnAllLegs(AttributesRequest(object), Atomic::kYes, on_leg(change),
                   undo ? on_leg(undo) : OnLeg());
}

// Legs whose times are recovery's to set: where a leg lacks the name, what has
// it may be another file. That the directory lacks names, or the object its
// attributes, brings recovery to it; what is amiss further up would not.
LegSet Mirror::LeftToRecovery(RegionMark attributes, LegSet legs) {
  const LegSet lacking = legs & log_->Lacking(attributes.key);
  LegSet unnoticed = lacking;
  const std::string dir(ParentPath(attributes.key.path));
  for (const RegionKey& key : {attributes.key, RegionKey::Entries(dir)}) {
    const std::optional<RegionRecord> record = log_->Find(key);
    if (record) unnoticed -= record->missing;
  }
  if (unnoticed.empty()) return lacking;
  attributes.record.missing = unnoticed;
  log_->MarkRegion(attributes.key, attributes.record);
  if (on_work_) on_work_();
  return lacking;
}

// To the primary's, whichever leg that is when it is done. Answers its
// attributes.
ErrnoOr<struct stat> Mirror::EqualizeMtime(const std::string& path) {
  RegionMark attributes{RegionKey::Attributes(path)};
  for (;;) {
    const uint64_t epoch = legs_->primary_epoch();
    const ErrnoOr<struct stat> truth = StatPath(path);
    KillPoint("times-settling");
    if (!truth.ok()) return truth;
    attributes.record.directory = S_ISDIR(truth->st_mode);
    SetMtimeOn(attributes, truth->st_mtim, secondaries());
    if (legs_->primary_epoch() == epoch) return truth;
  }
}

void Mirror::SetMtimeOn(const RegionMark& attributes, const timespec& truth,
                        LegSet legs) {
  const std::string& path = attributes.key.path;
  legs -= LeftToRecovery(attributes, legs);
  (legs & legs_->up()).ForEach([&](LegSlot slot) {
    Leg& asked = leg(slot);
    const ErrnoOr<struct stat> copy = asked.Stat(path);
    if (copy.ok() && SameTime(copy->st_mtim, truth)) return;
    const Errno error = copy.ok() ? asked.SetMtime(path, truth) : copy.error();
    if (!error.ok()) NotEqualized(asked, attributes, error);
  });
}

void Mirror::NotEqualized(const Leg& leg, RegionMark attributes, Errno error) {
  // What has lost its name meanwhile has nobody left to look at its time.
  if (IsAbsent(error)) return;
  spdlog::warn("leg \"{}\": attributes: {}", leg.name(), ErrnoText(error));
  if (IsLegFailure(error) && FailLeg(leg, error)) return;
  attributes.record.missing = LegSet::Of(leg.slot());
  log_->MarkRegion(attributes.key, attributes.record);
  if (on_work_) on_work_();
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
    const Errno error = EqualizeMtime(path).error();
    if (!error.ok() && !IsAbsent(error)) unsettled_dirs_.Add(path);
  }
}

ErrnoOr<struct stat> Mirror::Stat(const ObjectRef& object) {
  return AskHolder(
      object, [&](Leg & leg) -> ErrnoOr<struct stat> {
        const LegFd fd = OpenFdOn(leg, object);
        if (fd.valid()) {
          const ErrnoOr<struct stat> st = StatObject(fd);
          const bool lost_name = object.named && st.ok() && st->st_nlink == 0;
          if (!lost_name) return st;
        }
        if (!object.named) return Errno(ENOENT);
        return leg.Stat(object.path);
      });
}

ErrnoOr<struct stat> Mirror::StatPath(absl::string_view path) {
  return AskPrimary([&](Leg& leg) { return leg.Stat(path); });
}

ErrnoOr<std::string> Mirror::Readlink(absl::string_view path) {
  return AskPrimary([&](Leg& leg) { return leg.Readlink(path); });
}

ErrnoOr<std::vector<DirEntry>> Mirror::ListDir(absl::string_view path) {
  return AskPrimary([&](Leg& leg) { return ListEntries(leg, path); });
}

ErrnoOr<struct statvfs> Mirror::Statvfs() {
  ErrnoOr<struct statvfs> smallest =
      AskPrimary([](Leg& leg) { return leg.Statvfs(); });
  if (!smallest.ok()) return smallest;
  secondaries().ForEach([&](LegSlot slot) {
    const ErrnoOr<struct statvfs> st = leg(slot).Statvfs();
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
  return AskHolder(object, [&](Leg& leg) -> ErrnoOr<std::string> {
    // Before each write the kernel asks for security.capability: no opening
    // then.
    const LegFd open_fd = OpenFdOn(leg, object);
    if (open_fd.valid()) return mirrorfs::GetXattr(open_fd, name);
    const ErrnoOr<LegFd> fd = ObjectFd(leg, object);
    if (!fd.ok()) return fd.error();
    return mirrorfs::GetXattr(*fd, name);
  });
}

ErrnoOr<std::vector<std::string>> Mirror::ListXattr(const ObjectRef& object) {
  return AskHolder(object, [&](Leg& leg) -> ErrnoOr<std::vector<std::string>> {
    const ErrnoOr<LegFd> fd = ObjectFd(leg, object);
    if (!fd.ok()) return fd.error();
    return ListXattrs(*fd);
  });
}

// Since when a descriptor of the object is what its name leads to on that leg.
// Without a name it is what it was, unless the leg missed something of that; of
// what a leg missed while it was away there is no record.
uint64_t Mirror::EpochOf(const Leg& leg, const ObjectRef& object,
                         const OpenFile& file) {
  if (object.named) return leg.replaced_epoch();
  return file.behind().has(leg.slot()) ? OpenFile::kNoEpoch : leg.first_epoch();
}

// A descriptor that somebody has of it on that leg, or none.
LegFd Mirror::OpenFdOn(const Leg& leg, const ObjectRef& object) {
  if (object.open == nullptr) return LegFd();
  return object.open->read_fd(leg.slot(), EpochOf(leg, object, *object.open));
}

// Who answers for what has no name.
LegSlot Mirror::HolderOf(const ObjectRef& object) {
  LegSlot holder = legs_->primary();
  if (OpenFdOn(leg(holder), object).valid()) return holder;
  secondaries().ForEach([&](LegSlot slot) {
    if (OpenFdOn(leg(slot), object).valid()) holder = slot;
  });
  return holder;
}

// What has no name cannot be opened again: a leg without a descriptor of it
// takes no change from now on.
RegionGate::Request Mirror::UnnamedRequest(const ObjectRef& object) {
  RegionGate::Request request;
  request.unnamed = object.open;
  if (object.open == nullptr) return request;
  legs_->up().ForEach([&](LegSlot slot) {
    if (OpenFdOn(leg(slot), object).valid()) return;
    object.open->NoteBehind(LegSet::Of(slot));
  });
  return request;
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

Errno Mirror::ClearIdle(bool all, const std::function<bool()>& settle) {
  const std::vector<RegionStates::IdleRegion> idle = gate_.Idle(all);
  // Records that came by a rename or by marking ahead.
  if (log_->GetSyncCount(LegSet()).dirty > gate_.region_count()) {
    gate_.AdoptDirty();
  }
  const int64_t since = CoverSince();  // before it is seen who is quiet
  const std::vector<RegionStates::IdleRegion> hot = HotDirectories();
  // Not of each little step: making legs durable in the middle of a long copy
  // slows it down.
  const uint64_t step = all ? 0 : kTailStepBytes / log_->GetRegionSize();
  const RegionGate::Tails healed =
      gate_.HealedTails(std::max<uint64_t>(step, 1));
  const bool no_tail =
      std::all_of(healed.tails.begin(), healed.tails.end(),
                  [](const DirtyLog::HealedTail& tail) { return tail.dirty; });
  if (idle.empty() && hot.empty() && no_tail) return kOk;
  if (!settle()) return Errno(EAGAIN);
  SettleDirs();
  // Legs first, then the log (I2). Were a leg's sync to fail, what it lost
  // could be anything that is still marked; so nothing is cleared.
  const Errno error = SyncLegs(PathsOf(idle, hot, healed.tails));
  if (!error.ok()) return error;
  // What a healed directory's record said of what lies in it stands in records
  // that recovery made, and waits for nobody: it must not go before they stay.
  if (const Errno error = gate_.Flush(); !error.ok()) return error;
  KillPoint("before-clear");
  gate_.Clear(idle);
  gate_.AdvanceSince(hot, since);
  gate_.SettleTails(healed);
  // How far a long copy is shall outlast a loss of power; a clear need not.
  const absl::Status status =
      healed.tails.empty() ? log_->FlushLazily() : log_->FlushWhole();
  if (!status.ok()) {
    spdlog::error("dirty log: {}", status.ToString());
    (void)MendLog();
  }
  return kOk;
}

}  // namespace mirrorfs
