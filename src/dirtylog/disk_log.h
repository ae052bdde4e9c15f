// SPDX-License-Identifier: GPL-2.0-or-later
//
// The log on disk: CoreLog with RocksDB as its store. Marks are batches that
// are synced, clears are batches that are not; at opening RocksDB replays its
// journal, so that a clear may be forgotten but a mark may not.
//
// RocksDB alone would believe too much. What is checked on top (L6):
//   identity   mirror, log, region size and format are those expected;
//   session    each opening stores a new random id, which the caller keeps in
//              the label. A store without the id of the last session lost its
//              journal, or is an old copy;
//   number     each synced batch has a number, see tail_file.h.
// Any doubt is DataLoss; the caller then creates a new log in which everything
// is dirty. Other codes (no permission, no space) say nothing about the marks.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/call_target.h"
#include "dirtylog/core_log.h"

namespace mirrorfs {

struct DiskLogOptions {
  StorePlace place;
  std::string mirror_uuid;
  std::string log_uuid;
  uint64_t region_bytes = 0;
  // The session() of the last opening that the caller noted durably. Empty:
  // create a new store; one that is there is put aside as DIR.old.
  std::string expected_session;
  // Whether the program that this is runs CheckStore when it is told
  // kCheckStoreWord; a store that is there is checked so before it is opened.
  bool check_apart = false;
};

// Reads the store in `dir` and lets go of it. Whether that can be done; it may
// end the process, see store_check.h.
bool CheckStore(const std::string& dir);

class DiskLog final : public CoreLog {
 public:
  ~DiskLog() override;

  // The caller notes it durably before the first mark; marks made in a session
  // that was not noted are not missed if the store loses them.
  const std::string& session() const { return session_; }

  std::string Status(StatusKind kind) override;

 protected:
  absl::Status Load(std::vector<Loaded>& loaded) override;
  absl::Status Store(const std::vector<Change>& batch, bool durable) override;
  absl::StatusOr<std::string> Rebind(const StorePlace& place,
                                     const std::string& log_uuid) override;

 private:
  friend absl::StatusOr<std::unique_ptr<DiskLog>> OpenDiskLog(
      const DiskLogOptions& options);
  class Db;

  // A store, and what calls to it hang on.
  struct OpenStore {
    std::shared_ptr<CallTarget> target;
    std::shared_ptr<Db> db;  // null when a call to it was given up
  };

  DiskLog(const DiskLogOptions& options, OpenStore store, std::string session);

  static absl::StatusOr<OpenStore> OpenOne(const DiskLogOptions& options,
                                           const std::string& session);
  static void Close(OpenStore store);
  void GiveUp();

  std::mutex place_mutex_;
  DiskLogOptions options_;
  const std::string session_;
  OpenStore store_;
};

// The log is durable in itself when this returns; Resume comes next.
absl::StatusOr<std::unique_ptr<DiskLog>> OpenDiskLog(
    const DiskLogOptions& options);

}  // namespace mirrorfs
