// SPDX-License-Identifier: GPL-2.0-or-later
//
// RocksDB with assertions, as Debian builds it, ends the process over damage
// that has right checksums, like an older copy of one of its files. So a store
// that was not made just now is first opened by a process of its own.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace mirrorfs {

// How this program is told to do that: WORD DIR.
inline constexpr char kCheckStoreWord[] = "--check-store";

// Runs this program so. DataLoss when that is ended by a signal; OK when it
// ends by itself, whatever it says, or cannot be run. Blocks.
absl::Status CheckStoreApart(const std::string& dir);

}  // namespace mirrorfs
