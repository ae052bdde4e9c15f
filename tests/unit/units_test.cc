// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/units.h"

#include <gtest/gtest.h>

namespace mirrorfs {
namespace {

TEST(ParseSize, TakesPowersOf1024InEitherCase) {
  EXPECT_EQ(ParseSize("0").value(), 0u);
  EXPECT_EQ(ParseSize("4096").value(), 4096u);
  EXPECT_EQ(ParseSize("64K").value(), 64u << 10);
  EXPECT_EQ(ParseSize("64k").value(), 64u << 10);
  EXPECT_EQ(ParseSize("1M").value(), 1u << 20);
  EXPECT_EQ(ParseSize("2G").value(), uint64_t{2} << 30);
  EXPECT_EQ(ParseSize("1T").value(), uint64_t{1} << 40);
}

TEST(ParseSize, RefusesWhatIsNoSize) {
  for (const char* text : {"", "K", "-1", "+1", "1KB", "1.5M", "1P", "x", " 1",
                           "0x10", "18446744073709551616"}) {
    EXPECT_EQ(ParseSize(text).status().code(),
              absl::StatusCode::kInvalidArgument)
        << text;
  }
}

TEST(ParseSize, RefusesOverflow) {
  EXPECT_EQ(ParseSize("16777215T").value(), uint64_t{16777215} << 40);
  EXPECT_FALSE(ParseSize("16777216T").ok());
}

TEST(ParseDuration, TakesUnitsAndBareSeconds) {
  EXPECT_EQ(ParseDuration("500ms").value(), absl::Milliseconds(500));
  EXPECT_EQ(ParseDuration("15s").value(), absl::Seconds(15));
  EXPECT_EQ(ParseDuration("5m").value(), absl::Minutes(5));
  EXPECT_EQ(ParseDuration("1h").value(), absl::Hours(1));
  EXPECT_EQ(ParseDuration("7").value(), absl::Seconds(7));
  EXPECT_EQ(ParseDuration("0").value(), absl::ZeroDuration());
}

TEST(ParseDuration, RefusesWhatIsNoDuration) {
  for (const char* text : {"", "s", "-1", "-1s", "5x", "five"}) {
    EXPECT_EQ(ParseDuration(text).status().code(),
              absl::StatusCode::kInvalidArgument)
        << text;
  }
}

TEST(FormatSize, ShowsAtMostThreeDigitsAndAUnit) {
  EXPECT_EQ(FormatSize(0), "0");
  EXPECT_EQ(FormatSize(999), "999");
  EXPECT_EQ(FormatSize(1024), "1.0K");
  EXPECT_EQ(FormatSize(uint64_t{812} << 30), "812G");
  EXPECT_EQ(FormatSize(uint64_t{19} << 40), "19T");
  EXPECT_EQ(FormatSize((uint64_t{19} << 40) / 10), "1.9T");
  // Never "1000K".
  EXPECT_EQ(FormatSize(uint64_t{1000} << 10), "1.0M");
}

}  // namespace
}  // namespace mirrorfs
