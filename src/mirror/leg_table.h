// SPDX-License-Identifier: GPL-2.0-or-later
//
// The legs of a mounted mirror: which are up, which of them is the primary,
// why the others are down, and what errors each has given.
//
// A leg that comes back is a new Leg in its old slot. The one it replaces
// lives on, because a request may still be using it.
//
// Threads: all calls from any thread. Who changes the set does it one at a
// time (see Mirror).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "leg/leg.h"
#include "region/leg_set.h"

namespace mirrorfs {

enum class LegState {
  kUp,
  kMissing,   // was not there at the start
  kFailed,    // gave errors, did not answer, or went away
  kOffline,   // taken out by the administrator
  kConflict,  // came back, changed without the others
};

struct LegErrors {
  std::atomic<uint64_t> read{0};
  std::atomic<uint64_t> write{0};
};

class LegTable {
 public:
  // `legs` by slot; null: missing. `all`: every member's slot.
  LegTable(std::vector<std::unique_ptr<Leg>> legs, LegSet all, LegSlot primary);

  // REQUIRES: the leg is up, or was.
  Leg& at(LegSlot slot) const { return *legs_[slot].load(); }
  bool known(LegSlot slot) const { return legs_[slot].load() != nullptr; }

  LegSet all() const { return LegSet(all_.load()); }
  LegSet up() const { return LegSet(up_.load()); }
  LegSlot primary() const {
    return static_cast<LegSlot>(primary_.load() & kSlotMask);
  }
  // Raised with each new primary: what was learned from the old one (inode
  // numbers, descriptors) may mean something else now. Whoever has seen the new
  // one sees it raised.
  uint64_t primary_epoch() const { return primary_.load() >> kSlotBits; }
  LegState state(LegSlot slot) const { return states_[slot].load(); }
  // Why a leg is down, for people; empty when nothing more is known.
  std::string reason(LegSlot slot) const;
  void SetReason(LegSlot slot, const std::string& reason);
  LegErrors& errors(LegSlot slot) { return errors_[slot]; }
  // Reads of content that the leg has not answered yet.
  std::atomic<int>& pending_reads(LegSlot slot) { return pending_reads_[slot]; }

  void AddMember(LegSlot slot);
  void RemoveMember(LegSlot slot);
  // Not up yet.
  void Put(std::unique_ptr<Leg> leg);
  void SetUp(LegSlot slot);
  void SetDown(LegSlot slot, LegState why, const std::string& reason = "");
  // One at a time.
  void SetPrimary(LegSlot slot);

 private:
  static constexpr int kSlotBits = 8;
  static constexpr uint64_t kSlotMask = (1 << kSlotBits) - 1;

  std::array<std::atomic<Leg*>, kLegsMax> legs_{};
  std::array<std::atomic<LegState>, kLegsMax> states_{};
  std::array<LegErrors, kLegsMax> errors_;
  std::array<std::atomic<int>, kLegsMax> pending_reads_{};
  std::atomic<uint64_t> all_{0};
  std::atomic<uint64_t> up_{0};
  std::atomic<uint64_t> primary_;  // the epoch, and the slot below it
  mutable std::mutex mutex_;
  std::array<std::string, kLegsMax> reasons_;
  std::vector<std::unique_ptr<Leg>> owned_;
};

}  // namespace mirrorfs
