// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/mount_point.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <fstream>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/errno.h"

namespace mirrorfs {
namespace {

absl::Status Refuse(const std::string& dir, absl::string_view why) {
  return absl::FailedPreconditionError(
      absl::StrCat("mount point ", dir, ": ", why));
}

bool IsSameOrBeneath(absl::string_view inner, absl::string_view outer) {
  return inner == outer || outer == "/" ||
         absl::StartsWith(inner, absl::StrCat(outer, "/"));
}

// /proc/self/mountinfo writes blanks and the like as \ooo.
std::string Unescape(absl::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>((text[i + 1] - '0') * 64 +
                               (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

// "MAJOR:MINOR" of what is mounted at `dir`. Asking the mount itself would be
// asking the daemon that asks.
std::optional<std::string> MountedDevice(const std::string& dir) {
  std::ifstream mounts("/proc/self/mountinfo");
  std::optional<std::string> device;
  for (std::string line; std::getline(mounts, line);) {
    const std::vector<std::string> fields = absl::StrSplit(line, ' ');
    if (fields.size() > 4 && Unescape(fields[4]) == dir) device = fields[2];
  }
  return device;
}

}  // namespace

std::string AbsolutePath(const std::string& path) {
  char resolved[PATH_MAX];
  if (realpath(path.c_str(), resolved) != nullptr) return resolved;
  if (!path.empty() && path[0] == '/') return path;
  if (realpath(".", resolved) == nullptr) return path;
  return absl::StrCat(resolved, "/", path);
}

void ClearDeadMount(const std::string& dir) {
  struct stat st;
  if (stat(dir.c_str(), &st) != 0 && errno == ENOTCONN) {
    umount2(dir.c_str(), MNT_DETACH);
  }
}

absl::Status CheckMountPoint(const std::string& dir,
                             const std::vector<std::string>& legs,
                             const std::string& log_dir) {
  struct stat st;
  if (stat(dir.c_str(), &st) != 0) {
    return Refuse(dir, ErrnoText(Errno::Last()));
  }
  if (!S_ISDIR(st.st_mode)) return Refuse(dir, "is not a directory");
  if (MountedDevice(dir)) {
    return Refuse(dir, "something is mounted there already");
  }
  for (const std::string& leg : legs) {
    if (IsSameOrBeneath(dir, leg)) {
      return Refuse(dir, absl::StrCat("lies inside leg ", leg));
    }
    if (IsSameOrBeneath(leg, dir)) {
      return Refuse(dir, absl::StrCat("leg ", leg, " lies inside it"));
    }
  }
  if (!log_dir.empty() && IsSameOrBeneath(log_dir, dir)) {
    return Refuse(dir, absl::StrCat("log-dir ", log_dir, " lies inside it"));
  }
  return absl::OkStatus();
}

void RaiseReadAhead(const std::string& dir) {
  const std::optional<std::string> device = MountedDevice(dir);
  if (!device) return;
  std::ofstream(absl::StrCat("/sys/class/bdi/", *device, "/read_ahead_kb"))
      << 1024;
}

}  // namespace mirrorfs
