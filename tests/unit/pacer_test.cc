// SPDX-License-Identifier: GPL-2.0-or-later
#include "recovery/pacer.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace mirrorfs {
namespace {

constexpr uint64_t kMib = uint64_t{1} << 20;

class PacerTest : public ::testing::Test {
 protected:
  // Copies regions for that long, each of which takes `copy`, and says how
  // many bytes a second it came to. Applications make `requests_per_second`.
  double RateOver(absl::Duration time, absl::Duration copy,
                  double requests_per_second) {
    const absl::Time begin = now_;
    uint64_t bytes = 0;
    const auto pass = [&](absl::Duration step) {
      now_ += step;
      requests_ += requests_per_second * absl::ToDoubleSeconds(step);
    };
    while (now_ < begin + time) {
      const absl::Duration delay = pacer_.Ask(kMib);
      if (delay > absl::ZeroDuration()) {
        pass(std::min(delay, absl::Milliseconds(100)));
        continue;
      }
      pass(copy);
      bytes += kMib;
    }
    return bytes / absl::ToDoubleSeconds(now_ - begin);
  }

  absl::Time now_ = absl::FromUnixSeconds(1'900'000'000);
  double requests_ = 0;
  Pacer pacer_{[this] { return now_; },
               [this] { return static_cast<uint64_t>(requests_); }};
};

TEST_F(PacerTest, WithoutLimitsNothingWaits) {
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(pacer_.Ask(kMib), absl::ZeroDuration());
  }
}

TEST_F(PacerTest, NeverFasterThanTheMost) {
  pacer_.SetLimits({.rate_max = 10 * kMib});
  const double rate = RateOver(absl::Seconds(20), absl::Milliseconds(1), 0);
  EXPECT_LT(rate, 10.3 * kMib);
  EXPECT_GT(rate, 9.5 * kMib);
}

TEST_F(PacerTest, OfSeveralThatAskOneGoes) {
  pacer_.SetLimits({.rate_max = kMib});
  EXPECT_EQ(pacer_.Ask(kMib), absl::ZeroDuration());
  EXPECT_EQ(pacer_.Ask(kMib), absl::Seconds(1));
  EXPECT_EQ(pacer_.Ask(kMib), absl::Seconds(1)) << "who waits pays nothing";
  now_ += absl::Seconds(1);
  EXPECT_EQ(pacer_.Ask(kMib), absl::ZeroDuration());
  EXPECT_EQ(pacer_.Ask(kMib), absl::Seconds(1));
}

TEST_F(PacerTest, ASlowDiskIsNotMadeSlower) {
  pacer_.SetLimits({.rate_max = 10 * kMib});
  // 5 MiB a second by itself.
  const double rate = RateOver(absl::Seconds(20), absl::Milliseconds(200), 0);
  EXPECT_NEAR(rate, 5.0 * kMib, 0.3 * kMib);
}

TEST_F(PacerTest, GivesWayToApplicationsDownToTheFloor) {
  pacer_.SetLimits({.rate_min = 2 * kMib});
  RateOver(absl::Seconds(2), absl::Milliseconds(1), 1000);
  const double rate = RateOver(absl::Seconds(20), absl::Milliseconds(1), 1000);
  EXPECT_NEAR(rate, 2.0 * kMib, 0.2 * kMib);
}

TEST_F(PacerTest, AloneItDoesNotGiveWay) {
  pacer_.SetLimits({.rate_min = 2 * kMib});
  const double rate = RateOver(absl::Seconds(5), absl::Milliseconds(1), 0);
  EXPECT_GT(rate, 900.0 * kMib);
}

TEST_F(PacerTest, AFewRequestsAreNoUse) {
  pacer_.SetLimits({.rate_min = 2 * kMib});
  const double rate = RateOver(absl::Seconds(5), absl::Milliseconds(1), 5);
  EXPECT_GT(rate, 900.0 * kMib);
}

TEST_F(PacerTest, GoesOnWhenApplicationsPause) {
  pacer_.SetLimits({.rate_min = 1});
  RateOver(absl::Seconds(2), absl::Milliseconds(1), 1000);
  EXPECT_GT(pacer_.Ask(kMib), absl::Hours(1)) << "a floor of a byte a second";
  now_ += Pacer::kActiveFor + absl::Milliseconds(1);
  EXPECT_EQ(pacer_.Ask(kMib), absl::ZeroDuration());
}

TEST_F(PacerTest, TheMostHoldsForTheFloorToo) {
  pacer_.SetLimits({.rate_max = 3 * kMib, .rate_min = 50 * kMib});
  RateOver(absl::Seconds(2), absl::Milliseconds(1), 1000);
  const double rate = RateOver(absl::Seconds(20), absl::Milliseconds(1), 1000);
  EXPECT_NEAR(rate, 3.0 * kMib, 0.3 * kMib);
}

TEST_F(PacerTest, ALongPauseBuysNoLongBurst) {
  pacer_.SetLimits({.rate_max = 10 * kMib});
  pacer_.Ask(0);
  now_ += absl::Hours(1);
  const double rate = RateOver(absl::Seconds(1), absl::Milliseconds(1), 0);
  EXPECT_LT(rate, 13.0 * kMib);
}

TEST_F(PacerTest, NewLimitsCountAtOnce) {
  pacer_.SetLimits({.rate_max = 1});
  pacer_.Ask(kMib);
  EXPECT_GT(pacer_.Ask(kMib), absl::Hours(1));
  pacer_.SetLimits({.rate_max = 10 * kMib});
  EXPECT_LT(pacer_.Ask(kMib), absl::Seconds(1));
  pacer_.SetLimits({});
  EXPECT_EQ(pacer_.Ask(kMib), absl::ZeroDuration());
}

TEST_F(PacerTest, AClockSetBackHarmsNothing) {
  pacer_.SetLimits({.rate_max = 10 * kMib, .rate_min = kMib});
  pacer_.Ask(kMib);
  now_ -= absl::Hours(24);
  EXPECT_LE(pacer_.Ask(kMib), absl::Milliseconds(100));
}

}  // namespace
}  // namespace mirrorfs
