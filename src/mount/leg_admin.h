// SPDX-License-Identifier: GPL-2.0-or-later
//
// What an administrator does to the legs of a mounted mirror. Each call checks
// everything first and changes nothing when it fails or with `dry_run`; one
// that succeeded has been recorded durably.
//
// What the labels say comes first: a leg that is attached is a member before
// its directory has a label, and one that is detached is none before the log
// forgets it. A crash in between leaves a member without a label, or records
// of no member; the next mount drops both.
//
// Threads: all calls from any thread; one change at a time.
#pragma once

#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/handover_lock.h"
#include "leg/label.h"
#include "leg/new_mirror.h"
#include "mirror/leg_probe.h"
#include "mirror/mirror.h"

namespace mirrorfs {

class LegAdmin {
 public:
  // What it works with outlives it.
  LegAdmin(Mirror* mirror, LegProbe* probe, std::string mount_point,
           bool read_only)
      : mirror_(mirror),
        probe_(probe),
        mount_point_(std::move(mount_point)),
        read_only_(read_only) {}

  // `leg` is the name, the uuid or the path of a leg.
  absl::Status Offline(const std::string& leg, bool dry_run);
  absl::Status Online(const std::string& leg, bool dry_run);
  absl::Status Promote(const std::string& leg, bool dry_run);
  // Its error counters become zero; of all legs when `leg` is empty.
  absl::Status ClearErrors(const std::string& leg);
  // Compares everything on the leg, or on all but the primary when `leg` is
  // empty; `first`, a path in the mirror, before the rest when there is one.
  absl::Status Resync(const std::string& leg,
                      const std::optional<std::string>& first, bool dry_run);
  // `options.replaces` is a leg as above, or empty. A leg that was offline or
  // away is taken in from that path.
  absl::Status Attach(NewLegOptions options, bool dry_run);
  absl::Status Detach(const std::string& leg, bool dry_run);
  // Legs in conflict are made equal to the others, of which `keep` is one.
  absl::Status Resolve(const std::string& keep, bool dry_run);

  // Detaches legs whose place another one has taken. Cheap when there is none.
  // Waits for nothing, since recovery calls it; what cannot be done now is done
  // by a later call.
  void FinishReplacing();
  // Nothing is changed from now on.
  void Close();

 private:
  // OK when something may be changed. mutex_ is held in all that follow.
  absl::Status CheckOpen() const;
  absl::StatusOr<LabelMember> Find(const std::string& leg) const;
  // Whether the leg may go: another one is in sync.
  absl::Status CheckSpare(const LabelMember& member) const;
  // A leg that can be done without.
  absl::StatusOr<LabelMember> FindSpare(const std::string& leg);
  // `patience`: how long to wait for another leg to be able to go on alone.
  absl::Status TakeOut(const LabelMember& member, const std::string& reason,
                       absl::Duration patience, Mirror::Leaving leaving);
  absl::Status TakeOffline(const LabelMember& member);
  absl::Status SetOffline(const LabelMember& member, bool offline);
  absl::Status TakeIn(const LabelMember& member);
  absl::Status ReturnFrom(const std::string& path, const LabelMember& member,
                          bool dry_run);
  absl::Status CheckOutside(const std::string& path) const;
  absl::Status Join(const std::string& path, const LabelMember& member);
  absl::Status Remove(const LabelMember& member, absl::Duration patience);
  std::vector<std::string> PathsOfPresent() const;
  absl::StatusOr<LabelMember> NewMember(const NewLegOptions& options,
                                        const Label& label) const;

  Mirror* const mirror_;
  LegProbe* const probe_;
  const std::string mount_point_;
  const bool read_only_;
  HandoverMutex mutex_;
  bool closed_ = false;  // guarded by mutex_
};

}  // namespace mirrorfs
