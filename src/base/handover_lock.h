// SPDX-License-Identifier: GPL-2.0-or-later
//
// Locks that belong to a request and not to a thread: whoever goes on with the
// request may release them (see fiber.h). For what is held during a call into
// a leg; a leaf that is held for a moment is a std::mutex. Names as std::mutex
// and std::shared_mutex have them, so that std::unique_lock and its like fit.
//
// Not to be taken twice by one request, shared or not.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <utility>

namespace mirrorfs {

class HandoverMutex {
 public:
  void lock() {
    std::unique_lock guard(mutex_);
    released_.wait(guard, [this] { return !held_; });
    held_ = true;
  }
  bool try_lock() {
    std::lock_guard guard(mutex_);
    return !std::exchange(held_, true);
  }
  void unlock() {
    {
      std::lock_guard guard(mutex_);
      held_ = false;
    }
    released_.notify_one();
  }

 private:
  std::mutex mutex_;
  std::condition_variable released_;
  bool held_ = false;
};

// A writer that waits lets no more readers in, so no stream of readers starves
// it. Readers that meet no writer only count up and down.
class HandoverSharedMutex {
 public:
  void lock_shared() {
    if (state_.fetch_add(1, std::memory_order_acquire) < kClosed) return;
    unlock_shared();
    std::unique_lock guard(mutex_);
    changed_.wait(guard, [this] { return !writer_; });
    // Nobody closes it without mutex_.
    state_.fetch_add(1, std::memory_order_acquire);
  }

  void unlock_shared() {
    const uint32_t before = state_.fetch_sub(1, std::memory_order_release);
    if (before != kClosed + 1) return;
    // The last reader, and a writer waits, or is about to; it looks at state_
    // under the mutex.
    { std::lock_guard guard(mutex_); }
    changed_.notify_all();
  }

  void lock() {
    std::unique_lock guard(mutex_);
    changed_.wait(guard, [this] { return !writer_; });
    writer_ = true;
    state_.fetch_or(kClosed, std::memory_order_relaxed);
    changed_.wait(guard, [this] {
      return state_.load(std::memory_order_acquire) == kClosed;
    });
  }

  void unlock() {
    {
      std::lock_guard guard(mutex_);
      writer_ = false;
      state_.fetch_and(~kClosed, std::memory_order_release);
    }
    changed_.notify_all();
  }

 private:
  static constexpr uint32_t kClosed = uint32_t{1} << 31;

  std::atomic<uint32_t> state_{0};  // kClosed, and how many readers are in
  std::mutex mutex_;
  std::condition_variable changed_;
  bool writer_ = false;  // waits or writes; then kClosed is set
};

}  // namespace mirrorfs
