// SPDX-License-Identifier: GPL-2.0-or-later
//
// Directories in which names have changed, so that their modification times
// may differ between legs. They are made equal a moment later, all at once:
// who makes a thousand files in a directory changes its times a thousand times.
// Until then a mark of the directory's entries stands, and recovery would make
// them equal.
//
// Paths keep their meaning while the names lock is held; it is, by all callers.
#pragma once

#include <mutex>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"

namespace mirrorfs {

class UnsettledDirs {
 public:
  using Paths = absl::flat_hash_set<std::string>;

  void Add(absl::string_view path);
  // What was at or beneath `from` is found at the same place of `to` now.
  void Moved(absl::string_view from, absl::string_view to);
  // Whoever takes them makes them equal.
  Paths Take();

 private:
  std::mutex mutex_;
  Paths paths_;
};

}  // namespace mirrorfs
