// SPDX-License-Identifier: GPL-2.0-or-later
//
// Finding the dirty log that the labels name, believing it or not, and handing
// what it says to the log that this mount shall use.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "dirtylog/dirty_log.h"
#include "leg/label.h"
#include "mirror/assembly.h"

namespace mirrorfs {

struct WantedLog {
  std::string type;  // "core" or "disk"
  std::string dir;   // log-dir=, or empty: on the primary leg
};

struct ReadyLog {
  std::unique_ptr<DirtyLog> log;  // resumed
  LabelLog label_log;             // what the labels shall say of it
  LegSlot primary = -1;           // whole, by the labels and by the log
  // The labels must be written now, not at the first change: they have to
  // name this log, because it holds something.
  bool in_use = false;
  // One line when the old log could not be believed, or this one is not what
  // was wanted.
  std::string note;
};

// Opens the log. One that should be there and cannot be trusted makes every
// region suspect (I14); it is no error. FailedPrecondition when it says that no
// leg that is here has everything.
absl::StatusOr<ReadyLog> SetUpLog(const Assembly& assembly,
                                  const WantedLog& wanted);

// Writes what a log in memory still has to say at an orderly end to a disk log
// on leg `to`, and returns what the labels shall say of that.
absl::StatusOr<LabelLog> SaveLog(const Label& label, const Leg& to,
                                 DirtyLog& log);

// The store of `log` is a new one on leg `to` from now on; `note` notes that
// in the labels. See DirtyLog::MoveStore.
absl::Status MoveLog(const Leg& to, DirtyLog& log,
                     const std::function<absl::Status(const LabelLog&)>& note);

}  // namespace mirrorfs
