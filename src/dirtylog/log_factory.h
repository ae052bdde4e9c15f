// SPDX-License-Identifier: GPL-2.0-or-later
//
// The one place that knows every type of dirty log.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "dirtylog/dirty_log.h"
#include "region/leg_set.h"

namespace mirrorfs {

struct LogOptions {
  std::string type;  // "core" or "disk"
  uint64_t region_bytes = 0;
  // For types with a store, see DiskLogOptions.
  StorePlace place;
  std::string mirror_uuid;
  std::string log_uuid;
  std::string expected_session;
  bool check_apart = false;
};

struct OpenedLog {
  std::unique_ptr<DirtyLog> log;  // not resumed yet
  std::string session;            // empty for types without a store
};

// InvalidArgument for an unknown type or region size; DataLoss when there is a
// store that cannot be trusted.
absl::StatusOr<OpenedLog> OpenLog(const LogOptions& options);

// "core", "disk".
std::vector<std::string> LogTypes();
bool IsLogType(absl::string_view type);

// Adds all records of `from` to `to` and flushes it: how a log moves to
// another leg, or a core log that still has something to say is saved. Nothing
// may be marked in `from` meanwhile.
absl::Status CopyAll(DirtyLog& from, DirtyLog& to);

// All that there is may differ on `legs`: what is known when a log is lost, or
// a leg is new. One record. True when it has to be flushed.
bool MarkAll(DirtyLog& log, LegSet legs);

}  // namespace mirrorfs
