// SPDX-License-Identifier: GPL-2.0-or-later
//
// Which legs are up to date, as the labels record it. The rules that make a
// stale leg recognisable for ever:
//
//   * The first change of a mount is preceded by labels that say who sees it
//     (a new generation when that is not every leg, or not those recorded) and
//     that the log is needed (I8, I28). A mount that changes nothing starts no
//     generation: two legs that were each mounted alone are no conflict then.
//   * A leg that is being healed is marked so on its own label first: alone it
//     would look like a whole leg of its old generation (I9).
//   * A leg joins the set only when what it lacked is durable on it.
//   * An orderly end with nothing left in the log is stamped.
//   * Since when a leg is out of use, and when it was, is in the labels of the
//     others before anything is written to it again.
//
// Threads: all calls from any thread.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/handover_lock.h"
#include "leg/label.h"
#include "mirror/leg_table.h"

namespace mirrorfs {

class Membership {
 public:
  // `legs` and `clock` outlive it. `in_sync` are those that see every change
  // from now on.
  Membership(Label label, const LegTable* legs, LegSet in_sync,
             const Clock* clock);

  // Those that are up are in use from now on. To be called once, before any
  // change.
  void BeginUse();
  // When the leg was away, the time that ends now among them. It is at most
  // told of that here; LegReturned records it.
  AwayTimes AwayUntilNow(const Leg& leg) const;
  // From time to time: a clock that is set back does not make what we wrote
  // look later than it was.
  void NoteTime();

  // The log that the labels shall name from the next label on.
  void SetLog(const LabelLog& log);
  // What these legs lack is in the log from now on, all of it.
  void SetAccounted(LegSet legs);

  // The log holds something already, though nothing has been changed: the
  // labels name it, and the primary that what it says is relative to, durably.
  // Answers the legs whose label could not be written.
  LegSet NameLog();

  // Cheap after the first success. Answers the legs whose label could not be
  // written: no change may be made then.
  LegSet BeforeFirstChange();

  // Recovery is about to write to `legs`: until they have caught up, what is on
  // them is neither what it was nor what the others have. Their own labels say
  // so, or a new generation of the others does, durably, when this returns.
  absl::Status BeforeHealing(LegSet legs);

  // `legs` hold, durably, what the others hold. Answers the legs whose label
  // could not be written.
  LegSet LegsCaughtUp(LegSet legs);

  // Changes that begin wait in BeforeFirstChange until the set has been
  // recorded by LegsLeft.
  void HoldChanges();
  void ReleaseChanges();
  // `out` see no change from now on, and `log` is the log. Answers the legs
  // whose label could not be written; changes go on when there is none.
  LegSet LegsLeft(LegSet out, const LabelLog& log);
  // One that LegsLeft was told of, in vain: nobody could be told of it. The
  // next change begins with a generation that has it again.
  void LegStays(LegSlot slot);
  // A leg of an earlier generation is back; all it lacks is in the log.
  absl::Status LegReturned(LegSet leg);

  // Changes members: `edit` is given the label to change. Recorded on all legs
  // that are up to date; what cannot be is as if it had not been asked for.
  absl::Status Edit(const std::function<void(Label&)>& edit);

  // What was changed on a leg in generation `theirs`, without the others, does
  // not count: it is older than a new generation of ours from now on.
  absl::Status Overrule(const Generation& theirs);

  // The orderly end. `log_empty`: nothing in the log is needed again.
  absl::Status Stop(bool log_empty);

  Label label() const;
  LegSet in_sync() const;
  // Both, for whoever only looks: does not wait for a leg on which a label is
  // being written. Until it is, legs that leave have left, and legs that join
  // have not joined.
  struct View {
    Label label;
    LegSet in_sync;
  };
  View view() const;

 private:
  // Held by who changes anything: what it has come to shows when it ends.
  class Change {
   public:
    explicit Change(Membership* membership)
        : membership_(membership), lock_(membership->mutex_) {}
    ~Change() { membership_->Show(membership_->in_sync_); }

   private:
    Membership* const membership_;
    const std::lock_guard<HandoverMutex> lock_;
  };

  void Show(LegSet in_sync);
  // Starts a new generation if the set of up-to-date legs is not the recorded
  // one, and before the first change if it is not all. mutex_ is held.
  void StartGenerationIfNeeded();
  void CountUse();
  void StartGeneration(const Generation& old);
  absl::Status WriteLabels();
  LegSet UnwrittenLabels();
  absl::Status MarkNotWhole(const Leg& leg);
  AwayTimes AwayUntilNow(const LabelMember& member, const Leg& leg) const;
  void NoteAway();
  int64_t LatestTime() const;

  const LegTable* const legs_;
  const Clock* const clock_;
  std::atomic<int64_t> latest_ns_{0};  // that the clock has said

  mutable HandoverMutex mutex_;  // held while labels are written
  Label label_;                  // leg_uuid is filled in for each leg
  LegSet in_sync_;
  LegSet healing_;  // their labels say that they are not whole
  std::atomic<bool> ready_for_changes_{false};
  bool changes_held_ = false;
  bool recorded_use_ = false;  // labels were written by this daemon
  bool changed_ = false;       // this mount is counted in label_.uses
  std::array<uint64_t, kLegsMax> written_uses_;  // by slot, in its label
  bool stopped_ = false;
  std::condition_variable_any recorded_;
  mutable std::mutex view_mutex_;
  View view_;  // guarded by it
};

}  // namespace mirrorfs
