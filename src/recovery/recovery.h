// SPDX-License-Identifier: GPL-2.0-or-later
//
// Makes legs equal again, online: takes regions that a leg lacks from the log,
// copies them from the primary, and declares a leg up to date when it lacks
// nothing any more and that is durable. There is one engine, whatever the leg
// lacks and why.
//
// The loop: take a batch of regions (entries first, see
// DirtyLog::GetResyncWork); heal them with a few workers; when nothing is
// left, make the legs durable, clear the log, raise the generation.
//
// A region under repair holds off changes of that region only, and for the
// time of one copy of at most a region. What cannot be healed stays out of
// sync and is tried again after a pause that grows.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "base/clock.h"
#include "base/event.h"
#include "base/fiber.h"
#include "dirtylog/dirty_log.h"
#include "mirror/mirror.h"
#include "recovery/healer.h"
#include "recovery/pacer.h"

namespace mirrorfs {

class Recovery {
 public:
  // `settle`: see Mirror::ClearIdle. The others outlive it. Without a watchdog,
  // a leg that hangs makes it hang.
  Recovery(Mirror* mirror, EventSink* events, Pacer* pacer, const Clock* clock,
           std::function<bool()> settle, Watchdog* watchdog = nullptr);
  ~Recovery();

  // Called when legs have joined the set of up-to-date ones. Before Start.
  void SetAdmissionListener(std::function<void()> listener) {
    on_admission_ = std::move(listener);
  }
  void Start();
  // No region is taken up any more; returns when those in work are done.
  void Stop();
  // There may be something to do.
  void Wake();

  const HealProgress& progress() const { return progress_; }

 private:
  void Run();
  // One batch; false when there was nothing to do.
  bool HealBatch();
  void HealAll(const std::vector<DirtyLog::Work>& batch);
  // Says of legs that are not known to be in repair yet that they are.
  void AnnounceStart(LegSet legs);
  // Of legs that lack nothing any more.
  void AnnounceEnd();
  // Legs that lack nothing any more join the set of up-to-date ones.
  // False: to be tried again.
  bool AdmitLegs(bool all_healed);
  void NoteFailed(const RegionKey& key);
  size_t ReleaseFailed();
  // Says of legs whose recovery does not get on any more that it does not.
  void NoteSetbacks(const std::vector<RegionKey>& keys);
  void Pause(int ms);

  Mirror* const mirror_;
  EventSink* const events_;
  Pacer* const pacer_;
  const std::function<bool()> settle_;
  Watchdog* const watchdog_;
  std::function<void()> on_admission_;
  HealProgress progress_;
  LinkIndex links_;
  std::atomic<bool> stopping_{false};
  ForeignKeeper keeper_;
  std::atomic<size_t> healed_{0};  // since it was woken
  LegSet announced_;               // resync-started, and not finished

  std::mutex mutex_;
  std::vector<RegionKey> failed_;  // handed out still; guarded by it
  std::condition_variable woken_;
  bool wake_ = true;
  Fiber fiber_;
};

}  // namespace mirrorfs
