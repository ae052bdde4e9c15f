// SPDX-License-Identifier: GPL-2.0-or-later
//
// The number of the last durable batch, beside the store that holds the
// batches. RocksDB opens without complaint when its journal was cut short or
// deleted; a store that is behind this number has lost marks.
//
// The file is never fsynced after its creation: a number too small is only a
// weaker check, and one too large cannot happen, because a batch is durable
// before its number is written here.
//
// Format: the number, then a checksum of it and of the log's uuid; 8 bytes
// each, little endian.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/fd.h"

namespace mirrorfs {

class TailFile {
 public:
  // Makes the file durable, with number 0. The caller syncs the directory.
  static absl::StatusOr<TailFile> Create(const std::string& path,
                                         absl::string_view log_uuid);
  // DataLoss when there is none or what it holds is not sound.
  static absl::StatusOr<TailFile> Open(const std::string& path,
                                       absl::string_view log_uuid);

  uint64_t number() const { return number_; }
  absl::Status Write(uint64_t number);

 private:
  TailFile(UniqueFd fd, std::string path, absl::string_view log_uuid)
      : fd_(std::move(fd)), path_(std::move(path)), log_uuid_(log_uuid) {}

  absl::Status Read();

  UniqueFd fd_;
  std::string path_;
  std::string log_uuid_;
  uint64_t number_ = 0;
};

}  // namespace mirrorfs
