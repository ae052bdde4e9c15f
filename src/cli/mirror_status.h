// SPDX-License-Identifier: GPL-2.0-or-later
//
// The daemon's answer to "status", as a struct. The JSON is documented in
// mirrorfs(8); what is absent or of another type than documented is read as
// empty or zero, so that a newer or odd daemon never stops an answer.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace mirrorfs {

struct LegStatus {
  std::string name;
  std::string path;
  std::string uuid;
  std::string state;     // in-sync, resync, failed, offline, missing, stale
  std::string reason;    // why it is down, when more is known
  std::string replaces;  // the name of the leg whose place it will take
  // For how long it has not answered a call, as far as that is noticed.
  uint64_t unanswered_seconds = 0;
  bool primary = false;
  bool write_mostly = false;
  bool free_known = false;
  uint64_t free_bytes = 0;
  uint64_t read_errors = 0;
  uint64_t write_errors = 0;
  uint64_t checksum_errors = 0;
  uint64_t dirty_bytes = 0;
  uint64_t dirty_regions = 0;
  uint64_t dirty_files = 0;
  uint64_t dirty_directories = 0;
  uint64_t done_bytes = 0;
  uint64_t copied_bytes = 0;
  uint64_t total_bytes = 0;
  uint64_t bytes_per_second = 0;
  uint64_t eta_seconds = 0;
  std::string failing_path;   // what recovery cannot heal
  std::string failing_error;  // and why; empty: it gets on
  // Versions of others that are kept on it, and where; one more may wait for
  // room.
  uint64_t conflicts_kept = 0;
  std::string conflicts_path;
  bool conflict_waits = false;
};

struct LogStatus {
  std::string type;
  std::string state;
  std::string location;  // a leg's name or a directory
  uint64_t dirty_regions = 0;
  uint64_t dirty_files = 0;
  uint64_t dirty_directories = 0;
};

struct ScrubStatus {
  std::string state;
  uint64_t mismatches = 0;
  uint64_t repaired = 0;
};

struct MirrorStatus {
  std::string name;
  std::string uuid;
  std::string mountpoint;
  std::string state;  // healthy, degraded, resyncing, conflict
  pid_t pid = 0;
  uint64_t region_bytes = 0;
  LogStatus log;
  std::vector<LegStatus> legs;
  ScrubStatus scrub;

  bool HasErrors() const;
  int InSyncLegs() const;
};

MirrorStatus ParseMirrorStatus(const nlohmann::json& mirror);

// The exit code that this mirror's state calls for.
int ExitCodeOf(const MirrorStatus& mirror);

// Of two exit codes the one that an admin must hear about first.
int MoreUrgent(int a, int b);

// Typed looks into JSON that somebody else wrote.
std::string StringAt(const nlohmann::json& object, absl::string_view key);
uint64_t NumberAt(const nlohmann::json& object, absl::string_view key);
bool BoolAt(const nlohmann::json& object, absl::string_view key);
// An empty object or array when there is none.
const nlohmann::json& ObjectAt(const nlohmann::json& object,
                               absl::string_view key);
const nlohmann::json& ArrayAt(const nlohmann::json& object,
                              absl::string_view key);

}  // namespace mirrorfs
