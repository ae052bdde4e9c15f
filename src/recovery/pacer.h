// SPDX-License-Identifier: GPL-2.0-or-later
//
// How fast recovery may go. It never exceeds rate_max. While applications use
// the mount it gives way to them, down to rate_min and no further; alone it
// goes as fast as it can.
//
// Threads: all calls from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>

#include "absl/time/time.h"

namespace mirrorfs {

struct PaceLimits {
  uint64_t rate_max = 0;  // bytes a second; 0: none
  uint64_t rate_min = 0;  // bytes a second; 0: it does not give way
};

class Pacer {
 public:
  // Applications count as active for that long after they were.
  static constexpr absl::Duration kActiveFor = absl::Seconds(1);
  // Fewer requests a second than that are no use of the mount.
  static constexpr double kActiveRequestsPerSecond = 20;
  // What may be copied at once after a pause.
  static constexpr absl::Duration kBurst = absl::Milliseconds(100);
  // What an object costs beside its content: making and comparing it.
  static constexpr uint64_t kObjectBytes = 4096;

  // `requests`: how many requests applications have made so far.
  Pacer(std::function<absl::Time()> now, std::function<uint64_t()> requests);

  void SetLimits(PaceLimits limits);

  // Asks to work through so many bytes. Zero: go on, they are counted from now,
  // so that of several who ask one after the other goes. Else how long to wait
  // before asking again, as things stand.
  absl::Duration Ask(uint64_t bytes);
  // The same, and waits as long as it takes, or until `stopping`: false. To be
  // called with no region held.
  bool WaitForTurn(uint64_t bytes, const std::atomic<bool>& stopping);

 private:
  // 0: no limit.
  uint64_t RateNow(absl::Time now) const;
  void LookAtApplications(absl::Time now);

  const std::function<absl::Time()> now_;
  const std::function<uint64_t()> requests_;

  std::mutex mutex_;
  PaceLimits limits_;
  double debt_bytes_ = 0;  // below 0: what may be copied at once
  absl::Time paid_at_;     // up to when debt_bytes_ is paid off
  absl::Time looked_at_ = absl::InfinitePast();
  uint64_t requests_seen_ = 0;
  absl::Time active_until_ = absl::InfinitePast();
};

}  // namespace mirrorfs
