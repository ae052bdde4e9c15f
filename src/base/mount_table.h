// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace mirrorfs {

struct MountEntry {
  std::string device;  // "major:minor", one for each file system
  std::string mount_point;
  std::string type;
};

// The mounts of this process, in the order they were made: of several at one
// mount point the last is on top.
std::vector<MountEntry> ReadMountTable();

// The contents of a mountinfo file, as proc(5) describes it.
std::vector<MountEntry> ParseMountTable(absl::string_view mountinfo);

bool IsMirrorMount(const MountEntry& entry);
// One whose daemon is gone. Asks the mount, which may hang with its daemon.
bool IsDeadMirrorMount(const MountEntry& entry);

// What is on top at `mount_point`; null when nothing is mounted there.
const MountEntry* FindMount(const std::vector<MountEntry>& table,
                            absl::string_view mount_point);

}  // namespace mirrorfs
