// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/call_target.h"

#include <utility>

#include "base/clock.h"

namespace mirrorfs {

void CallTarget::SetProgress(std::function<uint64_t()> progress) {
  std::lock_guard lock(mutex_);
  progress_ = std::move(progress);
}

uint64_t CallTarget::Progress() {
  std::lock_guard lock(mutex_);
  return progress_ ? progress_() : 0;
}

void CallTarget::BeginWait(Clock::time_point since) {
  std::lock_guard lock(mutex_);
  waits_.insert(since);
}

void CallTarget::EndWait(Clock::time_point since) {
  std::lock_guard lock(mutex_);
  waits_.erase(waits_.find(since));
}

absl::Duration CallTarget::WaitedFor() const {
  std::lock_guard lock(mutex_);
  if (waits_.empty()) return absl::ZeroDuration();
  return absl::FromChrono(Clock::now() - *waits_.begin());
}

void CallTarget::SetListeners(Listeners listeners) {
  std::lock_guard lock(listener_mutex_);
  listeners_ = std::move(listeners);
}

void CallTarget::TellSlow() {
  std::lock_guard lock(listener_mutex_);
  if (listeners_.slow) listeners_.slow();
}

void CallTarget::TellHung() {
  std::lock_guard lock(listener_mutex_);
  if (listeners_.hung) listeners_.hung();
}

void CallTarget::CloseLater(UniqueFd fd) {
  std::lock_guard lock(mutex_);
  // If it has come back meanwhile, the next one that ends late closes it.
  to_close_.push_back(std::move(fd));
}

void CallTarget::EndLateCall() {
  std::unique_lock lock(mutex_);
  while (!to_close_.empty()) {
    std::vector<UniqueFd> closing = std::exchange(to_close_, {});
    lock.unlock();
    closing.clear();  // which may hang again; we are late still
    lock.lock();
  }
  last_late_end_ns_ = SystemClock().RealtimeNs();
  late_calls_.fetch_sub(1);
}

}  // namespace mirrorfs
