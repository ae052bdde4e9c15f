// SPDX-License-Identifier: GPL-2.0-or-later
//
// The descriptors of one open inode on the legs, shared by everybody who has
// it open: one range lock, one place where a leg's errors show, and an answer
// for a file that no name leads to any more.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/errno.h"
#include "base/handover_lock.h"
#include "leg/caller.h"
#include "leg/leg_fd.h"
#include "mirror/range_lock.h"
#include "region/leg_set.h"

namespace mirrorfs {

class OpenFile {
 public:
  static constexpr uint64_t kAnyEpoch = 0;
  static constexpr uint64_t kNoEpoch = UINT64_MAX;

  // A descriptor for reading or for both on that leg, or none. Only one opened
  // in that leg's epoch (Leg::replaced_epoch) or later: an older one may be of
  // a file that no name leads to any more.
  LegFd read_fd(LegSlot slot, uint64_t epoch = kAnyEpoch) const;
  LegFd write_fd(LegSlot slot, uint64_t epoch = kAnyEpoch) const;
  LegSet writable_legs() const;
  // On any leg, which may be gone since.
  bool was_opened() const;

  // Legs that did not take a change of a file without a name: nothing else
  // tells, and what they have must not get a name.
  LegSet behind() const { return LegSet(behind_.load()); }
  void NoteBehind(LegSet legs) { behind_.fetch_or(legs.bits()); }

  // Keeps the descriptor instead of the one before, which is closed when no
  // request uses it any more; but one of the same object just becomes one of
  // this epoch. `epoch` is the leg's replaced_epoch before opening. `opening`
  // is held, or nobody else has the file.
  void SetReadFd(LegSlot slot, LegFd fd, uint64_t epoch);
  void SetWriteFd(LegSlot slot, LegFd fd, uint64_t epoch);
  // The leg that was there before `epoch` is gone: what was opened on it is
  // closed when no request uses it any more, and is not kept from now on.
  void LetGo(LegSlot slot, uint64_t epoch);

  RangeLock ranges;
  // Opening on the legs, one at a time.
  HandoverMutex opening;
  // How many times a write of it had to wait for a mark.
  std::atomic<uint64_t> marks{0};
  // Modification times may differ between legs since the last write.
  std::atomic<bool> times_unsettled{false};

 private:
  enum class Use { kRead, kWrite };
  struct Opened {
    LegSlot slot;
    Use use;
    LegFd fd;
    uint64_t epoch;
  };
  struct Gone {
    LegSlot slot;
    uint64_t epoch;
  };

  // mutex_ is held in all that end so.
  LegFd GetLocked(LegSlot slot, Use use, uint64_t epoch) const;
  Opened* FindLocked(LegSlot slot, Use use);
  bool IsGoneLocked(LegSlot slot, uint64_t epoch) const;
  void Set(LegSlot slot, Use use, LegFd fd, uint64_t epoch);

  std::atomic<uint64_t> behind_{0};
  mutable std::mutex mutex_;    // not held while something is closed
  std::vector<Opened> opened_;  // at most two for each leg
  std::vector<Gone> gone_;      // at most one for each leg
};

// What an operation knows of the object it is about.
struct ObjectRef {
  std::string path;  // empty and unnamed: no name leads to it
  bool named = true;
  int64_t created_ns = 0;          // when this mount made it, or 0
  std::shared_ptr<OpenFile> open;  // when somebody has it open
  bool is_dir = false;
  // It has, or had, more names than this; what the log says of it may stand
  // under another.
  bool linked = false;
  // The others that the kernel has asked for; there may be more.
  std::vector<std::string> other_paths;
  // Who changes its content.
  ContentWriter writer;
};

}  // namespace mirrorfs
