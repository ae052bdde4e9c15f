// SPDX-License-Identifier: GPL-2.0-or-later
#include "recovery/link_index.h"

#include <algorithm>
#include <mutex>

#include "leg/walk.h"

namespace mirrorfs {
namespace {

// A walk is no snapshot: a name that moves at the same time may be missed.
constexpr int kWalksMax = 2;
constexpr int kIncompleteMax = 4;

}  // namespace

std::optional<std::vector<std::string>> LinkIndex::NamesOf(ino_t ino,
                                                           nlink_t names) {
  if (names < 2) return std::vector<std::string>();
  std::lock_guard lock(mutex_);
  std::vector<std::string> valid = Verified(ino);
  for (int walks = 0; valid.size() < names && walks < kWalksMax; ++walks) {
    Walk();
    valid = Verified(ino);
  }
  if (valid.size() < names && ++incomplete_[ino] < kIncompleteMax) {
    return std::nullopt;
  }
  incomplete_.erase(ino);
  return valid;
}

std::vector<std::string> LinkIndex::Verified(ino_t ino) {
  std::vector<std::string> valid;
  for (const std::string& path : names_[ino]) {
    const ErrnoOr<struct stat> st = mirror_->primary().Stat(path);
    if (st.ok() && st->st_ino == ino) valid.push_back(path);
  }
  return valid;
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
