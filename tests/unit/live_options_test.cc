// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/live_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace mirrorfs {
namespace {

using ::testing::HasSubstr;

class LiveOptionsTest : public ::testing::Test {
 protected:
  std::string Value(const std::string& name) const {
    for (const LiveOptions::Shown& shown : options_.Show()) {
      if (shown.name == name) return shown.value;
    }
    return "(none)";
  }

  std::string Refusal(const std::vector<GivenOption>& changes) {
    const absl::Status status = options_.Set(changes, false);
    return std::string(status.message());
  }

  absl::Status fits_;
  std::vector<std::string> applied_;
  LiveOptions options_{
      *ParseMountOptions({"log=core,wait-legs=15s,read-policy=prefer=a"},
                         false),
      [this](const MountOptions&) { return fits_; },
      [this](const MountOptions& now) {
        applied_.push_back(now.read_policy.leg);
      }};
};

TEST_F(LiveOptionsTest, ValuesAreShownAsTheyWouldBeWritten) {
  EXPECT_EQ(Value("log"), "core");
  EXPECT_EQ(Value("wait-legs"), "15s");
  EXPECT_EQ(Value("read-policy"), "prefer=a");
  EXPECT_EQ(Value("threads"), "auto");
  EXPECT_EQ(Value("cache"), "writethrough");
  EXPECT_EQ(Value("ro"), "(none)");
}

// Whatever is shown can be given back, and means the same.
TEST_F(LiveOptionsTest, AllThatIsShownCanBeGiven) {
  std::vector<GivenOption> all;
  for (const LiveOptions::Shown& shown : options_.Show()) {
    if (shown.value.empty() || shown.value == "auto") continue;
    if (shown.name == "region-size" && shown.value == "0") continue;
    all.push_back({shown.name, shown.value});
  }
  EXPECT_EQ(Refusal(all), "");
}

TEST_F(LiveOptionsTest, Sets) {
  EXPECT_EQ(Refusal({{"read_policy", "prefer=b"}}), "");
  EXPECT_EQ(Value("read-policy"), "prefer=b");
  EXPECT_EQ(applied_, std::vector<std::string>{"b"});
}

TEST_F(LiveOptionsTest, ADryRunChangesNothing) {
  EXPECT_TRUE(options_.Set({{"read-policy", "primary"}}, true).ok());
  EXPECT_EQ(Value("read-policy"), "prefer=a");
  EXPECT_TRUE(applied_.empty());
}

TEST_F(LiveOptionsTest, AllOrNone) {
  EXPECT_THAT(Refusal({{"read-policy", "primary"}, {"frob", "1"}}),
              HasSubstr("\"frob\": unknown"));
  EXPECT_THAT(Refusal({{"read-policy", "primary"}, {"log", "disk"}}),
              HasSubstr("\"log\": cannot change while mounted (it is core)"));
  EXPECT_THAT(Refusal({{"read-policy", "wrong"}}),
              HasSubstr("\"read-policy\": must be"));
  EXPECT_THAT(Refusal({{"ro", ""}}), HasSubstr("\"ro\": cannot change"));
  EXPECT_THAT(Refusal({{"nonempty", ""}}), HasSubstr("\"nonempty\""));
  EXPECT_EQ(Value("read-policy"), "prefer=a");
  EXPECT_TRUE(applied_.empty());
}

TEST_F(LiveOptionsTest, WhatIsSoAlreadyMayBeSaid) {
  EXPECT_EQ(Refusal({{"log", "core"}, {"wait-legs", "15000ms"}}), "");
}

TEST_F(LiveOptionsTest, WhatDoesNotFitTheMirrorIsNotApplied) {
  fits_ = absl::InvalidArgumentError("no such leg");
  EXPECT_EQ(Refusal({{"read-policy", "prefer=z"}}), "no such leg");
  EXPECT_TRUE(applied_.empty());
}

TEST(MountOptionTable, EveryValueCanBeShown) {
  const absl::StatusOr<MountOptions> options = ParseMountOptions({}, false);
  for (const MountOptionInfo& info : MountOptionTable()) {
    const bool value = info.kind == MountOptionInfo::Kind::kValue;
    EXPECT_EQ(info.show != nullptr, value) << info.name;
    EXPECT_TRUE(value || !info.live) << info.name;
  }
}

}  // namespace
}  // namespace mirrorfs
