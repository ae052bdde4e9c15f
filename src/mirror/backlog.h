// SPDX-License-Identifier: GPL-2.0-or-later
//
// Sees to it that a leg under repair catches up whatever applications do. What
// is done beneath names that it lacks it misses, too, and where directories
// move, that makes more names for it to lack. Mostly recovery is faster. Where
// it is not, every request waits a little, and ever longer, until recovery has
// gained on them.
//
// Threads: all calls from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <utility>

#include "absl/time/time.h"

namespace mirrorfs {

class Backlog {
 public:
  // So long may requests be faster than recovery before they are slowed.
  static constexpr absl::Duration kPatience = absl::Seconds(1);
  // What a request waits for each second since then, and at most.
  static constexpr absl::Duration kStep = absl::Milliseconds(10);
  static constexpr absl::Duration kStepsMax = absl::Milliseconds(100);
  // So many more directories have to be healed than were added, until requests
  // go at full speed again.
  static constexpr int64_t kGain = 256;

  explicit Backlog(std::function<absl::Time()> now) : now_(std::move(now)) {}

  // Because of a request a leg that is up lacks the names of a directory.
  void Added();
  // It has the names of one again.
  void Healed();
  // There are no more to be healed, or none that could be.
  void Done();

  // How long a request has to wait before it begins; mostly zero, and that
  // costs nothing.
  absl::Duration Delay() const;

 private:
  void ForgetLocked();

  const std::function<absl::Time()> now_;

  mutable std::mutex mutex_;
  std::atomic<bool> behind_{false};
  bool slowing_ = false;
  int64_t ahead_ = 0;  // directories added and not healed since
  absl::Time since_;   // when requests became faster than recovery
};

}  // namespace mirrorfs
