// SPDX-License-Identifier: GPL-2.0-or-later
#include "recovery/progress.h"

#include <gtest/gtest.h>

namespace mirrorfs {
namespace {

class TestClock final : public Clock {
 public:
  int64_t RealtimeNs() const override { return absl::ToUnixNanos(now); }
  absl::Time now = absl::FromUnixSeconds(1'900'000'000);
};

TEST(RateMeter, IsThatOfTheLastSeconds) {
  RateMeter meter;
  absl::Time now = absl::FromUnixSeconds(1'900'000'000);
  EXPECT_EQ(meter.PerSecond(now), 0u);
  for (int i = 0; i < 1000; ++i) {
    meter.Add(now, 100);
    now += absl::Milliseconds(100);
  }
  EXPECT_NEAR(meter.PerSecond(now), 1000, 50);
  for (int i = 0; i < 200; ++i) {
    meter.Add(now, 1000);
    now += absl::Milliseconds(100);
  }
  EXPECT_NEAR(meter.PerSecond(now), 10'000, 500) << "the old rate is forgotten";
  EXPECT_LT(meter.PerSecond(now + absl::Seconds(5)), 8000u);
  EXPECT_EQ(meter.PerSecond(now + absl::Seconds(30)), 0u);
}

TEST(RateMeter, AMomentDoesNotMakeItHuge) {
  RateMeter meter;
  const absl::Time now = absl::FromUnixSeconds(1'900'000'000);
  meter.Add(now, 1000);
  EXPECT_EQ(meter.PerSecond(now), 4000u);
}

TEST(HealProgress, CountsEachLegForItself) {
  TestClock clock;
  HealProgress progress(&clock);
  progress.Compared(1, 1000, 10);
  progress.Compared(2, 500, 0);
  progress.Skipped(LegSet::Of(1) | LegSet::Of(2), 1 << 20);
  progress.RegionDone(LegSet::Of(2));
  EXPECT_EQ(progress.Of(1).done_bytes, 1000u + (1 << 20));
  EXPECT_EQ(progress.Of(1).copied_bytes, 10u);
  EXPECT_EQ(progress.Of(2).done_bytes, 500u + (1 << 20));
  EXPECT_EQ(progress.Of(2).regions, 1u);
  // Holes are passed in no time, which says nothing of what is left.
  EXPECT_EQ(progress.Of(1).bytes_per_second, 4000u);
  EXPECT_EQ(progress.Of(0).done_bytes, 0u);
}

TEST(HealProgress, ANewRepairCountsAnew) {
  TestClock clock;
  HealProgress progress(&clock);
  progress.Compared(1, 1000, 10);
  progress.Compared(2, 1000, 10);
  progress.Begin(LegSet::Of(1));
  EXPECT_EQ(progress.Of(1).done_bytes, 0u);
  EXPECT_EQ(progress.Of(1).bytes_per_second, 0u);
  EXPECT_EQ(progress.Of(2).done_bytes, 1000u);
}

}  // namespace
}  // namespace mirrorfs
