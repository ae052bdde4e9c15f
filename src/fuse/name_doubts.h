// SPDX-License-Identifier: GPL-2.0-or-later
//
// Changes of names that failed in a way in which they may have been made all
// the same, or will be when a leg that hangs goes on (MayBeMade). Until it has
// been seen what became of them, nodes may have names that lead elsewhere; so
// requests look before anything else (HoldNames).
//
// Threads: all calls from any thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/errno.h"
#include "fuse/inode_table.h"
#include "mirror/mirror.h"

namespace mirrorfs {

// A name, and the node that it led to; 0: none that is known.
struct NamePlace {
  NodeId parent = 0;
  std::string name;
  NodeId id = 0;
};

struct NameDoubt {
  NamePlace from;
  ino_t ino = 0;  // what it led to, on the primary of that epoch
  uint64_t primary_epoch = 0;
  std::optional<NamePlace> to;  // renamed to that; else removed
  bool exchange = false;
  bool last = false;  // what is removed or replaced has no other name
};

// What `from` leads to is called `to` now, and with `exchange` the reverse.
void NoteRenamed(InodeTable& nodes, const NamePlace& from, const NamePlace& to,
                 bool exchange);

class NameDoubts {
 public:
  NameDoubts(Mirror* mirror, InodeTable* nodes)
      : mirror_(mirror), nodes_(nodes) {}
  ~NameDoubts() { StopTelling(); }

  // Makes the kernel forget that name in that directory, at once. It may wait
  // for requests about the directory, so a thread of its own calls it.
  using TellKernel = std::function<void(NodeId parent, const std::string&)>;
  // Before the mount is used.
  void SetTellKernel(TellKernel tell) { tell_kernel_ = std::move(tell); }
  // When this returns the kernel is not told any more.
  void StopTelling();

  bool any() const { return any_.load(std::memory_order_acquire); }
  void Add(NameDoubt doubt);
  // False when the primary does not answer. The names lock must not be held.
  bool Settle();
  // Whether the kernel is being told of names that do not lead any more to
  // where it thinks.
  bool is_telling() const { return telling_.load(std::memory_order_acquire); }
  // Whether a request about the node may have come by such a name.
  bool IsTellingOf(NodeId id);
  // Until the kernel knows, or for a second. No lock must be held.
  void WaitUntilTold();

 private:
  enum class Answer { kMade, kNotMade, kNobodyKnows, kLater };
  Answer Ask(const NameDoubt& doubt);
  void NoteMade(const NameDoubt& doubt);
  void Tell(const NameDoubt& doubt);
  void JoinTellers();

  Mirror* const mirror_;
  InodeTable* const nodes_;
  std::atomic<bool> any_{false};
  std::mutex mutex_;
  std::vector<NameDoubt> doubts_;  // in order
  TellKernel tell_kernel_;
  std::vector<NodeId> told_of_;  // while the kernel is being told
  std::atomic<int> telling_{0};  // for how many doubts
  std::condition_variable told_;
  bool tells_no_more_ = false;
  std::vector<std::thread> tellers_;
};

}  // namespace mirrorfs
