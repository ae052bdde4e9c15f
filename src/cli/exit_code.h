// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the exit codes of mirrorfs(8) mean. Scripts rely on them.
#pragma once

namespace mirrorfs {

enum ExitCode : int {
  kExitHealthy = 0,
  // Also: what was asked for could not be done.
  kExitUsage = 1,
  kExitNotMounted = 2,  // or not a mirror
  kExitDegraded = 3,
  kExitResyncing = 4,
  kExitConflict = 5,  // or legs that differ, or something uncorrectable
  kExitErrorsRecorded = 64,
};

}  // namespace mirrorfs
