// SPDX-License-Identifier: GPL-2.0-or-later
//
// The directory of a log on disk: DIR/db, which is RocksDB's, DIR/tail and
// DIR/room.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace mirrorfs {

std::string StoreDbPath(absl::string_view dir);
std::string StoreTailPath(absl::string_view dir);

// DataLoss when there is no such directory (a log that is gone cannot be
// trusted), another code when it is there and must not be used.
absl::Status CheckStoreDir(const std::string& dir);

// Makes an empty `dir`. One that is there is kept as DIR.old, instead of what
// was kept there before; nothing that does not look like a store is removed.
absl::Status MakeStoreDir(const std::string& dir);

// Removes `dir`, made just now, as far as that is possible.
void RemoveStoreDir(const std::string& dir);

// Makes the names in `dir`, and its own, durable.
absl::Status SyncStoreDir(const std::string& dir);

// Room that is kept beside a closed store. On a full file system the store
// could not be opened without, and without its log a mirror is not mounted, so
// nothing in it could be removed.
class StoreRoom {
 public:
  // Lets go of it.
  explicit StoreRoom(const std::string& dir);
  // Takes it for the next time, as far as that is possible.
  ~StoreRoom();
  StoreRoom(const StoreRoom&) = delete;
  StoreRoom& operator=(const StoreRoom&) = delete;

  // The same, as a precaution against a crash, if nobody will feel it.
  void TakeIfAmple() const;

 private:
  void Take() const;

  const std::string path_;
};

}  // namespace mirrorfs
