// SPDX-License-Identifier: GPL-2.0-or-later
//
// What calls may hang on: there is one for each leg, and it outlives the leg
// while a call is still out.
//
// It hangs from the moment that a call has been left behind until all that
// were have returned. Meanwhile further calls fail at once. What a late call
// did in the end has happened, although its answer is not known to anybody:
// so nothing may be taken as settled on a leg that has late calls.
//
// Threads: all calls from any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/fd.h"
#include "base/handover_lock.h"

namespace mirrorfs {

class CallTarget : public std::enable_shared_from_this<CallTarget> {
 public:
  // `name` is for diagnostics.
  explicit CallTarget(std::string name) : name_(std::move(name)) {}

  const std::string& name() const { return name_; }
  // `progress` counts what the target is seen to get done: a call is not given
  // up while that goes up. It must not hang itself. Null: not known.
  void SetProgress(std::function<uint64_t()> progress);
  uint64_t Progress();

  // Calls that were left behind and have not returned.
  int late_calls() const { return late_calls_.load(); }
  bool hung() const { return late_calls() > 0; }
  // When the last of them returned, ns since 1970; 0: there was none.
  int64_t last_late_end_ns() const { return last_late_end_ns_.load(); }

  // Somebody has been waiting for an answer since then, until taken back.
  using Clock = std::chrono::steady_clock;
  void BeginWait(Clock::time_point since);
  void EndWait(Clock::time_point since);
  // How long the one who has waited longest has waited; zero: nobody does.
  absl::Duration WaitedFor() const;

  // Called by a fiber that holds no lock which they want: `slow` once for each
  // call that is out for a good part of its time, and `hung` once each time
  // that the target begins to hang.
  struct Listeners {
    std::function<void()> slow;
    std::function<void()> hung;
  };
  // When this returns, those set before are not running any more; so they may
  // be taken away by who must not be called after it.
  void SetListeners(Listeners listeners);
  void TellSlow();
  void TellHung();

  // Closes it when the target does not hang any more.
  void CloseLater(UniqueFd fd);

  // One more call that somebody has left behind, and its end. The last one
  // closes what was to be closed later.
  void BeginLateCall() { late_calls_.fetch_add(1); }
  void EndLateCall();

 private:
  const std::string name_;
  std::atomic<int> late_calls_{0};
  std::atomic<int64_t> last_late_end_ns_{0};
  HandoverMutex listener_mutex_;
  Listeners listeners_;
  mutable std::mutex mutex_;
  std::multiset<Clock::time_point> waits_;
  std::function<uint64_t()> progress_;
  std::vector<UniqueFd> to_close_;
};

}  // namespace mirrorfs
