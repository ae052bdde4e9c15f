// SPDX-License-Identifier: GPL-2.0-or-later
#include "region/region_record.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace mirrorfs {
namespace {

Origins Moved(const std::string& path, const std::vector<LegSlot>& legs) {
  Origins origins;
  for (const LegSlot leg : legs) origins.Set(leg, path);
  return origins;
}

// Every combination of a few values of each field.
std::vector<RegionRecord> Records() {
  std::vector<RegionRecord> records;
  for (const int flags : {0, 1, 2, 3, 4, 5, 6, 7}) {
    for (const uint64_t missing : {uint64_t{0}, uint64_t{5}, UINT64_MAX}) {
      for (const int64_t since : {int64_t{-1}, int64_t{12345}, kNever}) {
        for (const uint64_t tail : {uint64_t{0}, uint64_t{77}, kNoTail}) {
          records.push_back({.dirty = (flags & 1) != 0,
                             .dirty_deep = (flags & 3) == 3,
                             .missing = LegSet(missing),
                             .deep = LegSet((flags & 2) != 0 ? missing & 6 : 0),
                             .directory = (flags & 4) != 0,
                             .since_ns = since,
                             .tail_from = tail});
        }
      }
    }
  }
  records.push_back({.missing = LegSet(5), .moved_from = Moved("a", {0, 2})});
  records.push_back({.missing = LegSet(5), .moved_from = Moved("b/c", {2})});
  Origins two = Moved("b", {0});
  two.Set(63, "a");
  records.push_back({.missing = LegSet(UINT64_MAX), .moved_from = two});
  return records;
}

TEST(RegionRecord, IsCleanWithoutDirtAndMissingLegs) {
  EXPECT_TRUE(RegionRecord().clean());
  EXPECT_TRUE((RegionRecord{.deep = LegSet(1), .since_ns = 1}.clean()));
  EXPECT_FALSE(RegionRecord{.dirty = true}.clean());
  EXPECT_FALSE(RegionRecord{.missing = LegSet::Of(63)}.clean());
}

TEST(RegionRecord, EncodingIsExactlyAsDocumented) {
  const RegionRecord record{.dirty = true,
                            .missing = LegSet(0x0102),
                            .deep = LegSet(0x0100),
                            .directory = true,
                            .since_ns = 3,
                            .tail_from = 0x0405};
  const char bytes[] =
      "\x03\x05"
      "\x02\x01\0\0\0\0\0\0"
      "\0\x01\0\0\0\0\0\0"
      "\x03\0\0\0\0\0\0\0"
      "\x05\x04\0\0\0\0\0\0";
  EXPECT_EQ(EncodeRegionRecord(record), std::string(bytes, 34));
}

TEST(RegionRecord, WhereItWasComesAfterTheRest) {
  RegionRecord record;
  record.missing = LegSet(5);
  std::string plain = EncodeRegionRecord(record);
  record.moved_from = Moved("old/name", {0, 2});
  plain[0] = 4;
  const char more[] =
      "\x05\0\0\0\0\0\0\0"
      "\x08\0"
      "old/name";
  EXPECT_EQ(EncodeRegionRecord(record), plain + std::string(more, 18));
}

TEST(RegionRecord, DecodeRefusesDamagedOrigins) {
  Origins origins = Moved("name", {1});
  origins.Set(2, "other");
  const std::string good =
      EncodeRegionRecord({.missing = LegSet(6), .moved_from = origins});
  ASSERT_TRUE(DecodeRegionRecord(good).has_value());
  const size_t first_ends = 34 + 10 + 4;  // a whole record, too
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_EQ(DecodeRegionRecord(good.substr(0, size)).has_value(),
              size == first_ends)
        << size;
  }
  EXPECT_FALSE(DecodeRegionRecord(good + '\0').has_value());
  std::string other = good;
  other[0] = 3;
  EXPECT_FALSE(DecodeRegionRecord(other).has_value());
  other = good;
  other[34] = 4;  // leg 2 would be at two places
  EXPECT_FALSE(DecodeRegionRecord(other).has_value());
  other = good;
  other[34] = 0;
  EXPECT_FALSE(DecodeRegionRecord(other).has_value()) << "no leg";
  other = good;
  other[42] = 100;
  EXPECT_FALSE(DecodeRegionRecord(other).has_value()) << "longer than it is";
  other = good;
  other[42] = 0;
  EXPECT_FALSE(DecodeRegionRecord(other).has_value()) << "no path";
}

TEST(RegionRecord, DecodeUndoesEncode) {
  for (const RegionRecord& record : Records()) {
    const auto decoded = DecodeRegionRecord(EncodeRegionRecord(record));
    ASSERT_TRUE(decoded.has_value());
    EXPECT_EQ(*decoded, record);
  }
}

TEST(RegionRecord, DecodeRefusesOtherSizesVersionsAndFlags) {
  const std::string good = EncodeRegionRecord({.dirty = true});
  EXPECT_FALSE(DecodeRegionRecord("").has_value());
  EXPECT_FALSE(DecodeRegionRecord(good.substr(1)).has_value());
  EXPECT_FALSE(DecodeRegionRecord(good + '\0').has_value());
  std::string other = good;
  other[0] = 4;
  EXPECT_FALSE(DecodeRegionRecord(other).has_value());
  other[0] = 1;
  EXPECT_FALSE(DecodeRegionRecord(other).has_value());
  other = good;
  other[1] = 8;
  EXPECT_FALSE(DecodeRegionRecord(other).has_value());
  other[1] = 2;
  EXPECT_FALSE(DecodeRegionRecord(other).has_value()) << "deep, not dirty";
  other = good;
  other[10] = 1;
  EXPECT_FALSE(DecodeRegionRecord(other).has_value()) << "deep, not missing";
}

TEST(RegionRecord, MergeForgetsNothing) {
  for (const RegionRecord& a : Records()) {
    for (const RegionRecord& b : Records()) {
      const RegionRecord merged = Merge(a, b);
      EXPECT_EQ(merged, Merge(b, a));
      EXPECT_EQ(Merge(merged, a), merged);
      EXPECT_EQ(merged.dirty, a.dirty || b.dirty);
      EXPECT_TRUE(merged.missing.contains(a.missing));
      EXPECT_LE(merged.since_ns, a.since_ns);
      EXPECT_LE(merged.tail_from, a.tail_from);
      EXPECT_TRUE(merged.deep.contains(a.deep));
      EXPECT_TRUE(merged.dirty_deep || !a.dirty_deep);
      EXPECT_EQ(merged, Tidied(merged));
      EXPECT_TRUE(merged.directory || !a.directory);
    }
  }
}

TEST(RegionRecord, MergeWithNothingChangesNothing) {
  for (const RegionRecord& record : Records()) {
    EXPECT_EQ(Merge(record, RegionRecord()), record);
    EXPECT_EQ(Merge(record, record), record);
  }
}

TEST(Origins, SayOnePlaceForEachLeg) {
  Origins origins;
  origins.Set(3, "b");
  origins.Set(1, "b");
  origins.Set(1, "a");
  ASSERT_NE(origins.Of(1), nullptr);
  EXPECT_EQ(*origins.Of(1), "a");
  EXPECT_EQ(*origins.Of(3), "b");
  EXPECT_EQ(origins.Of(0), nullptr);
  EXPECT_EQ(origins.legs(), LegSet(10));
  Origins same;
  same.Set(1, "a");
  same.Set(3, "b");
  EXPECT_EQ(origins, same);
  origins.Keep(LegSet::Of(3));
  EXPECT_EQ(origins, Moved("b", {3}));
  origins.Forget("a");
  EXPECT_FALSE(origins.empty());
  origins.Forget("b");
  EXPECT_TRUE(origins.empty());
}

TEST(Origins, MergeKeepsThePlacesOfDifferentLegs) {
  const Origins merged = Merge(Moved("a", {0, 1}), Moved("b", {1, 2}));
  EXPECT_EQ(*merged.Of(0), "a");
  EXPECT_EQ(*merged.Of(1), "a");
  EXPECT_EQ(*merged.Of(2), "b");
}

TEST(LegSet, IsASetOfSlots) {
  LegSet legs = LegSet::Of(0) | LegSet::Of(63);
  EXPECT_EQ(legs.size(), 2);
  EXPECT_TRUE(legs.has(63));
  EXPECT_FALSE(legs.has(1));
  EXPECT_TRUE(legs.contains(LegSet::Of(0)));
  EXPECT_TRUE(legs.contains(LegSet()));
  EXPECT_FALSE(LegSet::Of(0).contains(legs));
  std::vector<LegSlot> visited;
  legs.ForEach([&](LegSlot slot) { visited.push_back(slot); });
  EXPECT_EQ(visited, (std::vector<LegSlot>{0, 63}));
  legs -= LegSet::Of(0);
  EXPECT_EQ(legs, LegSet::Of(63));
  EXPECT_TRUE((legs & LegSet::Of(1)).empty());
}

}  // namespace
}  // namespace mirrorfs
