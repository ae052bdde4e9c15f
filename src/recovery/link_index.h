// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/handover_lock.h"
#include "mirror/mirror.h"

namespace mirrorfs {

// All names of the primary's files that have several, which no file system can
// be asked for: a walk of the whole leg finds them. Made when it is first
// needed, because few repairs need it; from then on it is told of every name
// that moves. Thread-safe.
class LinkIndex : public NameWatch {
 public:
  explicit LinkIndex(Mirror* mirror) : mirror_(mirror) {}

  // Paths that lead to the file at `path`, which has that inode number, sorted;
  // nothing if it has another by now. Nothing, too, as long as it cannot know
  // them all: to be asked again, after WalkIfWanted. Names that it does not
  // find while none moves lie outside the leg. The names lock is held.
  std::optional<std::vector<std::string>> NamesOf(const std::string& path,
                                                  ino_t ino);
  // False when NamesOf has not asked for it. Takes long, unless `stopping`, and
  // holds the names lock for a part of a directory at a time: to be called
  // without it.
  bool WalkIfWanted(const std::atomic<bool>& stopping);

  void Moving(const std::vector<std::string>& paths) override;
  void Moved(const std::vector<std::string>& paths) override;
  void DirMoved(absl::string_view from, absl::string_view to,
                bool exchanged) override;
  void DirInDoubt() override;
  // Nothing is being repaired: there is no need to keep track.
  void Forget();

 private:
  using Names = absl::flat_hash_map<ino_t, std::vector<std::string>>;
  // A directory that is looked at by parts.
  struct Visit {
    std::string path;
    std::vector<std::string> names;  // that are left
  };

  bool VisitNext();
  Errno BeginVisit();
  Errno GoOn();
  bool EndWalk(const std::string& path, Errno error);
  void ForgetLocked();
  void ForgetOtherPrimaryLocked();
  void AddLocked(const std::string& path, const struct stat& st);
  void NoteNamesLocked(const std::vector<std::string>& paths);
  std::optional<uint64_t> AddNewNamesLocked();
  bool NoneMovedSince(std::optional<uint64_t> moves);
  std::optional<std::vector<std::string>> VerifiedLocked(ino_t ino);

  Mirror* const mirror_;

  HandoverMutex mutex_;
  Names names_;
  uint64_t primary_epoch_ = 0;
  bool walk_wanted_ = false;
  bool complete_ = false;  // a walk has ended that saw everything
  bool lost_ = false;      // and names that came later were not noted
  // Of the walk under way: paths to be visited, the one that is, and
  // directories that were. By number, so that one that moves is neither missed
  // nor visited twice.
  bool walking_ = false;
  std::vector<std::string> to_visit_;
  Visit visit_;
  absl::flat_hash_set<ino_t> visited_;
  absl::flat_hash_map<ino_t, int> incomplete_;  // how often in a row

  std::mutex moves_mutex_;  // a leaf: moves are told by requests
  bool in_use_ = false;
  bool overflowed_ = false;  // names were lost
  int moving_ = 0;
  uint64_t moves_ = 0;  // how many have begun
  absl::flat_hash_set<std::string> new_names_;
};

}  // namespace mirrorfs
