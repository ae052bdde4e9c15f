// SPDX-License-Identifier: GPL-2.0-or-later
//
// What recovery cannot heal. That a region cannot be healed at once is nothing
// to speak of: it may be in use, or wait for a name that is to come. A leg is
// stuck when one of its regions could not be healed in any pass for some time.
//
// Threads: all calls from any thread.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/errno.h"
#include "region/leg_set.h"
#include "region/region_key.h"

namespace mirrorfs {

// Why a leg is stuck.
struct Setback {
  std::string path;  // of the first such region
  Errno error;       // what healing met last on that leg; OK: not known
};

// One line without the path.
std::string DescribeSetback(const Setback& setback);

class Setbacks {
 public:
  // For how long a region may resist before the leg is stuck.
  static constexpr absl::Duration kPatience = absl::Seconds(5);

  struct Failed {
    RegionKey key;
    LegSet legs;  // that still lack it
  };

  // The clock outlives it.
  explicit Setbacks(const Clock* clock) : clock_(clock) {}

  // Healing met that error on the leg.
  void NoteError(LegSlot leg, Errno error);
  // All regions have had their turn, and these could not be healed. Answers the
  // legs that are stuck and were not after the pass before.
  LegSet EndPass(const std::vector<Failed>& failed);
  // Nothing when the leg is not stuck.
  std::optional<Setback> Of(LegSlot leg) const;

 private:
  const Clock* const clock_;
  mutable std::mutex mutex_;
  std::map<std::string, int64_t> since_ns_;  // by encoded key
  std::map<LegSlot, Errno> errors_;
  std::map<LegSlot, Setback> stuck_;
};

}  // namespace mirrorfs
