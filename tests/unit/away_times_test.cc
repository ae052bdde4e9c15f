// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/away_times.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "leg/conflicts.h"
#include "leg/label.h"
#include "leg/leg.h"
#include "mirror/membership.h"
#include "temp_dir.h"

namespace mirrorfs {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kNoon = 1'900'000'000 * kSecond;

TEST(AwayTimes, AreThoseInWhichNothingOfOursWasWritten) {
  const AwayTimes times =
      EndAway({}, kNoon, kNoon + 60 * kSecond, kNoon + 60 * kSecond);
  EXPECT_FALSE(IsIn(times, kNoon - kSecond));
  EXPECT_FALSE(IsIn(times, kNoon)) << "what was under way came a little later";
  EXPECT_TRUE(IsIn(times, kNoon + 30 * kSecond));
  EXPECT_FALSE(IsIn(times, kNoon + 60 * kSecond)) << "recovery's own writes";
}

TEST(AwayTimes, ALegThatWasNotAwayHasNone) {
  EXPECT_TRUE(EndAway({}, 0, kNoon, kNoon).empty());
  EXPECT_TRUE(EndAway({}, kNoon, kNoon + kSecond, kNoon + kSecond).empty())
      << "for less than what was under way may take";
}

TEST(AwayTimes, AreByTheClockOfTheLeg) {
  const int64_t hour = 3600 * kSecond;
  const AwayTimes times =
      EndAway({}, kNoon, kNoon + 60 * kSecond, kNoon + 60 * kSecond + hour);
  EXPECT_FALSE(IsIn(times, kNoon + 30 * kSecond));
  EXPECT_TRUE(IsIn(times, kNoon + 30 * kSecond + hour));
}

TEST(AwayTimes, AClockThatWasSetBackEndsThem) {
  const AwayTimes before = {{kNoon, kNoon + 60 * kSecond}};
  const AwayTimes after =
      EndAway(before, 0, kNoon + 10 * kSecond, kNoon + 10 * kSecond);
  EXPECT_EQ(after, (AwayTimes{{kNoon, kNoon + 10 * kSecond}}));
  EXPECT_TRUE(EndAway(before, kNoon, kNoon - kSecond, kNoon - kSecond).empty());
}

TEST(AwayTimes, OldOnesAreForgotten) {
  AwayTimes times;
  for (int64_t day = 0; day < 100; ++day) {
    const int64_t now = kNoon + day * 86400 * kSecond;
    times = EndAway(times, now, now + 60 * kSecond, now + 60 * kSecond);
  }
  EXPECT_EQ(times.size(), kAwayTimesMax);
  EXPECT_TRUE(IsIn(times, kNoon + 99 * 86400 * kSecond + 30 * kSecond));
}

class TestClock final : public Clock {
 public:
  int64_t RealtimeNs() const override { return now; }
  int64_t now = SystemClock().RealtimeNs();
};

// Two legs that are in use, and what their labels say.
class MembershipTest : public ::testing::Test {
 protected:
  MembershipTest() {
    label_.mirror_uuid = "m";
    label_.mirror_name = "keep";
    label_.leg_uuid = "a";
    label_.region_bytes = 1 << 20;
    label_.generation = {1, "g1"};
    label_.members = {{"a", "a", 0, true, ""}, {"b", "b", 1, true, ""}};
    std::vector<std::unique_ptr<Leg>> legs;
    for (const std::string name : {"a", "b"}) {
      mkdir((dir_ / name).c_str(), 0700);
      legs.push_back(NewLeg(name));
      label_.leg_uuid = name;
      EXPECT_TRUE(WriteLabelDurable(*legs.back(), label_).ok());
    }
    table_ = std::make_unique<LegTable>(std::move(legs), kBoth, 0);
  }

  std::unique_ptr<Leg> NewLeg(const std::string& name) {
    std::unique_ptr<Leg> leg = *Leg::Open(dir_ / name);
    leg->Identify(name == "a" ? 0 : 1, name, name);
    return leg;
  }

  LabelMember BOnRecord() { return *ReadLabel(table_->at(0))->FindMember("b"); }

  static constexpr LegSet kBoth = LegSet(3);
  TempDir dir_;
  TestClock clock_;
  Label label_;
  std::unique_ptr<LegTable> table_;
};

TEST_F(MembershipTest, RecordsSinceWhenALegIsAway) {
  Membership membership(label_, table_.get(), kBoth, &clock_);
  membership.BeginUse();
  ASSERT_TRUE(membership.BeforeFirstChange().empty());
  EXPECT_EQ(BOnRecord().away_since_ns, 0);
  table_->SetDown(1, LegState::kFailed);
  const int64_t left = clock_.now += 5 * kSecond;
  ASSERT_TRUE(membership.LegsLeft(LegSet::Of(1), LabelLog()).empty());
  EXPECT_EQ(BOnRecord().away_since_ns, left);
  clock_.now += 60 * kSecond;
  ASSERT_TRUE(membership.Edit([](Label&) {}).ok());
  EXPECT_EQ(BOnRecord().away_since_ns, left);

  // Its files are stamped by the real clock, which is a minute behind.
  std::unique_ptr<Leg> back = NewLeg("b");
  back->SetAway(membership.AwayUntilNow(*back));
  ASSERT_EQ(back->away().size(), 1u);
  EXPECT_NEAR(back->away()[0].to_ns - back->away()[0].from_ns,
              60 * kSecond - kAwayGraceNs, kSecond);
  table_->Put(std::move(back));
  ASSERT_TRUE(membership.LegReturned(LegSet::Of(1)).ok());
  EXPECT_EQ(BOnRecord().away_since_ns, 0) << "before it is written to";
  EXPECT_EQ(BOnRecord().away, table_->at(1).away());
}

TEST_F(MembershipTest, AClockThatIsSetBackDoesNotMakeItLeaveEarlier) {
  Membership membership(label_, table_.get(), kBoth, &clock_);
  membership.BeginUse();
  ASSERT_TRUE(membership.BeforeFirstChange().empty());
  const int64_t latest = clock_.now += 3600 * kSecond;
  membership.NoteTime();
  clock_.now -= 3600 * kSecond;
  table_->SetDown(1, LegState::kFailed);
  ASSERT_TRUE(membership.LegsLeft(LegSet::Of(1), LabelLog()).empty());
  EXPECT_EQ(BOnRecord().away_since_ns, latest);
}

TEST_F(MembershipTest, AfterACrashNobodyWasAway) {
  {
    Membership membership(label_, table_.get(), kBoth, &clock_);
    membership.BeginUse();
    ASSERT_TRUE(membership.BeforeFirstChange().empty());
  }
  clock_.now += 60 * kSecond;
  Membership membership(*ReadLabel(table_->at(0)), table_.get(), kBoth,
                        &clock_);
  membership.BeginUse();
  EXPECT_TRUE(table_->at(1).away().empty());
}

TEST_F(MembershipTest, AfterAnOrderlyEndAllWere) {
  {
    Membership membership(label_, table_.get(), kBoth, &clock_);
    membership.BeginUse();
    ASSERT_TRUE(membership.BeforeFirstChange().empty());
    ASSERT_TRUE(membership.Stop(true).ok());
    EXPECT_EQ(BOnRecord().away_since_ns, clock_.now);
  }
  clock_.now += 60 * kSecond;
  Membership membership(*ReadLabel(table_->at(0)), table_.get(), kBoth,
                        &clock_);
  membership.BeginUse();
  EXPECT_EQ(table_->at(1).away().size(), 1u);
  ASSERT_TRUE(membership.Stop(true).ok());
  EXPECT_NE(BOnRecord().away_since_ns, clock_.now)
      << "a mount that changes nothing writes nothing";
}

TEST(Conflicts, NothingThatIsThereIsReplaced) {
  TempDir dir;
  std::unique_ptr<Leg> leg = *Leg::Open(dir.path());
  mkdir((dir / ".mirrorfs").c_str(), 0700);
  EXPECT_EQ(*CountConflicts(*leg), 0u);
  std::vector<std::string> kept;
  for (const std::string path : {"x", "x", "x/y", "d/x", "d"}) {
    std::ofstream(dir / "from") << path;
    const ErrnoOr<std::string> to = MoveToConflicts(*leg, "from", path, "now");
    ASSERT_TRUE(to.ok()) << ErrnoText(to.error());
    kept.push_back(*to);
  }
  EXPECT_EQ(kept, (std::vector<std::string>{
                      ".mirrorfs/conflicts/now/x",
                      ".mirrorfs/conflicts/now.1/x",
                      ".mirrorfs/conflicts/now.2/x/y",
                      ".mirrorfs/conflicts/now/d/x",
                      ".mirrorfs/conflicts/now.1/d",
                  }));
  EXPECT_EQ(*CountConflicts(*leg), 5u);
}

}  // namespace
}  // namespace mirrorfs
