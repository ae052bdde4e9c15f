// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/mount_point.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "base/errno.h"
#include "base/mount_table.h"
#include "region/region_key.h"

namespace mirrorfs {
namespace {

absl::Status Refuse(const std::string& dir, absl::string_view why) {
  return absl::FailedPreconditionError(
      absl::StrCat("mount point ", dir, ": ", why));
}

// What a killed daemon of ours left there ("Transport endpoint is not
// connected").
void ClearDeadMount(const std::string& dir) {
  const std::vector<MountEntry> mounts = ReadMountTable();
  const MountEntry* mounted = FindMount(mounts, dir);
  if (mounted != nullptr && IsDeadMirrorMount(*mounted)) {
    umount2(dir.c_str(), MNT_DETACH);
  }
}

}  // namespace

std::string AbsolutePath(const std::string& path) {
  char resolved[PATH_MAX];
  if (realpath(path.c_str(), resolved) != nullptr) return resolved;
  // A dead mount, maybe: as far as its parent.
  const std::filesystem::path whole =
      std::filesystem::path(path + "/.").lexically_normal().parent_path();
  const std::string dir = whole.has_parent_path() ? whole.parent_path() : ".";
  if (realpath(dir.c_str(), resolved) == nullptr) {
    std::error_code ignored;
    return std::filesystem::absolute(whole, ignored);
  }
  return std::filesystem::path(resolved) / whole.filename();
}

absl::Status PrepareMountPoint(const std::string& dir,
                               const std::vector<std::string>& legs,
                               const std::string& log_dir) {
  ClearDeadMount(dir);
  struct stat st;
  bool found = stat(dir.c_str(), &st) == 0;
  if (!found) {
    // Its killed daemon may not have been dead yet.
    ClearDeadMount(dir);
    found = stat(dir.c_str(), &st) == 0;
  }
  if (!found) return Refuse(dir, ErrnoText(Errno::Last()));
  if (!S_ISDIR(st.st_mode)) return Refuse(dir, "is not a directory");
  if (FindMount(ReadMountTable(), dir) != nullptr) {
    return Refuse(dir, "something is mounted there already");
  }
  for (const std::string& leg : legs) {
    if (LiesIn(dir, leg)) {
      return Refuse(dir, absl::StrCat("lies inside leg ", leg));
    }
    if (LiesIn(leg, dir)) {
      return Refuse(dir, absl::StrCat("leg ", leg, " lies inside it"));
    }
  }
  if (!log_dir.empty() && stat(log_dir.c_str(), &st) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "log-dir ", log_dir, ": ", ErrnoText(Errno::Last()),
        "; bring its disk back, or name another directory: then everything is "
        "compared once"));
  }
  for (const std::string& leg : legs) {
    if (!log_dir.empty() && LiesIn(log_dir, leg)) {
      return absl::FailedPreconditionError(
          absl::StrCat("log-dir ", log_dir, ": lies inside leg ", leg));
    }
  }
  if (!log_dir.empty() && LiesIn(log_dir, dir)) {
    return Refuse(dir, absl::StrCat("log-dir ", log_dir, " lies inside it"));
  }
  return absl::OkStatus();
}

void RaiseReadAhead(const std::string& dir) {
  const std::vector<MountEntry> mounts = ReadMountTable();
  const MountEntry* mounted = FindMount(mounts, dir);
  if (mounted == nullptr) return;
  std::ofstream(
      absl::StrCat("/sys/class/bdi/", mounted->device, "/read_ahead_kb"))
      << 1024;
}

}  // namespace mirrorfs
