// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/handover_lock.h"
#include "leg/leg.h"
#include "mirror/mirror.h"

namespace mirrorfs {

// All names of the primary's files that have several, which no file system can
// be asked for: a walk of the whole leg finds them. Made on first use, because
// few repairs need it. Thread-safe.
class LinkIndex : public NameWatch {
 public:
  explicit LinkIndex(Mirror* mirror) : mirror_(mirror) {}

  // Paths that lead to the file at `path`, which has that inode number, sorted;
  // nothing if it has another by now. Nothing, too, when it knows fewer than
  // the file has and names have moved since the last walk: to be asked again
  // after WalkIfWanted. Names that are not found when none moves, or however
  // often one tries, lie outside the leg.
  std::optional<std::vector<std::string>> NamesOf(const std::string& path,
                                                  ino_t ino);
  // False when NamesOf has missed nothing since the last one. Takes long, and
  // must not keep anybody from renaming a directory: to be called without the
  // names lock.
  bool WalkIfWanted();

  void Moving() override;
  void Moved(absl::string_view path) override;
  void DirMoved(absl::string_view from, absl::string_view to,
                bool exchanged) override;
  // Nothing is being repaired: there is no need to keep track.
  void Forget();

 private:
  using Names = absl::flat_hash_map<ino_t, std::vector<std::string>>;

  static void Add(const std::string& path, const struct stat& st, Names* names);
  void AddNewNames();
  void ForgetOtherPrimary();
  bool IsExact();
  std::vector<std::string> Verified(ino_t ino);
  std::optional<nlink_t> CountOf(const std::string& path, ino_t ino);

  Mirror* const mirror_;
  HandoverMutex mutex_;
  Names names_;
  bool walk_wanted_ = false;
  uint64_t primary_epoch_ = 0;
  absl::flat_hash_map<ino_t, int> incomplete_;  // how often in a row

  std::mutex new_names_mutex_;  // a leaf: names are told by requests
  bool in_use_ = false;
  bool exact_ = false;  // no name has moved since the walk began
  int moving_ = 0;
  std::vector<std::string> new_names_;
};

}  // namespace mirrorfs
