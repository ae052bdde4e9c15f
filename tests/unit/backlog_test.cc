// SPDX-License-Identifier: GPL-2.0-or-later
#include "mirror/backlog.h"

#include <gtest/gtest.h>

namespace mirrorfs {
namespace {

class BacklogTest : public testing::Test {
 protected:
  void Add(int count) {
    for (int n = 0; n < count; ++n) backlog_.Added();
  }
  void Heal(int count) {
    for (int n = 0; n < count; ++n) backlog_.Healed();
  }

  absl::Time now_ = absl::UnixEpoch();
  Backlog backlog_{[this] { return now_; }};
};

TEST_F(BacklogTest, NobodyWaitsWhereRecoveryIsFaster) {
  for (int second = 0; second < 10; ++second) {
    Add(50);
    Heal(60);
    now_ += absl::Seconds(1);
    EXPECT_EQ(backlog_.Delay(), absl::ZeroDuration());
  }
}

TEST_F(BacklogTest, NobodyWaitsAtOnce) {
  Add(1000);
  now_ += Backlog::kPatience - absl::Milliseconds(1);
  Add(1000);
  EXPECT_EQ(backlog_.Delay(), absl::ZeroDuration());
}

TEST_F(BacklogTest, WhoIsFasterThanRecoveryWaitsEverLonger) {
  Add(10);
  now_ += absl::Seconds(2);
  Add(1);
  EXPECT_EQ(backlog_.Delay(), 2 * Backlog::kStep);
  now_ += absl::Seconds(3);
  EXPECT_EQ(backlog_.Delay(), 5 * Backlog::kStep);
  now_ += absl::Hours(1);
  EXPECT_EQ(backlog_.Delay(), Backlog::kStepsMax);
}

TEST_F(BacklogTest, UntilRecoveryHasGained) {
  Add(10);
  now_ += absl::Seconds(2);
  Add(1);
  Heal(11);
  EXPECT_GT(backlog_.Delay(), absl::ZeroDuration());
  Add(5);
  Heal(Backlog::kGain + 4);
  EXPECT_GT(backlog_.Delay(), absl::ZeroDuration());
  Heal(1);
  EXPECT_EQ(backlog_.Delay(), absl::ZeroDuration());
  now_ += absl::Seconds(2);
  Add(1);
  EXPECT_EQ(backlog_.Delay(), absl::ZeroDuration()) << "it begins anew";
}

TEST_F(BacklogTest, OrHasNoMoreToDo) {
  Add(10);
  now_ += absl::Seconds(2);
  Add(1);
  backlog_.Done();
  EXPECT_EQ(backlog_.Delay(), absl::ZeroDuration());
}

}  // namespace
}  // namespace mirrorfs
