// SPDX-License-Identifier: GPL-2.0-or-later
//
// The descriptors of one open inode on the legs, shared by everybody who has
// it open: one range lock, one place where a leg's errors show, and an answer
// for a file that no name leads to any more.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
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

  explicit OpenFile(size_t slots) : on_leg_(slots) {}

  // A descriptor for reading or for both on that leg, or none. Only one opened
  // in that leg's epoch (Leg::replaced_epoch) or later: an older one may be of
  // a file that no name leads to any more.
  LegFd read_fd(LegSlot slot, uint64_t epoch = kAnyEpoch) const;
  LegFd write_fd(LegSlot slot, uint64_t epoch = kAnyEpoch) const;
  LegSet writable_legs() const;

  // Legs that did not take a change of a file without a name: nothing else
  // tells, and what they have must not get a name.
  LegSet behind() const { return LegSet(behind_.load()); }
  void NoteBehind(LegSet legs) { behind_.fetch_or(legs.bits()); }

  // Keeps the descriptor, and the one it replaces to the end, because a request
  // may be using it; but one of the same object just becomes one of this epoch.
  // `epoch` is the leg's replaced_epoch before opening. `opening` is held, or
  // nobody else has the file.
  void SetReadFd(LegSlot slot, LegFd fd, uint64_t epoch);
  void SetWriteFd(LegSlot slot, LegFd fd, uint64_t epoch);

  RangeLock ranges;
  // Opening on the legs, one at a time.
  HandoverMutex opening;
  // How many times a write of it had to wait for a mark.
  std::atomic<uint64_t> marks{0};
  // Modification times may differ between legs since the last write.
  std::atomic<bool> times_unsettled{false};

 private:
  struct Opened {
    Opened(LegFd leg_fd, uint64_t when) : fd(std::move(leg_fd)), epoch(when) {}
    const LegFd fd;
    std::atomic<uint64_t> epoch;
  };
  using Current = std::atomic<Opened*>;
  struct OnLeg {
    Current read{nullptr};
    Current write{nullptr};
  };

  static LegFd Get(const Current& current, uint64_t epoch);
  void Set(Current& current, LegFd fd, uint64_t epoch);

  std::vector<OnLeg> on_leg_;
  std::atomic<uint64_t> behind_{0};
  std::mutex kept_mutex_;
  std::deque<Opened> kept_;  // all there were; their places do not change
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
