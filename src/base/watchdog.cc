// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/watchdog.h"

#include <signal.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <system_error>
#include <utility>

#include "base/fiber.h"
#include "base/thread.h"

namespace mirrorfs {
namespace {

// How many looks a time-out takes, and how often at least and at most.
constexpr int kLooks = 10;
constexpr absl::Duration kPeriodMin = absl::Milliseconds(5);
constexpr absl::Duration kPeriodMax = absl::Seconds(1);

}  // namespace

std::shared_ptr<Watchdog> Watchdog::Start(absl::Duration call_timeout) {
  if (call_timeout == absl::InfiniteDuration()) {
    call_timeout = absl::ZeroDuration();
  }
  std::shared_ptr<Watchdog> watchdog(new Watchdog(call_timeout));
  if (call_timeout == absl::ZeroDuration()) return watchdog;
  watchdog->thread_ =
      StartThread("watchdog", [dog = watchdog.get()] { dog->Run(); });
  return watchdog;
}

Watchdog::Watchdog(absl::Duration call_timeout) : timeout_(call_timeout) {}

void Watchdog::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  if (thread_.joinable()) thread_.join();
}

int Watchdog::left_behind() const {
  std::lock_guard lock(mutex_);
  return left_behind_;
}

void Watchdog::Add(Carrier* carrier) {
  std::lock_guard lock(mutex_);
  carriers_.insert(carrier);
}

void Watchdog::Remove(Carrier* carrier) {
  std::lock_guard lock(mutex_);
  carriers_.erase(carrier);
}

void Watchdog::Interrupt(const FiberState& fiber) {
  std::lock_guard lock(mutex_);
  for (const Carrier* carrier : carriers_) {
    // A carrier that was left behind is in a call for ever.
    if (carrier->fiber_.get() == &fiber && carrier->state_ % 2 == 0) {
      tgkill(getpid(), carrier->tid_, kWakeSignal);
    }
  }
}

void Watchdog::NoteReturn() {
  std::lock_guard lock(mutex_);
  --left_behind_;
}

void Watchdog::Run() {
  const absl::Duration period =
      std::clamp(timeout_ / kLooks, kPeriodMin, kPeriodMax);
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    stop_.wait_for(lock, absl::ToChronoNanoseconds(period));
    // Again, because a target that has been found to hang makes others overdue.
    while (TakeOverdueFibers()) {
    }
    TellListeners();
  }
}

bool Watchdog::TakeOverdueFibers() {
  bool any = false;
  for (Carrier* carrier : carriers_) {
    uint64_t call = carrier->state_.load(std::memory_order_relaxed);
    const bool out = call % 2 == 1 && call != Carrier::kSeized;
    // While it is seized the carrier does not touch the fiber, and the fiber
    // does not run; a call that ends meanwhile waits for mutex_.
    if (!out || !carrier->state_.compare_exchange_strong(
                    call, Carrier::kSeized, std::memory_order_acq_rel)) {
      if (call != Carrier::kSeized) carrier->sighting_.reset();
      continue;
    }
    if (IsOverdue(*carrier, call) && TakeFiber(*carrier)) {
      any = true;
    } else {
      carrier->state_.store(call, std::memory_order_release);
    }
  }
  return any;
}

bool Watchdog::IsOverdue(Carrier& carrier, uint64_t call) {
  std::optional<Carrier::Sighting>& seen = carrier.sighting_;
  if (!seen || seen->call != call) {
    seen.emplace(call, carrier.fiber_->target->shared_from_this());
  }
  if (seen->patience.BecomesSlow(timeout_)) {
    to_tell_.push_back([target = carrier.fiber_->target->shared_from_this()] {
      target->TellSlow();
    });
  }
  return seen->patience.IsOver(timeout_);
}

bool Watchdog::TakeFiber(Carrier& carrier) {
  const FiberState& fiber = *carrier.fiber_;
  auto left = std::make_unique<Carrier::LeftCall>();
  left->target = fiber.target->shared_from_this();
  for (const PinnedThing* at = fiber.pinned; at != nullptr; at = at->below) {
    left->pinned.push_back(at->thing);
  }
  try {
    StartCarrier(carrier.fiber_);  // which waits for mutex_ before it goes on
  } catch (const std::system_error&) {
    return false;  // at the next look, then
  }
  const bool first = !left->target->hung();
  left->target->BeginLateCall();
  ++left_behind_;
  if (first) {
    spdlog::error("{}: does not answer; going on without it",
                  left->target->name());
    to_tell_.push_back([target = left->target] { target->TellHung(); });
  }
  carrier.left_ = std::move(left);
  return true;
}

void Watchdog::TellListeners() {
  while (!to_tell_.empty()) {
    try {
      Fiber(this, "tell", to_tell_.back()).Detach();
    } catch (const std::system_error&) {
      return;  // at the next look
    }
    to_tell_.pop_back();
  }
}

}  // namespace mirrorfs
