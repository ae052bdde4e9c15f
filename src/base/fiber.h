// SPDX-License-Identifier: GPL-2.0-or-later
//
// Threads that a hanging call cannot stop. A fiber runs on a stack of its own,
// in a thread of the system, its carrier. Where it calls something that may
// hang, the carrier makes the call on its own stack, beside the fiber. If the
// call takes too long, the watchdog takes the fiber away and it goes on in a
// new carrier, with the answer ETIMEDOUT; the old carrier, when its call
// returns at last, drops the answer and ends. So a call costs two switches of
// the stack and no hop between threads, and a fiber whose call timed out
// releases by itself what it holds.
//
// What follows for code that runs on fibers:
//   * What a call refers to is owned by the call (captured by value), or kept
//     by a Pin; what it finds out is returned by value. The fiber's stack may
//     be gone while a late call goes on.
//   * A lock that is held during a call is one of handover_lock.h.
//   * errno, thread_local, fsuid, umask and capabilities are the carrier's:
//     they are set and read within one call. (Compilers take the place of
//     errno, and pthread_self, for the same throughout a function.)
//   * No call while an exception is on its way or in work.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/call_target.h"
#include "base/carrier.h"
#include "base/errno.h"
#include "base/watchdog.h"

namespace mirrorfs {

class Fiber {
 public:
  Fiber() = default;
  // Starts it, as std::thread does; `name` is what ps shows. Without a
  // watchdog it is a thread like any other, and its calls are simply made.
  // std::system_error when there is no thread to be had.
  Fiber(Watchdog* watchdog, const std::string& name,
        std::function<void()> body);
  Fiber(Fiber&& other) noexcept = default;
  Fiber& operator=(Fiber&& other) noexcept;
  // Waits for its end.
  ~Fiber() { Join(); }

  void Join();
  // Makes a system call that it is in, outside of MakeCall, fail with EINTR.
  void Interrupt();
  // It ends by itself.
  void Detach();

 private:
  std::shared_ptr<FiberState> state_;
  std::thread thread_;  // without a watchdog
};

// Keeps what the calls of this fiber refer to without owning it, until those
// that were left behind while the Pin lived have returned. Costs nothing
// before that happens. Does nothing outside of fibers.
class Pin {
 public:
  explicit Pin(std::shared_ptr<const void> thing);
  ~Pin();
  Pin(const Pin&) = delete;
  Pin& operator=(const Pin&) = delete;

 private:
  FiberState* const fiber_;
  PinnedThing pinned_;
};

// Whether the code that asks runs on a fiber, so that its calls have an end.
bool OnFiber();
// How long a call may take here; infinite outside of fibers.
absl::Duration CallTimeout();

namespace call_internal {

// Returns when it has been made, or could not be.
void MakeOnCarrier(CallTarget& target, PendingCall& call);

template <typename F, typename R>
class CallOf final : public PendingCall {
 public:
  explicit CallOf(F&& f) : f_(std::move(f)) {}
  void Run(Carrier& carrier) override {
    R result = Make(std::move(f_), carrier);
    if (carrier.EndCall()) result_.emplace(std::move(result));
  }
  std::optional<R>& result() { return result_; }

 private:
  // What f refers to may be closed when it goes, which is a part of the call.
  static R Make(F&& asked, Carrier& carrier) {
    F f(std::move(asked));
    carrier.BeginCall();
    return f();
  }

  F f_;
  std::optional<R> result_;
};

template <typename R>
R TimedOut() {
  if constexpr (std::is_constructible_v<R, absl::Status>) {
    return R(absl::DeadlineExceededError("it does not answer"));
  } else {
    return R(Errno(ETIMEDOUT));
  }
}

}  // namespace call_internal

// f(), as a call that may hang on `target`; it answers an Errno, an ErrnoOr, an
// absl::Status or an absl::StatusOr. ETIMEDOUT, or DeadlineExceeded, when that
// takes too long, and at once when the target hangs already. Outside of fibers
// f is simply called.
template <typename F>
std::invoke_result_t<F&> MakeCall(CallTarget& target, F f) {
  using R = std::invoke_result_t<F&>;
  if (!OnFiber()) return f();
  call_internal::CallOf<F, R> call(std::move(f));
  call_internal::MakeOnCarrier(target, call);
  if (call.result()) return *std::move(call.result());
  return call_internal::TimedOut<R>();
}

// Closes a descriptor, which may hang, too.
void CloseOn(CallTarget& target, UniqueFd fd);

}  // namespace mirrorfs
