// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "absl/strings/string_view.h"

namespace mirrorfs {

// Who looks for all names of a file is told of those that come to be meanwhile.
// Thread-safe.
class NameWatch {
 public:
  virtual ~NameWatch() = default;
  // A file is about to get a name. Each call is followed by one of Moved.
  virtual void Moving() = 0;
  // `path`: the name; empty if nothing came of it.
  virtual void Moved(absl::string_view path) = 0;
  // A directory has moved, or changed places with what was at `to`. No name
  // moves meanwhile.
  virtual void DirMoved(absl::string_view from, absl::string_view to,
                        bool exchanged) = 0;
};

}  // namespace mirrorfs
