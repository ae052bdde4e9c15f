// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"
#include "base/call_target.h"
#include "base/carrier.h"

namespace mirrorfs {

// Takes fibers from carriers whose call hangs (see Patience), and tells the
// target's listener when it is the first.
//
// It is shared with the carriers that were left behind, which may outlive
// everything else.
class Watchdog : public std::enable_shared_from_this<Watchdog> {
 public:
  // Zero or infinite: no call is ever given up.
  static std::shared_ptr<Watchdog> Start(absl::Duration call_timeout);
  ~Watchdog() { Stop(); }

  // No fiber is taken away any more. To be called when all have ended.
  void Stop();

  absl::Duration call_timeout() const { return timeout_; }
  // Threads that hang in a call that nobody waits for any more.
  int left_behind() const;

 private:
  friend class Carrier;
  friend class Fiber;

  explicit Watchdog(absl::Duration call_timeout);

  void Run();
  // With mutex_. True when it took any.
  bool TakeOverdueFibers();
  bool IsOverdue(Carrier& carrier, uint64_t call);
  bool TakeFiber(Carrier& carrier);
  void TellListeners();

  // Sends kWakeSignal to its carrier, if that is not in a call.
  void Interrupt(const FiberState& fiber);

  void Add(Carrier* carrier);
  void Remove(Carrier* carrier);
  // A call that was left behind.
  void NoteReturn();

  const absl::Duration timeout_;
  mutable std::mutex mutex_;
  absl::flat_hash_set<Carrier*> carriers_;
  int left_behind_ = 0;
  // What listeners are to be told, each by a fiber of its own.
  std::vector<std::function<void()>> to_tell_;
  std::condition_variable stop_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace mirrorfs
