// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/away_times.h"

#include <algorithm>

namespace mirrorfs {

bool IsIn(const AwayTimes& times, int64_t at_ns) {
  return std::any_of(times.begin(), times.end(), [at_ns](const AwayTime& time) {
    return time.from_ns <= at_ns && at_ns < time.to_ns;
  });
}

AwayTimes EndAway(AwayTimes times, int64_t since_ns, int64_t now_ns,
                  int64_t leg_now_ns) {
  if (since_ns != 0) {
    const int64_t from = since_ns + kAwayGraceNs + (leg_now_ns - now_ns);
    times.push_back({from, leg_now_ns});
  }
  for (AwayTime& time : times) time.to_ns = std::min(time.to_ns, leg_now_ns);
  std::erase_if(
      times, [](const AwayTime& time) { return time.from_ns >= time.to_ns; });
  if (times.size() > kAwayTimesMax) {
    times.erase(times.begin(), times.end() - kAwayTimesMax);
  }
  return times;
}

}  // namespace mirrorfs
