// SPDX-License-Identifier: GPL-2.0-or-later
#include "mirror/unsettled_dirs.h"

#include <utility>
#include <vector>

#include "region/region_key.h"

namespace mirrorfs {

void UnsettledDirs::Add(absl::string_view path) {
  std::lock_guard lock(mutex_);
  if (!paths_.contains(path)) paths_.emplace(path);
}

void UnsettledDirs::Moved(absl::string_view from, absl::string_view to) {
  std::lock_guard lock(mutex_);
  std::vector<std::string> moved;
  for (const std::string& path : paths_) {
    if (LiesIn(path, from)) {
      moved.push_back(RebasePath(path, from, to));
    }
  }
  // The old paths stay: after an exchange, something is there.
  for (std::string& path : moved) paths_.insert(std::move(path));
}

UnsettledDirs::Paths UnsettledDirs::Take() {
  std::lock_guard lock(mutex_);
  return std::exchange(paths_, {});
}

}  // namespace mirrorfs
