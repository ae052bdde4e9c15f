// SPDX-License-Identifier: GPL-2.0-or-later
#include "region/region_key.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace mirrorfs {
namespace {

// Paths with every byte that the encoding treats in its own way, next to bytes
// that sort just before and after them.
std::vector<std::string> OddPaths() {
  const std::vector<std::string> names = {
      "a",     "b",     "a!",       "\x01",     "\x02",    "\x03",
      "a\x01", "a\x02", "\x02\x02", "\x02\x03", "\xff",    "\xff\xff",
      " ",     "a.b",   "a-b",      "a0",       "\x7f\x80"};
  std::vector<std::string> paths = {""};
  for (const std::string& outer : names) {
    paths.push_back(outer);
    for (const std::string& inner : names) paths.push_back(outer + "/" + inner);
  }
  return paths;
}

std::vector<RegionKey> KeysOf(const std::string& path) {
  return {RegionKey::Entries(path),   RegionKey::Attributes(path),
          RegionKey::Data(path, 0),   RegionKey::Data(path, 255),
          RegionKey::Data(path, 256), RegionKey::Data(path, UINT64_MAX)};
}

bool IsAtOrBeneath(const std::string& path, const std::string& top) {
  return top.empty() || path == top || path.rfind(top + "/", 0) == 0;
}

TEST(RegionKey, EncodingIsExactlyAsDocumented) {
  using std::string_literals::operator""s;
  EXPECT_EQ(EncodeRegionKey(RegionKey::Entries("")), "\0\1"s);
  EXPECT_EQ(EncodeRegionKey(RegionKey::Attributes("a/b")), "a\1b\0\2"s);
  EXPECT_EQ(EncodeRegionKey(RegionKey::Data("a", 0x0102)),
            "a\0\3\0\0\0\0\0\0\1\2"s);
  EXPECT_EQ(EncodeRegionKey(RegionKey::Entries("\1x\2")), "\2\2x\2\3\0\1"s);
}

TEST(RegionKey, DecodeUndoesEncode) {
  for (const std::string& path : OddPaths()) {
    for (const RegionKey& key : KeysOf(path)) {
      const auto decoded = DecodeRegionKey(EncodeRegionKey(key));
      ASSERT_TRUE(decoded.has_value()) << path;
      EXPECT_EQ(*decoded, key);
    }
  }
}

TEST(RegionKey, DifferentKeysAreEncodedDifferently) {
  std::vector<std::string> encoded;
  for (const std::string& path : OddPaths()) {
    for (const RegionKey& key : KeysOf(path)) {
      encoded.push_back(EncodeRegionKey(key));
    }
  }
  std::sort(encoded.begin(), encoded.end());
  EXPECT_EQ(std::adjacent_find(encoded.begin(), encoded.end()), encoded.end());
}

TEST(RegionKey, DecodeRefusesWhatEncodeCannotMake) {
  using std::string_literals::operator""s;
  for (const std::string& bytes :
       {""s, "a"s, "a\0"s, "a\0\0"s, "a\0\4"s, "a\0\1x"s, "a\0\3"s,
        "a\0\3\0\0\0\0\0\0\0"s, "a\0\3\0\0\0\0\0\0\0\0\0"s, "\2"s, "\2\0\1"s,
        "\2\4\0\1"s, "\2a\0\1"s}) {
    EXPECT_FALSE(DecodeRegionKey(bytes).has_value());
  }
}

TEST(RegionKey, SubtreeRangeHoldsTheSubtreeAndNothingElse) {
  const std::vector<std::string> paths = OddPaths();
  for (const std::string& top : paths) {
    const EncodedRange range = SubtreeRange(top);
    for (const std::string& path : paths) {
      for (const RegionKey& key : KeysOf(path)) {
        const std::string encoded = EncodeRegionKey(key);
        EXPECT_EQ(range.begin <= encoded && encoded < range.end,
                  IsAtOrBeneath(path, top))
            << "top " << top << " path " << path;
      }
    }
  }
}

TEST(RegionKey, RootRangeHoldsTheLongestNameOfTheGreatestBytes) {
  const std::string name(255, '\xff');
  const EncodedRange range = SubtreeRange("");
  EXPECT_LT(EncodeRegionKey(RegionKey::Data(name + "/" + name, UINT64_MAX)),
            range.end);
}

TEST(RegionKey, SortsDirectoriesBeforeWhatLiesInThemAndFilesTogether) {
  std::vector<std::string> sorted;
  for (const char* path : {"d", "d/f", "d/f.old", "d!"}) {
    for (const RegionKey& key : KeysOf(path)) {
      sorted.push_back(EncodeRegionKey(key));
    }
  }
  std::sort(sorted.begin(), sorted.end());
  std::vector<std::string> order;
  for (const std::string& encoded : sorted) {
    const RegionKey key = *DecodeRegionKey(encoded);
    if (order.empty() || order.back() != key.path) order.push_back(key.path);
  }
  EXPECT_EQ(order, (std::vector<std::string>{"d", "d/f", "d/f.old", "d!"}));
}

TEST(RegionKey, DataIsInOrderOfTheIndex) {
  EXPECT_LT(EncodeRegionKey(RegionKey::Data("f", 255)),
            EncodeRegionKey(RegionKey::Data("f", 256)));
  EXPECT_LT(EncodeRegionKey(RegionKey::Attributes("f")),
            EncodeRegionKey(RegionKey::Data("f", 0)));
}

TEST(Paths, ParentBaseJoin) {
  EXPECT_EQ(ParentPath(""), "");
  EXPECT_EQ(ParentPath("a"), "");
  EXPECT_EQ(ParentPath("a/b/c"), "a/b");
  EXPECT_EQ(BaseName("a"), "a");
  EXPECT_EQ(BaseName("a/b/c"), "c");
  EXPECT_EQ(JoinPath("", "a"), "a");
  EXPECT_EQ(JoinPath("a/b", "c"), "a/b/c");
}

TEST(Paths, LiesInADirectoryOrIsIt) {
  EXPECT_TRUE(LiesIn("a/b", "a"));
  EXPECT_TRUE(LiesIn("a", "a"));
  EXPECT_TRUE(LiesIn("a", ""));
  EXPECT_TRUE(LiesIn("", ""));
  EXPECT_TRUE(LiesIn("/mnt", "/"));
  EXPECT_FALSE(LiesIn("ab", "a"));
  EXPECT_FALSE(LiesIn("a", "a/b"));
  EXPECT_FALSE(LiesIn("", "a"));
}

TEST(Paths, RebaseMovesASubtree) {
  EXPECT_EQ(RebasePath("a/b", "a/b", "x"), "x");
  EXPECT_EQ(RebasePath("a/b/c", "a/b", "x"), "x/c");
  EXPECT_EQ(RebasePath("a/c", "a", "x/y"), "x/y/c");
}

TEST(RegionKindName, NamesEveryKind) {
  EXPECT_STREQ(RegionKindName(RegionKind::kEntries), "entries");
  EXPECT_STREQ(RegionKindName(RegionKind::kAttributes), "attributes");
  EXPECT_STREQ(RegionKindName(RegionKind::kData), "data");
}

}  // namespace
}  // namespace mirrorfs
