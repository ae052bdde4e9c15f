// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "base/watchdog.h"
#include "leg/leg.h"

namespace mirrorfs {

// Asks legs whether they answer at all. A request goes to one leg after the
// other, so that several which hang would each cost it the time-out; but who is
// asked here meanwhile is known to hang when its turn comes.
//
// Threads: all calls from any thread. What has been asked may end later than
// this.
class LegAsker {
 public:
  explicit LegAsker(Watchdog* watchdog) : watchdog_(watchdog) {}

  // Does not wait for the answer. Who has not answered yet is not asked again.
  void Ask(const Leg& leg);

 private:
  Watchdog* const watchdog_;
  // Bits of slots.
  const std::shared_ptr<std::atomic<uint64_t>> asked_ =
      std::make_shared<std::atomic<uint64_t>>(0);
};

}  // namespace mirrorfs
