// SPDX-License-Identifier: GPL-2.0-or-later
//
// What dirty_log.h promises, run over every type of log. The tests named L1 to
// L9 are the numbered contracts there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "dirtylog/dirty_log.h"
#include "dirtylog/log_factory.h"
#include "temp_dir.h"

namespace mirrorfs {
namespace {

using Answer = DirtyLog::InSyncAnswer;
using RecordMap = std::map<std::string, RegionRecord>;  // by encoded key

constexpr LegSet kA = LegSet::Of(0);  // the primary
constexpr LegSet kB = LegSet::Of(1);
constexpr LegSet kC = LegSet::Of(2);
constexpr LegSet kAll = kA | kB | kC;
constexpr size_t kMany = 1000;
const RegionRecord kDirty{.dirty = true};

RegionRecord Missing(LegSet legs) { return {.missing = legs}; }

class Conformance : public testing::TestWithParam<std::string> {
 protected:
  Conformance() { Create(); }

  bool HasStore() const { return GetParam() != "core"; }

  LogOptions Options() const {
    return {.type = GetParam(),
            .region_bytes = 4096,
            .place = {temp_ / absl::StrCat("log", lives_), nullptr},
            .mirror_uuid = "mirror",
            .log_uuid = "log",
            .expected_session = session_};
  }

  void Create() {
    Open();
    ASSERT_TRUE(log_->Resume(LegSet()).ok());
  }

  void Open() {
    absl::StatusOr<OpenedLog> opened = OpenLog(Options());
    ASSERT_TRUE(opened.ok()) << opened.status();
    log_ = std::move(opened->log);
    session_ = opened->session;
  }

  // The process dies: what it had given to the system is there, nothing is
  // closed. Only for types with a store.
  void Crash(LegSet suspects) {
    const std::string old_dir = Options().place.dir;
    ++lives_;
    std::filesystem::copy(old_dir, Options().place.dir,
                          std::filesystem::copy_options::recursive);
    log_.reset();
    std::filesystem::remove_all(old_dir);
    Open();
    ASSERT_TRUE(log_->Resume(suspects).ok());
  }

  void Mark(const RegionKey& key, const RegionRecord& record) {
    log_->MarkRegion(key, record);
  }
  void Flush() { ASSERT_TRUE(log_->Flush().ok()); }

  DirtyLog::Moving Move(const std::string& from, const std::string& to) {
    return log_->BeginMove(from, to, /*tree=*/true, /*exchange=*/false);
  }

  RegionRecord Get(const RegionKey& key) {
    return log_->Find(key).value_or(RegionRecord());
  }

  RecordMap Records() {
    RecordMap records;
    log_->ForEach([&](const RegionKey& key, const RegionRecord& record) {
      records[EncodeRegionKey(key)] = record;
    });
    return records;
  }

  // What is handed out, in order, as text.
  std::vector<std::string> Work(LegSet reachable, size_t count_max = kMany) {
    std::vector<std::string> work;
    for (const DirtyLog::Work& one :
         log_->GetResyncWork(reachable, count_max)) {
      work.push_back(absl::StrCat(
          RegionKindName(one.key.kind), " ", one.key.path,
          one.key.kind == RegionKind::kData ? absl::StrCat(" ", one.key.index)
                                            : std::string()));
    }
    return work;
  }

  TempDir temp_;
  int lives_ = 0;
  std::string session_;
  std::unique_ptr<DirtyLog> log_;
};

using Strings = std::vector<std::string>;

INSTANTIATE_TEST_SUITE_P(Types, Conformance, testing::ValuesIn(LogTypes()),
                         [](const auto& info) { return info.param; });

// ---------------------------------------------------------------------------
// Marks, clears, durability

TEST_P(Conformance, L1FlushedMarksSurviveACrash) {
  if (!HasStore()) GTEST_SKIP();
  const RegionRecord full{.dirty = true,
                          .dirty_deep = true,
                          .missing = kB,
                          .deep = kB,
                          .since_ns = 5,
                          .tail_from = 7};
  Mark(RegionKey::Data("f", 3), kDirty);
  Mark(RegionKey::Entries(""), full);
  Flush();
  Crash(LegSet());
  EXPECT_EQ(Get(RegionKey::Data("f", 3)), kDirty);
  EXPECT_EQ(Get(RegionKey::Entries("")), full);
  EXPECT_EQ(Records().size(), 2u);
}

TEST_P(Conformance, L1ThreadsShareWritesAndLoseNothing) {
  constexpr int kThreads = 8;
  constexpr int kMarks = 40;
  std::vector<std::thread> threads;
  std::atomic<int> failures = 0;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([this, thread, &failures] {
      for (int mark = 0; mark < kMarks; ++mark) {
        const RegionKey own = RegionKey::Data(absl::StrCat(thread), mark);
        log_->MarkRegion(own, kDirty);
        log_->MarkRegion(RegionKey::Data("shared", mark), kDirty);
        if (!log_->Flush().ok()) ++failures;
        // Durable when Flush returned: nothing is left to flush.
        if (log_->MarkRegion(own, kDirty)) ++failures;
        if (mark % 4 == 3) {
          log_->ClearRegion(own);
          if (!log_->FlushLazily().ok()) ++failures;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
  const RecordMap expected = Records();
  EXPECT_EQ(expected.size(), size_t{kThreads * kMarks * 3 / 4 + kMarks});
  if (!HasStore()) return;
  Crash(LegSet());
  EXPECT_EQ(Records(), expected);
}

TEST_P(Conformance, L2AMarkHasToBeFlushedOnce) {
  const RegionKey key = RegionKey::Data("f", 0);
  EXPECT_TRUE(log_->MarkRegion(key, kDirty));
  EXPECT_TRUE(log_->MarkRegion(key, kDirty)) << "it is still not durable";
  Flush();
  EXPECT_FALSE(log_->MarkRegion(key, kDirty));
  EXPECT_TRUE(log_->MarkRegion(key, Missing(kB))) << "it says more now";
  Flush();
  EXPECT_FALSE(log_->MarkRegion(key, kDirty));
  EXPECT_TRUE(log_->MarkRegion(key, {.dirty = true, .tail_from = 4}));
}

TEST_P(Conformance, L3AMarkAfterAClearIsANewMark) {
  const RegionKey key = RegionKey::Data("f", 0);
  Mark(key, kDirty);
  Flush();
  log_->ClearRegion(key);
  EXPECT_TRUE(log_->IsClean(key));
  EXPECT_TRUE(log_->FlushLazily().ok());
  EXPECT_TRUE(log_->MarkRegion(key, kDirty));
  Flush();
  if (!HasStore()) return;
  Crash(LegSet());
  EXPECT_EQ(Get(key), kDirty);
}

TEST_P(Conformance, L3AClearRidesAlongWithAFlush) {
  if (!HasStore()) GTEST_SKIP();
  Mark(RegionKey::Data("f", 0), kDirty);
  Flush();
  log_->ClearRegion(RegionKey::Data("f", 0));
  Mark(RegionKey::Data("f", 1), kDirty);
  Flush();
  Crash(LegSet());
  EXPECT_TRUE(log_->IsClean(RegionKey::Data("f", 0)));
  EXPECT_FALSE(log_->IsClean(RegionKey::Data("f", 1)));
}

TEST_P(Conformance, L3FlushLazilyDoesNotPassAMarkOffAsDurable) {
  const RegionKey key = RegionKey::Data("f", 0);
  Mark(key, kDirty);
  EXPECT_TRUE(log_->FlushLazily().ok());
  EXPECT_TRUE(log_->MarkRegion(key, kDirty));
  Flush();
  EXPECT_FALSE(log_->MarkRegion(key, kDirty));
}

TEST_P(Conformance, L3AMarkClearedBeforeItsFlushNeedsNoStore) {
  const RegionKey key = RegionKey::Data("f", 0);
  Mark(key, kDirty);
  log_->ClearRegion(key);
  EXPECT_TRUE(log_->FlushLazily().ok());
  Flush();
  EXPECT_TRUE(log_->IsClean(key));
}

TEST_P(Conformance, L4DirtyRegionsAreSuspectAfterResume) {
  if (!HasStore()) GTEST_SKIP();
  const RegionKey dirty = RegionKey::Data("dirty", 0);
  const RegionKey lacking = RegionKey::Data("lacking", 0);
  Mark(dirty, kDirty);
  Mark(lacking, Missing(kC));
  Flush();
  Crash(kB);
  EXPECT_EQ(Get(dirty), (RegionRecord{.dirty = true, .missing = kB}));
  EXPECT_EQ(log_->InSync(dirty, kB, true), Answer::kNo);
  EXPECT_EQ(Get(lacking), Missing(kC));
  // Also when it crashes again before it is healed.
  Flush();
  log_->ClearRegion(dirty);
  Flush();
  Crash(LegSet());
  EXPECT_EQ(log_->InSync(dirty, kB, true), Answer::kNo);
}

TEST_P(Conformance, L5WorkIsHandedOutOnce) {
  const RegionKey key = RegionKey::Data("f", 0);
  Mark(key, Missing(kB | kC));
  EXPECT_EQ(Work(kB), Strings{"data f 0"});
  EXPECT_EQ(Work(kAll), Strings{});
  log_->ReleaseResyncWork(key);
  EXPECT_EQ(Work(kAll), Strings{"data f 0"});
  log_->SetRegionSync(key, kB, true);
  EXPECT_EQ(Work(kB), Strings{});
  EXPECT_EQ(Work(kAll), Strings{"data f 0"});
  log_->SetRegionSync(key, kC, false);
  EXPECT_EQ(Work(kC), Strings{"data f 0"});
  log_->SetRegionSync(key, kC, true);
  EXPECT_EQ(Work(kAll), Strings{});
}

TEST_P(Conformance, L5AThreadsWorkIsNobodyElses) {
  constexpr int kRegions = 500;
  for (int i = 0; i < kRegions; ++i) {
    Mark(RegionKey::Data("f", i), Missing(kB));
  }
  std::atomic<int> handed_out = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] {
      while (true) {
        const std::vector<DirtyLog::Work> work = log_->GetResyncWork(kB, 7);
        if (work.empty()) return;
        handed_out += work.size();
        for (const DirtyLog::Work& one : work) {
          log_->SetRegionSync(one.key, kB, true);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(handed_out, kRegions);
  EXPECT_EQ(log_->GetSyncCount(kB).regions, 0u);
}

// Makes every write to a file fail while it lives.
class BrokenDisk {
 public:
  BrokenDisk() {
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit none{0, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &none);
  }
  ~BrokenDisk() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_;
};

TEST_P(Conformance, L7AFailedFlushIsSticky) {
  if (!HasStore()) GTEST_SKIP();
  const RegionKey durable = RegionKey::Data("f", 0);
  const RegionKey failed = RegionKey::Data("f", 1);
  Mark(durable, kDirty);
  Flush();
  Mark(failed, kDirty);
  {
    const BrokenDisk broken;
    EXPECT_FALSE(log_->Flush().ok());
  }
  EXPECT_FALSE(log_->Flush().ok());
  EXPECT_FALSE(log_->FlushLazily().ok());
  EXPECT_TRUE(log_->MarkRegion(durable, kDirty))
      << "a mark in a store that failed is worth nothing";
  EXPECT_FALSE(log_->IsClean(failed));
  EXPECT_FALSE(log_->Postsuspend().ok());
}

TEST_P(Conformance, L8AClearForgetsNothingThatALegLacks) {
  const RegionKey key = RegionKey::Entries("d");
  Mark(key, {.dirty = true, .missing = kB, .deep = kB, .since_ns = 9});
  log_->ClearRegion(key);
  EXPECT_EQ(Get(key), (RegionRecord{.missing = kB, .deep = kB, .since_ns = 9}));
  log_->SetRegionSync(key, kB, true);
  EXPECT_TRUE(Get(key).dirty) << "what was copied is not durable yet";
  log_->ClearRegion(key);
  EXPECT_TRUE(log_->IsClean(key));
}

TEST_P(Conformance, L9BeforeResumeNothingIsKnownToBeGood) {
  session_.clear();
  log_.reset();
  Open();
  const RegionKey key = RegionKey::Data("f", 0);
  EXPECT_FALSE(log_->IsClean(key));
  EXPECT_NE(log_->InSync(key, kA, true), Answer::kYes);
  EXPECT_TRUE(log_->Lacking(key).contains(kAll));
  EXPECT_TRUE(log_->MarkRegion(key, kDirty));
  EXPECT_FALSE(log_->Flush().ok());
  EXPECT_FALSE(log_->FlushLazily().ok());
  EXPECT_EQ(Work(kAll), Strings{});
  // What was marked is kept.
  ASSERT_TRUE(log_->Resume(LegSet()).ok());
  EXPECT_EQ(Get(key), kDirty);
  EXPECT_TRUE(log_->MarkRegion(key, kDirty)) << "it never was flushed";
  Flush();
}

TEST_P(Conformance, SuspendEndsWorkThenWrites) {
  Mark(RegionKey::Data("f", 0), Missing(kB));
  ASSERT_TRUE(log_->Presuspend().ok());
  EXPECT_EQ(Work(kB), Strings{});
  Mark(RegionKey::Data("f", 1), kDirty);
  ASSERT_TRUE(log_->Postsuspend().ok());
  EXPECT_EQ(log_->Flush().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(log_->MarkRegion(RegionKey::Data("f", 1), kDirty));
  ASSERT_TRUE(log_->Resume(LegSet()).ok());
  Flush();
  EXPECT_EQ(Work(kB), Strings{"data f 0"});
  EXPECT_EQ(Get(RegionKey::Data("f", 1)), kDirty);
  if (!HasStore()) return;
  ASSERT_TRUE(log_->Postsuspend().ok());
  Crash(LegSet());
  EXPECT_EQ(Records().size(), 2u);
}

TEST_P(Conformance, ResumeEndsHandOuts) {
  Mark(RegionKey::Data("f", 0), Missing(kB));
  EXPECT_EQ(Work(kB).size(), 1u);
  ASSERT_TRUE(log_->Presuspend().ok());
  ASSERT_TRUE(log_->Postsuspend().ok());
  ASSERT_TRUE(log_->Resume(LegSet()).ok());
  EXPECT_EQ(Work(kB).size(), 1u);
}

TEST_P(Conformance, AMarkThatSaysNothingIsNothing) {
  EXPECT_FALSE(log_->MarkRegion(RegionKey::Data("f", 0), RegionRecord()));
  EXPECT_TRUE(log_->IsClean(RegionKey::Data("f", 0)));
}

// A leg that comes to lack a region while the region is being copied to it:
// the copy may have been earlier.
TEST_P(Conformance, AMarkDuringTheCopyOutlivesTheCopy) {
  const RegionKey key = RegionKey::Data("f", 0);
  Mark(key, Missing(kB | kC));
  ASSERT_EQ(Work(kAll).size(), 1u);
  Mark(key, Missing(kB));
  log_->SetRegionSync(key, kB | kC, true);
  EXPECT_EQ(Get(key).missing, kB);
  ASSERT_EQ(Work(kAll).size(), 1u);
  log_->SetRegionSync(key, kB, true);
  EXPECT_TRUE(Get(key).missing.empty());
}

// ---------------------------------------------------------------------------
// What a leg lacks

TEST_P(Conformance, LackingByTheRegionsOwnRecord) {
  Mark(RegionKey::Data("d/f", 1), Missing(kB));
  EXPECT_EQ(log_->Lacking(RegionKey::Data("d/f", 1)), kB);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("d/f", 0)), LegSet());
  EXPECT_EQ(log_->Lacking(RegionKey::Attributes("d/f")), LegSet());
  EXPECT_EQ(log_->Lacking(RegionKey::Entries("d")), LegSet());
  EXPECT_EQ(log_->InSync(RegionKey::Data("d/f", 1), kB, false), Answer::kNo);
  EXPECT_EQ(log_->InSync(RegionKey::Data("d/f", 1), kA | kC, false),
            Answer::kYes);
}

TEST_P(Conformance, LackingByTheTailOfTheFile) {
  Mark(RegionKey::Attributes("f"), {.missing = kB, .tail_from = 5});
  EXPECT_EQ(log_->Lacking(RegionKey::Data("f", 4)), LegSet());
  EXPECT_EQ(log_->Lacking(RegionKey::Data("f", 5)), kB);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("f", UINT64_MAX)), kB);
  EXPECT_EQ(log_->Lacking(RegionKey::Attributes("f")), kB);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("f/g", 9)), LegSet());
}

TEST_P(Conformance, LackingByTheNamesOnTheWay) {
  Mark(RegionKey::Entries("a"), Missing(kB));
  Mark(RegionKey::Entries("a/b"), Missing(kC));
  EXPECT_EQ(log_->Lacking(RegionKey::Entries("")), LegSet());
  EXPECT_EQ(log_->Lacking(RegionKey::Entries("a")), kB);
  EXPECT_EQ(log_->Lacking(RegionKey::Attributes("a")), LegSet());
  EXPECT_EQ(log_->Lacking(RegionKey::Entries("a/b")), kB | kC);
  EXPECT_EQ(log_->Lacking(RegionKey::Attributes("a/b")), kB);
  EXPECT_EQ(log_->Lacking(RegionKey::Attributes("a/b/f")), kB | kC);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("a/b/c/d/f", 7)), kB | kC);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("ab/f", 7)), LegSet());
}

TEST_P(Conformance, LackingByADeepRecord) {
  Mark(RegionKey::Entries("a"), {.missing = kB, .deep = kB});
  EXPECT_EQ(log_->Lacking(RegionKey::Entries("a")), kB);
  EXPECT_EQ(log_->Lacking(RegionKey::Attributes("a")), kB);
  EXPECT_EQ(log_->Lacking(RegionKey::Attributes("a/b/c")), kB);
  EXPECT_EQ(log_->Lacking(RegionKey::Attributes("")), LegSet());
}

TEST_P(Conformance, HasRecordsOfASubtree) {
  EXPECT_FALSE(log_->HasRecords(""));
  Mark(RegionKey::Data("a/b/f", 0), kDirty);
  for (const char* path : {"", "a", "a/b", "a/b/f"}) {
    EXPECT_TRUE(log_->HasRecords(path)) << path;
  }
  for (const char* path : {"b", "a/b/f/g", "a/b2", "ab"}) {
    EXPECT_FALSE(log_->HasRecords(path)) << path;
  }
  log_->ClearRegion(RegionKey::Data("a/b/f", 0));
  EXPECT_FALSE(log_->HasRecords("a"));
}

TEST_P(Conformance, LackingAnyOfAnObject) {
  Mark(RegionKey::Data("d/f", 3), Missing(kB));
  Mark(RegionKey::Attributes("d/g"), Missing(kC));
  Mark(RegionKey::Data("d/f2", 0), kDirty);
  EXPECT_EQ(log_->LackingAnyOf("d/f"), kB);
  EXPECT_EQ(log_->LackingAnyOf("d/f2"), LegSet());
  EXPECT_EQ(log_->LackingAnyOf("d/g"), kC);
  EXPECT_EQ(log_->LackingAnyOf("d"), kB | kC);
  Mark(RegionKey::Entries("d"), Missing(kC));
  EXPECT_EQ(log_->LackingAnyOf("d/f"), kB | kC);
}

TEST_P(Conformance, MarkAllIsEverything) {
  EXPECT_TRUE(MarkAll(*log_, kB));
  for (const RegionKey& key :
       {RegionKey::Entries(""), RegionKey::Attributes(""),
        RegionKey::Entries("a"), RegionKey::Data("a/b", 3)}) {
    EXPECT_EQ(log_->Lacking(key), kB);
  }
}

TEST_P(Conformance, LackingNamesIsOfDirectoriesOnly) {
  Mark(RegionKey::Data("f", 0), Missing(kC));
  Mark(RegionKey::Entries("c"), kDirty);
  EXPECT_EQ(log_->LackingNames(), LegSet());
  Mark(RegionKey::Entries("a"), Missing(kB));
  Mark(RegionKey::Entries("d"), {.missing = kC, .deep = kC});
  EXPECT_EQ(log_->LackingNames(), kB | kC);
  log_->SetRegionSync(RegionKey::Entries("d"), kC, true);
  EXPECT_EQ(log_->LackingNames(), kB);
}

TEST_P(Conformance, DirtAloneIsInSync) {
  Mark(RegionKey::Data("f", 0), kDirty);
  EXPECT_FALSE(log_->IsClean(RegionKey::Data("f", 0)));
  EXPECT_EQ(log_->InSync(RegionKey::Data("f", 0), kAll, true), Answer::kYes);
}

// ---------------------------------------------------------------------------
// Merging and advancing

TEST_P(Conformance, SinceAndTailTakeTheWider) {
  const RegionKey entries = RegionKey::Entries("d");
  Mark(entries, {.dirty = true, .since_ns = 100});
  Mark(entries, {.dirty = true, .since_ns = 200});
  EXPECT_EQ(Get(entries).since_ns, 100);
  Mark(entries, {.dirty = true, .since_ns = 50});
  EXPECT_EQ(Get(entries).since_ns, 50);
  const RegionKey attributes = RegionKey::Attributes("f");
  Mark(attributes, {.dirty = true, .tail_from = 8});
  Mark(attributes, {.dirty = true, .tail_from = 9});
  EXPECT_EQ(Get(attributes).tail_from, 8u);
}

TEST_P(Conformance, AdvanceTailCountsUntilTheTailGrows) {
  const RegionKey key = RegionKey::Attributes("f");
  Mark(key, {.missing = kB, .tail_from = 4});
  EXPECT_EQ(log_->TailToHeal(key, kB), 4u);
  EXPECT_EQ(log_->TailToHeal(key, kC), kNoTail);
  log_->AdvanceTail(key, {5, 6}, kB);
  EXPECT_EQ(log_->TailToHeal(key, kB), 4u) << "the one before is not healed";
  log_->AdvanceTail(key, {4, 6}, kB | kC);
  EXPECT_EQ(log_->TailToHeal(key, kB), 6u);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("f", 5)), LegSet());
  EXPECT_EQ(log_->Lacking(RegionKey::Data("f", 6)), kB);
  // The record still says everything: what was copied is not durable.
  EXPECT_EQ(Get(key).tail_from, 4u);
  Mark(key, {.dirty = true, .tail_from = 4});
  EXPECT_EQ(log_->TailToHeal(key, kB), 6u) << "the leg takes that";
  Mark(key, {.missing = kB, .tail_from = 5});
  EXPECT_EQ(log_->TailToHeal(key, kB), 5u);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("f", 5)), kB);
  log_->SetRegionSync(key, kB, true);
  Mark(key, {.missing = kB});
  EXPECT_EQ(log_->TailToHeal(key, kB), 4u) << "it lacks it anew";
  Mark(RegionKey::Attributes("g"), Missing(kB));
  EXPECT_EQ(log_->TailToHeal(RegionKey::Attributes("g"), kB), kNoTail);
  EXPECT_EQ(log_->TailToHeal(RegionKey::Attributes("h"), kB), kNoTail);
}

TEST_P(Conformance, AdvanceTailDoesNotCountForALegThatMayLoseIt) {
  const RegionKey key = RegionKey::Attributes("f");
  Mark(key, {.dirty = true, .missing = kB, .tail_from = 0});
  log_->AdvanceTail(key, {0, 6}, kB);
  log_->SuspectDirty(kB);
  EXPECT_EQ(log_->TailToHeal(key, kB), 0u);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("f", 5)), kB);
}

TEST_P(Conformance, AdvanceTailDoesNotCountForALegThatLeftDuringTheCopy) {
  const RegionKey key = RegionKey::Attributes("f");
  Mark(key, {.missing = kB | kC, .tail_from = 0});
  ASSERT_EQ(log_->GetResyncWork(kB | kC, 1).size(), 1u);
  log_->StartCopy(key);
  log_->SuspectDirty(kB);
  log_->AdvanceTail(key, {0, 6}, kB | kC);
  EXPECT_EQ(log_->TailToHeal(key, kB), 0u);
  EXPECT_EQ(log_->TailToHeal(key, kC), 6u);
  log_->StartCopy(key);
  log_->AdvanceTail(key, {0, 6}, kB | kC);
  EXPECT_EQ(log_->TailToHeal(key, kB), 6u) << "it was copied again";
}

TEST_P(Conformance, AdvanceTailDoesNotCountForALegThatCameLater) {
  const RegionKey key = RegionKey::Attributes("f");
  Mark(key, {.missing = kB, .tail_from = 0});
  log_->AdvanceTail(key, {0, 6}, kB);
  Mark(key, {.missing = kC});
  EXPECT_EQ(log_->Lacking(RegionKey::Data("f", 5)), kC);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("f", 6)), kB | kC);
  EXPECT_EQ(log_->TailToHeal(key, kB), 6u);
  EXPECT_EQ(log_->TailToHeal(key, kB | kC), 0u);
}

TEST_P(Conformance, AHealedTailIsSettledOnceItIsDurable) {
  const RegionKey key = RegionKey::Attributes("f");
  Mark(key, {.missing = kB, .tail_from = 4});
  EXPECT_TRUE(log_->HealedTails(1).empty());
  log_->AdvanceTail(key, {4, 6}, kB);
  EXPECT_TRUE(log_->HealedTails(3).empty());
  const std::vector<DirtyLog::HealedTail> tails = log_->HealedTails(2);
  ASSERT_EQ(tails.size(), 1u);
  EXPECT_FALSE(tails[0].dirty);
  log_->AdvanceTail(key, {6, 8}, kB);
  log_->SettleTails(tails);
  EXPECT_EQ(Get(key).tail_from, 6u) << "what came after may not be durable";
  EXPECT_EQ(log_->TailToHeal(key, kB), 8u);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("f", 7)), LegSet());
  ASSERT_TRUE(log_->FlushWhole().ok());
  if (HasStore()) {
    Crash(LegSet());
    EXPECT_EQ(Get(key).tail_from, 6u);
    EXPECT_EQ(log_->TailToHeal(key, kB), 6u);
  }
  EXPECT_EQ(Get(key).missing, kB);
  log_->SetRegionSync(key, kB, true);
  EXPECT_TRUE(log_->HealedTails(1).empty());
}

TEST_P(Conformance, AHealedTailThatIsDirtySaysSo) {
  const RegionKey key = RegionKey::Attributes("f");
  Mark(key, {.dirty = true, .missing = kB, .tail_from = 4});
  log_->AdvanceTail(key, {4, 6}, kB);
  std::vector<DirtyLog::HealedTail> tails = log_->HealedTails(1);
  ASSERT_EQ(tails.size(), 1u);
  EXPECT_TRUE(tails[0].dirty);
  log_->SettleTails(tails);
  EXPECT_EQ(Get(key).tail_from, 4u);
  log_->ClearRegion(key);
  tails = log_->HealedTails(1);
  ASSERT_EQ(tails.size(), 1u);
  EXPECT_FALSE(tails[0].dirty);
}

TEST_P(Conformance, ATailThatComesLaterIsSettledAsFarAsItIsHealed) {
  const RegionKey key = RegionKey::Attributes("f");
  Mark(key, {.missing = kB});
  log_->AdvanceTail(key, {0, 4}, kB);
  EXPECT_TRUE(log_->HealedTails(1).empty());
  Mark(key, {.dirty = true, .tail_from = 2});
  log_->ClearRegion(key);
  EXPECT_EQ(log_->TailToHeal(key, kB), 4u);
  log_->SettleTails(log_->HealedTails(1));
  EXPECT_EQ(Get(key).tail_from, 4u);
}

TEST_P(Conformance, ATailIsNotSettledAfterItIsLackedAnew) {
  const RegionKey key = RegionKey::Attributes("f");
  const std::vector<std::function<void()>> changes = {
      [&] { Mark(key, {.missing = kB, .tail_from = 0}); },
      [&] { Mark(key, {.missing = kC}); },
      [&] { Mark(key, {.dirty = true, .tail_from = 5}); },
      [&] { log_->SuspectDirty(kB); },
      [&] { log_->SetRegionSync(key, kC, false); },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    Mark(key, {.missing = kB, .tail_from = 0});
    log_->AdvanceTail(key, {0, 6}, kB);
    const std::vector<DirtyLog::HealedTail> tails = log_->HealedTails(1);
    ASSERT_EQ(tails.size(), 1u) << i;
    changes[i]();
    // It is healed again, and that is not what was made durable.
    if (i != 2) {
      log_->StartCopy(key);
      log_->AdvanceTail(key, {0, 6}, kB | kC);
    }
    log_->SettleTails(tails);
    EXPECT_EQ(Get(key).tail_from, 0u) << i;
    log_->SetRegionSync(key, kB | kC, true);
    log_->ClearRegion(key);
    ASSERT_TRUE(log_->IsClean(key)) << i;
  }
}

TEST_P(Conformance, ATailOfAnotherRecordIsNotSettled) {
  const RegionKey key = RegionKey::Attributes("f");
  Mark(key, {.missing = kB, .tail_from = 0});
  log_->AdvanceTail(key, {0, 6}, kB);
  const std::vector<DirtyLog::HealedTail> tails = log_->HealedTails(1);
  log_->SetRegionSync(key, kB, true);
  log_->ClearRegion(key);
  Mark(key, {.missing = kB, .tail_from = 0});
  log_->AdvanceTail(key, {0, 6}, kB);
  log_->SettleTails(tails);
  EXPECT_EQ(Get(key).tail_from, 0u);
}

TEST_P(Conformance, ACopySeesWhatWasMissedBeforeItAndNotAfter) {
  const RegionKey key = RegionKey::Entries("d");
  for (const bool before : {true, false}) {
    Mark(key, Missing(kB));
    ASSERT_EQ(log_->GetResyncWork(kAll, 9).size(), 1u);
    if (before) Mark(key, Missing(kB));
    log_->StartCopy(key);
    if (!before) Mark(key, Missing(kB));
    log_->SetRegionSync(key, kB, true);
    EXPECT_EQ(log_->Lacking(key), before ? LegSet() : kB);
  }
}

// What a leg was given may be lost with it.
TEST_P(Conformance, ACopyToALegThatGoesMeanwhileDoesNotCount) {
  const RegionKey key = RegionKey::Data("f", 0);
  Mark(key, {.dirty = true, .missing = kB});
  ASSERT_EQ(log_->GetResyncWork(kAll, 9).size(), 1u);
  log_->StartCopy(key);
  log_->SuspectDirty(kB);
  log_->SetRegionSync(key, kB, true);
  EXPECT_EQ(log_->Lacking(key), kB);
}

TEST_P(Conformance, WhoIsPardonedLacksNothingAndWorkGoesOn) {
  const RegionKey key = RegionKey::Entries("d");
  Mark(key, {.missing = kB | kC, .deep = kB});
  ASSERT_EQ(log_->GetResyncWork(kB | kC, 9).size(), 1u);
  Mark(key, {.missing = kB | kC});
  log_->Pardon(key, kB);
  EXPECT_EQ(log_->Lacking(key), kC);
  EXPECT_TRUE(log_->GetResyncWork(kC, 9).empty()) << "it was handed out twice";
  // What C missed meanwhile is not forgotten.
  log_->SetRegionSync(key, kC, true);
  EXPECT_EQ(log_->Lacking(key), kC);
}

TEST_P(Conformance, AdvanceSinceWaitsForEveryLeg) {
  const RegionKey key = RegionKey::Entries("d");
  Mark(key, {.dirty = true, .missing = kB, .since_ns = 100});
  log_->AdvanceSince(key, 200);
  EXPECT_EQ(Get(key).since_ns, 100);
  log_->SetRegionSync(key, kB, true);
  log_->AdvanceSince(key, 200);
  EXPECT_EQ(Get(key).since_ns, 200);
  log_->AdvanceSince(key, 150);
  EXPECT_EQ(Get(key).since_ns, 200);
}

TEST_P(Conformance, ADirtySetByARecoveryHasToBeFlushedToo) {
  // The store knows "B lacks it"; a crash after B got it and a new write went
  // out needs "all are suspect".
  const RegionKey key = RegionKey::Data("f", 0);
  Mark(key, Missing(kB));
  Flush();
  log_->SetRegionSync(key, kB, true);
  EXPECT_TRUE(log_->MarkRegion(key, kDirty));
  Flush();
  if (!HasStore()) return;
  Crash(kB | kC);
  EXPECT_EQ(Get(key).missing, kB | kC);
}

// ---------------------------------------------------------------------------
// Renames

TEST_P(Conformance, AMoveAddsToTheNewPlaceAndKeepsTheOldUntilItIsDone) {
  Mark(RegionKey::Entries("a"), {.dirty = true, .since_ns = 5});
  Mark(RegionKey::Attributes("a"), {.missing = kB, .directory = true});
  Mark(RegionKey::Data("a/b/f", 3), kDirty);
  Mark(RegionKey::Data("ab", 0), kDirty);
  Mark(RegionKey::Data("x/y/b/f", 3), Missing(kC));
  Flush();
  const RecordMap before = Records();
  EXPECT_TRUE(Move("a", "x/y").unflushed);
  Flush();
  EXPECT_EQ(Get(RegionKey::Entries("x/y")),
            (RegionRecord{.dirty = true, .since_ns = 5}));
  EXPECT_EQ(Get(RegionKey::Attributes("x/y")),
            (RegionRecord{.missing = kB, .directory = true}));
  EXPECT_EQ(Get(RegionKey::Data("x/y/b/f", 3)),
            (RegionRecord{.dirty = true, .missing = kC}));
  EXPECT_EQ(Records().size(), before.size() + 2);
  EXPECT_EQ(Get(RegionKey::Data("a/b/f", 3)), kDirty);
  if (!HasStore()) return;
  const RecordMap after = Records();
  Crash(LegSet());
  EXPECT_EQ(Records(), after);
}

TEST_P(Conformance, AFileLeavesWhatWasBeneathAnotherOfItsName) {
  Mark(RegionKey::Attributes("a"), Missing(kB));
  Mark(RegionKey::Data("a", 7), Missing(kC));
  Mark(RegionKey::Data("a/f", 0), kDirty);
  Mark(RegionKey::Data("ab", 0), kDirty);
  EXPECT_TRUE(log_->CopyObject("a", "x").unflushed);
  EXPECT_EQ(Get(RegionKey::Attributes("x")), Missing(kB));
  EXPECT_EQ(Get(RegionKey::Data("x", 7)), Missing(kC));
  EXPECT_EQ(Records().size(), 6u);
  log_->BeginMove("a", "y", /*tree=*/false, /*exchange=*/false);
  EXPECT_EQ(Get(RegionKey::Data("y", 7)), Missing(kC));
  EXPECT_EQ(Records().size(), 8u);
}

TEST_P(Conformance, AMoveOfNothingNeedsNoFlush) {
  Mark(RegionKey::Data("ab", 0), kDirty);
  EXPECT_FALSE(Move("a", "b").unflushed);
  EXPECT_EQ(Records().size(), 1u);
}

TEST_P(Conformance, AMoveDoneTwiceNeedsOneFlush) {
  Mark(RegionKey::Data("a", 0), kDirty);
  EXPECT_TRUE(Move("a", "b").unflushed);
  EXPECT_TRUE(Move("a", "b").unflushed) << "not durable yet";
  Flush();
  EXPECT_FALSE(Move("a", "b").unflushed);
}

TEST_P(Conformance, AMoveNamesThePlacesItCopiesTo) {
  Mark(RegionKey::Data("a/f", 0), kDirty);
  Mark(RegionKey::Entries("a"), Missing(kB));
  const DirtyLog::Moving moving = Move("a", "b");
  EXPECT_THAT(moving.copies,
              testing::UnorderedElementsAre(RegionKey::Data("b/f", 0),
                                            RegionKey::Entries("b")));
}

// What is made at the old place was not there when the leg came to lack things.
TEST_P(Conformance, WhatMovedIsLackedAtItsOldPlaceOnlyAfterACrash) {
  Mark(RegionKey::Attributes("a"), {.missing = kB | kC, .tail_from = 0});
  Mark(RegionKey::Data("a", 7), Missing(kB));
  const DirtyLog::Moving moving =
      log_->BeginMove("a", "x", /*tree=*/false, /*exchange=*/false);
  Flush();
  log_->FinishMove(moving, kB);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("a", 7)), kC);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("x", 7)), kB | kC);
  Flush();
  if (!HasStore()) return;
  Crash(kB | kC);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("a", 7)), kB | kC);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("a", 8)), kB | kC);
}

TEST_P(Conformance, ALegThatFailsMeanwhileLacksWhatItLacked) {
  Mark(RegionKey::Attributes("a"), {.dirty = true, .missing = kB});
  const DirtyLog::Moving moving =
      log_->BeginMove("a", "x", /*tree=*/false, /*exchange=*/true);
  Flush();
  log_->SuspectDirty(kB);
  log_->FinishMove(moving, kB);
  EXPECT_EQ(log_->Lacking(RegionKey::Attributes("a")), kB);
  EXPECT_EQ(log_->Lacking(RegionKey::Attributes("x")), kB);
}

TEST_P(Conformance, AMoveThatWasRefusedLeavesNothing) {
  Mark(RegionKey::Entries("a"), {.missing = kB, .since_ns = 5});
  Mark(RegionKey::Data("a/f", 3), {.dirty = true, .missing = kC});
  Mark(RegionKey::Attributes("a/f"), Missing(kB));
  log_->SetOrigin("a/f", 1, "old");
  Mark(RegionKey::Attributes("x/f"), {.missing = kC, .tail_from = 2});
  Flush();
  const RecordMap before = Records();
  for (const bool exchange : {false, true}) {
    DirtyLog::Moving moving =
        log_->BeginMove("a", "x", /*tree=*/true, exchange);
    RegionRecord missed = {.missing = kB, .tail_from = 0};
    missed.moved_from.Set(1, "a");
    log_->MarkMissed(RegionKey::Attributes("x"), missed, &moving);
    EXPECT_EQ(Get(RegionKey::Attributes("x")).moved_from, missed.moved_from);
    EXPECT_TRUE(moving.unflushed);
    Flush();
    log_->UndoMove(moving);
    EXPECT_EQ(Records(), before);
  }
  ASSERT_TRUE(log_->FlushLazily().ok());
  if (!HasStore()) return;
  Crash(LegSet());
  EXPECT_EQ(Records(), before);
}

TEST_P(Conformance, WhatIsSaidDuringAMoveThatWasRefusedStays) {
  Mark(RegionKey::Data("a/f", 3), Missing(kB));
  DirtyLog::Moving moving =
      log_->BeginMove("a", "x", /*tree=*/true, /*exchange=*/false);
  Mark(RegionKey::Data("x/f", 3), Missing(kC));
  log_->UndoMove(moving);
  EXPECT_EQ(Get(RegionKey::Data("x/f", 3)), Missing(kB | kC));
  // A leg may have come to lack what was taken for said already.
  moving = log_->BeginMove("a", "y", /*tree=*/true, /*exchange=*/false);
  log_->SuspectDirty(kB);
  log_->UndoMove(moving);
  EXPECT_EQ(Get(RegionKey::Data("y/f", 3)), Missing(kB));
}

TEST_P(Conformance, ADirectoryThatMovedLeavesOneRecord) {
  const RegionRecord moved{.dirty = true, .dirty_deep = true};
  Mark(RegionKey::Entries("a"), {.dirty = true, .missing = kB, .since_ns = 5});
  Mark(RegionKey::Data("a/b/f", 3), {.dirty = true, .missing = kB});
  Mark(RegionKey::Entries("a/b"), {.missing = kB, .deep = kB});
  Mark(RegionKey::Data("ab", 0), kDirty);
  const DirtyLog::Moving moving =
      log_->BeginMove("a", "x", /*tree=*/true, /*exchange=*/false);
  Mark(RegionKey::Entries("a"), moved);
  Flush();
  log_->FinishMove(moving, kB);
  EXPECT_EQ(Get(RegionKey::Entries("a")),
            (RegionRecord{.dirty = true, .dirty_deep = true, .since_ns = 5}));
  EXPECT_EQ(Get(RegionKey::Data("a/b/f", 3)), RegionRecord());
  EXPECT_EQ(Get(RegionKey::Entries("a/b")), RegionRecord());
  EXPECT_EQ(Get(RegionKey::Data("ab", 0)), kDirty);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("x/b/f", 3)), kB);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("a/b/f", 3)), LegSet());
  Flush();
  if (!HasStore()) return;
  Crash(kB | kC);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("a/b/f", 3)), kB | kC);
}

TEST_P(Conformance, ADirectoryLeavesWhatItsEntriesDoNotSay) {
  Mark(RegionKey::Data("a/f", 3), Missing(kB | kC));
  // Not marked, not durable, or a leg that missed the move and is not marked.
  const DirtyLog::Moving moving =
      log_->BeginMove("a", "x", /*tree=*/true, /*exchange=*/false);
  Flush();
  log_->FinishMove(moving, LegSet());
  EXPECT_EQ(Get(RegionKey::Data("a/f", 3)), Missing(kB | kC));
  Mark(RegionKey::Entries("a"), {.dirty = true, .dirty_deep = true});
  log_->FinishMove(moving, LegSet());
  EXPECT_EQ(Get(RegionKey::Data("a/f", 3)), Missing(kB | kC));
  Flush();
  log_->FinishMove(moving, kB);
  EXPECT_EQ(Get(RegionKey::Data("a/f", 3)),
            (RegionRecord{.dirty = true, .missing = kC}));
  Mark(RegionKey::Entries("a"), {.missing = kC, .deep = kC});
  Flush();
  log_->FinishMove(moving, kB);
  EXPECT_EQ(Get(RegionKey::Data("a/f", 3)), RegionRecord());
}

TEST_P(Conformance, WhatChangesPlacesIsLackedWhereItIs) {
  Mark(RegionKey::Data("a/f", 0), Missing(kB));
  Mark(RegionKey::Data("a/both", 0), Missing(kB));
  Mark(RegionKey::Data("b/both", 0), Missing(kB | kC));
  Mark(RegionKey::Data("b/g", 0), Missing(kC));
  const DirtyLog::Moving moving =
      log_->BeginMove("a", "b", /*tree=*/true, /*exchange=*/true);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("a/f", 0)), kB);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("b/f", 0)), kB);
  for (const char* place : {"a", "b"}) {
    Mark(RegionKey::Entries(place), {.dirty = true, .dirty_deep = true});
  }
  Flush();
  log_->FinishMove(moving, kB | kC);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("a/f", 0)), LegSet());
  EXPECT_EQ(log_->Lacking(RegionKey::Data("b/f", 0)), kB);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("a/g", 0)), kC);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("b/g", 0)), LegSet());
  EXPECT_EQ(log_->Lacking(RegionKey::Data("a/both", 0)), kB | kC);
  EXPECT_EQ(log_->Lacking(RegionKey::Data("b/both", 0)), kB);
}

TEST_P(Conformance, WhereLegsHaveItChangesPlacesToo) {
  Mark(RegionKey::Attributes("a"), Missing(kB));
  Mark(RegionKey::Entries("a"), Missing(kB));
  Mark(RegionKey::Attributes("b"), {.missing = kB, .tail_from = 3});
  Mark(RegionKey::Attributes("b/f"), Missing(kB));
  Mark(RegionKey::Attributes("a/f"), {.missing = kB | kC, .tail_from = 7});
  for (const char* path : {"a", "b", "b/f"}) {
    log_->SetOrigin(path, 1, absl::StrCat("old ", path));
  }
  const DirtyLog::Moving moving =
      log_->BeginMove("a", "b", /*tree=*/true, /*exchange=*/true);
  EXPECT_EQ(log_->OriginOf("a", 1), "old b");
  EXPECT_EQ(log_->OriginOf("b", 1), "old a");
  EXPECT_EQ(log_->OriginOf("a/f", 1), "old b/f");
  EXPECT_EQ(log_->Lacking(RegionKey::Entries("b")), kB);
  EXPECT_EQ(Get(RegionKey::Attributes("b/f")).missing, kB | kC);
  EXPECT_EQ(Get(RegionKey::Attributes("b/f")).tail_from, 7u);
}

TEST_P(Conformance, DirectoriesMovedIntoEachOtherDoNotMultiplyRecords) {
  const auto move = [&](const std::string& from, const std::string& to,
                        bool exchange) {
    const DirtyLog::Moving moving =
        log_->BeginMove(from, to, /*tree=*/true, exchange);
    for (const std::string& place : {from, to}) {
      Mark(RegionKey::Entries(place), {.dirty = true, .dirty_deep = true});
    }
    Flush();
    log_->FinishMove(moving, kB | kC);
  };
  for (int n = 0; n < 6; ++n) {
    Mark(RegionKey::Entries(absl::StrCat("d", n)), Missing(kB));
    Mark(RegionKey::Data(absl::StrCat("d", n, "/f"), 0), Missing(kB));
  }
  for (int round = 0; round < 5; ++round) {
    for (int n = 1; n < 6; ++n) {
      const std::string one = absl::StrCat("d", n);
      const std::string other = absl::StrCat("d", n - 1, "/sub");
      move(one, other, false);
      move(other, one, false);
      move(one, absl::StrCat("d", n - 1), true);
    }
  }
  EXPECT_LT(Records().size(), 40u);
}

// ---------------------------------------------------------------------------
// Where legs have what was moved while they were away

TEST_P(Conformance, OriginIsThePathItselfUnlessItWasMoved) {
  EXPECT_EQ(log_->OriginOf("a/b", 1), "a/b");
  Mark(RegionKey::Attributes("to"), Missing(kB | kC));
  log_->SetOrigin("to", 1, "from");
  EXPECT_EQ(log_->OriginOf("to", 1), "from");
  EXPECT_EQ(log_->OriginOf("to/x/y", 1), "from/x/y");
  EXPECT_EQ(log_->OriginOf("to/x", 2), "to/x");
  EXPECT_EQ(log_->OriginOf("too", 1), "too");
  EXPECT_EQ(log_->MovedTo("from", 1), (Strings{"to"}));
  EXPECT_EQ(log_->MovedTo("from", 2), Strings());
  EXPECT_EQ(log_->MovedTo("from/x", 1), Strings());
  log_->SetOrigin("to", 1, "to");
  EXPECT_EQ(log_->OriginOf("to", 1), "to");
  EXPECT_EQ(log_->MovedTo("from", 1), Strings());
  EXPECT_EQ(log_->MovedTo("to", 1), Strings());
}

TEST_P(Conformance, OnlyALegThatLacksTheObjectHasItElsewhere) {
  log_->SetOrigin("to", 1, "from");
  Mark(RegionKey::Attributes("to"), Missing(kC));
  log_->SetOrigin("to", 1, "from");
  EXPECT_EQ(log_->MovedTo("from", 1), Strings());
  Mark(RegionKey::Attributes("to"), Missing(kB));
  log_->SetOrigin("to", 1, "from");
  log_->SetOrigin("to", 2, "elsewhere");
  log_->SetRegionSync(RegionKey::Attributes("to"), kB, true);
  EXPECT_EQ(log_->MovedTo("from", 1), Strings());
  EXPECT_EQ(log_->MovedTo("elsewhere", 2), (Strings{"to"}));
  log_->ForgetLegs(kC);
  EXPECT_EQ(log_->MovedTo("elsewhere", 2), Strings());
}

TEST_P(Conformance, OriginsGoAlongWithARename) {
  Mark(RegionKey::Attributes("a/x"), Missing(kB));
  log_->SetOrigin("a/x", 1, "old");
  Move("a", "b");
  EXPECT_EQ(log_->MovedTo("old", 1), (Strings{"b/x"}));
  EXPECT_EQ(log_->OriginOf("a/x", 1), "a/x");
  // Back where the leg has it.
  Move("b/x", "old");
  EXPECT_EQ(log_->MovedTo("old", 1), Strings());
  EXPECT_EQ(log_->OriginOf("old", 1), "old");
}

TEST_P(Conformance, WhatTheLegHasIsMovedThere) {
  for (const char* path : {"to", "of child", "other"}) {
    Mark(RegionKey::Attributes(path), Missing(kB | kC));
  }
  for (const LegSlot leg : {1, 2}) {
    log_->SetOrigin("to", leg, "from");
    log_->SetOrigin("of child", leg, "from/child");
    log_->SetOrigin("other", leg, "fromage");
  }
  log_->MoveOrigins("from", "aside", 1);
  EXPECT_EQ(log_->MovedTo("aside", 1), (Strings{"to"}));
  EXPECT_EQ(log_->MovedTo("aside/child", 1), (Strings{"of child"}));
  EXPECT_EQ(log_->MovedTo("fromage", 1), (Strings{"other"}));
  EXPECT_EQ(log_->MovedTo("from", 2), (Strings{"to"}));
  log_->MoveOrigins("aside", "to", 1);
  EXPECT_EQ(log_->OriginOf("to", 1), "to");
  EXPECT_EQ(log_->OriginOf("of child", 1), "to/child");
  EXPECT_EQ(log_->OriginOf("of child", 2), "from/child");
}

TEST_P(Conformance, OriginsSurviveACrash) {
  if (!HasStore()) GTEST_SKIP();
  Mark(RegionKey::Attributes("to"), Missing(kB | kC));
  log_->SetOrigin("to", 1, "from");
  log_->SetOrigin("to", 2, "elsewhere");
  Flush();
  // Written with the clears, not waited for.
  log_->MoveOrigins("from", "aside", 1);
  ASSERT_TRUE(log_->FlushLazily().ok());
  Crash(LegSet());
  EXPECT_EQ(log_->MovedTo("aside", 1), (Strings{"to"}));
  EXPECT_EQ(log_->MovedTo("from", 1), Strings());
  EXPECT_EQ(log_->MovedTo("elsewhere", 2), (Strings{"to"}));
}

// ---------------------------------------------------------------------------
// The order of work

TEST_P(Conformance, WorkComesRankByRank) {
  Mark(RegionKey::Attributes("d"), {.missing = kB, .directory = true});
  Mark(RegionKey::Attributes("d/e"), {.missing = kB, .directory = true});
  Mark(RegionKey::Data("f", 1), Missing(kB));
  Mark(RegionKey::Data("f", 0), Missing(kB));
  Mark(RegionKey::Attributes("f"), Missing(kB));
  Mark(RegionKey::Entries("new"), {.missing = kB, .deep = kB});
  Mark(RegionKey::Entries("d"), Missing(kB));
  Mark(RegionKey::Entries("c"), Missing(kB));

  EXPECT_EQ(Work(kB), (Strings{"entries c", "entries d"}));
  log_->SetRegionSync(RegionKey::Entries("c"), kB, true);
  log_->SetRegionSync(RegionKey::Entries("d"), kB, true);
  EXPECT_EQ(Work(kB), (Strings{"entries new"}));
  EXPECT_EQ(Work(kB), (Strings{"attributes f", "data f 0", "data f 1"}));
  EXPECT_EQ(Work(kB), (Strings{"attributes d/e", "attributes d"}));
}

TEST_P(Conformance, ATreeWaitsWhileManyContentsDo) {
  Mark(RegionKey::Entries("new"), {.missing = kB, .deep = kB});
  for (int n = 0; n < 5000; ++n) Mark(RegionKey::Data("f", n), Missing(kB));
  EXPECT_EQ(Work(kB, 1), (Strings{"data f 0"}));
  Mark(RegionKey::Entries("c"), Missing(kB));
  EXPECT_EQ(Work(kB, 1), (Strings{"entries c"}));
  for (int n = 0; n < 2000; ++n) {
    log_->SetRegionSync(RegionKey::Data("f", n), kB, true);
  }
  EXPECT_EQ(Work(kB, 1), (Strings{"entries new"}));
}

TEST_P(Conformance, WorkWaitsForTheNamesOnTheWay) {
  Mark(RegionKey::Entries("a"), Missing(kB));
  Mark(RegionKey::Entries("a/b"), Missing(kB));
  Mark(RegionKey::Data("a/b/f", 0), Missing(kB));
  Mark(RegionKey::Data("z", 0), Missing(kB));
  EXPECT_EQ(Work(kB), Strings{"entries a"});
  EXPECT_EQ(Work(kB), Strings{"data z 0"}) << "the rest waits for a";
  EXPECT_EQ(Work(kB), Strings{});
  log_->SetRegionSync(RegionKey::Entries("a"), kB, true);
  EXPECT_EQ(Work(kB), Strings{"entries a/b"});
  log_->SetRegionSync(RegionKey::Entries("a/b"), kB, true);
  EXPECT_EQ(Work(kB), Strings{"data a/b/f 0"});
}

TEST_P(Conformance, WorkWaitsOnlyForTheLegsItIsFor) {
  Mark(RegionKey::Entries(""), {.missing = kB, .deep = kB});
  Mark(RegionKey::Data("a/f", 0), Missing(kC));
  Mark(RegionKey::Data("a/g", 0), Missing(kB));
  EXPECT_EQ(Work(kB | kC), Strings{"entries "});
  EXPECT_EQ(Work(kB | kC), Strings{"data a/f 0"}) << "B has no names yet";
  EXPECT_EQ(Work(kB | kC), Strings{});
}

TEST_P(Conformance, DirectoryAttributesWaitForWhatLiesInTheDirectory) {
  Mark(RegionKey::Attributes("d"), {.missing = kB, .directory = true});
  Mark(RegionKey::Attributes("e"), {.missing = kB, .directory = true});
  Mark(RegionKey::Data("d/f", 0), Missing(kB));
  EXPECT_EQ(Work(kB), Strings{"data d/f 0"});
  EXPECT_EQ(Work(kB), Strings{"attributes e"}) << "d/f is still copied";
  log_->SetRegionSync(RegionKey::Data("d/f", 0), kB, true);
  EXPECT_EQ(Work(kB), Strings{"attributes d"});
}

TEST_P(Conformance, FewDeepEntriesAreHandedOutAtOnce) {
  for (int i = 0; i < 100; ++i) {
    Mark(RegionKey::Entries(absl::StrCat("d", 100 + i)),
         {.missing = kB, .deep = kB});
  }
  const Strings first = Work(kB);
  EXPECT_EQ(first.size(), 64u);
  EXPECT_EQ(Work(kB), Strings{});
  log_->SetRegionSync(RegionKey::Entries("d100"), kB, true);
  EXPECT_EQ(Work(kB), Strings{"entries d164"});
}

TEST_P(Conformance, CountMaxIsHonoured) {
  for (int i = 0; i < 10; ++i) Mark(RegionKey::Data("f", i), Missing(kB | kC));
  EXPECT_EQ(Work(kB | kC, 3), (Strings{"data f 0", "data f 1", "data f 2"}));
  EXPECT_EQ(Work(kB | kC, 1), (Strings{"data f 3"}));
  EXPECT_EQ(Work(kB | kC, 0), Strings{});
}

TEST_P(Conformance, NoWorkForLegsThatAreAway) {
  Mark(RegionKey::Data("f", 0), Missing(kB));
  EXPECT_EQ(Work(kA | kC), Strings{});
  EXPECT_EQ(Work(LegSet()), Strings{});
}

// ---------------------------------------------------------------------------
// Counts and status

TEST_P(Conformance, SyncCountCountsForTheLegsAskedFor) {
  Mark(RegionKey::Entries("d"), Missing(kB));
  Mark(RegionKey::Attributes("d/f"), Missing(kB));
  Mark(RegionKey::Data("d/f", 0), Missing(kB));
  Mark(RegionKey::Data("d/f", 1), {.dirty = true, .missing = kC});
  Mark(RegionKey::Data("d/g", 1), Missing(kB | kC));
  Mark(RegionKey::Data("h", 0), kDirty);
  const DirtyLog::SyncCount b = log_->GetSyncCount(kB);
  EXPECT_EQ(b.regions, 4u);
  EXPECT_EQ(b.files, 2u);
  EXPECT_EQ(b.directories, 1u);
  EXPECT_EQ(b.dirty, 2u);
  EXPECT_EQ(log_->GetSyncCount(kB | kC).regions, 5u);
  EXPECT_EQ(log_->GetSyncCount(kC).files, 2u);
  EXPECT_EQ(log_->GetSyncCount(kA).regions, 0u);
  EXPECT_EQ(log_->GetSyncCount(kA).dirty, 2u);
}

TEST_P(Conformance, StatusIsDms) {
  const std::string dir = Options().place.dir;
  const std::string info = log_->Status(DirtyLog::StatusKind::kInfo);
  const std::string table = log_->Status(DirtyLog::StatusKind::kTable);
  if (HasStore()) {
    EXPECT_EQ(info, absl::StrCat("3 ", GetParam(), " ", dir, " A"));
    EXPECT_EQ(table, absl::StrCat(GetParam(), " 2 ", dir, " 4096"));
  } else {
    EXPECT_EQ(info, "1 core");
    EXPECT_EQ(table, "core 1 4096");
  }
  EXPECT_EQ(log_->GetRegionSize(), 4096u);
  EXPECT_FALSE(log_->IsRemoteRecovering(RegionKey::Entries("")));
}

TEST_P(Conformance, ForEachIsInKeyOrder) {
  for (const char* path : {"b", "a/b", "a", "a!", ""}) {
    Mark(RegionKey::Attributes(path), kDirty);
    Mark(RegionKey::Entries(path), kDirty);
  }
  Strings visited;
  log_->ForEach([&](const RegionKey& key, const RegionRecord&) {
    visited.push_back(EncodeRegionKey(key));
  });
  EXPECT_EQ(visited.size(), 10u);
  EXPECT_TRUE(std::is_sorted(visited.begin(), visited.end()));
}

TEST_P(Conformance, CopyAllCarriesEverythingToAnotherLog) {
  Mark(RegionKey::Entries("d"), {.missing = kB, .deep = kB, .since_ns = 4});
  Mark(RegionKey::Data("f", 9), kDirty);
  LogOptions options = Options();
  options.place.dir = temp_ / "moved";
  options.expected_session.clear();
  absl::StatusOr<OpenedLog> to = OpenLog(options);
  ASSERT_TRUE(to.ok());
  ASSERT_TRUE(to->log->Resume(LegSet()).ok());
  ASSERT_TRUE(CopyAll(*log_, *to->log).ok());
  const RecordMap expected = Records();
  log_ = std::move(to->log);
  EXPECT_EQ(Records(), expected);
  EXPECT_FALSE(log_->MarkRegion(RegionKey::Data("f", 9), kDirty));
}

// ---------------------------------------------------------------------------
// Anything, in any order

// A log that is obviously right: it looks at everything each time.
class ModelLog {
 public:
  RecordMap records;
  std::set<std::string> handed_out;
  std::map<std::string, LegSet> missed_again;
  // See DirtyLog::AdvanceTail.
  std::map<std::string, std::pair<uint64_t, LegSet>> healed_to;

  LegSet MissingOf(const RegionKey& key) const {
    const auto found = records.find(EncodeRegionKey(key));
    return found == records.end() ? LegSet() : found->second.missing;
  }

  LegSet DeepOf(const std::string& path) const {
    const auto found = records.find(EncodeRegionKey(RegionKey::Entries(path)));
    return found == records.end() ? LegSet() : found->second.deep;
  }

  LegSet NamesLacking(const std::string& path) const {
    LegSet lacking;
    for (const auto& [encoded, record] : records) {
      const RegionKey key = *DecodeRegionKey(encoded);
      if (key.kind != RegionKind::kEntries || key.path == path) continue;
      if (key.path.empty() || path.rfind(key.path + "/", 0) == 0) {
        lacking |= record.missing;
      }
    }
    return lacking;
  }

  LegSet Lacking(const RegionKey& key) const {
    LegSet lacking = MissingOf(key) | NamesLacking(key.path);
    if (key.kind == RegionKind::kEntries) return lacking;
    lacking |= DeepOf(key.path);
    const auto attributes =
        records.find(EncodeRegionKey(RegionKey::Attributes(key.path)));
    if (key.kind != RegionKind::kData || attributes == records.end()) {
      return lacking;
    }
    if (attributes->second.tail_from <= key.index) {
      lacking |= attributes->second.missing;
      const auto healed = healed_to.find(attributes->first);
      if (healed != healed_to.end() && key.index < healed->second.first) {
        lacking -= healed->second.second - NamesLacking(key.path) -
                   MissingOf(key) - DeepOf(key.path);
      }
    }
    return lacking;
  }

  static int Rank(const RegionKey& key, const RegionRecord& record,
                  LegSlot leg) {
    if (key.kind == RegionKind::kEntries) return record.deep.has(leg) ? 1 : 0;
    return key.kind == RegionKind::kAttributes && record.directory ? 3 : 2;
  }

  bool AllWaitBeneath(const std::string& path, LegSet legs) const {
    bool all = true;
    legs.ForEach(
        [&](LegSlot slot) { all &= AnyBeneath(path, LegSet::Of(slot)); });
    return all;
  }

  bool AnyBeneath(const std::string& path, LegSet legs) const {
    for (const auto& [encoded, record] : records) {
      const RegionKey key = *DecodeRegionKey(encoded);
      const bool beneath = path.empty() || key.path == path ||
                           key.path.rfind(path + "/", 0) == 0;
      if (beneath && Rank(key, record, 0) != 3 &&
          !(record.missing & legs).empty()) {
        return true;
      }
    }
    return false;
  }

  Strings TakeWork(LegSet reachable, size_t count_max) {
    std::array<Strings, 4> ranks;
    size_t deep_out = 0;
    for (const auto& [encoded, record] : records) {
      const RegionKey key = *DecodeRegionKey(encoded);
      const LegSet wanted = record.missing & reachable;
      if (handed_out.contains(encoded)) {
        deep_out += !record.deep.empty();
        continue;
      }
      if (wanted.empty() || !(NamesLacking(key.path) & wanted).empty() ||
          (Rank(key, record, 0) == 3 && AllWaitBeneath(key.path, wanted))) {
        continue;
      }
      std::set<int> of_legs;
      wanted.ForEach(
          [&](LegSlot leg) { of_legs.insert(Rank(key, record, leg)); });
      for (const int rank : of_legs) ranks[rank].push_back(encoded);
    }
    std::reverse(ranks[3].begin(), ranks[3].end());
    if (ranks[1].size() > 64 - deep_out) ranks[1].resize(64 - deep_out);
    for (Strings& rank : ranks) {
      if (rank.empty()) continue;
      if (rank.size() > count_max) rank.resize(count_max);
      if (rank.empty()) continue;
      for (const std::string& key : rank) {
        handed_out.insert(key);
        missed_again[key] = LegSet();
      }
      return rank;
    }
    return {};
  }
};

class RandomOperations : public Conformance {
 protected:
  RandomOperations() {
    const char* given = getenv("MIRRORFS_SEED");
    seed_ = given ? std::strtoull(given, nullptr, 10) : std::random_device()();
    std::printf("MIRRORFS_SEED=%llu\n", seed_);
    random_.seed(seed_);
  }

  size_t Roll(size_t sides) { return random_() % sides; }
  bool Chance(int percent) { return Roll(100) < static_cast<size_t>(percent); }

  LegSet SomeLegs() { return LegSet(Roll(8)); }

  std::string SomePath() {
    static const char* const kPaths[] = {"",    "a",   "b",     "ab",
                                         "a/a", "a/b", "a/b/c", "\xff/\x01"};
    return kPaths[Roll(std::size(kPaths))];
  }

  RegionKey SomeKey() {
    switch (Roll(3)) {
      case 0:
        return RegionKey::Entries(SomePath());
      case 1:
        return RegionKey::Attributes(SomePath());
      default:
        return RegionKey::Data(SomePath(), Roll(3));
    }
  }

  RegionRecord SomeRecord(RegionKind kind) {
    RegionRecord record{.dirty = Chance(60)};
    if (Chance(40)) record.missing = SomeLegs();
    if (kind == RegionKind::kEntries) {
      record.dirty_deep = record.dirty && Chance(10);
      if (Chance(20)) record.deep = record.missing & SomeLegs();
      if (Chance(30)) record.since_ns = Roll(5);
    }
    if (kind == RegionKind::kAttributes) {
      record.directory = Chance(30);
      if (Chance(20)) record.tail_from = Roll(4);
    }
    return record;
  }

  void SetModel(const std::string& encoded, const RegionRecord& record) {
    std::vector<RegionRecord>& values = since_flush_[encoded];
    if (values.empty()) values.push_back(ModelGet(encoded));
    values.push_back(record);
    LegSet& healed = model_.healed_to[encoded].second;
    healed = healed & ModelGet(encoded).missing;
    if (record.clean()) {
      model_.records.erase(encoded);
      model_.handed_out.erase(encoded);
      model_.healed_to.erase(encoded);
    } else {
      model_.records[encoded] = record;
    }
  }

  RegionRecord ModelGet(const std::string& encoded) {
    const auto found = model_.records.find(encoded);
    return found == model_.records.end() ? RegionRecord() : found->second;
  }

  void ModelMark(const RegionKey& key, const RegionRecord& record) {
    const std::string encoded = EncodeRegionKey(key);
    const RegionRecord before = ModelGet(encoded);
    if (Merge(before, record) != before) {
      SetModel(encoded, Merge(before, record));
    }
    if (model_.handed_out.contains(encoded)) {
      model_.missed_again[encoded] |= record.missing;
    }
    auto& [healed_to, legs] = model_.healed_to[encoded];
    if ((record.missing & legs).empty()) return;
    healed_to = std::min(healed_to, record.tail_from);
  }

  void DoMark() {
    const RegionKey key = SomeKey();
    const RegionRecord record = SomeRecord(key.kind);
    log_->MarkRegion(key, record);
    ModelMark(key, record);
  }

  void DoClear() {
    const RegionKey key = SomeKey();
    const std::string encoded = EncodeRegionKey(key);
    log_->ClearRegion(key);
    RegionRecord after = ModelGet(encoded);
    if (!after.dirty) return;
    after.dirty = false;
    after.dirty_deep = false;
    SetModel(encoded, after);
  }

  void DoSync() {
    RegionKey key = SomeKey();
    if (!model_.handed_out.empty() && Chance(80)) {
      auto at = model_.handed_out.begin();
      std::advance(at, Roll(model_.handed_out.size()));
      key = *DecodeRegionKey(*at);
    }
    const std::string encoded = EncodeRegionKey(key);
    if (Chance(15)) {
      log_->ReleaseResyncWork(key);
      model_.handed_out.erase(encoded);
      return;
    }
    const LegSet legs = SomeLegs();
    const bool in_sync = Chance(80);
    log_->SetRegionSync(key, legs, in_sync);
    RegionRecord after = ModelGet(encoded);
    const LegSet again = model_.handed_out.contains(encoded)
                             ? model_.missed_again[encoded]
                             : LegSet();
    if (in_sync) {
      after.missing -= legs - again;
      after.dirty = true;
      after.dirty_deep |= !(after.deep - after.missing).empty();
      after.deep = after.deep & after.missing;
    } else {
      after.missing |= legs;
    }
    SetModel(encoded, after);
    model_.handed_out.erase(encoded);
  }

  void DoAdvance() {
    const RegionKey key = Chance(50) ? RegionKey::Entries(SomePath())
                                     : RegionKey::Attributes(SomePath());
    const std::string encoded = EncodeRegionKey(key);
    RegionRecord after = ModelGet(encoded);
    const int64_t to = Roll(6);
    if (key.kind == RegionKind::kEntries) {
      log_->AdvanceSince(key, to);
      if (!after.missing.empty()) return;
      after.since_ns = std::max(after.since_ns, to);
    } else {
      const LegSet legs = SomeLegs();
      const uint64_t from = Roll(4);
      log_->AdvanceTail(key, {from, static_cast<uint64_t>(to)}, legs);
      if (after.clean()) return;
      const LegSet lacking = legs & after.missing;
      const auto [healed_to, healed] = model_.healed_to[encoded];
      const uint64_t next =
          std::max(after.tail_from, healed.contains(lacking) ? healed_to : 0);
      if (lacking.empty() || next >= from) {
        model_.healed_to[encoded] = {to, lacking};
      }
    }
    if (!after.clean() && after != ModelGet(encoded)) SetModel(encoded, after);
  }

  void DoSettleTails() {
    log_->SettleTails(log_->HealedTails(1));
    const RecordMap before = model_.records;
    for (const auto& [encoded, record] : before) {
      const auto [healed_to, healed] = model_.healed_to[encoded];
      if (record.dirty || record.missing.empty() ||
          record.tail_from == kNoTail || healed_to <= record.tail_from ||
          !healed.contains(record.missing)) {
        continue;
      }
      RegionRecord after = record;
      after.tail_from = healed_to;
      SetModel(encoded, after);
    }
  }

  void DoBeginMove() {
    // Never to a place that is copied from, or the records would multiply.
    const std::string from = std::array{"a", "a/b", "b"}[Roll(3)];
    const std::string to = std::array{"ab", "\xff/\x01"}[Roll(2)];
    log_->BeginMove(from, to, /*tree=*/true, /*exchange=*/false);
    const RecordMap before = model_.records;
    for (const auto& [encoded, record] : before) {
      RegionKey key = *DecodeRegionKey(encoded);
      if (key.path != from && key.path.rfind(from + "/", 0) != 0) continue;
      key.path = to + key.path.substr(from.size());
      ModelMark(key, record);
    }
  }

  void DoTakeWork() {
    const LegSet reachable = SomeLegs();
    const size_t count_max = Roll(6);
    Strings taken;
    for (const DirtyLog::Work& work :
         log_->GetResyncWork(reachable, count_max)) {
      taken.push_back(EncodeRegionKey(work.key));
      EXPECT_EQ(work.record, ModelGet(taken.back()));
    }
    EXPECT_EQ(taken, model_.TakeWork(reachable, count_max));
  }

  void DoFlush() {
    ASSERT_TRUE(log_->Flush().ok());
    // An older value may still be there if all that is lost with it are clears
    // (L3), so if it says at least as much.
    for (auto& [encoded, values] : since_flush_) {
      const RegionRecord now = ModelGet(encoded);
      std::erase_if(values, [&](const RegionRecord& value) {
        return Merge(value, now) != value;
      });
      values.push_back(now);
    }
  }

  // After a crash a record is what it was at the last flush or at any time
  // since, and nothing else.
  void DoCrash() {
    const LegSet suspects = SomeLegs();
    Crash(LegSet());
    const RecordMap found = Records();
    std::set<std::string> keys;
    for (const auto& [encoded, record] : found) keys.insert(encoded);
    for (const auto& [encoded, record] : model_.records) keys.insert(encoded);
    for (const std::string& encoded : keys) {
      const auto at = found.find(encoded);
      const RegionRecord record =
          at == found.end() ? RegionRecord() : at->second;
      std::vector<RegionRecord> values = since_flush_[encoded];
      if (values.empty()) values.push_back(ModelGet(encoded));
      EXPECT_TRUE(
          std::any_of(values.begin(), values.end(), [&](const auto& value) {
            return value == record || (value.clean() && record.clean());
          }));
    }
    model_.records = found;
    model_.handed_out.clear();
    model_.healed_to.clear();
    since_flush_.clear();
    ASSERT_TRUE(log_->Resume(suspects).ok());
    const RecordMap loaded = model_.records;
    for (const auto& [encoded, record] : loaded) {
      if (!record.dirty) continue;
      RegionRecord suspicion = Missing(suspects);
      if (record.dirty_deep) suspicion.deep = suspects;
      ModelMark(*DecodeRegionKey(encoded), suspicion);
    }
    DoFlush();
  }

  void CompareAll() {
    ASSERT_EQ(Records(), model_.records);
    for (int i = 0; i < 4; ++i) {
      const RegionKey key = SomeKey();
      ASSERT_EQ(log_->Lacking(key), model_.Lacking(key)) << key.path;
      ASSERT_EQ(log_->IsClean(key),
                !model_.records.contains(EncodeRegionKey(key)));
    }
    DirtyLog::SyncCount count;
    std::set<std::string> files;
    const LegSet legs = SomeLegs();
    for (const auto& [encoded, record] : model_.records) {
      const RegionKey key = *DecodeRegionKey(encoded);
      count.dirty += record.dirty;
      if ((record.missing & legs).empty()) continue;
      ++count.regions;
      if (key.kind == RegionKind::kEntries) {
        ++count.directories;
      } else {
        files.insert(key.path);
      }
    }
    const DirtyLog::SyncCount real = log_->GetSyncCount(legs);
    EXPECT_EQ(real.regions, count.regions);
    EXPECT_EQ(real.files, files.size());
    EXPECT_EQ(real.directories, count.directories);
    EXPECT_EQ(real.dirty, count.dirty);
  }

  void Step() {
    const size_t roll = Roll(100);
    if (roll < 35) return DoMark();
    if (roll < 50) return DoClear();
    if (roll < 65) return DoSync();
    if (roll < 70) return DoAdvance();
    if (roll < 72) return DoSettleTails();
    if (roll < 75) return DoBeginMove();
    if (roll < 90) return DoTakeWork();
    if (roll < 96) return DoFlush();
    EXPECT_TRUE(log_->FlushLazily().ok());
  }

  unsigned long long seed_;
  std::mt19937_64 random_;
  ModelLog model_;
  // The values of each changed key that a crash may bring back.
  std::map<std::string, std::vector<RegionRecord>> since_flush_;
};

INSTANTIATE_TEST_SUITE_P(Types, RandomOperations, testing::ValuesIn(LogTypes()),
                         [](const auto& info) { return info.param; });

TEST_P(RandomOperations, AnswerAsTheModel) {
  const int steps = HasStore() ? 4000 : 20000;
  for (int step = 0; step < steps; ++step) {
    Step();
    CompareAll();
    if (HasStore() && step % 400 == 399) DoCrash();
    if (HasFailure()) {
      FAIL() << "step " << step << " of MIRRORFS_SEED=" << seed_;
    }
  }
}

}  // namespace
}  // namespace mirrorfs
