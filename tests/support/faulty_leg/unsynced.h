// SPDX-License-Identifier: GPL-2.0-or-later
//
// What a loss of power would take: for each file the content that was
// overwritten since it was last synced. Losing puts it back.
//
// Content and size only; names are as durable as the directory beneath.
#pragma once

#include <sys/stat.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/errno.h"
#include "base/fd.h"

namespace mirrorfs::faulty {

// Thread-safe. Files are known by their inode number.
class Unsynced {
 public:
  using Lock = std::unique_lock<std::mutex>;

  void Track(bool on);
  // Before bytes [offset, offset + length) of the file, or its size, change.
  // The change must be made while the lock is held. `fd` may be O_PATH.
  [[nodiscard]] Lock Before(int fd, uint64_t offset, uint64_t length);
  void Synced(int fd);
  void AllSynced();
  // Undoes what is younger than `younger_ms`: older changes count as written
  // back by themselves. Returns how many changes were lost.
  size_t Lose(int fd, int64_t younger_ms);
  size_t LoseAll(int64_t younger_ms);

 private:
  using Time = std::chrono::steady_clock::time_point;

  struct Change {
    Time when;
    struct stat before;
    uint64_t offset;
    std::string bytes;  // what was there, as far as the file reached
  };
  struct File {
    UniqueFd fd;
    std::vector<Change> changes;
  };

  static size_t Undo(File& file, int64_t younger_ms);

  std::mutex mutex_;
  bool on_ = false;
  std::map<ino_t, File> files_;
};

}  // namespace mirrorfs::faulty
