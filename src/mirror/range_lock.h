// SPDX-License-Identifier: GPL-2.0-or-later
//
// Orders overlapping writes of one file, so that they reach all legs in one
// order (I19). The kernel does not do it for us: asynchronous direct I/O and
// the writeback of mappings arrive concurrently, and in a naive mirror they
// left legs different without any fault.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <list>
#include <mutex>

namespace mirrorfs {

class RangeLock {
 public:
  // The bytes [begin, end) are ours while it lives. Waits, first come first
  // served among those who overlap.
  class Hold {
   public:
    Hold(RangeLock& lock, uint64_t begin, uint64_t end);
    // Does not wait: see held().
    struct Try {};
    Hold(RangeLock& lock, uint64_t begin, uint64_t end, Try);
    ~Hold();
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

    bool held() const { return held_; }

   private:
    struct Range {
      uint64_t begin;
      uint64_t end;
      bool Overlaps(const Range& other) const {
        return begin < other.end && other.begin < end;
      }
    };
    friend class RangeLock;

    RangeLock& lock_;
    std::list<Range>::iterator range_;
    bool held_ = true;
  };

 private:
  // True when nobody who came before `range` overlaps it.
  bool IsFirst(std::list<Hold::Range>::const_iterator range) const;

  std::mutex mutex_;
  std::condition_variable released_;
  std::list<Hold::Range> ranges_;  // in order of arrival
};

}  // namespace mirrorfs
