// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/handover_lock.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <vector>

namespace mirrorfs {
namespace {

template <typename Body>
void InAnotherThread(Body body) {
  std::thread(body).join();
}

TEST(HandoverMutexTest, AnotherThreadMayReleaseIt) {
  HandoverMutex mutex;
  mutex.lock();
  InAnotherThread([&] { mutex.unlock(); });
  mutex.lock();
  mutex.unlock();
}

TEST(HandoverMutexTest, Excludes) {
  HandoverMutex mutex;
  int64_t count = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 20'000; ++n) {
        std::lock_guard lock(mutex);
        ++count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(count, 80'000);
}

TEST(HandoverSharedMutexTest, AnotherThreadMayReleaseIt) {
  HandoverSharedMutex mutex;
  mutex.lock_shared();
  InAnotherThread([&] { mutex.unlock_shared(); });
  mutex.lock();
  InAnotherThread([&] { mutex.unlock(); });
  mutex.lock_shared();
  mutex.unlock_shared();
}

TEST(HandoverSharedMutexTest, ReadersTogetherWritersAlone) {
  HandoverSharedMutex mutex;
  int64_t value[2] = {0, 0};
  std::atomic<int> torn{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, writes = i < 2] {
      for (int n = 0; n < 20'000; ++n) {
        if (writes) {
          std::unique_lock lock(mutex);
          ++value[0];
          ++value[1];
        } else {
          std::shared_lock lock(mutex);
          torn += value[0] != value[1];
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(torn, 0);
  EXPECT_EQ(value[0], 40'000);
}

TEST(HandoverSharedMutexTest, TwoReadersAtATime) {
  HandoverSharedMutex mutex;
  mutex.lock_shared();
  InAnotherThread([&] {
    mutex.lock_shared();
    mutex.unlock_shared();
  });
  mutex.unlock_shared();
}

TEST(HandoverSharedMutexTest, AWriterThatWaitsGoesBeforeNewReaders) {
  HandoverSharedMutex mutex;
  mutex.lock_shared();
  std::atomic<bool> written{false};
  std::thread writer([&] {
    mutex.lock();
    written = true;
    mutex.unlock();
  });
  // A reader gets in until the writer waits, and then not before it.
  std::thread reader([&] {
    while (!written) {
      mutex.lock_shared();
      mutex.unlock_shared();
    }
  });
  std::thread stream([&] {
    while (!written) {
      mutex.lock_shared();
      mutex.unlock_shared();
    }
  });
  mutex.unlock_shared();
  writer.join();
  reader.join();
  stream.join();
}

}  // namespace
}  // namespace mirrorfs
