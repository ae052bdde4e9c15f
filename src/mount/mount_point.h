// SPDX-License-Identifier: GPL-2.0-or-later
//
// The place a mirror is mounted at.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace mirrorfs {

// Absolute, symlinks resolved as far as it exists.
std::string AbsolutePath(const std::string& path);

// Takes away what a killed daemon of ours left at `dir`, and refuses what
// cannot be mounted at: not a directory, something mounted there already, or a
// leg or log directory that would be hidden by or lie in it.
absl::Status PrepareMountPoint(const std::string& dir,
                               const std::vector<std::string>& legs,
                               const std::string& log_dir);

// Lets the kernel read ahead as much as one request may carry; it offers an
// eighth of that. Best effort.
void RaiseReadAhead(const std::string& dir);

}  // namespace mirrorfs
