// SPDX-License-Identifier: GPL-2.0-or-later
//
// Where versions of objects are kept that are not the mirror's: beneath
// .mirrorfs/conflicts of the leg they were found on, until an administrator
// removes them.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "base/errno.h"
#include "leg/leg.h"

namespace mirrorfs {

std::string ConflictsPath();

// Renames `from`, which is no directory, to conflicts/BATCH/PATH, or, where
// something is in the way, to conflicts/BATCH.N/PATH; nothing that is there is
// replaced. Answers the new path. Directories on the way are made, with mode
// 0700. Threads: any. Not durable by itself.
ErrnoOr<std::string> MoveToConflicts(Leg& leg, const std::string& from,
                                     const std::string& path,
                                     const std::string& batch);

// How many objects are kept there, not counting directories.
ErrnoOr<uint64_t> CountConflicts(const Leg& leg);

}  // namespace mirrorfs
