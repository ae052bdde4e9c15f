// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/upkeep.h"

namespace mirrorfs {

Upkeep::Upkeep(Watchdog* watchdog, absl::Duration period,
               std::function<void()> tick)
    : period_(period),
      tick_(std::move(tick)),
      fiber_(watchdog, "upkeep", [this] { Run(); }) {}

Upkeep::~Upkeep() { Stop(); }

void Upkeep::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  fiber_.Join();
}

void Upkeep::Run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    stop_.wait_for(lock, absl::ToChronoMilliseconds(period_),
                   [this] { return stopping_; });
    if (stopping_) return;
    lock.unlock();
    tick_();
    lock.lock();
  }
}

}  // namespace mirrorfs
