// SPDX-License-Identifier: GPL-2.0-or-later
//
// What reading, writing and each namespace operation mean on N legs.
//
// Every change goes the same way: mark its regions (RegionGate), let the
// primary go first and decide the result, repeat it on the other legs that
// take it, record which did not, answer. Paths are relative to the mirror's
// root; the caller holds names_lock() shared during a call that takes one, so
// that the path keeps its meaning, or exclusively to rename a directory.
//
// An error that says a leg is broken (IsLegFailure) takes that leg out, as long
// as another in-sync leg does better; see leg_changes.cc. The last one's errors
// go to the caller.
//
// Lock order: names_lock < node stripe (fuse) < region gate's wait
// < file range < changing_legs < leaf mutexes (log, membership, caches). No
// leaf but membership's, which writes labels, is held during I/O on a leg.
//
// Threads: all calls from any thread.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/errno.h"
#include "base/event.h"
#include "base/handover_lock.h"
#include "dirtylog/dirty_log.h"
#include "leg/call_buffer.h"
#include "leg/caller.h"
#include "leg/leg.h"
#include "leg/walk.h"
#include "mirror/backlog.h"
#include "mirror/leg_asker.h"
#include "mirror/leg_table.h"
#include "mirror/membership.h"
#include "mirror/name_watch.h"
#include "mirror/names_lock.h"
#include "mirror/open_file.h"
#include "mirror/region_gate.h"
#include "mirror/unsettled_dirs.h"
#include "region/region_range.h"

namespace mirrorfs {

// The index of the data region that stands for a file's size; no file is long
// enough to have it as content.
inline constexpr uint64_t kSizeGuardIndex = UINT64_MAX;

// File systems stamp with a clock that ticks every few milliseconds.
inline constexpr int64_t kClockGrainNs = 100'000'000;
// How long a new file rides on its directory's mark. Longer would make a crash
// compare ever larger files whole; shorter costs an archive being unpacked a
// mark a file.
inline constexpr int64_t kCoverNs = 30'000'000'000;

enum class ReadFrom { kPrimary, kRoundRobin, kPrefer, kLeastPending };

// Which leg answers reads.
struct ReadRules {
  ReadFrom from = ReadFrom::kPrimary;
  LegSlot preferred = -1;  // for kPrefer
  // Read only where no other leg can be.
  LegSet write_mostly;
};

// What happens to a leg that has no space for a change that others have: the
// change fails, or the leg is taken out.
enum class OnEnospc { kFail, kDegrade };

struct MirrorSetup {
  LegTable* legs = nullptr;
  Watchdog* watchdog = nullptr;
  ReadRules reading;
  OnEnospc on_enospc = OnEnospc::kFail;
  int64_t clock_lag_ns = 0;  // of the slowest leg, see Leg::ClockLagNs
  // The log is not consulted, and nothing is written anywhere: the primary
  // answers alone, and its errors are the callers'.
  bool read_only = false;
};

// Makes the log's store anew on a leg, see MoveLog.
using LogMover = std::function<absl::Status(
    const Leg& to, const std::function<absl::Status(const LabelLog&)>& note)>;

class Mirror {
 public:
  // The legs, log, membership and clock outlive it.
  Mirror(const MirrorSetup& setup, DirtyLog* log, Membership* membership,
         const Clock* clock);
  ~Mirror();

  // --- the set of legs ---
  LegTable& legs() { return *legs_; }
  Leg& leg(LegSlot slot) const { return legs_->at(slot); }
  Leg& primary() const { return legs_->at(legs_->primary()); }
  LegSlot primary_slot() const { return legs_->primary(); }
  LegSet all() const { return legs_->all(); }
  LegSet present() const { return legs_->up(); }
  LegSet secondaries() const {
    return legs_->up() - LegSet::Of(legs_->primary());
  }
  NamesLock& names_lock() { return names_lock_; }
  Backlog& backlog() { return backlog_; }
  RegionGate& gate() { return gate_; }
  DirtyLog& log() { return *log_; }
  Membership& membership() { return *membership_; }
  // Of reads that begin from now on.
  void SetReading(const ReadRules& rules);
  LegSet write_mostly() const { return LegSet(write_mostly_.load()); }
  void SetOnEnospc(OnEnospc on_enospc) { on_enospc_ = on_enospc; }
  // Called when recovery has something new to do.
  void SetWorkListener(std::function<void()> listener) {
    on_work_ = std::move(listener);
  }
  // Told each new name of a file that may have others.
  void SetNameWatch(NameWatch* watch) { name_watch_ = watch; }
  void SetLogMover(LogMover mover) { move_log_ = std::move(mover); }
  void SetEvents(EventSink* events) { events_ = events; }
  // From now on a leg that does not answer fails, whoever asked it: which may
  // be at once, so all of the above is set before.
  void StartListening();
  // No leg fails for that any more. When this returns nobody is about it still;
  // so it comes before anything goes that was set above.
  void StopListening();

  // --- the set of legs changes: leg_changes.cc ---
  // The leg gave this error. It is down when this returns true, durably on
  // record; false: it is the last one in sync. Another that has taken its place
  // since is not meant.
  bool FailLeg(const Leg& leg, Errno error);
  // For good: it is about to be no member, and the others are all there is.
  // Emptied: somebody has removed files of it behind our back; if it was the
  // primary, all others are compared whole with its heir.
  enum class Leaving { kForNow, kForGood, kEmptied };
  // `heir`: who becomes the primary if the leg is it; -1: whoever can.
  bool TakeLegOut(const Leg& leg, LegState why, const std::string& reason,
                  LegSlot heir, Leaving leaving = Leaving::kForNow);
  // Somebody may be removing the primary behind our back. Whether its label is
  // gone; it has failed then, and another leg answers.
  bool FailIfLabelIsGone();
  // The same if `path` is gone from it, and from no other leg, and no request
  // has removed or moved it. All of it is compared when it is back. Not during
  // a change, which would wait for itself.
  bool FailIfNameIsGone(const std::string& path);
  // The same for whoever holds off changes of that name.
  bool FailIfOthersHave(const std::string& path);
  // A leg is there (again). `accounted`: the log knows all that it lacks.
  absl::Status TakeLegIn(std::unique_ptr<Leg> leg, bool accounted);
  absl::Status Promote(LegSlot slot);
  // Legs that lack nothing any more, but are not yet among those in sync.
  LegSet CaughtUp() const;
  // They join them, once what they hold is durable; unless they went or came to
  // lack something meanwhile. Answers who has joined. After an error, to be
  // tried again.
  absl::StatusOr<LegSet> AdmitCaughtUp();
  // The log cannot be written: makes it anew elsewhere. True when that is done.
  bool MendLog();
  // Everything on `legs`, none of which is the primary, is compared again,
  // `first` before the rest.
  absl::Status Resync(LegSet legs, const std::optional<RegionMark>& first);
  // The labels say who sees the changes that follow. False: no leg can be
  // told.
  bool ReadyForChanges();
  // Whoever unmounts the disk of a leg that is down shall not be kept from it:
  // what is open on it is closed as soon as no request uses it. Does nothing to
  // a leg that is up.
  void LetGo(LegSlot slot);
  // The same for all that are down but those that the administrator is taking
  // out. Cheap; a request may have opened something since the last time.
  void LetGoOfLegsDown();
  // Told which descriptors of open files are of no use any more: those on the
  // leg of before `epoch`. Before any other thread.
  void SetLetGoListener(std::function<void(LegSlot, uint64_t)> listener) {
    on_let_go_ = std::move(listener);
  }
  // Why a leg that is down is down.
  void SetLegDown(LegSlot slot, LegState why);
  void Post(EventName event, const std::string& leg, const std::string& detail);

  // --- looking: the primary answers ---
  ErrnoOr<struct stat> Stat(const ObjectRef& object);
  ErrnoOr<struct stat> StatPath(absl::string_view path);
  ErrnoOr<std::string> Readlink(absl::string_view path);
  // All names in a directory but . and .., as they are now.
  ErrnoOr<std::vector<DirEntry>> ListDir(absl::string_view path);
  // The smallest leg's numbers: what is promised must fit everywhere.
  ErrnoOr<struct statvfs> Statvfs();
  ErrnoOr<std::string> GetXattr(const ObjectRef& object,
                                const std::string& name);
  ErrnoOr<std::vector<std::string>> ListXattr(const ObjectRef& object);

  // --- names ---
  ErrnoOr<struct stat> Create(absl::string_view path, int flags, mode_t mode,
                              const Caller& caller, OpenFile& file);
  ErrnoOr<struct stat> CreateUnnamed(absl::string_view dir, int flags,
                                     mode_t mode, const Caller& caller,
                                     OpenFile& file);
  ErrnoOr<struct stat> Mkdir(absl::string_view path, mode_t mode,
                             const Caller& caller);
  ErrnoOr<struct stat> Mknod(absl::string_view path, mode_t mode, dev_t rdev,
                             const Caller& caller);
  ErrnoOr<struct stat> Symlink(absl::string_view target, absl::string_view path,
                               const Caller& caller);
  ErrnoOr<struct stat> Link(const ObjectRef& object, absl::string_view path);
  // A rename that had failed has been made all the same.
  void NoteRenamed(const std::string& from, const std::string& to,
                   bool exchange);
  // The last name of a file; `open`: if somebody has it open. What it is on the
  // legs may be freed only when `kept` goes, unless that is null.
  Errno UnlinkLast(absl::string_view path, std::shared_ptr<OpenFile> open,
                   std::vector<LegFd>* kept);
  // One of several names. `other_name`: another one, if it is known (it
  // inherits what the log says under this name).
  Errno UnlinkOne(absl::string_view path, std::string other_name);
  // Another name of the file at `path`, which has several, by a walk of the
  // primary; empty when none is found.
  std::string FindOtherName(absl::string_view path);
  Errno Rmdir(absl::string_view path);
  // What a rename replaces; kLivesOn: it has other names.
  enum class Replaced { kNothing, kIsGone, kLivesOn };
  // `object`: what is moved. With RENAME_EXCHANGE and directories, the caller
  // says is_dir when either is one.
  struct Victim {
    Replaced replaced = Replaced::kNothing;
    std::string heir;                // another name of it, if one is known
    std::shared_ptr<OpenFile> open;  // if it is gone, and somebody has it open
  };
  Errno Rename(const ObjectRef& object, absl::string_view to, unsigned flags,
               Victim victim);

  // --- attributes ---
  Errno Chmod(const ObjectRef& object, mode_t mode);
  Errno Chown(const ObjectRef& object, uid_t uid, gid_t gid);
  // A time of UTIME_NOW becomes one time, the same on every leg.
  Errno SetTimes(const ObjectRef& object, timespec atime, timespec mtime);
  Errno SetXattr(const ObjectRef& object, const std::string& name,
                 absl::string_view value, int flags);
  Errno RemoveXattr(const ObjectRef& object, const std::string& name);

  // --- content ---
  Errno OpenForRead(const ObjectRef& object, OpenFile& file);
  Errno OpenForWrite(const ObjectRef& object, OpenFile& file);
  // Bytes read; fewer than asked for only at the end of the file.
  ErrnoOr<size_t> Read(const ObjectRef& object, OpenFile& file, uint64_t offset,
                       CallBuffer& buffer, size_t size);
  // Bytes that every leg took. `data_sync`: durable before it returns. The
  // caller has pinned `data` (see Pin).
  ErrnoOr<size_t> Write(const ObjectRef& object, OpenFile& file,
                        uint64_t offset, absl::string_view data,
                        bool data_sync);
  Errno Truncate(const ObjectRef& object, uint64_t size);
  Errno Fallocate(const ObjectRef& object, OpenFile& file, int mode,
                  uint64_t offset, uint64_t length);
  ErrnoOr<size_t> CopyRange(const ObjectRef& from_object, OpenFile& from,
                            uint64_t from_offset, const ObjectRef& to_object,
                            OpenFile& to, uint64_t to_offset, size_t length);
  ErrnoOr<off_t> Seek(const ObjectRef& object, OpenFile& file, off_t offset,
                      int whence);
  // Before the last name of an open file goes: a leg that has it open can
  // answer for it when the primary fails.
  void OpenEverywhere(const ObjectRef& object, OpenFile& file);
  // Durable on every leg that takes writes (I21). A leg that cannot is
  // recorded as lacking the file first.
  Errno Fsync(const ObjectRef& object, OpenFile& file, bool data_only);
  Errno FsyncDir(absl::string_view path);
  // Makes the modification time equal on all legs, when it may not be.
  void SettleTimes(const ObjectRef& object, OpenFile& file);
  // The same for all directories in which names have changed.
  void SettleDirs();

  // --- upkeep ---
  // Everything done so far is durable on every leg present; on one that does
  // not sync as a whole, of the objects at `paths`.
  Errno SyncLegs(const std::set<std::string>& paths);
  // One pass of clearing: `all` clears what has not cooled yet, too. `settle`
  // makes the times of open files equal, before they are declared clean; false:
  // it could not. After an error nothing has been cleared.
  Errno ClearIdle(bool all, const std::function<bool()>& settle);

 private:
  using OnLeg = std::function<Errno(Leg&)>;
  using OnObject = std::function<Errno(Leg& leg, const LegFd& fd)>;

  RegionMark EntriesMark(absl::string_view dir, int64_t since_ns) const;
  RegionMark AttributesMark(const ObjectRef& object) const;
  // The marks that cover `range` of the file's regions, see mark_plan.cc.
  RegionGate::Request DataRequest(const ObjectRef& object, RegionRange range);
  std::optional<RegionMark> CoveringMark(const ObjectRef& object,
                                         uint64_t first_region);
  // Since when a directory's mark has to cover what was made at `created_ns`
  // (0: now).
  int64_t CoverSince(int64_t created_ns = 0) const;
  // Whether a leg is up that has to be told what to make durable.
  bool SyncsByObject();

  // Whether a change that fails for want of something has done nothing.
  enum class Atomic { kYes, kNo };
  // Begins a change, with the legs that are down.
  ErrnoOr<RegionChange> Begin(RegionGate::Request request);
  LegSet TakersOf(const RegionChange& change) const;
  // What to answer for a change that failed on leg `decided`.
  Errno Undecided(RegionChange& change, LegSlot decided, Atomic atomic,
                  Errno error);
  // Runs `change` on the primary, then on the other legs that take it.
  // `undo` takes it back from a leg when another has no space for it.
  Errno OnAllLegs(RegionGate::Request request, Atomic atomic,
                  const OnLeg& change, const OnLeg& undo);
  // The part of it that decides: on the primary, or, if that is broken, on the
  // leg that takes its place. `decided`: which it was.
  bool TakesLegOut(Errno error) const;
  Errno OnPrimary(LegSet takers, const OnLeg& change, LegSlot* decided);
  Errno OnHolder(LegSet takers, const OnLeg& change, LegSlot* decided);
  // Asks the primary; if that is broken, the leg that takes its place.
  // `ask(leg)` answers an ErrnoOr.
  template <typename Ask>
  auto AskPrimary(Ask ask) -> decltype(ask(std::declval<Leg&>()));
  // The same about an object that may have no name any more, and then not be on
  // the primary.
  template <typename Ask>
  auto AskHolder(const ObjectRef& object, Ask ask)
      -> decltype(ask(std::declval<Leg&>()));
  LegSlot HolderOf(const ObjectRef& object);
  RegionGate::Request UnnamedRequest(const ObjectRef& object);
  RegionGate::Request AttributesRequest(const ObjectRef& object);
  // Changes the object's attributes on all legs by `change`.
  Errno OnObjectOfAllLegs(const ObjectRef& object, const OnObject& change,
                          const OnObject& undo = nullptr);
  // After leg `decided` took the change: the others, and what to answer.
  Errno OnOthers(RegionChange& change, LegSlot decided, Atomic atomic,
                 const OnLeg& apply, const OnLeg& undo);
  // How a taker fared that did not take a change.
  struct Misses {
    LegSet legs;
    Errno refused;  // what the caller may hear, if all is undone
  };
  void Missed(const Leg& leg, Errno error, absl::string_view what,
              Misses* misses);
  void MissedByOneDown(LegSlot slot, Misses* misses);
  std::vector<RegionStates::IdleRegion> HotDirectories();
  Errno RecordFailures(RegionChange& change, LegSet failed, Errno error);
  RegionGate::Request NameRequest(absl::string_view path,
                                  int64_t since_ns) const;
  void NoteForeign(const Leg& leg, absl::string_view path) const;
  LegSet WithoutMove(absl::string_view from, absl::string_view to, LegSet down);
  // What `carry` makes the log say of other places, tied to their clearing.
  DirtyLog::Moving Carry(const std::function<DirtyLog::Moving()>& carry);
  void MarkMoved(const ObjectRef& object, absl::string_view to,
                 const Origins& origins, LegSet legs, DirtyLog::Moving* moving);
  Origins OriginsOf(absl::string_view path, LegSet legs);
  ErrnoOr<struct stat> FinishNew(absl::string_view path, Errno error,
                                 LegSet no_heirs);
  // Legs on which what is made in `dir` does not inherit group, mode and ACL as
  // it shall: they lack those of the directory.
  LegSet NoHeirs(absl::string_view dir) const;
  void EqualizeNew(absl::string_view path, LegSet no_heirs);
  void UnsettleDirs(const RegionChange& change);
  LegSet LeftToRecovery(RegionMark attributes, LegSet legs);
  ErrnoOr<struct stat> EqualizeMtime(const std::string& path);
  void SetMtimeOn(const RegionMark& attributes, const timespec& truth,
                  LegSet legs);
  // A time or the like could not be set, and nobody else would do it: recovery
  // shall.
  void NotEqualized(const Leg& leg, RegionMark attributes, Errno error);

  ErrnoOr<LegFd> ObjectFd(Leg& leg, const ObjectRef& object);
  static uint64_t EpochOf(const Leg& leg, const ObjectRef& object,
                          const OpenFile& file);
  LegFd OpenFdOn(const Leg& leg, const ObjectRef& object);
  // A descriptor for writing that is still good, if there is one.
  LegFd FdForWriting(LegSlot slot, const ObjectRef& object,
                     const OpenFile& file) const;
  ErrnoOr<LegFd> WriteFdOn(Leg& leg, const ObjectRef& object, OpenFile& file);
  LegSlot ReadLeg(const ObjectRef& object, uint64_t offset, size_t size);
  LegSlot LeastPending(LegSet legs) const;
  bool EndsAt(const ObjectRef& object, uint64_t end);
  // Changes the bytes [begin, end) of the file on all legs by `change`.
  Errno OnContentOfAllLegs(RegionGate::Request request, const ObjectRef& object,
                           OpenFile& file, uint64_t begin, uint64_t end,
                           const OnObject& change,
                           const OnObject& undo = nullptr);
  void CoverOtherNames(const ObjectRef& object, RegionGate::Request& request);
  RegionGate::Request SizeRequest(const ObjectRef& object, uint64_t from);
  RegionMark SizeGuard(const ObjectRef& object) const;
  std::vector<RegionMark> MarksAhead(const ObjectRef& object,
                                     RegionRange range);
  Errno WriteOthers(RegionChange& change, LegSlot decided,
                    const ObjectRef& object, OpenFile& file, uint64_t offset,
                    absl::string_view data, size_t& taken);
  ErrnoOr<size_t> WriteOn(Leg& leg, const ObjectRef& object, OpenFile& file,
                          uint64_t offset, absl::string_view data);
  ErrnoOr<size_t> ReadOn(Leg& leg, const ObjectRef& object, OpenFile& file,
                         uint64_t offset, CallBuffer& buffer, size_t size);
  ErrnoOr<size_t> ReadOrElsewhere(LegSlot slot, const ObjectRef& object,
                                  OpenFile& file, uint64_t offset,
                                  CallBuffer& buffer, size_t size);
  ErrnoOr<size_t> ReadElsewhere(const ObjectRef& object, OpenFile& file,
                                uint64_t offset, CallBuffer& buffer,
                                size_t size, Leg& bad, Errno error);
  bool Rewrite(Leg& leg, const ObjectRef& object, OpenFile& file,
               uint64_t offset, absl::string_view data,
               std::shared_ptr<const void> keeper);
  LegSet LegsInSync(const ObjectRef& object, uint64_t offset, size_t size);
  ErrnoOr<size_t> WriteLegs(const ObjectRef& object, OpenFile& file,
                            uint64_t offset, absl::string_view data);
  ErrnoOr<LegFd> AnyFdOn(Leg& leg, const ObjectRef& object, OpenFile& file);
  bool CopyMtime(const ObjectRef& object, OpenFile& file,
                 const timespec& mtime);
  Errno RecordBehind(const ObjectRef& object, LegSet legs);
  // Up to where a leg took the bytes of a write that it did not take whole.
  struct ShortWrite {
    LegSlot slot;
    uint64_t end;
  };
  size_t TakeBackTail(const RegionChange& change, const ObjectRef& object,
                      OpenFile& file,
                      const std::vector<ShortWrite>& short_writes,
                      LegSlot decided, uint64_t offset, size_t taken,
                      LegSet* uncut);
  using LegErrnos = std::vector<std::pair<const Leg*, Errno>>;
  Errno AfterSync(const ObjectRef& object, const LegErrnos& failed,
                  bool any_durable);

  void ListenToHangs(LegSlot slot);
  void AskOthers(LegSlot slot);
  LegSlot Heir(LegSet without);
  LegSlot HeirWithName(const std::string& path, LegSet without);
  void CompareWithHeirHeld(LegSet emptied);
  LegSlot SettledPrimary();
  // Runs `change`, which changes who counts and says whether that is on record,
  // with clears and the changes that begin held meanwhile.
  bool WhileHeld(const std::function<bool()>& change);
  LegSet RecordLegs(LegSet out);
  bool MoveLog(LegSet out, LegSet full, LegSet* unwritten);
  // Those whose names end in Held are called with changing_legs_.
  bool TakeLegOutHeld(const Leg& leg, LegState why, const std::string& reason,
                      LegSlot heir, Leaving leaving = Leaving::kForNow);
  absl::Status TakeLegInHeld(std::unique_ptr<Leg> leg, bool accounted);
  LegSet LeaveFullLegHeld();
  bool ResumeLog();
  // Whose labels could not be written.
  void FailUnwrittenHeld(LegSet legs);
  bool RecordLegGone(LegSlot slot, bool was_primary);
  absl::Status PromotePaused(LegSlot slot, bool quiet);

  LegTable* const legs_;
  LegAsker asker_;
  std::atomic<ReadFrom> read_from_;
  std::atomic<LegSlot> preferred_;
  std::atomic<uint64_t> write_mostly_;  // bits of slots
  // By slot, in which order legs have joined those in sync; 0: since the start.
  // Who is in sync for the longest time is the heir: what the primary had lost
  // before it failed, the others may have lost when they caught up.
  std::array<std::atomic<uint64_t>, kLegsMax> joined_{};
  std::atomic<OnEnospc> on_enospc_;
  DirtyLog* const log_;
  Membership* const membership_;
  const Clock* const clock_;
  const int64_t clock_slack_ns_;
  const bool read_only_;
  NamesLock names_lock_;
  Backlog backlog_{&absl::Now};
  RegionGate gate_;
  UnsettledDirs unsettled_dirs_;
  std::function<void()> on_work_;
  std::function<void(LegSlot, uint64_t)> on_let_go_;
  NameWatch* name_watch_ = nullptr;
  LogMover move_log_;
  std::atomic<bool> space_was_short_{false};  // on any leg
  EventSink* events_ = nullptr;
  // Who changes the set of legs. What it waits for (labels, the log) never
  // waits for it.
  HandoverMutex changing_legs_;
  bool log_is_lost_ = false;  // guarded by it
  bool listening_ = false;    // guarded by it
  uint64_t joins_ = 0;        // guarded by it
};

template <typename Ask>
auto Mirror::AskPrimary(Ask ask) -> decltype(ask(std::declval<Leg&>())) {
  for (;;) {
    const LegSlot slot = legs_->primary();
    Leg& asked = leg(slot);
    auto answer = ask(asked);
    if (answer.ok() || !IsLegFailure(answer.error())) return answer;
    ++legs_->errors(slot).read;
    LegSet tried = LegSet::Of(slot);
    for (LegSlot heir = Heir(tried); legs_->primary() == slot;
         heir = Heir(tried)) {
      // What every leg answers alike is no failure of one.
      if (heir < 0) return answer;
      auto there = ask(leg(heir));
      tried |= LegSet::Of(heir);
      if (!there.ok() && IsLegFailure(there.error())) continue;
      const bool out =
          TakeLegOut(asked, LegState::kFailed, ErrnoText(answer.error()), heir);
      return out ? there : answer;
    }
  }
}

template <typename Ask>
auto Mirror::AskHolder(const ObjectRef& object, Ask ask)
    -> decltype(ask(std::declval<Leg&>())) {
  // Whoever is the primary by then.
  if (object.named) return AskPrimary(ask);
  LegSet asked;
  for (;;) {
    const LegSlot slot = HolderOf(object);
    Leg& holder = leg(slot);
    const bool is_primary = slot == legs_->primary();
    auto answer = is_primary ? AskPrimary(ask) : ask(holder);
    asked |= LegSet::Of(slot);
    if (answer.ok()) return answer;
    if (!is_primary && IsLegFailure(answer.error())) {
      (void)FailLeg(holder, answer.error());
    }
    // One that has it open may have gone while it was asked, and its heir not
    // have it. Another may.
    if (asked.has(HolderOf(object))) return answer;
  }
}

}  // namespace mirrorfs
