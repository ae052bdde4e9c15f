// SPDX-License-Identifier: GPL-2.0-or-later
//
// What CoreLog does with the store of the type that extends it: one write at a
// time, shared by all who wait, and no mark taken for durable before it is.
// The store here is held and broken at will.
#include "dirtylog/core_log.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <future>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"

namespace mirrorfs {
namespace {

constexpr LegSet kB = LegSet::Of(1);
const RegionRecord kDirty{.dirty = true};

class FakeStoreLog : public CoreLog {
 public:
  FakeStoreLog() : CoreLog(4096) {}

  // Store calls wait inside until they are let go.
  void Hold() { held_ = true; }
  void LetGo() {
    const std::lock_guard<std::mutex> lock(store_mutex_);
    held_ = false;
    moved_.notify_all();
  }
  void WaitUntilWriting() {
    std::unique_lock<std::mutex> lock(store_mutex_);
    moved_.wait(lock, [this] { return inside_ > 0; });
  }

  std::atomic<bool> broken = false;
  std::atomic<int> writes = 0;
  std::atomic<int> durable_writes = 0;
  std::atomic<bool> overlapped = false;
  std::map<std::string, RegionRecord> stored;  // by encoded key

 protected:
  absl::Status Load(std::vector<Loaded>& loaded) override {
    for (const auto& [encoded, record] : stored) {
      loaded.push_back({*DecodeRegionKey(encoded), record});
    }
    return absl::OkStatus();
  }

  absl::Status Store(const std::vector<Change>& batch, bool durable) override {
    std::unique_lock<std::mutex> lock(store_mutex_);
    if (++inside_ > 1) overlapped = true;
    moved_.notify_all();
    moved_.wait(lock, [this] { return !held_; });
    --inside_;
    if (broken) return absl::UnavailableError("the store is broken");
    ++writes;
    durable_writes += durable;
    for (const Change& change : batch) {
      if (change.record) {
        stored[change.key] = *change.record;
      } else {
        stored.erase(change.key);
      }
    }
    return absl::OkStatus();
  }

 private:
  std::mutex store_mutex_;
  std::condition_variable moved_;
  std::atomic<bool> held_ = false;
  int inside_ = 0;
};

class CoreLogTest : public testing::Test {
 protected:
  CoreLogTest() { EXPECT_TRUE(log_.Resume(LegSet()).ok()); }

  // Flush in another thread.
  std::future<absl::Status> FlushAside() {
    return std::async(std::launch::async, [this] { return log_.Flush(); });
  }
  static bool IsDone(const std::future<absl::Status>& flush) {
    return flush.wait_for(std::chrono::milliseconds(30)) ==
           std::future_status::ready;
  }
  bool Stored(const RegionKey& key) {
    return log_.stored.contains(EncodeRegionKey(key));
  }

  const RegionKey key_ = RegionKey::Data("f", 0);
  const RegionKey other_ = RegionKey::Data("f", 1);
  FakeStoreLog log_;
};

// I1: a second writer of a region whose first mark is on its way must not take
// it for durable.
TEST_F(CoreLogTest, AMarkOnItsWayIsNotDurableForAnybody) {
  log_.Hold();
  EXPECT_TRUE(log_.MarkRegion(key_, kDirty));
  std::future<absl::Status> first = FlushAside();
  log_.WaitUntilWriting();
  EXPECT_TRUE(log_.MarkRegion(key_, kDirty));
  std::future<absl::Status> second = FlushAside();
  EXPECT_FALSE(IsDone(second));
  log_.LetGo();
  EXPECT_TRUE(first.get().ok());
  EXPECT_TRUE(second.get().ok());
  EXPECT_EQ(log_.writes, 1) << "the second rides on the first";
  EXPECT_FALSE(log_.MarkRegion(key_, kDirty));
}

TEST_F(CoreLogTest, WhoComesDuringAWriteIsCoveredByTheNextOne) {
  log_.Hold();
  log_.MarkRegion(key_, kDirty);
  std::future<absl::Status> first = FlushAside();
  log_.WaitUntilWriting();
  std::vector<std::future<absl::Status>> waiting;
  for (int i = 1; i <= 6; ++i) {
    log_.MarkRegion(RegionKey::Data("f", i), kDirty);
    waiting.push_back(FlushAside());
  }
  EXPECT_FALSE(IsDone(waiting.back()));
  log_.LetGo();
  EXPECT_TRUE(first.get().ok());
  for (auto& flush : waiting) EXPECT_TRUE(flush.get().ok());
  EXPECT_EQ(log_.durable_writes, 2);
  EXPECT_EQ(log_.stored.size(), 7u);
}

TEST_F(CoreLogTest, WritesNeverOverlap) {
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 8; ++thread) {
    threads.emplace_back([this, thread] {
      for (int i = 0; i < 200; ++i) {
        const RegionKey key = RegionKey::Data("f", (thread * 7 + i) % 40);
        log_.MarkRegion(key, kDirty);
        EXPECT_TRUE(log_.Flush().ok());
        log_.ClearRegion(key);
        if (i % 3 == 0) {
          EXPECT_TRUE(log_.FlushLazily().ok());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(log_.overlapped);
  EXPECT_TRUE(log_.FlushLazily().ok());
  EXPECT_TRUE(log_.stored.empty());
}

// I5, I6: a clear never gets in front of the mark it undoes, nor behind one
// that is newer.
TEST_F(CoreLogTest, AClearWaitsForTheMarkOnItsWay) {
  log_.Hold();
  log_.MarkRegion(key_, kDirty);
  std::future<absl::Status> flush = FlushAside();
  log_.WaitUntilWriting();
  log_.ClearRegion(key_);
  std::future<absl::Status> lazily =
      std::async(std::launch::async, [this] { return log_.FlushLazily(); });
  EXPECT_FALSE(IsDone(lazily));
  log_.LetGo();
  EXPECT_TRUE(flush.get().ok());
  EXPECT_TRUE(lazily.get().ok());
  EXPECT_FALSE(Stored(key_));
}

TEST_F(CoreLogTest, AMarkDuringTheWriteOfItsClearIsWrittenAfterIt) {
  log_.MarkRegion(key_, kDirty);
  ASSERT_TRUE(log_.Flush().ok());
  log_.ClearRegion(key_);
  log_.Hold();
  std::future<absl::Status> lazily =
      std::async(std::launch::async, [this] { return log_.FlushLazily(); });
  log_.WaitUntilWriting();
  EXPECT_TRUE(log_.MarkRegion(key_, kDirty));
  std::future<absl::Status> flush = FlushAside();
  EXPECT_FALSE(IsDone(flush));
  log_.LetGo();
  EXPECT_TRUE(lazily.get().ok());
  EXPECT_TRUE(flush.get().ok());
  EXPECT_TRUE(Stored(key_));
}

TEST_F(CoreLogTest, NothingToSayIsNotWritten) {
  ASSERT_TRUE(log_.Flush().ok());
  ASSERT_TRUE(log_.FlushLazily().ok());
  log_.MarkRegion(key_, kDirty);
  ASSERT_TRUE(log_.Flush().ok());
  ASSERT_TRUE(log_.Flush().ok());
  log_.ClearRegion(key_);
  ASSERT_TRUE(log_.Flush().ok()) << "a clear alone is not worth a sync";
  EXPECT_EQ(log_.writes, 1);
  ASSERT_TRUE(log_.FlushLazily().ok());
  EXPECT_EQ(log_.writes, 2);
  EXPECT_EQ(log_.durable_writes, 1);
}

TEST_F(CoreLogTest, AFailureReachesEveryoneWhoWaits) {
  log_.Hold();
  log_.MarkRegion(key_, kDirty);
  std::future<absl::Status> first = FlushAside();
  log_.WaitUntilWriting();
  log_.MarkRegion(other_, kDirty);
  std::future<absl::Status> second = FlushAside();
  log_.broken = true;
  log_.LetGo();
  EXPECT_EQ(first.get().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(second.get().code(), absl::StatusCode::kUnavailable);
  log_.broken = false;
  EXPECT_EQ(log_.Flush().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(log_.FlushLazily().code(), absl::StatusCode::kUnavailable);
}

// Labels name the new store before the log does; who reads them and then flushes
// must not hear of the old store's failure.
TEST_F(CoreLogTest, WhoFlushesWhileTheStoreMovesIsToldOfTheNewOne) {
  log_.broken = true;
  log_.MarkRegion(RegionKey::Data("f", 0), kDirty);
  EXPECT_FALSE(log_.Flush().ok());
  log_.broken = false;

  std::future<absl::Status> flushed;
  const auto note = [&](const std::string&) {
    flushed = FlushAside();
    EXPECT_EQ(flushed.wait_for(std::chrono::milliseconds(100)),
              std::future_status::timeout);
    return absl::OkStatus();
  };
  EXPECT_TRUE(log_.MoveStore({"dir", nullptr}, "uuid", note).ok());
  EXPECT_TRUE(flushed.get().ok());
}

// A store that failed and came back has to learn everything again: what it
// holds of the batch that failed may not be durable.
TEST_F(CoreLogTest, ResumeAfterAFailureWritesWhatMemoryKnows) {
  log_.MarkRegion(key_, kDirty);
  ASSERT_TRUE(log_.Flush().ok());
  log_.MarkRegion(other_, kDirty);
  log_.broken = true;
  EXPECT_FALSE(log_.Flush().ok());
  log_.stored[EncodeRegionKey(other_)] = kDirty;  // it arrived after all
  log_.broken = false;
  ASSERT_TRUE(log_.Resume(kB).ok());
  EXPECT_TRUE(log_.MarkRegion(other_, kDirty));
  ASSERT_TRUE(log_.Flush().ok());
  EXPECT_EQ(log_.stored[EncodeRegionKey(key_)].missing, kB);
  EXPECT_EQ(log_.stored[EncodeRegionKey(other_)].missing, kB);
}

TEST_F(CoreLogTest, ResumeAddsWhatTheStoreKnows) {
  FakeStoreLog log;
  log.stored[EncodeRegionKey(key_)] = {.missing = kB};
  log.MarkRegion(key_, kDirty);
  ASSERT_TRUE(log.Resume(LegSet()).ok());
  EXPECT_EQ(log.Find(key_), (RegionRecord{.dirty = true, .missing = kB}));
  ASSERT_TRUE(log.Flush().ok());
  EXPECT_TRUE(log.stored[EncodeRegionKey(key_)].dirty);
}

TEST_F(CoreLogTest, WhatWasLoadedIsDurable) {
  FakeStoreLog log;
  log.stored[EncodeRegionKey(key_)] = kDirty;
  ASSERT_TRUE(log.Resume(LegSet()).ok());
  EXPECT_FALSE(log.MarkRegion(key_, kDirty));
  ASSERT_TRUE(log.Flush().ok());
  EXPECT_EQ(log.writes, 0);
}

TEST_F(CoreLogTest, PostsuspendWritesClearsToo) {
  log_.MarkRegion(key_, kDirty);
  ASSERT_TRUE(log_.Flush().ok());
  log_.ClearRegion(key_);
  log_.MarkRegion(other_, kDirty);
  ASSERT_TRUE(log_.Postsuspend().ok());
  EXPECT_FALSE(Stored(key_));
  EXPECT_TRUE(Stored(other_));
  EXPECT_EQ(log_.durable_writes, 2);
  EXPECT_FALSE(log_.Flush().ok());
  EXPECT_EQ(log_.writes, 2);
}

}  // namespace
}  // namespace mirrorfs
