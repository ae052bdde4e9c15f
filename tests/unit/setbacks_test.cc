// SPDX-License-Identifier: GPL-2.0-or-later
#include "recovery/setbacks.h"

#include <gtest/gtest.h>

namespace mirrorfs {
namespace {

class TestClock final : public Clock {
 public:
  int64_t RealtimeNs() const override { return absl::ToUnixNanos(now); }
  absl::Time now = absl::FromUnixSeconds(1'900'000'000);
};

class SetbacksTest : public ::testing::Test {
 protected:
  LegSet EndPass(const std::vector<Setbacks::Failed>& failed) {
    clock_.now += absl::Seconds(1);
    return setbacks_.EndPass(failed);
  }

  const LegSet b_ = LegSet::Of(1);
  const Setbacks::Failed f_ = {RegionKey::Data("f", 3), b_};
  TestClock clock_;
  Setbacks setbacks_{&clock_};
};

TEST_F(SetbacksTest, AreSaidOnceWhenTheyLast) {
  setbacks_.NoteError(1, Errno(EPERM));
  int said = 0;
  for (int pass = 0; pass < 20; ++pass) {
    said += !EndPass({f_}).empty();
    EXPECT_EQ(setbacks_.Of(1).has_value(), pass >= 5) << pass;
  }
  EXPECT_EQ(said, 1);
  ASSERT_TRUE(setbacks_.Of(1));
  EXPECT_EQ(setbacks_.Of(1)->path, "f");
  EXPECT_EQ(setbacks_.Of(1)->error, Errno(EPERM));
  EXPECT_FALSE(setbacks_.Of(2));
}

TEST_F(SetbacksTest, AnotherRegionEachTimeIsNone) {
  for (uint64_t pass = 0; pass < 20; ++pass) {
    EXPECT_TRUE(EndPass({{RegionKey::Data("f", pass), b_}}).empty());
    EXPECT_FALSE(setbacks_.Of(1));
  }
}

TEST_F(SetbacksTest, EndWhenItIsHealed) {
  for (int pass = 0; pass < 10; ++pass) EndPass({f_});
  EXPECT_TRUE(setbacks_.Of(1));
  EXPECT_TRUE(EndPass({}).empty());
  EXPECT_FALSE(setbacks_.Of(1));
  EXPECT_TRUE(EndPass({f_}).empty()) << "it begins anew";
}

TEST_F(SetbacksTest, ALegThatIsAwayHasNone) {
  for (int pass = 0; pass < 10; ++pass) EndPass({f_});
  EXPECT_TRUE(EndPass({{f_.key, LegSet()}}).empty());
  EXPECT_FALSE(setbacks_.Of(1));
}

}  // namespace
}  // namespace mirrorfs
