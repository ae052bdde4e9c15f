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
  explicit OpenFile(size_t slots) : on_leg_(slots) {}

  // A descriptor for reading or for both on that leg, or none.
  LegFd read_fd(LegSlot slot) const;
  LegFd write_fd(LegSlot slot) const;
  LegSet writable_legs() const;

  // Legs that did not take a change of a file without a name: nothing else
  // tells, and what they have must not get a name.
  LegSet behind() const { return LegSet(behind_.load()); }
  void NoteBehind(LegSet legs) { behind_.fetch_or(legs.bits()); }

  // Keeps the descriptor; the one it replaces stays open to the end, because a
  // request may be using it. `epoch` is the leg's replaced_epoch at opening.
  void SetReadFd(LegSlot slot, LegFd fd);
  void SetWriteFd(LegSlot slot, LegFd fd, uint64_t epoch);
  uint64_t write_fd_epoch(LegSlot slot) const {
    return on_leg_[slot].epoch.load();
  }

  RangeLock ranges;
  // Opening on the legs, one at a time.
  HandoverMutex opening;
  // How many times a write of it had to wait for a mark.
  std::atomic<uint64_t> marks{0};
  // Modification times may differ between legs since the last write.
  std::atomic<bool> times_unsettled{false};

 private:
  struct OnLeg {
    std::atomic<const LegFd*> read_fd{nullptr};
    std::atomic<const LegFd*> write_fd{nullptr};
    std::atomic<uint64_t> epoch{0};
  };

  const LegFd* Keep(LegFd fd);

  std::vector<OnLeg> on_leg_;
  std::atomic<uint64_t> behind_{0};
  std::mutex kept_mutex_;
  std::deque<LegFd> kept_;  // all there were; their places do not change
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
