// SPDX-License-Identifier: GPL-2.0-or-later
//
// Two small trees that are equal, then one change at a time.
#include "leg/tree_compare.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/fd.h"

namespace mirrorfs {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

constexpr char kChild[] = "dir";

class TreeCompareTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char directory[] = "/tmp/mirrorfs_compare_XXXXXX";
    ASSERT_NE(mkdtemp(directory), nullptr);
    directory_ = directory;
    for (const char* leg : {"a", "b", "c"}) {
      std::filesystem::create_directory(Path(leg));
    }
  }

  // As deep as trees may be, so not by path.
  void TearDown() override {
    ASSERT_EQ(system(absl::StrCat("rm -rf ", directory_).c_str()), 0);
  }

  std::string Path(const std::string& name) const {
    return absl::StrCat(directory_, "/", name);
  }

  static void Write(const std::string& path, const std::string& content) {
    std::ofstream(path, std::ios::binary) << content;
  }

  void WriteBoth(const std::string& name, const std::string& content) {
    for (const char* leg : {"a/", "b/", "c/"}) Write(Path(leg + name), content);
  }

  static void SetMtime(const std::string& path, timespec mtime) {
    const timespec times[] = {{0, UTIME_OMIT}, mtime};
    ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW), 0)
        << path;
  }

  // Gives everything the same time, directories after what is in them.
  void EqualTimes() {
    for (const char* leg : {"a", "b", "c"}) {
      std::vector<std::string> paths = {Path(leg)};
      for (const auto& entry :
           std::filesystem::recursive_directory_iterator(Path(leg))) {
        paths.push_back(entry.path());
      }
      for (const std::string& path : paths) SetMtime(path, {1000, 123456789});
    }
  }

  // "path what" of each difference between the first `count` trees.
  std::vector<std::string> Differences(int count = 2) {
    std::vector<TreeToCompare> trees;
    for (int i = 0; i < count; ++i) {
      const std::string leg(1, static_cast<char>('a' + i));
      trees.push_back({Path(leg), leg});
    }
    std::vector<std::string> found;
    details_.clear();
    const auto counts = CompareTrees(trees, [&](const TreeDifference& d) {
      found.push_back(absl::StrCat(d.path, " ", d.what));
      details_.push_back(d.detail);
    });
    EXPECT_TRUE(counts.ok()) << counts.status();
    if (counts.ok()) {
      counts_ = *counts;
      EXPECT_EQ(counts->differences, found.size());
    }
    return found;
  }

  std::string directory_;
  std::vector<std::string> details_;
  TreeCompareCounts counts_;
};

TEST_F(TreeCompareTest, EmptyTreesAreEqual) {
  EqualTimes();
  EXPECT_THAT(Differences(), IsEmpty());
}

TEST_F(TreeCompareTest, EqualTrees) {
  WriteBoth("file", "content");
  for (const char* leg : {"a/", "b/"}) {
    std::filesystem::create_directories(Path(leg + std::string("d/e")));
    Write(Path(leg + std::string("d/e/x\ny")), std::string(1'000'000, 'z'));
    std::filesystem::create_symlink("no/where", Path(leg + std::string("s")));
    ASSERT_EQ(mkfifo(Path(leg + std::string("p")).c_str(), 0600), 0);
  }
  EqualTimes();
  EXPECT_THAT(Differences(), IsEmpty());
  EXPECT_EQ(counts_.objects, 7u);
  EXPECT_EQ(counts_.bytes, 1'000'007u);
}

TEST_F(TreeCompareTest, PrivateDirectoryIsIgnoredAtTheRootOnly) {
  std::filesystem::create_directories(Path("a/.mirrorfs"));
  Write(Path("a/.mirrorfs/label"), "x");
  EqualTimes();
  EXPECT_THAT(Differences(), IsEmpty());
  for (const char* leg : {"a/d", "b/d"}) {
    std::filesystem::create_directory(Path(leg));
  }
  std::filesystem::create_directory(Path("a/d/.mirrorfs"));
  EqualTimes();
  EXPECT_THAT(Differences(), ElementsAre("d/.mirrorfs missing"));
}

TEST_F(TreeCompareTest, MissingNames) {
  Write(Path("a/only_a"), "");
  std::filesystem::create_directories(Path("b/only_b/with/much/in/it"));
  EqualTimes();
  EXPECT_THAT(Differences(), ElementsAre("only_a missing", "only_b missing"));
  EXPECT_THAT(details_, ElementsAre("on b; a has a regular file",
                                    "on a; b has a directory"));
}

TEST_F(TreeCompareTest, Types) {
  Write(Path("a/x"), "");
  std::filesystem::create_directory(Path("b/x"));
  Write(Path("b/x/y"), "");
  EqualTimes();
  EXPECT_THAT(Differences(), ElementsAre("x type"));
  EXPECT_EQ(details_[0], "a: regular file, b: directory");
}

TEST_F(TreeCompareTest, ContentDiffersAtAByte) {
  std::string content(3'000'000, 'q');
  WriteBoth("f", content);
  content[2'345'678] = 'r';
  Write(Path("b/f"), content);
  EqualTimes();
  EXPECT_THAT(Differences(), ElementsAre("f content"));
  EXPECT_THAT(details_[0], HasSubstr("byte 2345678 "));
}

TEST_F(TreeCompareTest, Size) {
  Write(Path("a/f"), "12");
  Write(Path("b/f"), "123");
  EqualTimes();
  EXPECT_THAT(Differences(), ElementsAre("f size"));
}

TEST_F(TreeCompareTest, HolesAreContentButNotADifference) {
  WriteBoth("f", std::string(1 << 20, '\0'));
  ASSERT_EQ(truncate(Path("a/f").c_str(), 0), 0);
  ASSERT_EQ(truncate(Path("a/f").c_str(), 1 << 20), 0);
  EqualTimes();
  EXPECT_THAT(Differences(), IsEmpty());
}

TEST_F(TreeCompareTest, HolesOnBothAreSkippedAndDataBetweenIsNot) {
  for (const char* leg : {"a/f", "b/f"}) {
    Write(Path(leg), "");
    ASSERT_EQ(truncate(Path(leg).c_str(), off_t{1} << 36), 0);
    std::fstream file(Path(leg));
    file.seekp(off_t{1} << 35);
    file << (leg[0] == 'a' ? "1" : "2");
  }
  EqualTimes();
  EXPECT_THAT(Differences(), ElementsAre("f content"));
  EXPECT_THAT(details_[0], HasSubstr(absl::StrCat("byte ", off_t{1} << 35)));
}

TEST_F(TreeCompareTest, DataThatOnlyOneHas) {
  for (const char* leg : {"a/f", "b/f"}) {
    Write(Path(leg), "");
    ASSERT_EQ(truncate(Path(leg).c_str(), 1 << 24), 0);
  }
  std::fstream file(Path("b/f"));
  file.seekp(1 << 23);
  file << "x";
  file.close();
  EqualTimes();
  EXPECT_THAT(Differences(), ElementsAre("f content"));
}

TEST_F(TreeCompareTest, Mode) {
  WriteBoth("f", "");
  ASSERT_EQ(chmod(Path("a/f").c_str(), 0644), 0);
  ASSERT_EQ(chmod(Path("b/f").c_str(), 04755), 0);
  EqualTimes();
  EXPECT_THAT(Differences(), ElementsAre("f mode"));
  EXPECT_EQ(details_[0], "a: 0644, b: 4755");
}

TEST_F(TreeCompareTest, MtimeToTheNanosecond) {
  WriteBoth("f", "");
  for (const char* leg : {"a/", "b/"}) {
    std::filesystem::create_directory(Path(leg + std::string("d")));
    std::filesystem::create_symlink("x", Path(leg + std::string("s")));
  }
  EqualTimes();
  for (const char* name : {"b", "b/f", "b/d", "b/s"}) {
    SetMtime(Path(name), {1000, 123456788});
  }
  EXPECT_THAT(Differences(),
              ElementsAre(" mtime", "d mtime", "f mtime", "s mtime"));
  EXPECT_THAT(details_[0], HasSubstr(".123456788+"));
}

TEST_F(TreeCompareTest, SymlinkTarget) {
  std::filesystem::create_symlink("here", Path("a/s"));
  std::filesystem::create_symlink("there", Path("b/s"));
  EqualTimes();
  EXPECT_THAT(Differences(), ElementsAre("s target"));
}

TEST_F(TreeCompareTest, SymlinksAreNotFollowed) {
  std::filesystem::create_directory(Path("other"));
  for (const char* leg : {"a/", "b/"}) {
    std::filesystem::create_symlink("/", Path(leg + std::string("root")));
    std::filesystem::create_symlink(".", Path(leg + std::string("loop")));
  }
  EqualTimes();
  EXPECT_THAT(Differences(), IsEmpty());
  EXPECT_EQ(counts_.objects, 3u);
}

TEST_F(TreeCompareTest, Xattrs) {
  WriteBoth("f", "");
  const auto set = [&](const char* name, const char* xattr,
                       const std::string& value) {
    return setxattr(Path(name).c_str(), xattr, value.data(), value.size(), 0);
  };
  if (set("a/f", "user.same", "1") != 0) GTEST_SKIP() << "no user xattrs";
  ASSERT_EQ(set("b/f", "user.same", "1"), 0);
  ASSERT_EQ(set("a/f", "user.value", "1"), 0);
  ASSERT_EQ(set("b/f", "user.value", "2"), 0);
  ASSERT_EQ(set("a/f", "user.only", ""), 0);
  ASSERT_EQ(set("b", "user.big", std::string(1000, 'x')), 0);
  EqualTimes();
  EXPECT_THAT(Differences(), ElementsAre(" xattr", "f xattr", "f xattr"));
  EXPECT_THAT(details_, ElementsAre("user.big only on b", "user.only only on a",
                                    "user.value has another value on b"));
}

TEST_F(TreeCompareTest, RootsOwnAttributes) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  WriteBoth("f", "");
  for (const char* leg : {"a/s", "b/s"}) {
    std::filesystem::create_symlink("x", Path(leg));
  }
  ASSERT_EQ(lchown(Path("a/f").c_str(), 1, 2), 0);
  ASSERT_EQ(lchown(Path("b/s").c_str(), 3, 0), 0);
  ASSERT_EQ(lsetxattr(Path("a/s").c_str(), "trusted.t", "1", 1, 0), 0);
  ASSERT_EQ(mknod(Path("a/n").c_str(), S_IFCHR | 0600, makedev(1, 3)), 0);
  ASSERT_EQ(mknod(Path("b/n").c_str(), S_IFCHR | 0600, makedev(1, 5)), 0);
  EqualTimes();
  EXPECT_THAT(Differences(),
              ElementsAre("f uid", "f gid", "n rdev", "s uid", "s xattr"));
}

TEST_F(TreeCompareTest, Acls) {
  WriteBoth("f", "");
  // user::rw-, user:1:r--, group::r--, mask::r--, other::r--
  const unsigned char acl[] = {
      2, 0, 0,   0,   1,   0,   6,  0, 255, 255, 255, 255, 2,   0,  4,
      0, 1, 0,   0,   0,   4,   0,  4, 0,   255, 255, 255, 255, 16, 0,
      4, 0, 255, 255, 255, 255, 32, 0, 4,   0,   255, 255, 255, 255};
  if (setxattr(Path("a/f").c_str(), "system.posix_acl_access", acl, sizeof(acl),
               0) != 0) {
    GTEST_SKIP() << "no ACLs";
  }
  ASSERT_EQ(chmod(Path("b/f").c_str(), 0644), 0);
  EqualTimes();
  EXPECT_THAT(Differences(), ElementsAre("f xattr"));
  EXPECT_THAT(details_[0], HasSubstr("system.posix_acl_access only on a"));
}

TEST_F(TreeCompareTest, SameHardLinks) {
  for (const char* leg : {"a/", "b/"}) {
    const std::string root = Path(leg);
    Write(root + "1", "x");
    std::filesystem::create_hard_link(root + "1", root + "2");
    std::filesystem::create_directory(root + "d");
    std::filesystem::create_hard_link(root + "1", root + "d/3");
  }
  EqualTimes();
  EXPECT_THAT(Differences(), IsEmpty());
  EXPECT_EQ(counts_.bytes, 1u) << "one file is read once";
}

TEST_F(TreeCompareTest, OtherHardLinks) {
  WriteBoth("1", "x");
  WriteBoth("2", "x");
  std::filesystem::remove(Path("b/2"));
  std::filesystem::create_hard_link(Path("b/1"), Path("b/2"));
  EqualTimes();
  EXPECT_THAT(Differences(), ElementsAre("2 hard-links"));
  EXPECT_EQ(details_[0], "a: not seen before, b: the same file as 1");
}

TEST_F(TreeCompareTest, HardLinksGroupedOtherwise) {
  // {1,2}{3,4} against {1,3}{2,4}: each inode has two names on both.
  for (const char* leg : {"a/", "b/"}) {
    const std::string root = Path(leg);
    const bool is_a = leg[0] == 'a';
    Write(root + "1", "x");
    std::filesystem::create_hard_link(root + "1", root + (is_a ? "2" : "3"));
    Write(root + "4", "x");
    std::filesystem::create_hard_link(root + "4", root + (is_a ? "3" : "2"));
  }
  EqualTimes();
  EXPECT_THAT(Differences(),
              ElementsAre("2 hard-links", "3 hard-links", "4 hard-links"));
}

TEST_F(TreeCompareTest, KnownLinkHereDirectoryThere) {
  for (const char* leg : {"a/", "b/"}) Write(Path(leg) + "1", "x");
  std::filesystem::create_hard_link(Path("a/1"), Path("a/2"));
  std::filesystem::create_directory(Path("b/2"));
  EqualTimes();
  EXPECT_THAT(Differences(), ElementsAre("2 type"));
}

TEST_F(TreeCompareTest, LinksToNamesOutsideAreNoDifference) {
  WriteBoth("f", "x");
  std::filesystem::create_hard_link(Path("a/f"), Path("outside"));
  EqualTimes();
  EXPECT_THAT(Differences(), IsEmpty());
}

TEST_F(TreeCompareTest, ThreeTrees) {
  WriteBoth("same", "x");
  WriteBoth("f", "x");
  Write(Path("c/f"), "y");
  Write(Path("a/m"), "");
  for (const char* leg : {"b/d", "c/d"}) {
    std::filesystem::create_directory(Path(leg));
  }
  Write(Path("b/d/x"), "1");
  Write(Path("c/d/x"), "2");
  EqualTimes();
  EXPECT_THAT(Differences(3), ElementsAre("d missing", "d/x content",
                                          "f content", "m missing"));
  EXPECT_THAT(details_[3], StartsWith("on b, c;"));
}

TEST_F(TreeCompareTest, UnreadableIsADifference) {
  if (geteuid() == 0) {
    // Root reads everything; a user is played by a child of the test.
    ASSERT_EQ(chmod(directory_.c_str(), 0755), 0);
  }
  WriteBoth("f", "x");
  for (const char* leg : {"a/", "b/"}) {
    std::filesystem::create_directory(Path(leg + std::string("d")));
    ASSERT_EQ(chmod(Path(leg + std::string("f")).c_str(), 0), 0);
    ASSERT_EQ(chmod(Path(leg + std::string("d")).c_str(), 0), 0);
  }
  EqualTimes();
  const auto as_user = [&] {
    if (geteuid() == 0 && seteuid(65534) != 0) return;
    EXPECT_THAT(Differences(),
                ElementsAre("d error", "d error", "f error", "f error"));
    EXPECT_THAT(details_[0], HasSubstr("Permission denied"));
  };
  const uid_t before = geteuid();
  as_user();
  ASSERT_EQ(seteuid(before), 0);
  for (const char* leg : {"a/d", "b/d"}) {
    ASSERT_EQ(chmod(Path(leg).c_str(), 0700), 0);
  }
}

TEST_F(TreeCompareTest, LongNamesAndOddBytes) {
  for (const char* leg : {"a/", "b/"}) {
    for (const std::string& name :
         {std::string(255, 'n'), std::string("new\nline"),
          std::string("\xff\xfe"), std::string("-rf"), std::string(" ")}) {
      Write(Path(leg + name), leg);
    }
  }
  EqualTimes();
  EXPECT_THAT(Differences(),
              UnorderedElementsAre(std::string(255, 'n') + " content",
                                   "new\nline content", "\xff\xfe content",
                                   "-rf content", "  content"));
}

TEST_F(TreeCompareTest, WhatIsMountedInsideIsNotEntered) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  for (const char* leg : {"a/", "b/"}) {
    std::filesystem::create_directory(Path(leg + std::string("d")));
    Write(Path(leg + std::string("d/x")), leg);
    Write(Path(leg + std::string("f")), "x");
  }
  EqualTimes();
  // A thread can have mounts of its own, which go when it ends.
  std::thread([&] {
    if (unshare(CLONE_NEWNS) != 0 ||
        mount("", "/", "", MS_REC | MS_PRIVATE, nullptr) != 0) {
      return;
    }
    // Of the same file system, so that only the mount tells.
    ASSERT_EQ(
        mount(Path("b/d").c_str(), Path("b/d").c_str(), "", MS_BIND, nullptr),
        0);
    ASSERT_EQ(
        mount(Path("b/f").c_str(), Path("b/f").c_str(), "", MS_BIND, nullptr),
        0);
    const std::vector<std::string> found = Differences();
    EXPECT_THAT(found, Contains("d mount"));
    EXPECT_THAT(found, Contains("f mount"));
    EXPECT_THAT(found, Not(Contains("d/x content")));
  }).join();
}

// Deeper than PATH_MAX, and than descriptors can be held.
TEST_F(TreeCompareTest, VeryDeep) {
  constexpr int kLevels = 1100;
  for (const char* leg : {"a", "b"}) {
    UniqueFd dir(open(Path(leg).c_str(), O_RDONLY | O_DIRECTORY));
    for (int i = 0; i < kLevels; ++i) {
      ASSERT_EQ(mkdirat(dir.get(), kChild, 0755), 0);
      // A name after the deep one, so that the way back up is walked, too.
      const UniqueFd file(openat(dir.get(), "z", O_CREAT | O_WRONLY, 0644));
      ASSERT_TRUE(file.valid());
      const bool differs = leg[0] == 'b' && (i == 7 || i == kLevels - 1);
      ASSERT_EQ(write(file.get(), differs ? "2" : "1", 1), 1);
      const timespec times[] = {{0, 0}, {5, 5}};
      ASSERT_EQ(futimens(file.get(), times), 0);
      dir = UniqueFd(openat(dir.get(), kChild, O_RDONLY | O_DIRECTORY));
    }
  }
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few = {300, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  std::vector<std::string> found;
  for (std::string& difference : Differences()) {
    // Directories got their times from what was put into them.
    if (!absl::EndsWith(difference, " mtime")) {
      found.push_back(std::move(difference));
    }
  }
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  std::string deep;
  for (int i = 0; i < kLevels - 1; ++i) absl::StrAppend(&deep, kChild, "/");
  EXPECT_THAT(found, ElementsAre(deep + "z content",
                                 deep.substr(0, 7 * 4) + "z content"));
  EXPECT_EQ(counts_.objects, 1u + 2 * kLevels);
}

TEST_F(TreeCompareTest, RootThatIsNoDirectory) {
  Write(Path("file"), "");
  for (const char* root : {"file", "nowhere"}) {
    const auto counts = CompareTrees({{Path("a"), "a"}, {Path(root), "r"}},
                                     [](const TreeDifference&) {});
    EXPECT_FALSE(counts.ok());
    EXPECT_THAT(std::string(counts.status().message()), HasSubstr(root));
  }
  EXPECT_FALSE(CompareTrees({{Path("a"), "a"}}, nullptr).ok());
}

}  // namespace
}  // namespace mirrorfs
