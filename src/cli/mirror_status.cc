// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/mirror_status.h"

#include <algorithm>
#include <iterator>

#include "cli/exit_code.h"

namespace mirrorfs {
namespace {

using nlohmann::json;

// Null when there is none.
const json* Find(const json& object, absl::string_view key) {
  const auto found = object.find(std::string(key));
  return found == object.end() ? nullptr : &*found;
}

LegStatus ParseLeg(const json& leg) {
  const json& errors = ObjectAt(leg, "errors");
  const json& dirty = ObjectAt(leg, "dirty");
  const json& resync = ObjectAt(leg, "resync");
  const json& conflicts = ObjectAt(leg, "conflicts");
  LegStatus status;
  status.name = StringAt(leg, "name");
  status.path = StringAt(leg, "path");
  status.uuid = StringAt(leg, "uuid");
  status.state = StringAt(leg, "state");
  status.reason = StringAt(leg, "reason");
  status.replaces = StringAt(leg, "replaces");
  status.unanswered_seconds = NumberAt(leg, "unanswered_s");
  status.primary = BoolAt(leg, "primary");
  status.write_mostly = BoolAt(leg, "write_mostly");
  const json* free_bytes = Find(leg, "free_bytes");
  status.free_known = free_bytes != nullptr && free_bytes->is_number();
  status.free_bytes = NumberAt(leg, "free_bytes");
  status.read_errors = NumberAt(errors, "read");
  status.write_errors = NumberAt(errors, "write");
  status.checksum_errors = NumberAt(errors, "checksum");
  status.dirty_bytes = NumberAt(dirty, "bytes");
  status.dirty_regions = NumberAt(dirty, "regions");
  status.dirty_files = NumberAt(dirty, "files");
  status.dirty_directories = NumberAt(dirty, "directories");
  status.copied_bytes = NumberAt(resync, "copied_bytes");
  status.done_bytes = NumberAt(resync, "done_bytes");
  status.total_bytes = NumberAt(resync, "total_bytes");
  status.bytes_per_second = NumberAt(resync, "rate");
  status.eta_seconds = NumberAt(resync, "eta_s");
  status.failing_path = StringAt(ObjectAt(resync, "failing"), "path");
  status.failing_error = StringAt(ObjectAt(resync, "failing"), "error");
  status.conflicts_kept = NumberAt(conflicts, "kept");
  status.conflicts_path = StringAt(conflicts, "path");
  status.conflict_waits = BoolAt(conflicts, "waiting");
  return status;
}

LogStatus ParseLog(const json& log) {
  return {StringAt(log, "type"),        StringAt(log, "state"),
          StringAt(log, "location"),    NumberAt(log, "dirty_regions"),
          NumberAt(log, "dirty_files"), NumberAt(log, "dirty_directories")};
}

}  // namespace

std::string StringAt(const json& object, absl::string_view key) {
  const json* value = Find(object, key);
  return value != nullptr && value->is_string() ? value->get<std::string>()
                                                : std::string();
}

uint64_t NumberAt(const json& object, absl::string_view key) {
  const json* value = Find(object, key);
  if (value == nullptr) return 0;
  if (value->is_number_unsigned()) return value->get<uint64_t>();
  if (value->is_number_float()) {
    const double number = value->get<double>();
    return number > 0 && number < 1e18 ? static_cast<uint64_t>(number) : 0;
  }
  return value->is_number_integer() && value->get<int64_t>() > 0
             ? value->get<uint64_t>()
             : 0;
}

bool BoolAt(const json& object, absl::string_view key) {
  const json* value = Find(object, key);
  return value != nullptr && value->is_boolean() && value->get<bool>();
}

const json& ObjectAt(const json& object, absl::string_view key) {
  static const json& empty = *new json(json::object());
  const json* value = Find(object, key);
  return value != nullptr && value->is_object() ? *value : empty;
}

const json& ArrayAt(const json& object, absl::string_view key) {
  static const json& empty = *new json(json::array());
  const json* value = Find(object, key);
  return value != nullptr && value->is_array() ? *value : empty;
}

bool MirrorStatus::HasErrors() const {
  return std::any_of(legs.begin(), legs.end(), [](const LegStatus& leg) {
    return leg.read_errors + leg.write_errors + leg.checksum_errors > 0;
  });
}

int MirrorStatus::InSyncLegs() const {
  return static_cast<int>(std::count_if(
      legs.begin(), legs.end(),
      [](const LegStatus& leg) { return leg.state == "in-sync"; }));
}

MirrorStatus ParseMirrorStatus(const json& mirror) {
  const json& scrub = ObjectAt(mirror, "scrub");
  MirrorStatus status;
  status.name = StringAt(mirror, "name");
  status.uuid = StringAt(mirror, "uuid");
  status.mountpoint = StringAt(mirror, "mountpoint");
  status.state = StringAt(mirror, "state");
  status.pid = static_cast<pid_t>(NumberAt(mirror, "pid"));
  status.region_bytes = NumberAt(mirror, "region_size");
  status.log = ParseLog(ObjectAt(mirror, "log"));
  for (const json& leg : ArrayAt(mirror, "legs")) {
    status.legs.push_back(ParseLeg(leg));
  }
  status.scrub = {StringAt(scrub, "state"), NumberAt(scrub, "mismatches"),
                  NumberAt(scrub, "repaired")};
  return status;
}

int ExitCodeOf(const MirrorStatus& mirror) {
  if (mirror.state == "conflict") return kExitConflict;
  if (mirror.state == "resyncing") return kExitResyncing;
  // What we do not know is not called healthy.
  if (mirror.state != "healthy") return kExitDegraded;
  return mirror.HasErrors() ? kExitErrorsRecorded : kExitHealthy;
}

int MoreUrgent(int a, int b) {
  static constexpr int kByUrgency[] = {kExitUsage,      kExitConflict,
                                       kExitDegraded,   kExitResyncing,
                                       kExitNotMounted, kExitErrorsRecorded};
  for (const int code : kByUrgency) {
    if (a == code || b == code) return code;
  }
  return kExitHealthy;
}

}  // namespace mirrorfs
