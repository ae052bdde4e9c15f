// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/mount_point.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
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

struct Mounted {
  std::string device;  // "MAJOR:MINOR"
  std::string type;
};

// What is mounted at `dir`, uppermost. Asking the mount itself would be asking
// the daemon, and that may be us.
std::optional<Mounted> MountedAt(const std::string& dir) {
  std::ifstream mounts("/proc/self/mountinfo");
  std::optional<Mounted> mounted;
  for (std::string line; std::getline(mounts, line);) {
    const std::vector<std::string> fields = absl::StrSplit(line, ' ');
    if (fields.size() < 5 || Unescape(fields[4]) != dir) continue;
    const auto dash = std::find(fields.begin() + 5, fields.end(), "-");
    mounted = {fields[2], fields.end() - dash > 1 ? dash[1] : ""};
  }
  return mounted;
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
  const std::optional<Mounted> mounted = MountedAt(dir);
  if (!mounted || mounted->type != "fuse.mirrorfs") return;
  // Attributes may still be in the kernel's cache; this is not.
  struct statfs st;
  if (statfs(dir.c_str(), &st) != 0 && errno == ENOTCONN) {
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
  if (MountedAt(dir)) {
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
  for (const std::string& leg : legs) {
    if (!log_dir.empty() && IsSameOrBeneath(log_dir, leg)) {
      return absl::FailedPreconditionError(
          absl::StrCat("log-dir ", log_dir, ": lies inside leg ", leg));
    }
  }
  if (!log_dir.empty() && IsSameOrBeneath(log_dir, dir)) {
    return Refuse(dir, absl::StrCat("log-dir ", log_dir, " lies inside it"));
  }
  return absl::OkStatus();
}

void RaiseReadAhead(const std::string& dir) {
  const std::optional<Mounted> mounted = MountedAt(dir);
  if (!mounted) return;
  std::ofstream(
      absl::StrCat("/sys/class/bdi/", mounted->device, "/read_ahead_kb"))
      << 1024;
}

}  // namespace mirrorfs
