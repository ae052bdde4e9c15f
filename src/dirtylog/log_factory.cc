// SPDX-License-Identifier: GPL-2.0-or-later
#include "dirtylog/log_factory.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "dirtylog/core_log.h"
#include "dirtylog/disk_log.h"
#include "region/region_range.h"

namespace mirrorfs {
namespace {

absl::StatusOr<OpenedLog> OpenCore(const LogOptions& options) {
  return OpenedLog{std::make_unique<CoreLog>(options.region_bytes), ""};
}

absl::StatusOr<OpenedLog> OpenDisk(const LogOptions& options) {
  auto log = OpenDiskLog({.place = options.place,
                          .mirror_uuid = options.mirror_uuid,
                          .log_uuid = options.log_uuid,
                          .region_bytes = options.region_bytes,
                          .expected_session = options.expected_session,
                          .check_apart = options.check_apart});
  if (!log.ok()) return log.status();
  std::string session = (*log)->session();
  return OpenedLog{*std::move(log), std::move(session)};
}

struct LogType {
  const char* name;
  absl::StatusOr<OpenedLog> (*open)(const LogOptions& options);
};
constexpr LogType kLogTypes[] = {
    {"core", OpenCore},
    {"disk", OpenDisk},
};

}  // namespace

absl::StatusOr<OpenedLog> OpenLog(const LogOptions& options) {
  if (!IsValidRegionSize(options.region_bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("not a region size: ", options.region_bytes));
  }
  for (const LogType& type : kLogTypes) {
    if (options.type == type.name) return type.open(options);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown dirty log type \"", options.type,
                   "\"; there are: ", absl::StrJoin(LogTypes(), ", ")));
}

std::vector<std::string> LogTypes() {
  std::vector<std::string> names;
  for (const LogType& type : kLogTypes) names.push_back(type.name);
  return names;
}

bool IsLogType(absl::string_view type) {
  for (const LogType& known : kLogTypes) {
    if (type == known.name) return true;
  }
  return false;
}

absl::Status CopyAll(DirtyLog& from, DirtyLog& to) {
  from.ForEach([&](const RegionKey& key, const RegionRecord& record) {
    to.MarkRegion(key, record);
  });
  return to.Flush();
}

bool MarkAll(DirtyLog& log, LegSet legs) {
  return log.MarkRegion(RegionKey::Entries(""),
                        {.missing = legs, .deep = legs});
}

}  // namespace mirrorfs
