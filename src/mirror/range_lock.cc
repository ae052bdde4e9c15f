// SPDX-License-Identifier: GPL-2.0-or-later
#include "mirror/range_lock.h"

namespace mirrorfs {

RangeLock::Hold::Hold(RangeLock& lock, uint64_t begin, uint64_t end)
    : lock_(lock) {
  std::unique_lock guard(lock_.mutex_);
  range_ = lock_.ranges_.insert(lock_.ranges_.end(), {begin, end});
  lock_.released_.wait(guard, [&] { return lock_.IsFirst(range_); });
}

RangeLock::Hold::Hold(RangeLock& lock, uint64_t begin, uint64_t end, Try)
    : lock_(lock) {
  std::lock_guard guard(lock_.mutex_);
  range_ = lock_.ranges_.insert(lock_.ranges_.end(), {begin, end});
  held_ = lock_.IsFirst(range_);
  if (!held_) lock_.ranges_.erase(range_);
}

RangeLock::Hold::~Hold() {
  if (!held_) return;
  bool others;
  {
    std::lock_guard guard(lock_.mutex_);
    lock_.ranges_.erase(range_);
    others = !lock_.ranges_.empty();
  }
  if (others) lock_.released_.notify_all();
}

bool RangeLock::IsFirst(std::list<Hold::Range>::const_iterator range) const {
  for (auto earlier = ranges_.begin(); earlier != range; ++earlier) {
    if (earlier->Overlaps(*range)) return false;
  }
  return true;
}

}  // namespace mirrorfs
