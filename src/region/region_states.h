// SPDX-License-Identifier: GPL-2.0-or-later
//
// What is going on in each region right now: dm's region hash, without I/O,
// threads, locks or a clock. The caller owns one mutex around it and acts on
// what it answers. What the log remembers across a crash (RegionRecord) and
// what is going on (this) are two things; together they give dm's states:
//
//   clean       no record in the log, no entry here
//   dirty       record with `dirty`, no missing legs     pending > 0 or cooling
//   nosync      record with missing legs
//   recovering  one leg set is being brought up to date; new changes wait
//
//             TryBegin                      Idle + ClearIfUnchanged
//    clean ------------> dirty (pending n) ------------------------> clean
//                          |  ^ End
//             StartRecovery|  |FinishRecovery
//                          v  |
//                       recovering (waits for pending == 0, delays TryBegin)
//
// Epochs bind a clear to the writes it saw (I6): every TryBegin raises the
// entry's epoch, and ClearIfUnchanged refuses when the epoch moved.
//
// An entry exists while something is pending, recovering, or not yet cleared.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"

namespace mirrorfs {

class RegionStates {
 public:
  // A region that went idle, and the epoch at which it was seen idle.
  struct IdleRegion {
    std::string key;
    uint64_t epoch = 0;
  };

  // Registers one change on every key, or on none of them and returns false
  // when any of them is recovering. Keys are encoded region keys; a key may
  // stand more than once.
  bool TryBegin(absl::Span<const std::string> keys);

  // Ends a change begun with the same keys; `tick` is the caller's coarse
  // time, used by Idle.
  void End(absl::Span<const std::string> keys, int64_t tick);

  // From now on TryBegin refuses this key. The copy may start when
  // IsQuiesced(key). Returns false when it is already recovering.
  bool StartRecovery(const std::string& key);
  bool IsQuiesced(const std::string& key) const;

  // Ends the recovery, well or not; the region cools like a written one, since
  // what was copied is not durable yet.
  void FinishRecovery(const std::string& key, int64_t tick);

  // Regions with nothing pending, last changed at or before `tick`.
  std::vector<IdleRegion> Idle(int64_t tick) const;

  // Whether nothing happened to the region since `region` was taken.
  bool IsUnchanged(const IdleRegion& region) const;
  // As if something happened to every region.
  void TouchAll();

  // Forgets the region if nothing happened to it since `region` was taken;
  // true when it did. Only then may the caller clear it in the log (I6).
  bool ClearIfUnchanged(const IdleRegion& region);

  // Makes a region known that has no change of its own (found dirty in the
  // log), so that it is cleared in its turn.
  void Adopt(const std::string& key, int64_t tick);

  // As if a change of the region had just ended.
  void Touch(const std::string& key, int64_t tick);

  bool IsRecovering(const std::string& key) const;
  int PendingCount(const std::string& key) const;
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    int pending = 0;
    bool recovering = false;
    uint64_t epoch = 0;
    int64_t tick = 0;
  };

  absl::flat_hash_map<std::string, Entry> entries_;
  uint64_t next_epoch_ = 1;
};

}  // namespace mirrorfs
