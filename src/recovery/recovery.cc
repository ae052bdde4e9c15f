// SPDX-License-Identifier: GPL-2.0-or-later
#include "recovery/recovery.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/units.h"
#include "leg/remove_tree.h"

namespace mirrorfs {
namespace {

// Few, so that names that a leg came to lack meanwhile soon have their turn:
// until then it misses all that is done beneath them.
constexpr size_t kBatchMax = 32;
// Contents and attributes; most of the time goes by waiting for one leg or the
// other. Names are healed by one: two that heal different names of one file at
// the same time would each make a file of their own of it.
constexpr size_t kWorkers = 4;
constexpr int kRetryMsMin = 200;
constexpr int kRetryMsMax = 10'000;

bool HasNames(const std::vector<DirtyLog::Work>& batch) {
  return std::any_of(batch.begin(), batch.end(), [](const auto& work) {
    return work.key.kind == RegionKind::kEntries;
  });
}

// Of what was moved or changed while the leg was away: nobody wants it any
// more.
void RemoveLeftovers(Leg& leg, ForeignKeeper* keeper) {
  const Errno error = RemoveAsides(leg, keeper->Taker(leg));
  if (error.ok()) {
    leg.foreign_notes().RemoveAll(leg);
    return;
  }
  spdlog::warn("leg \"{}\": removing what was put aside: {}", leg.name(),
               ErrnoText(error));
}

}  // namespace

Recovery::Recovery(Mirror* mirror, EventSink* events, Pacer* pacer,
                   const Clock* clock, std::function<bool()> settle,
                   Watchdog* watchdog)
    : mirror_(mirror),
      events_(events),
      pacer_(pacer),
      settle_(std::move(settle)),
      watchdog_(watchdog),
      progress_(clock),
      links_(mirror),
      keeper_(mirror, &progress_, pacer, &stopping_) {}

Recovery::~Recovery() { Stop(); }

void Recovery::Start() {
  mirror_->SetNameWatch(&links_);
  fiber_ = Fiber(watchdog_, "recovery", [this] { Run(); });
}

void Recovery::Stop() {
  stopping_ = true;
  (void)mirror_->log().Presuspend();
  Wake();
  fiber_.Join();
}

void Recovery::Wake() {
  {
    std::lock_guard lock(mutex_);
    wake_ = true;
  }
  woken_.notify_all();
}

void Recovery::Run() {
  mirror_->present().ForEach([this](LegSlot slot) {
    mirror_->leg(slot).RemoveTemporaries();
    if (mirror_->log().LackingAnything().has(slot)) return;
    RemoveLeftovers(mirror_->leg(slot), &keeper_);
  });
  int retry_ms = kRetryMsMin;
  while (!stopping_) {
    {
      std::unique_lock lock(mutex_);
      woken_.wait(lock, [this] { return wake_ || stopping_; });
      wake_ = false;
    }
    healed_ = 0;
    while (!stopping_ && HealBatch()) {
    }
    mirror_->backlog().Done();
    const bool all = ReleaseFailed() == 0;
    if (stopping_) return;
    AnnounceEnd();
    if (AdmitLegs(all) && all) {
      retry_ms = kRetryMsMin;
      links_.Forget();
      continue;
    }
    // Where some could be healed, what could not may be possible now.
    if (healed_ > 0) retry_ms = kRetryMsMin;
    Pause(retry_ms);
    retry_ms = std::min(retry_ms * 2, kRetryMsMax);
    Wake();
  }
}

bool Recovery::HealBatch() {
  const std::vector<DirtyLog::Work> batch =
      mirror_->log().GetResyncWork(mirror_->secondaries(), kBatchMax);
  if (batch.empty()) return false;
  LegSet targets;
  for (const DirtyLog::Work& work : batch) targets |= work.record.missing;
  targets = targets & mirror_->secondaries();
  AnnounceStart(targets);
  const absl::Status status = mirror_->membership().BeforeHealing(targets);
  if (!status.ok()) {
    spdlog::error("labels: {}", status.ToString());
    for (const DirtyLog::Work& work : batch) NoteFailed(work.key);
    return false;
  }
  HealAll(batch);
  return true;
}

// What could not be healed stays handed out until all else has had its turn.
void Recovery::NoteFailed(const RegionKey& key) {
  std::lock_guard lock(mutex_);
  failed_.push_back(key);
}

size_t Recovery::ReleaseFailed() {
  std::vector<RegionKey> failed;
  {
    std::lock_guard lock(mutex_);
    failed.swap(failed_);
  }
  for (const RegionKey& key : failed) mirror_->log().ReleaseResyncWork(key);
  NoteSetbacks(failed);
  return failed.size();
}

void Recovery::NoteSetbacks(const std::vector<RegionKey>& keys) {
  std::vector<Setbacks::Failed> failed;
  for (const RegionKey& key : keys) {
    const std::optional<RegionRecord> record = mirror_->log().Find(key);
    if (!record) continue;
    failed.push_back({key, record->missing & mirror_->secondaries()});
  }
  progress_.setbacks.EndPass(failed).ForEach([&](LegSlot slot) {
    const std::optional<Setback> setback = progress_.setbacks.Of(slot);
    if (!setback) return;
    events_->Post(EventName::kResyncFailed, mirror_->leg(slot).name(),
                  absl::StrCat(setback->path, ": ", DescribeSetback(*setback)));
  });
}

void Recovery::HealAll(const std::vector<DirtyLog::Work>& batch) {
  std::atomic<size_t> next{0};
  const auto work = [&] {
    Healer healer(mirror_, &links_, &progress_, pacer_, &keeper_, &stopping_);
    for (size_t i; (i = next++) < batch.size();) {
      if (stopping_) {
        mirror_->log().ReleaseResyncWork(batch[i].key);
        continue;
      }
      if (healer.Heal(batch[i])) {
        ++healed_;
      } else {
        NoteFailed(batch[i].key);
      }
    }
  };
  const bool names = HasNames(batch);
  if ((mirror_->log().LackingNames() & mirror_->secondaries()).empty()) {
    mirror_->backlog().Done();
  }
  const size_t workers = names ? 1 : std::min(kWorkers, batch.size());
  std::vector<Fiber> helpers;
  for (size_t n = 1; n < workers; ++n) {
    helpers.emplace_back(watchdog_, "recovery", work);
  }
  work();
  helpers.clear();
}

void Recovery::AnnounceStart(LegSet legs) {
  // One that went meanwhile begins anew when it is back.
  announced_ = announced_ & mirror_->secondaries();
  progress_.Begin(legs - announced_);
  (legs - announced_).ForEach([&](LegSlot slot) {
    const DirtyLog::SyncCount count =
        mirror_->log().GetSyncCount(LegSet::Of(slot));
    events_->Post(
        EventName::kResyncStarted, mirror_->leg(slot).name(),
        absl::StrCat("known to be missing: regions ", count.regions, ", files ",
                     count.files, ", directories ", count.directories));
  });
  announced_ |= legs;
}

void Recovery::AnnounceEnd() {
  announced_ = announced_ & mirror_->secondaries();
  announced_.ForEach([&](LegSlot slot) {
    const LegSet leg = LegSet::Of(slot);
    if (mirror_->log().GetSyncCount(leg).regions > 0) return;
    announced_ -= leg;
    RemoveLeftovers(mirror_->leg(slot), &keeper_);
    const LegProgress done = progress_.Of(slot);
    events_->Post(EventName::kResyncFinished, mirror_->leg(slot).name(),
                  absl::StrCat(FormatSize(done.done_bytes), " compared, ",
                               FormatSize(done.copied_bytes), " copied"));
  });
}

bool Recovery::AdmitLegs(bool all_healed) {
  const bool waiting = !mirror_->CaughtUp().empty();
  if (!waiting && !(all_healed && progress_.unannounced)) return true;
  progress_.unannounced = false;
  if (!mirror_->ClearIdle(/*all=*/true, settle_).ok()) return false;
  const absl::StatusOr<LegSet> admitted = mirror_->AdmitCaughtUp();
  if (!admitted.ok()) {
    spdlog::error("legs that have caught up: {}", admitted.status().ToString());
    return false;
  }
  admitted->ForEach([&](LegSlot slot) {
    const std::string& name = mirror_->leg(slot).name();
    spdlog::info("leg \"{}\" is in sync", name);
    events_->Post(EventName::kLegInSync, name, "holds what the others hold");
  });
  if (!admitted->empty() && on_admission_) on_admission_();
  return true;
}

void Recovery::Pause(int ms) {
  for (int waited = 0; waited < ms && !stopping_; waited += 50) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

}  // namespace mirrorfs
