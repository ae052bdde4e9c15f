// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>

#include "absl/time/time.h"
#include "base/fiber.h"

namespace mirrorfs {

// Calls `tick` every so often from a fiber of its own, until stopped.
class Upkeep {
 public:
  Upkeep(Watchdog* watchdog, absl::Duration period, std::function<void()> tick);
  ~Upkeep();
  void Stop();

 private:
  void Run();

  const absl::Duration period_;
  const std::function<void()> tick_;
  std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;
  Fiber fiber_;
};

}  // namespace mirrorfs
