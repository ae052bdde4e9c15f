// SPDX-License-Identifier: GPL-2.0-or-later
//
// Looks after the legs from time to time: one that is up must still be what is
// at its path, and one that is down is taken in when its label is there again.
//
// Threads: one caller at a time.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/handover_lock.h"
#include "leg/label.h"
#include "leg/leg.h"
#include "leg/leg_targets.h"
#include "mirror/mirror.h"

namespace mirrorfs {

// How a leg that was away stands to the mirror as it is now.
enum class Returning { kAccounted, kUnaccounted, kConflict, kForeign };
// `ours`: the mirror's label now; `theirs`: the leg's.
Returning JudgeReturn(const Label& ours, const Label& theirs);

class LegProbe {
 public:
  // Keeps other daemons off a leg before it is taken in.
  using TakeLock = std::function<absl::Status(Leg&)>;

  // `paths` by slot: where each leg is expected.
  LegProbe(Mirror* mirror, LegTargets* targets, std::vector<std::string> paths,
           TakeLock take_lock)
      : mirror_(mirror),
        targets_(targets),
        paths_(std::move(paths)),
        take_lock_(std::move(take_lock)) {}

  // A leg that fails again before it is in sync is tried less and less often:
  // each time it would be recorded on all others, and keep them busy.
  void ProbeAll();
  // Now, and whatever the reason why it is down. The error says why it cannot
  // be taken in.
  absl::Status TakeIn(LegSlot slot);
  std::string path(LegSlot slot);
  void SetPath(LegSlot slot, const std::string& path);

 private:
  // Of one leg, as far as probing goes.
  struct Tries {
    bool taken_in = false;  // and not known to be in sync since
    int in_vain = 0;        // how often in a row it failed again after that
    int to_skip = 0;        // probes, before it is tried again
  };

  void ProbeUp(LegSlot slot);
  void ProbeDown(LegSlot slot);
  void CheckRoot(LegSlot slot);
  absl::Status TryTakeIn(LegSlot slot);

  Mirror* const mirror_;
  LegTargets* const targets_;
  std::vector<Tries> tries_{kLegsMax};  // by slot; ProbeAll's
  HandoverMutex probing_;
  std::mutex mutex_;
  std::vector<std::string> paths_;  // guarded by mutex_
  const TakeLock take_lock_;
};

}  // namespace mirrorfs
