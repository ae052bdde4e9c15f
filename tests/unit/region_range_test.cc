// SPDX-License-Identifier: GPL-2.0-or-later
#include "region/region_range.h"

#include <gtest/gtest.h>

namespace mirrorfs {
namespace {

TEST(RegionSize, IsAPowerOfTwoFrom4K) {
  EXPECT_TRUE(IsValidRegionSize(kRegionBytesMin));
  EXPECT_TRUE(IsValidRegionSize(kRegionBytesDefault));
  EXPECT_TRUE(IsValidRegionSize(kRegionBytesMax));
  for (const uint64_t bytes :
       {uint64_t{0}, uint64_t{1}, uint64_t{2048}, uint64_t{4097},
        uint64_t{12288}, kRegionBytesMax * 2}) {
    EXPECT_FALSE(IsValidRegionSize(bytes)) << bytes;
  }
}

TEST(RegionsOf, NothingTouchesNothing) {
  EXPECT_EQ(RegionsOf(0, 0, 4096).size(), 0u);
  EXPECT_EQ(RegionsOf(5000, 0, 4096).size(), 0u);
  EXPECT_EQ(RegionsOf(UINT64_MAX, 0, 4096).size(), 0u);
}

TEST(RegionsOf, EdgesOfARegion) {
  EXPECT_EQ(RegionsOf(0, 1, 4096), (RegionRange{0, 1}));
  EXPECT_EQ(RegionsOf(0, 4096, 4096), (RegionRange{0, 1}));
  EXPECT_EQ(RegionsOf(0, 4097, 4096), (RegionRange{0, 2}));
  EXPECT_EQ(RegionsOf(4095, 1, 4096), (RegionRange{0, 1}));
  EXPECT_EQ(RegionsOf(4095, 2, 4096), (RegionRange{0, 2}));
  EXPECT_EQ(RegionsOf(4096, 4096, 4096), (RegionRange{1, 2}));
}

TEST(RegionsOf, IsCutAtTheEndOfTheAddressSpace) {
  const uint64_t last = UINT64_MAX / 4096;
  EXPECT_EQ(RegionsOf(UINT64_MAX, 1, 4096), (RegionRange{last, last + 1}));
  EXPECT_EQ(RegionsOf(UINT64_MAX, UINT64_MAX, 4096),
            (RegionRange{last, last + 1}));
  EXPECT_EQ(RegionsOf(0, UINT64_MAX, 4096), (RegionRange{0, last + 1}));
}

// Every byte of the range lies in the regions, and no region is there for
// nothing; every range near the corners of a few regions.
TEST(RegionsOf, CoversExactlyTheBytes) {
  constexpr uint64_t kSize = 4096;
  const uint64_t corners[] = {0,         1,         kSize - 1,     kSize,
                              kSize + 1, 2 * kSize, 3 * kSize - 1, 3 * kSize};
  for (const uint64_t begin : corners) {
    for (const uint64_t end : corners) {
      if (end <= begin) continue;
      const RegionRange range = RegionsOf(begin, end - begin, kSize);
      EXPECT_EQ(range.first, begin / kSize);
      EXPECT_LT((range.end - 1) * kSize, end);
      EXPECT_GE(range.end * kSize, end);
    }
  }
}

}  // namespace
}  // namespace mirrorfs
