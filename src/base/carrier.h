// SPDX-License-Identifier: GPL-2.0-or-later
//
// What fibers, their carriers and the watchdog share. Not for others: see
// fiber.h.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/call_target.h"
#include "base/coroutine.h"
#include "base/patience.h"

namespace mirrorfs {

class Watchdog;
class Carrier;
struct FiberState;

// A call that a fiber asks its carrier to make.
class PendingCall {
 public:
  // On the carrier's stack. Once it has begun, this object may be gone.
  virtual void Run(Carrier& carrier) = 0;

 protected:
  ~PendingCall() = default;
};

// An element of the list of what a fiber has pinned.
struct PinnedThing {
  std::shared_ptr<const void> thing;
  PinnedThing* below = nullptr;
};

// A thread of the system while it carries a fiber.
class Carrier {
 public:
  explicit Carrier(std::shared_ptr<FiberState> fiber);
  ~Carrier();
  Carrier(const Carrier&) = delete;
  Carrier& operator=(const Carrier&) = delete;

  // Until the fiber has ended, or has been taken away.
  void Carry();

  // From here on the fiber may be taken away.
  void BeginCall() { state_.store(++calls_, std::memory_order_release); }
  // False when it was.
  bool EndCall() {
    uint64_t mine = calls_++;
    return state_.compare_exchange_strong(mine, calls_,
                                          std::memory_order_acq_rel) ||
           EndSeizedCall();
  }

 private:
  friend class Watchdog;

  // The watchdog is looking at it.
  static constexpr uint64_t kSeized = UINT64_MAX;

  // What a call needs that has been left behind.
  struct LeftCall {
    std::shared_ptr<CallTarget> target;
    std::vector<std::shared_ptr<const void>> pinned;
  };
  // What the watchdog noted when it first saw the call that is out.
  struct Sighting {
    Sighting(uint64_t seen, std::shared_ptr<CallTarget> target)
        : call(seen), patience(std::move(target)) {}
    const uint64_t call;
    Patience patience;
  };

  bool EndSeizedCall();

  const std::shared_ptr<Watchdog> watchdog_;
  const pid_t tid_;
  std::shared_ptr<FiberState> fiber_;
  uint64_t calls_ = 0;                // begun and ended; odd while one is out
  std::atomic<uint64_t> state_{0};    // calls_, or kSeized
  std::unique_ptr<LeftCall> left_;    // under the watchdog's mutex
  std::optional<Sighting> sighting_;  // the watchdog's
};

struct FiberState {
  FiberState(std::shared_ptr<Watchdog> dog, std::string called,
             std::function<void()> body)
      : watchdog(std::move(dog)),
        name(std::move(called)),
        coroutine(std::move(body)) {}

  const std::shared_ptr<Watchdog> watchdog;
  const std::string name;
  Coroutine coroutine;

  // While it waits for a call; its carrier's and, once that is seized, the
  // watchdog's.
  PendingCall* call = nullptr;
  CallTarget* target = nullptr;
  PinnedThing* pinned = nullptr;

  std::mutex mutex;
  std::condition_variable changed;
  bool ended = false;
};

// Starts a thread that carries the fiber. std::system_error when there is none
// to be had.
void StartCarrier(std::shared_ptr<FiberState> fiber);

}  // namespace mirrorfs
