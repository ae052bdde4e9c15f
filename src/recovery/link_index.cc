// SPDX-License-Identifier: GPL-2.0-or-later
#include "recovery/link_index.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <mutex>
#include <shared_mutex>
#include <utility>

#include "leg/walk.h"
#include "region/region_key.h"

namespace mirrorfs {
namespace {

// Whoever takes too few names splits a file in two. That some are on their way
// is over in a moment; only names outside the leg are never found.
constexpr int kIncompleteMax = 64;

// More than that are not kept until somebody asks: a walk finds them, too.
constexpr size_t kNewNamesMax = 1 << 16;

// What is looked at with the names lock held.
constexpr size_t kNamesAtOnce = 256;

// Of a name of the primary: it is not there, or another file system, which is
// mounted there, hides it.
bool IsOutOfSight(Errno error) {
  return IsAbsent(error) || error == Errno(EXDEV);
}

}  // namespace

std::optional<std::vector<std::string>> LinkIndex::NamesOf(
    const std::string& path, ino_t ino) {
  std::lock_guard lock(mutex_);
  ForgetOtherPrimaryLocked();
  const std::optional<uint64_t> moves = AddNewNamesLocked();
  if (!complete_ || lost_) {
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

// Numbers are those of one leg.
void LinkIndex::ForgetOtherPrimaryLocked() {
  const uint64_t epoch = mirror_->legs().primary_epoch();
  if (std::exchange(primary_epoch_, epoch) == epoch) return;
  ForgetLocked();
  if (walking_) to_visit_ = {""};
}

void LinkIndex::ForgetLocked() {
  names_.clear();
  incomplete_.clear();
  complete_ = false;
  lost_ = false;
  to_visit_.clear();
  visit_ = Visit();
  visited_.clear();
}

// Those of the index that lead to the file; none if one cannot be told.
std::optional<std::vector<std::string>> LinkIndex::VerifiedLocked(ino_t ino) {
  std::vector<std::string>& paths = names_[ino];
  bool known = true;
  std::erase_if(paths, [&](const std::string& path) {
    const ErrnoOr<struct stat> st = mirror_->primary().Stat(path);
    known &= st.ok() || IsOutOfSight(st.error());
    return st.ok() ? st->st_ino != ino : IsOutOfSight(st.error());
  });
  if (!known) return std::nullopt;
  return paths;
}

bool LinkIndex::WalkIfWanted(const std::atomic<bool>& stopping) {
  {
    std::lock_guard lock(mutex_);
    if (!std::exchange(walk_wanted_, false)) return false;
    ForgetOtherPrimaryLocked();
    ForgetLocked();
    walking_ = true;
    to_visit_ = {""};
    std::lock_guard moves_lock(moves_mutex_);
    in_use_ = true;
    overflowed_ = false;
    new_names_.clear();  // those under way are told once more
  }
  while (!stopping && VisitNext()) {
  }
  return true;
}

// One part of a directory. False when the walk has ended.
bool LinkIndex::VisitNext() {
  const std::shared_lock held(mirror_->names_lock());
  std::lock_guard lock(mutex_);
  ForgetOtherPrimaryLocked();
  (void)AddNewNamesLocked();
  if (visit_.names.empty()) {
    if (to_visit_.empty()) return EndWalk("", kOk);
    visit_ = {std::move(to_visit_.back()), {}};
    to_visit_.pop_back();
    if (const Errno error = BeginVisit(); !error.ok()) {
      return EndWalk(visit_.path, error);
    }
  }
  const std::string path = visit_.path;
  if (const Errno error = GoOn(); !error.ok()) {
    return EndWalk(path, error);
  }
  return true;
}

Errno LinkIndex::BeginVisit() {
  const Leg& leg = mirror_->primary();
  const ErrnoOr<struct stat> st = leg.Stat(visit_.path);
  if (!st.ok()) return IsOutOfSight(st.error()) ? kOk : st.error();
  if (visited_.contains(st->st_ino)) return kOk;
  ErrnoOr<std::vector<std::string>> names = ListNames(leg, visit_.path);
  if (!names.ok()) return IsOutOfSight(names.error()) ? kOk : names.error();
  visited_.insert(st->st_ino);
  visit_.names = *std::move(names);
  return kOk;
}

Errno LinkIndex::GoOn() {
  for (size_t n = 0; n < kNamesAtOnce && !visit_.names.empty(); ++n) {
    const std::string path = JoinPath(visit_.path, visit_.names.back());
    visit_.names.pop_back();
    const ErrnoOr<struct stat> st = mirror_->primary().Stat(path);
    if (st.ok() && S_ISDIR(st->st_mode)) {
      to_visit_.push_back(path);
    } else if (st.ok()) {
      AddLocked(path, *st);
    } else if (!IsOutOfSight(st.error())) {
      return st.error();
    }
  }
  return kOk;
}

// An error is that of `path`: what cannot be looked at may hold names.
bool LinkIndex::EndWalk(const std::string& path, Errno error) {
  walking_ = false;
  visited_.clear();
  complete_ = error.ok();
  if (error.ok()) return false;
  spdlog::warn("looking for names of files, at \"{}\": {}", path,
               ErrnoText(error));
  ForgetLocked();
  return false;
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
  absl::flat_hash_set<std::string> paths;
  std::optional<uint64_t> moves;
  {
    std::lock_guard lock(moves_mutex_);
    paths.swap(new_names_);
    if (moving_ == 0) moves = moves_;
    lost_ |= std::exchange(overflowed_, false);
  }
  for (const std::string& path : paths) {
    const ErrnoOr<struct stat> st = mirror_->primary().Stat(path);
    if (st.ok()) AddLocked(path, *st);
    lost_ |= !st.ok() && !IsOutOfSight(st.error());
  }
  return moves;
}

bool LinkIndex::NoneMovedSince(std::optional<uint64_t> moves) {
  std::lock_guard lock(moves_mutex_);
  return moves == moves_;
}

void LinkIndex::Moving(const std::vector<std::string>& paths) {
  std::lock_guard lock(moves_mutex_);
  ++moving_;
  ++moves_;
  NoteNamesLocked(paths);
}

void LinkIndex::Moved(const std::vector<std::string>& paths) {
  std::lock_guard lock(moves_mutex_);
  --moving_;
  NoteNamesLocked(paths);
}

void LinkIndex::NoteNamesLocked(const std::vector<std::string>& paths) {
  if (!in_use_) return;
  new_names_.insert(paths.begin(), paths.end());
  if (new_names_.size() <= kNewNamesMax) return;
  new_names_.clear();
  overflowed_ = true;
}

void LinkIndex::DirMoved(absl::string_view from, absl::string_view to,
                         bool exchanged) {
  const auto move = [&](std::string& path) {
    if (LiesIn(path, from)) {
      path = RebasePath(path, from, to);
    } else if (exchanged && LiesIn(path, to)) {
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
  move(visit_.path);
  // It may have come from where the walk has not been to where it has.
  if (walking_) {
    to_visit_.emplace_back(to);
    if (exchanged) to_visit_.emplace_back(from);
  }
  std::lock_guard moves_lock(moves_mutex_);
  absl::flat_hash_set<std::string> moved;
  for (std::string path : new_names_) {
    move(path);
    moved.insert(std::move(path));
  }
  new_names_ = std::move(moved);
  // What a directory changed places with may be a file.
  if (exchanged) NoteNamesLocked({std::string(from), std::string(to)});
}

void LinkIndex::DirInDoubt() {
  std::lock_guard lock(moves_mutex_);
  overflowed_ = true;
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
