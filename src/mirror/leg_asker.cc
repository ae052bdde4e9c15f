// SPDX-License-Identifier: GPL-2.0-or-later
#include "mirror/leg_asker.h"

#include <functional>
#include <system_error>
#include <utility>

#include "base/fiber.h"
#include "region/leg_set.h"

namespace mirrorfs {

void LegAsker::Ask(const Leg& leg) {
  const uint64_t bit = LegSet::Of(leg.slot()).bits();
  if (asked_->fetch_or(bit) & bit) return;
  try {
    Fiber(watchdog_, "ask",
          [question = leg.Question(), asked = asked_, bit]() mutable {
            std::exchange(question, nullptr)();
            asked->fetch_and(~bit);
          })
        .Detach();
  } catch (const std::system_error&) {
    asked_->fetch_and(~bit);
  }
}

}  // namespace mirrorfs
