// SPDX-License-Identifier: GPL-2.0-or-later
#include "recovery/link_index.h"

#include <algorithm>
#include <mutex>
#include <shared_mutex>
#include <utility>

#include "absl/strings/match.h"
#include "leg/walk.h"
#include "region/region_key.h"

namespace mirrorfs {
namespace {

// Whoever takes too few names splits a file in two. That some are on their way
// is over in a moment; only names outside the leg are never found.
constexpr int kIncompleteMax = 64;

// More than that are not kept until somebody asks: a walk finds them, too.
constexpr size_t kNewNamesMax = 1 << 16;

bool IsIn(absl::string_view path, absl::string_view directory) {
  return path == directory ||
         (absl::StartsWith(path, directory) && path.size() > directory.size() &&
          path[directory.size()] == '/');
}

}  // namespace

std::optional<std::vector<std::string>> LinkIndex::NamesOf(
    const std::string& path, ino_t ino) {
  std::lock_guard lock(mutex_);
  (void)ForgetOtherPrimaryLocked();
  const std::optional<uint64_t> moves = AddNewNamesLocked();
  if (!complete_) {
    walk_wanted_ = true;
    return std::nullopt;
  }
  std::optional<std::vector<std::string>> names = VerifiedLocked(ino);
  const ErrnoOr<struct stat> st = mirror_->primary().Stat(path);
  if (!names || !st.ok() || st->st_ino != ino) return std::nullopt;
  if (names->size() < st->st_nlink && !NoneMovedSince(moves) &&
      ++incomplete_[ino] < kIncompleteMax) {
    return std::nullopt;
  }
  incomplete_.erase(ino);
  return names;
}

// Numbers are those of one leg. True when it is another one now.
bool LinkIndex::ForgetOtherPrimaryLocked() {
  const uint64_t epoch = mirror_->legs().primary_epoch();
  if (std::exchange(primary_epoch_, epoch) == epoch) return false;
  ForgetLocked();
  return true;
}

void LinkIndex::ForgetLocked() {
  names_.clear();
  incomplete_.clear();
  complete_ = false;
  visited_.clear();
  to_visit_.clear();
}

// Those of the index that lead to the file; none if one cannot be told.
std::optional<std::vector<std::string>> LinkIndex::VerifiedLocked(ino_t ino) {
  std::vector<std::string>& paths = names_[ino];
  bool known = true;
  std::erase_if(paths, [&](const std::string& path) {
    const ErrnoOr<struct stat> st = mirror_->primary().Stat(path);
    known &= st.ok() || IsGone(st.error());
    return st.ok() ? st->st_ino != ino : IsGone(st.error());
  });
  if (!known) return std::nullopt;
  return paths;
}

bool LinkIndex::WalkIfWanted(const std::atomic<bool>& stopping) {
  {
    std::lock_guard lock(mutex_);
    if (!std::exchange(walk_wanted_, false)) return false;
    (void)ForgetOtherPrimaryLocked();
    ForgetLocked();
    to_visit_ = {""};
    std::lock_guard moves_lock(moves_mutex_);
    in_use_ = true;
  }
  while (!stopping && VisitNext()) {
  }
  return true;
}

// False when there is nothing left to visit.
bool LinkIndex::VisitNext() {
  const std::shared_lock held(mirror_->names_lock());
  std::string directory;
  {
    std::lock_guard lock(mutex_);
    if (ForgetOtherPrimaryLocked()) to_visit_ = {""};
    if (to_visit_.empty()) {
      complete_ = true;
      visited_.clear();
      return false;
    }
    directory = std::move(to_visit_.back());
    to_visit_.pop_back();
  }
  const ErrnoOr<struct stat> st = mirror_->primary().Stat(directory);
  if (st.ok() && IsVisited(st->st_ino)) return true;
  const Listing listing = List(directory);
  std::lock_guard lock(mutex_);
  // Else the walk begins anew, with the next visit.
  if (mirror_->legs().primary_epoch() != primary_epoch_) return true;
  if (!listing.whole) {
    ForgetLocked();
    return false;
  }
  for (const auto& [path, file] : listing.files) AddLocked(path, file);
  to_visit_.insert(to_visit_.end(), listing.directories.begin(),
                   listing.directories.end());
  return true;
}

// From now on it is.
bool LinkIndex::IsVisited(ino_t directory) {
  std::lock_guard lock(mutex_);
  return !visited_.insert(directory).second;
}

LinkIndex::Listing LinkIndex::List(const std::string& directory) const {
  Listing listing;
  // EXDEV: another file system, mounted there.
  const auto note = [&](Errno error) {
    listing.whole &= IsGone(error) || error == Errno(EXDEV);
  };
  const Leg& leg = mirror_->primary();
  const auto names = ListNames(leg, directory);
  if (!names.ok()) note(names.error());
  if (!names.ok()) return listing;
  for (const std::string& name : *names) {
    std::string path = JoinPath(directory, name);
    const ErrnoOr<struct stat> st = leg.Stat(path);
    if (!st.ok()) {
      note(st.error());
    } else if (S_ISDIR(st->st_mode)) {
      listing.directories.push_back(std::move(path));
    } else if (st->st_nlink > 1) {
      listing.files.emplace_back(std::move(path), *st);
    }
  }
  return listing;
}

void LinkIndex::AddLocked(const std::string& path, const struct stat& st) {
  if (S_ISDIR(st.st_mode) || st.st_nlink < 2) return;
  std::vector<std::string>& paths = names_[st.st_ino];
  const auto at = std::lower_bound(paths.begin(), paths.end(), path);
  if (at == paths.end() || *at != path) paths.insert(at, path);
}

// What was renamed or linked since the last time. How many moves there were
// before; none while one is under way.
std::optional<uint64_t> LinkIndex::AddNewNamesLocked() {
  std::vector<std::string> paths;
  std::optional<uint64_t> moves;
  {
    std::lock_guard lock(moves_mutex_);
    paths.swap(new_names_);
    if (moving_ == 0) moves = moves_;
    if (std::exchange(overflowed_, false)) complete_ = false;
  }
  for (const std::string& path : paths) {
    const ErrnoOr<struct stat> st = mirror_->primary().Stat(path);
    if (st.ok()) AddLocked(path, *st);
  }
  return moves;
}

bool LinkIndex::NoneMovedSince(std::optional<uint64_t> moves) {
  std::lock_guard lock(moves_mutex_);
  return moves == moves_;
}

void LinkIndex::Moving() {
  std::lock_guard lock(moves_mutex_);
  ++moving_;
  ++moves_;
}

void LinkIndex::Moved(const std::vector<std::string>& paths) {
  std::lock_guard lock(moves_mutex_);
  --moving_;
  if (!in_use_) return;
  if (new_names_.size() >= kNewNamesMax) {
    new_names_.clear();
    overflowed_ = true;
  }
  new_names_.insert(new_names_.end(), paths.begin(), paths.end());
}

void LinkIndex::DirMoved(absl::string_view from, absl::string_view to,
                         bool exchanged) {
  const auto move = [&](std::string& path) {
    if (IsIn(path, from)) {
      path = RebasePath(path, from, to);
    } else if (exchanged && IsIn(path, to)) {
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
  std::for_each(to_visit_.begin(), to_visit_.end(), move);
  // It may have come from where the walk has not been to where it has.
  if (!to_visit_.empty()) {
    to_visit_.emplace_back(to);
    if (exchanged) to_visit_.emplace_back(from);
  }
  std::lock_guard moves_lock(moves_mutex_);
  std::for_each(new_names_.begin(), new_names_.end(), move);
}

void LinkIndex::Forget() {
  std::lock_guard lock(mutex_);
  ForgetLocked();
  walk_wanted_ = false;
  std::lock_guard moves_lock(moves_mutex_);
  in_use_ = false;
  overflowed_ = false;
  new_names_.clear();
}

}  // namespace mirrorfs
