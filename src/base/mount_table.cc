// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/mount_table.h"

#include <errno.h>
#include <sys/vfs.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"

namespace mirrorfs {
namespace {

bool IsOctal(char c) { return c >= '0' && c <= '7'; }

// Blanks, tabs, newlines and backslashes are written \ooo.
std::string UnescapeOctal(absl::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && IsOctal(text[i + 1]) &&
        IsOctal(text[i + 2]) && IsOctal(text[i + 3])) {
      out += static_cast<char>((text[i + 1] - '0') * 64 +
                               (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace

std::vector<MountEntry> ParseMountTable(absl::string_view mountinfo) {
  std::vector<MountEntry> table;
  for (const absl::string_view line :
       absl::StrSplit(mountinfo, '\n', absl::SkipEmpty())) {
    // Optional fields end at a lone dash; the type follows it.
    const std::vector<absl::string_view> fields = absl::StrSplit(line, ' ');
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    if (dash - fields.begin() < 6 || fields.end() - dash < 2) continue;
    table.push_back({std::string(fields[2]), UnescapeOctal(fields[4]),
                     std::string(dash[1])});
  }
  return table;
}

std::vector<MountEntry> ReadMountTable() {
  std::ifstream file("/proc/self/mountinfo");
  return ParseMountTable(std::string(std::istreambuf_iterator<char>(file), {}));
}

bool IsMirrorMount(const MountEntry& entry) {
  return entry.type == "fuse.mirrorfs" || entry.type == "mirrorfs";
}

bool IsDeadMirrorMount(const MountEntry& entry) {
  // Attributes may still be in the kernel's cache; this is not.
  struct statfs st;
  return IsMirrorMount(entry) && statfs(entry.mount_point.c_str(), &st) != 0 &&
         errno == ENOTCONN;
}

const MountEntry* FindMount(const std::vector<MountEntry>& table,
                            absl::string_view mount_point) {
  const auto found =
      std::find_if(table.rbegin(), table.rend(), [&](const MountEntry& entry) {
        return entry.mount_point == mount_point;
      });
  return found == table.rend() ? nullptr : &*found;
}

}  // namespace mirrorfs
