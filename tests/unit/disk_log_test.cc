// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the log on disk does when its store is not what it left behind. The
// death of the process is a copy of the directory, taken while the log is
// open; then the copy is damaged and opened. What a log promises when nothing
// is damaged is in dirty_log_conformance_test.
#include "dirtylog/disk_log.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "temp_dir.h"

namespace mirrorfs {
namespace {

namespace fs = std::filesystem;

constexpr int kMarks = 12;
const RegionRecord kDirty{.dirty = true};

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

RegionKey MarkKey(int mark) {
  return RegionKey::Data(absl::StrCat("file-", mark), 7);
}

class DiskLogTest : public testing::Test {
 protected:
  DiskLogTest() : options_(Options(temp_ / "log")) {
    Open();
    for (int mark = 0; mark < kMarks; ++mark) MarkAndFlush(mark);
  }

  static DiskLogOptions Options(const std::string& dir) {
    return {.place = {dir, nullptr},
            .mirror_uuid = "mirror-uuid",
            .log_uuid = "log-uuid",
            .region_bytes = 1 << 20};
  }

  void Open() {
    absl::StatusOr<std::unique_ptr<DiskLog>> opened = OpenDiskLog(options_);
    ASSERT_TRUE(opened.ok()) << opened.status();
    log_ = *std::move(opened);
    options_.expected_session = log_->session();
    ASSERT_TRUE(log_->Resume(LegSet()).ok());
  }

  void Reopen() {
    log_.reset();
    Open();
  }

  void MarkAndFlush(int mark) {
    log_->MarkRegion(MarkKey(mark), kDirty);
    ASSERT_TRUE(log_->Flush().ok());
  }

  // A copy of the store as a death of the process would leave it now.
  DiskLogOptions Snapshot() {
    DiskLogOptions options = options_;
    options.place.dir = temp_ / absl::StrCat("copy", ++copies_);
    fs::copy(options_.place.dir, options.place.dir,
             fs::copy_options::recursive);
    return options;
  }

  // What opening and resuming say; the number of marks that are there if they
  // say nothing.
  static absl::StatusOr<int> CountMarks(const DiskLogOptions& options) {
    absl::StatusOr<std::unique_ptr<DiskLog>> log = OpenDiskLog(options);
    if (!log.ok()) return log.status();
    if (absl::Status resumed = (*log)->Resume(LegSet()); !resumed.ok()) {
      return resumed;
    }
    int marks = 0;
    for (int mark = 0; mark < kMarks; ++mark) {
      marks += (*log)->Find(MarkKey(mark)) == kDirty;
    }
    return marks;
  }

  static void ExpectIntact(const DiskLogOptions& options) {
    const absl::StatusOr<int> marks = CountMarks(options);
    ASSERT_TRUE(marks.ok()) << marks.status();
    EXPECT_EQ(*marks, kMarks);
  }

  static void ExpectUntrusted(const DiskLogOptions& options) {
    const absl::Status status = CountMarks(options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    const std::string message(status.message());
    EXPECT_NE(message.find(options.place.dir), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }

  // Files of the store whose names end with `suffix`, newest last.
  static std::vector<std::string> FilesOf(const DiskLogOptions& options,
                                          const std::string& suffix) {
    std::vector<std::string> files;
    for (const auto& entry :
         fs::directory_iterator(options.place.dir + "/db")) {
      if (absl::EndsWith(entry.path().string(), suffix)) {
        files.push_back(entry.path().string());
      }
    }
    std::sort(files.begin(), files.end());
    return files;
  }

  std::string Journal(const DiskLogOptions& options) {
    const std::vector<std::string> files = FilesOf(options, ".log");
    EXPECT_FALSE(files.empty());
    return files.empty() ? std::string() : files.back();
  }

  // Flips one bit in every `stride`th byte of `name` in a copy of its own:
  // either that is noticed, or nothing is missing. Returns how often it was.
  int FlipBits(const std::string& file, size_t stride) {
    const DiskLogOptions good = Snapshot();
    const std::string relative =
        fs::relative(file, options_.place.dir).string();
    const std::string bytes = ReadFile(good.place.dir + "/" + relative);
    int noticed = 0;
    for (size_t at = 0; at < bytes.size(); at += stride) {
      DiskLogOptions bad = good;
      bad.place.dir = temp_ / "flipped";
      fs::remove_all(bad.place.dir);
      fs::copy(good.place.dir, bad.place.dir, fs::copy_options::recursive);
      std::string damaged = bytes;
      damaged[at] ^= 0x10;
      WriteFile(bad.place.dir + "/" + relative, damaged);
      const absl::StatusOr<int> marks = CountMarks(bad);
      if (marks.ok()) {
        EXPECT_EQ(*marks, kMarks) << relative << " byte " << at;
      } else {
        EXPECT_EQ(marks.status().code(), absl::StatusCode::kDataLoss)
            << relative << " byte " << at << ": " << marks.status();
        ++noticed;
      }
    }
    return noticed;
  }

  TempDir temp_;
  DiskLogOptions options_;
  int copies_ = 0;
  std::unique_ptr<DiskLog> log_;
};

TEST_F(DiskLogTest, SurvivesTheDeathOfTheProcess) { ExpectIntact(Snapshot()); }

TEST_F(DiskLogTest, SurvivesOrderlyClosingAgainAndAgain) {
  for (int i = 0; i < 3; ++i) Reopen();
  log_.reset();
  ExpectIntact(options_);
}

TEST_F(DiskLogTest, SurvivesRepeatedDeaths) {
  DiskLogOptions options = Snapshot();
  for (int i = 0; i < 3; ++i) {
    auto log = OpenDiskLog(options);
    ASSERT_TRUE(log.ok()) << log.status();
    options.expected_session = (*log)->session();
    DiskLogOptions next = options;
    next.place.dir = absl::StrCat(options.place.dir, "x");
    fs::copy(options.place.dir, next.place.dir, fs::copy_options::recursive);
    options = next;
  }
  ExpectIntact(options);
}

TEST_F(DiskLogTest, EverySessionIsNew) {
  const std::string first = log_->session();
  Reopen();
  EXPECT_NE(log_->session(), first);
}

// ---------------------------------------------------------------------------
// Lost batches

TEST_F(DiskLogTest, ATornBatchThatNobodyWaitedForIsNoLoss) {
  log_->ClearRegion(MarkKey(0));
  ASSERT_TRUE(log_->FlushLazily().ok());
  const DiskLogOptions torn = Snapshot();
  fs::resize_file(Journal(torn), fs::file_size(Journal(torn)) - 7);
  ExpectIntact(torn);
}

TEST_F(DiskLogTest, ATornBatchOfClearsThatSomebodyWaitedForIsALoss) {
  log_->ClearRegion(MarkKey(0));
  ASSERT_TRUE(log_->FlushLazily().ok());
  ASSERT_TRUE(log_->FlushWhole().ok());
  const DiskLogOptions torn = Snapshot();
  fs::resize_file(Journal(torn), fs::file_size(Journal(torn)) - 7);
  ExpectUntrusted(torn);
}

TEST_F(DiskLogTest, AJournalCutByAByteIsNoticed) {
  const DiskLogOptions cut = Snapshot();
  fs::resize_file(Journal(cut), fs::file_size(Journal(cut)) - 1);
  ExpectUntrusted(cut);
}

TEST_F(DiskLogTest, AJournalCutAnywhereIsNoticed) {
  const uintmax_t size = fs::file_size(Journal(options_));
  for (uintmax_t left = 0; left < size; left += 37) {
    const DiskLogOptions cut = Snapshot();
    fs::resize_file(Journal(cut), left);
    ExpectUntrusted(cut);
    fs::remove_all(cut.place.dir);
  }
}

TEST_F(DiskLogTest, ADeletedJournalIsNoticed) {
  const DiskLogOptions gone = Snapshot();
  fs::remove(Journal(gone));
  ExpectUntrusted(gone);
}

TEST_F(DiskLogTest, ADeletedJournalOfALaterSessionIsNoticed) {
  Reopen();  // the marks are in a table file now
  const DiskLogOptions gone = Snapshot();
  fs::remove(Journal(gone));
  ExpectUntrusted(gone);
}

TEST_F(DiskLogTest, ADeletedTableFileIsNoticed) {
  Reopen();
  const DiskLogOptions gone = Snapshot();
  const std::vector<std::string> tables = FilesOf(gone, ".sst");
  ASSERT_FALSE(tables.empty());
  for (const std::string& table : tables) fs::remove(table);
  ExpectUntrusted(gone);
}

TEST_F(DiskLogTest, AnOldCopyIsNoticed) {
  const DiskLogOptions old = Snapshot();
  Reopen();
  DiskLogOptions restored = old;
  restored.expected_session = log_->session();
  ExpectUntrusted(restored);
}

TEST_F(DiskLogTest, AnOldStoreBesideANewTailIsNoticed) {
  const DiskLogOptions old = Snapshot();
  MarkAndFlush(100);
  fs::copy_file(options_.place.dir + "/tail", old.place.dir + "/tail",
                fs::copy_options::overwrite_existing);
  ExpectUntrusted(old);
}

// After a power cut the tail file may hold any older number.
TEST_F(DiskLogTest, ATailFileThatLagsIsNoLoss) {
  const std::string tail = ReadFile(options_.place.dir + "/tail");
  MarkAndFlush(100);
  MarkAndFlush(101);
  const DiskLogOptions lagging = Snapshot();
  WriteFile(lagging.place.dir + "/tail", tail);
  ExpectIntact(lagging);
}

TEST_F(DiskLogTest, NoTailFileOrAShortOneIsNoticed) {
  const DiskLogOptions gone = Snapshot();
  fs::remove(gone.place.dir + "/tail");
  ExpectUntrusted(gone);
  const DiskLogOptions cut = Snapshot();
  fs::resize_file(cut.place.dir + "/tail", 15);
  ExpectUntrusted(cut);
}

// ---------------------------------------------------------------------------
// Damage

TEST_F(DiskLogTest, EveryDamagedByteOfTheJournalIsNoticed) {
  const std::string journal = Journal(options_);
  const size_t stride = 11;
  const size_t tried = (fs::file_size(journal) + stride - 1) / stride;
  EXPECT_EQ(FlipBits(journal, stride), static_cast<int>(tried));
}

TEST_F(DiskLogTest, EveryDamagedByteOfTheTailFileIsNoticed) {
  EXPECT_EQ(FlipBits(options_.place.dir + "/tail", 1), 16);
}

TEST_F(DiskLogTest, ADamagedTableFileIsNoticedOrHarmless) {
  Reopen();
  const std::vector<std::string> tables = FilesOf(options_, ".sst");
  ASSERT_FALSE(tables.empty());
  EXPECT_GT(FlipBits(tables.back(), 13), 0);
}

TEST_F(DiskLogTest, ADamagedRecordInATableFileIsNoticed) {
  Reopen();
  const DiskLogOptions damaged = Snapshot();
  const std::string table = FilesOf(damaged, ".sst").back();
  std::string bytes = ReadFile(table);
  const size_t at = bytes.find("file-");
  ASSERT_NE(at, std::string::npos);
  bytes[at] ^= 1;
  WriteFile(table, bytes);
  ExpectUntrusted(damaged);
}

TEST_F(DiskLogTest, DamagedAdministrativeFilesAreNoticedOrHarmless) {
  for (const auto& entry : fs::directory_iterator(options_.place.dir + "/db")) {
    const std::string name = entry.path().filename().string();
    if (name == "CURRENT" || name == "IDENTITY" ||
        absl::StartsWith(name, "MANIFEST")) {
      FlipBits(entry.path().string(), 5);
    } else if (absl::StartsWith(name, "OPTIONS")) {
      FlipBits(entry.path().string(), 499);
    }
  }
}

TEST_F(DiskLogTest, MissingAdministrativeFilesAreNoticed) {
  for (const char* name : {"/db/CURRENT", "/db"}) {
    const DiskLogOptions gone = Snapshot();
    fs::remove_all(gone.place.dir + name);
    ExpectUntrusted(gone);
  }
  DiskLogOptions nowhere = options_;
  nowhere.place.dir = temp_ / "nowhere";
  ExpectUntrusted(nowhere);
}

// ---------------------------------------------------------------------------
// Strangers

TEST_F(DiskLogTest, ForeignStoresAreNoticed) {
  DiskLogOptions foreign = Snapshot();
  foreign.mirror_uuid = "another";
  ExpectUntrusted(foreign);
  foreign = Snapshot();
  foreign.log_uuid = "another";
  ExpectUntrusted(foreign);
  foreign = Snapshot();
  foreign.region_bytes *= 2;
  ExpectUntrusted(foreign);
  foreign = Snapshot();
  foreign.expected_session = "another";
  ExpectUntrusted(foreign);
}

TEST_F(DiskLogTest, RefusingAStoreDoesNotSpoilIt) {
  DiskLogOptions options = Snapshot();
  options.mirror_uuid = "another";
  ExpectUntrusted(options);
  options.mirror_uuid = options_.mirror_uuid;
  ExpectIntact(options);
}

// The process died after the store took a new session and before the label
// did: any number of times, and nothing was marked meanwhile.
TEST_F(DiskLogTest, ASessionThatWasNeverNotedDoesNotHurt) {
  const std::string noted = log_->session();
  log_.reset();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(OpenDiskLog(options_).ok());  // expects `noted` each time
  }
  EXPECT_EQ(options_.expected_session, noted);
  ExpectIntact(options_);
}

TEST_F(DiskLogTest, ASessionBeforeTheLastNotedOneIsNoticed) {
  const std::string old = log_->session();
  Reopen();
  Reopen();
  log_.reset();
  options_.expected_session = old;
  ExpectUntrusted(options_);
}

// ---------------------------------------------------------------------------
// Creating

TEST_F(DiskLogTest, CreatingPutsAnOldStoreAside) {
  log_.reset();
  options_.expected_session.clear();
  Open();
  EXPECT_TRUE(log_->IsClean(MarkKey(0)));
  EXPECT_TRUE(fs::exists(options_.place.dir + ".old/tail"));
  MarkAndFlush(1);
  log_.reset();
  options_.expected_session.clear();
  Open();
  EXPECT_TRUE(log_->IsClean(MarkKey(1)));
}

TEST_F(DiskLogTest, CreatingRemovesNothingThatIsNoStore) {
  fs::create_directory(options_.place.dir + ".old");
  WriteFile(options_.place.dir + ".old/thesis.tex", "x");
  log_.reset();
  options_.expected_session.clear();
  EXPECT_FALSE(OpenDiskLog(options_).ok());
  EXPECT_TRUE(fs::exists(options_.place.dir + ".old/thesis.tex"));
  EXPECT_TRUE(fs::exists(options_.place.dir + "/tail"));
}

TEST_F(DiskLogTest, CreatingWhereNothingCanBeIsNotDataLoss) {
  DiskLogOptions options = Options(temp_ / "no/such/place");
  EXPECT_EQ(OpenDiskLog(options).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(DiskLogTest, AStoreThatIsInUseIsNotDataLoss) {
  EXPECT_EQ(OpenDiskLog(options_).status().code(),
            absl::StatusCode::kUnavailable);
  MarkAndFlush(100);
}

TEST_F(DiskLogTest, AStoreThatMayNotBeReadIsNotDataLoss) {
  if (geteuid() == 0) GTEST_SKIP() << "root may read everything";
  log_.reset();
  chmod((options_.place.dir + "/db").c_str(), 0);
  const absl::StatusCode code = OpenDiskLog(options_).status().code();
  chmod((options_.place.dir + "/db").c_str(), 0700);
  EXPECT_EQ(code, absl::StatusCode::kPermissionDenied);
}

// ---------------------------------------------------------------------------
// Size

TEST_F(DiskLogTest, StaysSmallHoweverMuchIsMarkedAndCleared) {
  for (int round = 0; round < 40; ++round) {
    for (int mark = 0; mark < 5000; ++mark) {
      log_->MarkRegion(RegionKey::Data("a/rather/long/path/of/a/file", mark),
                       kDirty);
    }
    ASSERT_TRUE(log_->Flush().ok());
    for (int mark = 0; mark < 5000; ++mark) {
      log_->ClearRegion(RegionKey::Data("a/rather/long/path/of/a/file", mark));
    }
    ASSERT_TRUE(log_->FlushLazily().ok());
  }
  uintmax_t bytes = 0;
  for (const auto& entry :
       fs::recursive_directory_iterator(options_.place.dir)) {
    if (entry.is_regular_file()) bytes += entry.file_size();
  }
  EXPECT_LT(bytes, uintmax_t{32} << 20);
  ExpectIntact(Snapshot());
}

}  // namespace
}  // namespace mirrorfs
