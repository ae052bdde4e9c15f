// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/foreign.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "temp_dir.h"

namespace mirrorfs {
namespace {

namespace fs = std::filesystem;

// A leg on which somebody else does something while it is away.
class ForeignTest : public ::testing::Test {
 protected:
  ForeignTest() {
    fs::create_directory(dir_ / ".mirrorfs");
    fs::create_directories(dir_ / "dir/sub");
    Write("file");
    Write("dir/file");
    Write("dir/sub/file");
    leg_ = *Leg::Open(dir_.path());
    left_ns_ = Tick();
  }

  void Write(const std::string& path) { std::ofstream(dir_ / path) << path; }

  // What the leg's clock says, which is not what it said before or after.
  int64_t Tick() {
    usleep(20'000);
    const int64_t now_ns = *leg_->StampNs();
    usleep(20'000);
    return now_ns;
  }

  void Return() { leg_->SetAway({{left_ns_, Tick()}}); }

  // The same leg after a crash.
  void OpenAnew() {
    const AwayTimes away = leg_->away();
    leg_ = *Leg::Open(dir_.path());
    leg_->SetAway(away);
  }

  bool IsForeignAt(const std::string& path) {
    return IsForeign(*leg_, path, *leg_->Stat(path));
  }

  TempDir dir_;
  std::unique_ptr<Leg> leg_;
  int64_t left_ns_ = 0;
};

TEST_F(ForeignTest, ANewChangeTimeHidesNothingThatWasNoted) {
  Write("file");
  Return();
  EXPECT_TRUE(IsForeignAt("file"));
  EXPECT_FALSE(IsForeignAt("dir/file"));
  NoteIfForeign(*leg_, "file");
  NoteIfForeign(*leg_, "dir/file");
  fs::rename(dir_ / "file", dir_ / "renamed");
  fs::rename(dir_ / "dir/file", dir_ / "dir/renamed");
  OpenAnew();
  EXPECT_TRUE(IsForeignAt("renamed"));
  EXPECT_FALSE(IsForeignAt("dir/renamed"));

  leg_->foreign_notes().Remove(*leg_, leg_->Stat("renamed")->st_ino);
  EXPECT_FALSE(IsForeignAt("renamed"));
  OpenAnew();
  EXPECT_FALSE(IsForeignAt("renamed"));
}

TEST_F(ForeignTest, AllThatIsOldInADirectoryThatWasMovedInIs) {
  fs::rename(dir_ / "dir", dir_ / "moved");
  Return();
  EXPECT_TRUE(IsForeignAt("moved/file"));
  EXPECT_TRUE(IsForeignAt("moved/sub/file"));
  EXPECT_FALSE(IsForeignAt("file"));
  NoteIfForeign(*leg_, "moved");
  Write("moved/new");
  OpenAnew();
  EXPECT_TRUE(IsForeignAt("moved/file"));
  EXPECT_TRUE(IsForeignAt("moved/sub/file"));
  EXPECT_FALSE(IsForeignAt("moved/new")) << "made since the leg returned";
  leg_->foreign_notes().RemoveAll(*leg_);
  EXPECT_FALSE(IsForeignAt("moved/sub/file"));
}

TEST_F(ForeignTest, OneInWhichANameWasChangedWasNotMovedIn) {
  Write("dir/new");
  Return();
  EXPECT_TRUE(IsForeignAt("dir/new"));
  EXPECT_FALSE(IsForeignAt("dir/file"));
}

TEST_F(ForeignTest, WhatIsMadeIsNotWhatHadTheNumberBefore) {
  Write("file");
  Return();
  NoteIfForeign(*leg_, "file");
  EXPECT_FALSE(leg_->foreign_notes().empty());
  NoteIsNew(*leg_, "file");
  EXPECT_TRUE(leg_->foreign_notes().empty());
}

TEST_F(ForeignTest, NothingIsOnALegThatWasNeverAway) {
  Write("file");
  NoteIfForeign(*leg_, "file");
  EXPECT_FALSE(IsForeignAt("file"));
  EXPECT_TRUE(leg_->foreign_notes().empty());
}

}  // namespace
}  // namespace mirrorfs
