// SPDX-License-Identifier: GPL-2.0-or-later
//
// Times in which the mirror wrote nothing to a leg. What the leg's file system
// says was changed in one of them was changed by somebody else. Pure.
#pragma once

#include <cstdint>
#include <ctime>
#include <vector>

namespace mirrorfs {

// [from, to), ns since 1970, by the clock that stamps the leg's files.
struct AwayTime {
  int64_t from_ns = 0;
  int64_t to_ns = 0;
  friend bool operator==(const AwayTime&, const AwayTime&) = default;
};
using AwayTimes = std::vector<AwayTime>;

// How many are remembered, the newest.
inline constexpr size_t kAwayTimesMax = 16;
// What was under way when a leg went may reach it that much later.
inline constexpr int64_t kAwayGraceNs = 2'000'000'000;

bool IsIn(const AwayTimes& times, int64_t at_ns);

// The leg is in use again, and was away since `since_ns` by our clock (0: it
// was not). At one moment our clock says `now_ns` and the leg's `leg_now_ns`.
// Answers `times` with that one. None ends in the leg's future, where our own
// changes will be: its clock may have been set back.
AwayTimes EndAway(AwayTimes times, int64_t since_ns, int64_t now_ns,
                  int64_t leg_now_ns);

}  // namespace mirrorfs
