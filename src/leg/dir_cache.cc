// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/dir_cache.h"

namespace mirrorfs {

uint64_t DirCache::generation() const {
  std::lock_guard lock(mutex_);
  return generation_;
}

DirRef DirCache::Find(absl::string_view path) {
  std::lock_guard lock(mutex_);
  const auto found = by_path_.find(path);
  if (found == by_path_.end()) return nullptr;
  by_use_.splice(by_use_.begin(), by_use_, found->second);
  return found->second->dir;
}

void DirCache::Insert(absl::string_view path, DirRef dir, uint64_t generation) {
  std::lock_guard lock(mutex_);
  if (generation != generation_ || by_path_.contains(path)) return;
  by_use_.push_front({std::string(path), std::move(dir)});
  by_path_.emplace(path, by_use_.begin());
  if (by_use_.size() > capacity_) {
    by_path_.erase(by_use_.back().path);
    by_use_.pop_back();
  }
}

void DirCache::Clear() {
  std::lock_guard lock(mutex_);
  ++generation_;
  by_path_.clear();
  by_use_.clear();
}

}  // namespace mirrorfs
