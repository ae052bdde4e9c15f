// SPDX-License-Identifier: GPL-2.0-or-later
//
// The gate through which every change passes on its way to the legs. It ties
// what is going on in a region (RegionStates) to what the log remembers of it
// (DirtyLog) and keeps three promises:
//
//   I1   a region's mark is durable before Begin returns, so before the first
//        byte reaches any leg;
//   I6   a clear is bound to the change it saw;
//   I11  a change of a region under recovery waits, and recovery waits for
//        changes under way.
//
// Threads: all calls from any thread. Begin and StartRecovery block; nothing
// else does, and the mutex is never held during I/O.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/errno.h"
#include "dirtylog/dirty_log.h"
#include "mirror/open_file.h"
#include "region/region_key.h"
#include "region/region_record.h"
#include "region/region_states.h"

namespace mirrorfs {

// A region about to change, and what its record must say meanwhile; that it is
// dirty, and on which legs it will be missing, is added by the gate.
struct RegionMark {
  RegionKey key;
  RegionRecord record;
};

class RegionGate;

// A change under way. Ends when destroyed.
class RegionChange {
 public:
  RegionChange(RegionChange&& other) noexcept;
  RegionChange& operator=(RegionChange&&) = delete;
  ~RegionChange();

  // Legs that do not take the change: they were down when it began, or lack
  // what is to be changed. On record.
  LegSet missing() const { return missing_; }
  const std::vector<RegionMark>& marks() const { return marks_; }
  // Not of a file without a name.
  bool on_record() const { return !marks_.empty() || !covered_.empty(); }

  // `legs` did not take the change: they lack these regions from now on.
  // Durable when it returns OK (I8). Of a file without a name it is only noted.
  Errno Fail(LegSet legs);
  // `legs`, of which Fail was told, are what the others are compared with now:
  // they lack nothing.
  void Pardon(LegSet legs);

 private:
  friend class RegionGate;
  RegionChange(RegionGate* gate, std::vector<std::string> encoded,
               std::vector<RegionMark> marks, std::vector<RegionMark> covered)
      : gate_(gate),
        encoded_(std::move(encoded)),
        marks_(std::move(marks)),
        covered_(std::move(covered)) {}

  RegionGate* gate_;
  std::vector<std::string> encoded_;
  std::vector<RegionMark> marks_;
  std::vector<RegionMark> covered_;
  std::shared_ptr<OpenFile> nameless_;  // during it, or after
  LegSet missing_;
};

class RegionGate {
 public:
  struct Hooks {
    // Makes the labels ready for a change; cheap once it has been done.
    std::function<absl::Status()> before_first_change;
    // The log cannot be written. True when that has been mended.
    std::function<bool()> mend_log;
    // A leg that is up lacks the names of one more directory.
    std::function<void()> names_missed;
  };
  // The log outlives the gate.
  RegionGate(DirtyLog* log, Hooks hooks)
      : log_(log), hooks_(std::move(hooks)) {}

  struct Request {
    std::vector<RegionMark> marks;
    // Legs that are down, as of before the marks were thought of.
    LegSet down;
    // Directories that move, at both places. A leg that lacks what lies in one
    // takes the move all the same, if it does not lack the names.
    std::vector<RegionMark> moved;
    // Objects that get or lose these names: their recovery is waited for.
    std::vector<RegionKey> names;
    // A mark that stands already, mostly, and says enough for `covered` as far
    // as a crash goes, and legs that are down.
    std::optional<RegionMark> cover;
    // Changed too: not marked themselves, unless a leg that is up lacks them
    // (the cover says more than that it does), yet a recovery of them is waited
    // for.
    std::vector<RegionMark> covered;
    // What the change starts from and does not change: a leg that lacks it
    // cannot take it, and a recovery of it is waited for.
    std::vector<RegionKey> sources;
    // The file that changes has no name: there is nothing to mark, because no
    // crash can show it again.
    std::shared_ptr<OpenFile> unnamed;
    // The file that loses its last name, which is the last of `names`. On a leg
    // that does not take that, what is open is what the name leads to, and may
    // become another file; on one that lacks some of the file, that is not
    // copied any more.
    std::shared_ptr<OpenFile> loses_name;
    // Marked in the same write if there is one, and else in the next, but not
    // part of the change: marking ahead.
    std::vector<RegionMark> ahead;
    // The object has other names, under which the log may know what this one
    // does not tell: a leg that lacks anything counts as lacking this.
    bool linked = false;
    // More to do to the log before the flush (a rename's re-keying, see
    // Carry), given the legs that are down; true when it left something to
    // flush.
    std::function<bool(LegSet down)> also;
  };

  // Waits until no region of the request is under recovery, and marks. EIO
  // when the mark cannot be made durable: nothing may be written then (I17).
  ErrnoOr<RegionChange> Begin(Request request);

  // Holds off new changes of the regions and waits for those under way, and
  // for other recoveries of them.
  void StartRecovery(const std::vector<RegionKey>& keys);
  void FinishRecovery(const std::vector<RegionKey>& keys);

  // A directory whose names are brought up to date in parts, on `legs`, which
  // lack them until the last part is done: what happened to it between two.
  struct NamesTrail {
    std::vector<std::string> names;  // that have changed, maybe
    bool moved = false;              // the directory, or one that it lies in
  };
  // One directory at a time; REQUIRES: not while it is under recovery.
  void StartTrail(const std::string& dir, LegSet legs);
  // What has happened since the last time. While the directory is under
  // recovery, so that what is told of has ended.
  NamesTrail TakeTrail();
  void EndTrail();

  // Lets `carry` make the log say of other places what it says of some, and
  // answer with those places. No clear that is under way takes effect on them:
  // it would be of something else. They are cleared in their turn.
  void Carry(const std::function<std::vector<RegionKey>()>& carry);

  // Coarse time for cooling; raised by the clearing thread.
  void Tick();

  // Idle for two ticks or more (`all`: for none). Cleared regions are
  // forgotten unless something happened to them since they were taken.
  std::vector<RegionStates::IdleRegion> Idle(bool all);
  void Clear(const std::vector<RegionStates::IdleRegion>& regions);

  // Until released nothing is cleared, and what was taken as idle before the
  // release will not be: while the set of legs changes, "durable on all legs"
  // has no meaning.
  void HoldClears();
  void ReleaseClears();

  // Holds off changes that would begin, and waits until none is under way, so
  // that the legs hold the same but for what is on record. False when some are
  // not done in time; nothing is held then.
  bool Pause(absl::Duration patience);
  void Resume();

  // All marks are durable; mends the log if it can be. After an error (ENOSPC,
  // EIO) write nothing.
  Errno Flush();

  // Directories to which nothing happened since they were taken: what they
  // made before `since_ns` is durable.
  void AdvanceSince(const std::vector<RegionStates::IdleRegion>& directories,
                    int64_t since_ns);

  // See DirtyLog::HealedTails and SettleTails. None while clears are held; nor
  // is settled what was asked for before they were: a leg that leaves is not
  // made durable any more.
  struct Tails {
    std::vector<DirtyLog::HealedTail> tails;
    uint64_t holds = 0;  // of clears, so far
  };
  Tails HealedTails(uint64_t regions_min);
  void SettleTails(const Tails& healed);

  // Makes dirty regions of the log known here, so that they are cleared.
  void AdoptDirty();

  size_t region_count();

 private:
  friend class RegionChange;
  void End(const std::vector<std::string>& encoded);
  void NoteTrailLocked(const std::vector<RegionKey>& names);
  // A change makes `legs`, which are up, lack the names of more directories.
  void NoteNamesMissed(const std::vector<RegionMark>& marks, LegSet legs);
  // Marks in the log; true when that has to be flushed.
  bool Mark(RegionMark& mark);

  DirtyLog* const log_;
  const Hooks hooks_;

  std::mutex mutex_;
  std::condition_variable changed_;  // a recovery or a change ended
  RegionStates states_;
  int64_t tick_ = 0;
  int waiters_ = 0;  // threads in changed_; End need not wake nobody
  int clears_held_ = 0;
  uint64_t holds_ = 0;  // of clears, so far
  int under_way_ = 0;   // changes
  bool paused_ = false;
  std::string trail_dir_;
  LegSet trail_legs_;  // none: no directory is watched
  NamesTrail trail_;
};

}  // namespace mirrorfs
