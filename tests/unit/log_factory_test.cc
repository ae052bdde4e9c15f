// SPDX-License-Identifier: GPL-2.0-or-later
#include "dirtylog/log_factory.h"

#include <gtest/gtest.h>

#include <string>

#include "temp_dir.h"

namespace mirrorfs {
namespace {

TEST(LogFactory, KnowsItsTypes) {
  EXPECT_EQ(LogTypes(), (std::vector<std::string>{"core", "disk"}));
  EXPECT_TRUE(IsLogType("core"));
  EXPECT_TRUE(IsLogType("disk"));
  EXPECT_FALSE(IsLogType(""));
  EXPECT_FALSE(IsLogType("Disk"));
}

TEST(LogFactory, NamesAnUnknownType) {
  const absl::Status status =
      OpenLog({.type = "paper", .region_bytes = 4096}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(status.message()).find("\"paper\""), std::string::npos);
}

TEST(LogFactory, RefusesARegionSizeThatIsNone) {
  for (const uint64_t bytes : {0, 1000, 2048}) {
    EXPECT_EQ(OpenLog({.type = "core", .region_bytes = bytes}).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST(LogFactory, ACoreLogHasNoSession) {
  const absl::StatusOr<OpenedLog> core =
      OpenLog({.type = "core", .region_bytes = 4096});
  ASSERT_TRUE(core.ok());
  EXPECT_EQ(core->session, "");
}

// An orderly unmount of a core log that still lacks something saves it.
TEST(LogFactory, ACoreLogCanBeSavedOnDisk) {
  const TempDir temp;
  LogOptions options{.type = "core", .region_bytes = 4096};
  absl::StatusOr<OpenedLog> core = OpenLog(options);
  ASSERT_TRUE(core.ok());
  ASSERT_TRUE(core->log->Resume(LegSet()).ok());
  MarkAll(*core->log, LegSet::Of(2));

  options.type = "disk";
  options.place.dir = temp / "log";
  options.mirror_uuid = "mirror";
  options.log_uuid = "log";
  absl::StatusOr<OpenedLog> disk = OpenLog(options);
  ASSERT_TRUE(disk.ok()) << disk.status();
  ASSERT_TRUE(disk->log->Resume(LegSet()).ok());
  ASSERT_TRUE(CopyAll(*core->log, *disk->log).ok());
  options.expected_session = disk->session;
  disk->log.reset();

  disk = OpenLog(options);
  ASSERT_TRUE(disk.ok()) << disk.status();
  ASSERT_TRUE(disk->log->Resume(LegSet()).ok());
  EXPECT_EQ(disk->log->Lacking(RegionKey::Data("any/file", 3)), LegSet::Of(2));
}

}  // namespace
}  // namespace mirrorfs
