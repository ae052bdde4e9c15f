// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "base/errno.h"
#include "leg/leg.h"

namespace mirrorfs {

// Calls visit(path, stat) for everything beneath the leg's directory `from`, of
// its root but the private directory, parents before children. What vanishes
// meanwhile is left out; so is what cannot be looked at, and the last error of
// that is returned.
Errno WalkLeg(const Leg& leg,
              const std::function<void(const std::string& path,
                                       const struct stat& st)>& visit,
              const std::string& from = "");

struct DirEntry {
  std::string name;
  ino_t ino = 0;
  mode_t type = 0;  // S_IFREG and the like; 0 when the file system does not say
};

// What is in a directory of a leg, without . and .. and the private directory.
ErrnoOr<std::vector<DirEntry>> ListEntries(const Leg& leg,
                                           absl::string_view dir);
// The names only.
ErrnoOr<std::vector<std::string>> ListNames(const Leg& leg,
                                            absl::string_view dir);

}  // namespace mirrorfs
