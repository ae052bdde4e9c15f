// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/time/time.h"
#include "base/call_target.h"

namespace mirrorfs {

// How long one call to a target is waited for: for the time-out, and again as
// often as the target is seen to have got something done meanwhile; but not for
// ever. A target that hangs for another call is not waited for.
class Patience {
 public:
  explicit Patience(std::shared_ptr<CallTarget> target)
      : target_(std::move(target)),
        first_(Clock::now()),
        since_(first_),
        progress_(target_->Progress()) {
    target_->BeginWait(first_);
  }
  ~Patience() { target_->EndWait(first_); }
  Patience(const Patience&) = delete;
  Patience& operator=(const Patience&) = delete;

  // Once, when a good part of the time-out has passed.
  bool BecomesSlow(absl::Duration timeout) {
    if (is_slow_) return false;
    is_slow_ = absl::FromChrono(Clock::now() - first_) >= timeout / kSlowPart;
    return is_slow_;
  }

  bool IsOver(absl::Duration timeout) {
    if (target_->hung()) return true;
    const Clock::time_point now = Clock::now();
    if (absl::FromChrono(now - since_) < timeout) return false;
    const uint64_t progress = target_->Progress();
    if (progress == progress_ ||
        absl::FromChrono(now - first_) >= timeout * kTimeoutsMax) {
      return true;
    }
    progress_ = progress;
    since_ = now;
    return false;
  }

 private:
  using Clock = CallTarget::Clock;
  static constexpr int kTimeoutsMax = 10;
  static constexpr int kSlowPart = 10;

  const std::shared_ptr<CallTarget> target_;
  const Clock::time_point first_;
  Clock::time_point since_;  // it got something done
  uint64_t progress_;
  bool is_slow_ = false;
};

}  // namespace mirrorfs
