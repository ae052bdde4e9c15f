// SPDX-License-Identifier: GPL-2.0-or-later
#include "recovery/link_index.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "absl/strings/match.h"
#include "leg/walk.h"
#include "region/region_key.h"

namespace mirrorfs {
namespace {

// Whoever takes too few names splits a file in two: only names that lie outside
// the leg are a reason to, and those stay away however often one looks.
constexpr int kIncompleteMax = 64;

}  // namespace

std::optional<std::vector<std::string>> LinkIndex::NamesOf(
    const std::string& path, ino_t ino) {
  std::lock_guard lock(mutex_);
  ForgetOtherPrimary();
  AddNewNames();
  std::vector<std::string> valid = Verified(ino);
  const std::optional<nlink_t> names = CountOf(path, ino);
  if (!names) return std::nullopt;
  if (valid.size() < *names && !IsExact() &&
      ++incomplete_[ino] < kIncompleteMax) {
    walk_wanted_ = true;
    return std::nullopt;
  }
  incomplete_.erase(ino);
  return valid;
}

// How many names the file has, asked for after they were verified: one that was
// made meanwhile is missed, and counts. None, if the path leads elsewhere.
std::optional<nlink_t> LinkIndex::CountOf(const std::string& path, ino_t ino) {
  const ErrnoOr<struct stat> st = mirror_->primary().Stat(path);
  if (!st.ok() || st->st_ino != ino) return std::nullopt;
  return st->st_nlink;
}

// Numbers are those of one leg.
void LinkIndex::ForgetOtherPrimary() {
  const uint64_t epoch = mirror_->legs().primary_epoch();
  if (std::exchange(primary_epoch_, epoch) == epoch) return;
  names_.clear();
  incomplete_.clear();
  std::lock_guard lock(new_names_mutex_);
  exact_ = false;
}

// Whether the last walk saw all names as they still are, but for what went.
bool LinkIndex::IsExact() {
  std::lock_guard lock(new_names_mutex_);
  return exact_;
}

std::vector<std::string> LinkIndex::Verified(ino_t ino) {
  std::vector<std::string>& paths = names_[ino];
  std::erase_if(paths, [&](const std::string& path) {
    const ErrnoOr<struct stat> st = mirror_->primary().Stat(path);
    return !st.ok() || st->st_ino != ino;
  });
  return paths;
}

// No snapshot: a name that moves at the same time may be missed, and paths in a
// directory that moves mean something else. What was found is verified when it
// is asked for.
bool LinkIndex::WalkIfWanted() {
  uint64_t epoch = 0;
  {
    std::lock_guard lock(mutex_);
    if (!std::exchange(walk_wanted_, false)) return false;
    ForgetOtherPrimary();
    epoch = primary_epoch_;
    std::lock_guard new_names_lock(new_names_mutex_);
    in_use_ = true;
    exact_ = moving_ == 0;
  }
  Names found;
  const Errno error = WalkLeg(
      mirror_->primary(), [&](const std::string& path, const struct stat& st) {
        Add(path, st, &found);
      });
  std::lock_guard lock(mutex_);
  ForgetOtherPrimary();
  if (primary_epoch_ != epoch) return true;  // its numbers mean nothing now
  names_ = std::move(found);
  AddNewNames();
  if (error.ok()) return true;
  std::lock_guard new_names_lock(new_names_mutex_);
  exact_ = false;
  return true;
}

void LinkIndex::Add(const std::string& path, const struct stat& st,
                    Names* names) {
  if (S_ISDIR(st.st_mode) || st.st_nlink < 2) return;
  std::vector<std::string>& paths = (*names)[st.st_ino];
  const auto at = std::lower_bound(paths.begin(), paths.end(), path);
  if (at == paths.end() || *at != path) paths.insert(at, path);
}

// What was renamed or linked while the walk was elsewhere.
void LinkIndex::AddNewNames() {
  std::vector<std::string> paths;
  {
    std::lock_guard lock(new_names_mutex_);
    paths.swap(new_names_);
  }
  for (const std::string& path : paths) {
    const ErrnoOr<struct stat> st = mirror_->primary().Stat(path);
    if (st.ok()) Add(path, *st, &names_);
  }
}

void LinkIndex::Moving() {
  std::lock_guard lock(new_names_mutex_);
  ++moving_;
  exact_ = false;
}

void LinkIndex::Moved(absl::string_view path) {
  std::lock_guard lock(new_names_mutex_);
  --moving_;
  if (in_use_ && !path.empty()) new_names_.emplace_back(path);
}

void LinkIndex::DirMoved(absl::string_view from, absl::string_view to,
                         bool exchanged) {
  const auto is_in = [](absl::string_view path, absl::string_view dir) {
    return path == dir || (absl::StartsWith(path, dir) &&
                           path.size() > dir.size() && path[dir.size()] == '/');
  };
  const auto move = [&](std::string& path) {
    if (is_in(path, from)) {
      path = RebasePath(path, from, to);
    } else if (exchanged && is_in(path, to)) {
      path = RebasePath(path, to, from);
    }
  };
  std::lock_guard lock(mutex_);
  for (auto& [ino, paths] : names_) {
    std::for_each(paths.begin(), paths.end(), move);
    std::sort(paths.begin(), paths.end());
    // A name that is gone may have stood where one has come to.
    paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
  }
  std::lock_guard new_names_lock(new_names_mutex_);
  exact_ = false;
  std::for_each(new_names_.begin(), new_names_.end(), move);
}

void LinkIndex::Forget() {
  std::lock_guard lock(mutex_);
  names_.clear();
  incomplete_.clear();
  walk_wanted_ = false;
  std::lock_guard new_names_lock(new_names_mutex_);
  in_use_ = false;
  exact_ = false;
  new_names_.clear();
}

}  // namespace mirrorfs
