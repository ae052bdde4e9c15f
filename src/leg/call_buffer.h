// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace mirrorfs {

// Memory that calls read into or write from, shared with them: one that was
// left behind may still put something there. So whoever got ETIMEDOUT gives it
// up with Renew.
class CallBuffer {
 public:
  explicit CallBuffer(size_t bytes) : bytes_(bytes) { Renew(); }

  char* data() const { return memory_.get(); }
  size_t size() const { return bytes_; }
  // To be captured by a call.
  const std::shared_ptr<char[]>& shared() const { return memory_; }
  bool is_shared() const { return memory_.use_count() > 1; }

  // Not zeroed: most of it is never touched.
  void Renew() { memory_.reset(new char[bytes_]); }

 private:
  size_t bytes_;
  std::shared_ptr<char[]> memory_;
};

// Buffers to be used again: a fresh one would have to be faulted in each time.
// Thread-safe.
class CallBufferPool {
 public:
  explicit CallBufferPool(size_t bytes) : bytes_(bytes) {}

  CallBuffer Take(size_t bytes_needed) {
    if (bytes_needed > bytes_) return CallBuffer(bytes_needed);
    std::lock_guard lock(mutex_);
    if (spare_.empty()) return CallBuffer(bytes_);
    CallBuffer buffer = std::move(spare_.back());
    spare_.pop_back();
    return buffer;
  }

  void Give(CallBuffer buffer) {
    if (buffer.size() != bytes_ || buffer.is_shared()) return;
    std::lock_guard lock(mutex_);
    spare_.push_back(std::move(buffer));
  }

 private:
  const size_t bytes_;
  std::mutex mutex_;
  std::vector<CallBuffer> spare_;
};

}  // namespace mirrorfs
