// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/fiber.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>

#include "base/thread.h"

namespace mirrorfs {
namespace {

// The fiber that this thread carries, while it is the fiber that runs.
thread_local FiberState* running_fiber = nullptr;

// Never inlined: a fiber that asks again after a call may be in another thread,
// and compilers take the place of a thread_local for the same throughout a
// function.
[[gnu::noinline]] FiberState* RunningFiber() {
  FiberState* fiber = running_fiber;
  asm volatile("" : "+r"(fiber));
  return fiber;
}

void Announce(FiberState& fiber) {
  std::lock_guard lock(fiber.mutex);
  fiber.ended = true;
  fiber.changed.notify_all();
}

}  // namespace

void StartCarrier(std::shared_ptr<FiberState> fiber) {
  const std::string name = fiber->name;
  StartThread(name, [fiber = std::move(fiber)]() mutable {
    Carrier(std::move(fiber)).Carry();
  }).detach();
}

Carrier::Carrier(std::shared_ptr<FiberState> fiber)
    : watchdog_(fiber->watchdog), tid_(gettid()), fiber_(std::move(fiber)) {
  watchdog_->Add(this);
}

Carrier::~Carrier() {
  watchdog_->Remove(this);
  if (left_ == nullptr) return;
  left_->pinned.clear();
  left_->target->EndLateCall();
  watchdog_->NoteReturn();
}

void Carrier::Carry() {
  for (;;) {
    running_fiber = fiber_.get();
    const bool suspended = fiber_->coroutine.Resume();
    running_fiber = nullptr;
    if (!suspended) break;
    fiber_->call->Run(*this);
    if (fiber_ == nullptr) return;
  }
  // The last that it does with what the fiber's owner may take away now.
  watchdog_->Remove(this);
  Announce(*fiber_);
}

// The watchdog was quicker, or is just looking.
bool Carrier::EndSeizedCall() {
  std::lock_guard lock(watchdog_->mutex_);
  if (left_ == nullptr) {
    state_.store(calls_, std::memory_order_release);
    return true;
  }
  fiber_ = nullptr;
  return false;
}

Fiber::Fiber(Watchdog* watchdog, const std::string& name,
             std::function<void()> body) {
  if (watchdog == nullptr || watchdog->call_timeout() == absl::ZeroDuration()) {
    thread_ = StartThread(name, std::move(body));
    return;
  }
  state_ = std::make_shared<FiberState>(watchdog->shared_from_this(), name,
                                        std::move(body));
  StartCarrier(state_);
}

Fiber& Fiber::operator=(Fiber&& other) noexcept {
  Join();
  state_ = std::move(other.state_);
  thread_ = std::move(other.thread_);
  return *this;
}

void Fiber::Join() {
  if (thread_.joinable()) thread_.join();
  if (state_ == nullptr) return;
  {
    std::unique_lock lock(state_->mutex);
    state_->changed.wait(lock, [this] { return state_->ended; });
  }
  state_ = nullptr;
}

void Fiber::Interrupt() {
  if (thread_.joinable()) pthread_kill(thread_.native_handle(), kWakeSignal);
  if (state_ != nullptr) state_->watchdog->Interrupt(*state_);
}

void Fiber::Detach() {
  if (thread_.joinable()) thread_.detach();
  state_ = nullptr;
}

Pin::Pin(std::shared_ptr<const void> thing) : fiber_(RunningFiber()) {
  if (fiber_ == nullptr) return;
  pinned_ = {std::move(thing), fiber_->pinned};
  fiber_->pinned = &pinned_;
}

Pin::~Pin() {
  if (fiber_ != nullptr) fiber_->pinned = pinned_.below;
}

bool OnFiber() { return RunningFiber() != nullptr; }

absl::Duration CallTimeout() {
  const FiberState* fiber = RunningFiber();
  return fiber == nullptr ? absl::InfiniteDuration()
                          : fiber->watchdog->call_timeout();
}

void call_internal::MakeOnCarrier(CallTarget& target, PendingCall& call) {
  if (target.hung()) return;
  FiberState* fiber = RunningFiber();
  fiber->target = &target;
  fiber->call = &call;
  fiber->coroutine.Suspend();
}

void CloseOn(CallTarget& target, UniqueFd fd) {
  if (!OnFiber()) return;
  // A call that times out may be about to close it at the same moment, so it is
  // for whoever takes it first.
  struct Closing {
    UniqueFd fd;
    std::atomic<bool> taken{false};
  };
  const auto closing = std::make_shared<Closing>();
  closing->fd = std::move(fd);
  const Errno error = MakeCall(target, [closing] {
    if (!closing->taken.exchange(true)) closing->fd.Reset();
    return kOk;
  });
  if (!error.ok() && !closing->taken.exchange(true)) {
    target.CloseLater(std::move(closing->fd));
  }
}

}  // namespace mirrorfs
