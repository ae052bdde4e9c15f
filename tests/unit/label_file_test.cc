// SPDX-License-Identifier: GPL-2.0-or-later
#include <fcntl.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>

#include "base/fd.h"
#include "leg/label.h"
#include "temp_dir.h"

namespace mirrorfs {
namespace {

namespace fs = std::filesystem;

class LabelFileTest : public testing::Test {
 protected:
  LabelFileTest()
      : root_(open(dir_.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    label_.mirror_uuid = "m";
    label_.leg_uuid = "a";
    label_.region_bytes = 1 << 20;
    label_.generation = {1, "g1"};
    label_.members = {{"a", "a", 0, true, ""}};
  }

  std::string Path(const std::string& name) const {
    return dir_ / (".mirrorfs/" + name);
  }
  void Write() {
    const absl::Status status = WriteLabelDurable(root_.get(), label_);
    ASSERT_TRUE(status.ok()) << status;
  }
  void ExpectWritten() const {
    const absl::StatusOr<Label> read = ReadLabel(root_.get());
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(*read, label_);
  }

  const TempDir dir_;
  const UniqueFd root_;
  Label label_;
};

TEST_F(LabelFileTest, TheNextAlwaysHasItsPlace) {
  Write();
  const uintmax_t bytes = fs::file_size(Path("label"));
  for (int i = 0; i < 50; ++i) {
    label_.history.push_back(std::string(36, 'g'));
    Write();
    ExpectWritten();
    EXPECT_EQ(fs::file_size(Path("label")), bytes);
    EXPECT_EQ(fs::file_size(Path("label.new")), bytes);
  }
}

TEST_F(LabelFileTest, ThePlaceGrowsBeforeItIsNeeded) {
  for (int i = 0; i < 1000; ++i) label_.history.push_back(std::string(36, 'g'));
  Write();
  Write();
  ExpectWritten();
  EXPECT_GE(fs::file_size(Path("label.new")), 2 * FormatLabel(label_).size());
}

TEST_F(LabelFileTest, ALabelWithoutAPlaceIsReplaced) {
  Write();
  fs::remove(Path("label.new"));
  ++label_.uses;
  Write();
  ExpectWritten();
}

TEST_F(LabelFileTest, APlaceOfAnyLengthWillDo) {
  Write();
  for (const uintmax_t bytes :
       {uintmax_t{0}, uintmax_t{100}, uintmax_t{20000}, uintmax_t{5} << 20}) {
    fs::resize_file(Path("label.new"), bytes);
    ++label_.uses;
    Write();
    ExpectWritten();
    EXPECT_LT(fs::file_size(Path("label")), uintmax_t{1} << 20);
  }
}

TEST_F(LabelFileTest, ABackupOfHardLinksIsLeftAlone) {
  Write();
  fs::create_hard_link(Path("label"), Path("backup"));
  const Label before = label_;
  for (int i = 0; i < 4; ++i) {
    ++label_.uses;
    Write();
  }
  fs::rename(Path("backup"), Path("label"));
  label_ = before;
  ExpectWritten();
}

TEST_F(LabelFileTest, ReadersSeeOneOrTheOther) {
  Write();
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    while (!stop) Write();
  });
  for (int i = 0; i < 2000; ++i) {
    const absl::StatusOr<Label> read = ReadLabel(root_.get());
    EXPECT_TRUE(read.ok()) << read.status();
  }
  stop = true;
  writer.join();
}

}  // namespace
}  // namespace mirrorfs
