// SPDX-License-Identifier: GPL-2.0-or-later
#include "fuse/inode_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

namespace mirrorfs {
namespace {

using ::testing::Optional;

struct stat File(ino_t ino, nlink_t links = 1) {
  struct stat st = {};
  st.st_ino = ino;
  st.st_mode = S_IFREG | 0644;
  st.st_nlink = links;
  return st;
}

struct stat Directory(ino_t ino) {
  struct stat st = {};
  st.st_ino = ino;
  st.st_mode = S_IFDIR | 0755;
  st.st_nlink = 2;
  return st;
}

class InodeTableTest : public testing::Test {
 protected:
  NodeId Look(NodeId parent, const std::string& name, const struct stat& st) {
    return table_.RememberFound(parent, name, st,
                                table_.TimesLost(parent, name));
  }
  // Another leg is the primary, and has these numbers.
  void Rekey(std::map<std::string, ino_t> numbers = {}) {
    table_.Rekey([&](const std::string& path) {
      ++asked_;
      return path.empty() ? ino_t{2} : numbers[path];
    });
  }

  InodeTable table_{1};
  int asked_ = 0;
};

TEST_F(InodeTableTest, NamesOfOneFileAreOneNode) {
  const NodeId node = Look(kRootNode, "a", File(10, 2));
  EXPECT_EQ(Look(kRootNode, "b", File(10, 2)), node);
  EXPECT_EQ(table_.OtherPath(node, kRootNode, "a"), "b");
  table_.RemoveName(node, kRootNode, "a");
  EXPECT_THAT(table_.PathOf(node), Optional(std::string("b")));
}

TEST_F(InodeTableTest, WhatWasFoundBeforeItsNameMovedIsNotRemembered) {
  const NodeId node = Look(kRootNode, "a", File(10));
  const uint64_t losses = table_.TimesLost(kRootNode, "a");
  table_.MoveName(node, kRootNode, "a", kRootNode, "b");
  EXPECT_EQ(table_.RememberFound(kRootNode, "a", File(10), losses), 0);
  table_.MoveName(node, kRootNode, "b", kRootNode, "c");
  EXPECT_THAT(table_.PathOf(node), Optional(std::string("c")));
}

TEST_F(InodeTableTest, WhatWasFoundBeforeItWasRemovedIsNotRemembered) {
  const NodeId node = Look(kRootNode, "a", File(10));
  const uint64_t losses = table_.TimesLost(kRootNode, "a");
  table_.Detach(node);
  table_.RemoveName(node, kRootNode, "a");
  EXPECT_EQ(table_.RememberFound(kRootNode, "a", File(10), losses), 0);
  EXPECT_EQ(table_.PathOf(node), std::nullopt);
}

TEST_F(InodeTableTest, ANewPrimarysNumbersAreLearnedByName) {
  const NodeId directory = Look(kRootNode, "d", Directory(10));
  const NodeId file = Look(directory, "f", File(11));
  Rekey();
  EXPECT_EQ(asked_, 1);  // of the root
  // Their numbers are others' now.
  EXPECT_EQ(table_.Find(kRootNode, "d", Directory(11)), directory);
  EXPECT_EQ(Look(directory, "f", File(10)), file);
  EXPECT_EQ(table_.ShownIno(file, 10), 11);
  EXPECT_EQ(table_.ShownInoOf(directory, "f", 10), 11);
}

TEST_F(InodeTableTest, AFileIsNotTakenForTheDirectoryThatHadItsName) {
  const NodeId directory = Look(kRootNode, "d", Directory(10));
  Rekey();
  EXPECT_NE(Look(kRootNode, "d", File(20)), directory);
}

TEST_F(InodeTableTest, FilesOfSeveralNamesAreFoundByAnyAtANewPrimary) {
  const NodeId node = Look(kRootNode, "a", File(10, 3));
  Rekey({{"a", 20}});
  EXPECT_EQ(Look(kRootNode, "never seen", File(20, 3)), node);
}

TEST_F(InodeTableTest, AFileLinkedBeforeItIsSeenAgainStaysOneNode) {
  const NodeId node = Look(kRootNode, "a", File(10));
  Rekey();
  table_.LearnIno(node, 20);
  table_.AddName(node, kRootNode, "b");
  EXPECT_EQ(table_.Remember(kRootNode, "b", File(20, 2), 0), node);
  EXPECT_EQ(table_.Find(kRootNode, "a", File(20, 2)), node);
}

TEST_F(InodeTableTest, NamesExchangedAfterAChangeOfPrimary) {
  const NodeId a = Look(kRootNode, "a", File(10));
  const NodeId b = Look(kRootNode, "b", File(11));
  Rekey();
  ASSERT_EQ(table_.Find(kRootNode, "a", File(11)), a);
  ASSERT_EQ(table_.Find(kRootNode, "b", File(10)), b);
  table_.MoveName(a, kRootNode, "a", kRootNode, "b");
  table_.MoveName(b, kRootNode, "b", kRootNode, "a");
  EXPECT_THAT(table_.PathOf(a), Optional(std::string("b")));
  EXPECT_THAT(table_.PathOf(b), Optional(std::string("a")));
  Rekey();
  EXPECT_EQ(table_.Find(kRootNode, "b", File(30)), a);
  EXPECT_EQ(table_.Find(kRootNode, "a", File(31)), b);
}

TEST_F(InodeTableTest, WhatWasRemovedFromThePrimaryOnlyIsOneNodeAtTheNext) {
  const NodeId node = Look(kRootNode, "a", File(10, 2));
  EXPECT_EQ(Look(kRootNode, "b", File(10, 2)), node);
  const NodeId other = Look(kRootNode, "c", File(11));
  // Its number has come back.
  const NodeId made = table_.Remember(kRootNode, "new", File(10), 1);
  EXPECT_NE(made, node);
  EXPECT_EQ(table_.Find(kRootNode, "new", File(10)), made);
  Rekey({{"a", 20}});
  EXPECT_EQ(Look(kRootNode, "b", File(20, 2)), node);
  EXPECT_EQ(Look(kRootNode, "a", File(20, 2)), node);
  EXPECT_EQ(Look(kRootNode, "new", File(21)), made);
  EXPECT_EQ(Look(kRootNode, "c", File(22)), other);
}

TEST_F(InodeTableTest, NamesOfSeveralAreKnownUntilTheyGo) {
  const NodeId node = Look(kRootNode, "a", File(10, 3));
  Look(kRootNode, "b", File(10, 3));
  Look(kRootNode, "c", File(10, 3));
  EXPECT_TRUE(table_.IsKnown(kRootNode, "a"));
  EXPECT_TRUE(table_.IsKnown(kRootNode, "b"));
  EXPECT_FALSE(table_.IsKnown(kRootNode, "d"));
  EXPECT_FALSE(table_.IsKnown(node + 1, "a"));
  table_.RemoveName(node, kRootNode, "a");
  table_.MoveName(node, kRootNode, "b", kRootNode, "d");
  EXPECT_FALSE(table_.IsKnown(kRootNode, "a"));
  EXPECT_FALSE(table_.IsKnown(kRootNode, "b"));
  EXPECT_TRUE(table_.IsKnown(kRootNode, "c"));
  EXPECT_TRUE(table_.IsKnown(kRootNode, "d"));
  table_.Forget(node, 3);
  EXPECT_FALSE(table_.IsKnown(kRootNode, "c"));
  EXPECT_FALSE(table_.IsKnown(kRootNode, "d"));
}

TEST_F(InodeTableTest, WhatIsAboutToGoIsFoundByItsNameOnly) {
  const NodeId node = Look(kRootNode, "a", File(10));
  table_.Detach(node);
  // Its number may have come back.
  EXPECT_NE(Look(kRootNode, "b", File(10)), node);
  EXPECT_EQ(Look(kRootNode, "a", File(11)), node);
  EXPECT_NE(table_.Remember(kRootNode, "a", File(12), 1), node);
}

TEST_F(InodeTableTest, WhatWasToGoAndStaysIsOneNode) {
  const NodeId node = Look(kRootNode, "d", Directory(10));
  table_.Detach(node);
  EXPECT_EQ(Look(kRootNode, "d", Directory(10)), node);
  table_.Reattach(node, 10);
  table_.MoveName(node, kRootNode, "d", kRootNode, "e");
  EXPECT_EQ(table_.Find(kRootNode, "e", Directory(10)), node);
}

TEST_F(InodeTableTest, ForgottenNodesAreNotFound) {
  const NodeId directory = Look(kRootNode, "d", Directory(10));
  const NodeId file = Look(directory, "f", File(11));
  Rekey();
  table_.Forget(directory, 1);
  EXPECT_EQ(table_.size(), 3);  // the file's name holds it
  table_.Forget(file, 1);
  EXPECT_EQ(table_.size(), 1);
  EXPECT_EQ(table_.Find(kRootNode, "d", Directory(20)), 0);
}

}  // namespace
}  // namespace mirrorfs
