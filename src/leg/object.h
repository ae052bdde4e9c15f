// SPDX-License-Identifier: GPL-2.0-or-later
//
// Attributes of one object of a leg, by descriptor. The descriptor may be
// O_PATH and may be of a symlink; calls that do not take such a one go through
// /proc/self/fd, which leads to the object itself.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "base/errno.h"

namespace mirrorfs {

ErrnoOr<struct stat> StatObject(int fd);
// Type and permissions only. Since Linux 6.13 whoever asks for an object's
// times makes its next write pay for a finer time stamp; so a question that
// comes with each write must not ask for them.
ErrnoOr<mode_t> ModeOf(int fd);
Errno Chmod(int fd, mode_t mode);
// -1 leaves the owner or the group as it is.
Errno Chown(int fd, uid_t uid, gid_t gid);
// Access and modification time, as for utimensat(2).
Errno SetTimes(int fd, const timespec times[2]);

Errno SetXattr(int fd, const std::string& name, absl::string_view value,
               int flags);
ErrnoOr<std::string> GetXattr(int fd, const std::string& name);
Errno RemoveXattr(int fd, const std::string& name);
// Names that describe the object; those by which a file system shows the same
// thing a second time (XFS: trusted.SGI_ACL_*) are left out. Empty for a file
// system without extended attributes.
ErrnoOr<std::vector<std::string>> ListXattrs(int fd);

// Whether it is a file that loses bits of its mode when an ordinary user
// changes its content. Set-group-ID is one of them only where the group may
// execute it.
constexpr bool HasSetId(mode_t mode) {
  constexpr mode_t kGroup = S_ISGID | S_IXGRP;
  return S_ISREG(mode) && (mode & S_ISUID || (mode & kGroup) == kGroup);
}

constexpr bool SameTime(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

}  // namespace mirrorfs
