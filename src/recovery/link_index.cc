// SPDX-License-Identifier: GPL-2.0-or-later
#include "recovery/link_index.h"

#include <algorithm>

#include "leg/walk.h"

namespace mirrorfs {

std::vector<std::string> LinkIndex::NamesOf(ino_t ino, nlink_t names) {
  if (names < 2) return {};
  std::lock_guard lock(mutex_);
  if (names_[ino].size() < names) Walk();
  return names_[ino];
}

void LinkIndex::Walk() {
  names_.clear();
  WalkLeg(mirror_->primary(),
          [&](const std::string& path, const struct stat& st) {
            if (S_ISDIR(st.st_mode) || st.st_nlink < 2) return;
            names_[st.st_ino].push_back(path);
          });
  for (auto& [_, paths] : names_) std::sort(paths.begin(), paths.end());
}

}  // namespace mirrorfs
