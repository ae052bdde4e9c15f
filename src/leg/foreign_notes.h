// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <sys/types.h>

#include <mutex>

#include "absl/container/flat_hash_set.h"

namespace mirrorfs {

class Leg;

// Objects of a leg that somebody else changed while it was away, and that we
// give another change time before they have been dealt with: by inode number,
// as names in the private directory, so that a crash does not forget them. What
// cannot be stored there is still known as long as the leg is in use.
//
// Threads: all calls from any thread.
class ForeignNotes {
 public:
  bool Has(const Leg& leg, ino_t ino);
  void Add(const Leg& leg, ino_t ino);
  void Remove(const Leg& leg, ino_t ino);
  void RemoveAll(const Leg& leg);
  // As far as anybody has asked.
  bool empty();

 private:
  void Load(const Leg& leg);

  std::mutex mutex_;  // a leaf, never held during a call to the leg
  bool loaded_ = false;
  absl::flat_hash_set<ino_t> inodes_;
};

}  // namespace mirrorfs
