// SPDX-License-Identifier: GPL-2.0-or-later
//
// One name on two legs: is it the same object?
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <string>

#include "absl/strings/string_view.h"
#include "base/errno.h"
#include "base/fd.h"

namespace mirrorfs {

// A name on one leg. The name may be "." for the directory itself.
struct NamedObject {
  absl::string_view leg;  // what differences call the leg
  int dir_fd = -1;
  std::string name;
  struct stat st = {};
};

// `what` is a word: type, mode, uid, gid, size, mtime, rdev, target, xattr,
// content, mount, error. `detail` is one line for people.
using ReportFinding =
    std::function<void(absl::string_view what, std::string detail)>;

// Compares everything but the names in a directory: type, mode, owner, mtime
// to the nanosecond, extended attributes, and what the type adds. What cannot
// be read is a finding too. Returns the bytes of content compared.
uint64_t CompareObjects(const NamedObject& a, const NamedObject& b,
                        const ReportFinding& report);

// "directory", "regular file", ...
const char* FileTypeName(mode_t mode);

// Opens for reading without leaving a trace and without leaving the file
// system: neither follows a symlink nor enters what is mounted there (EXDEV),
// and keeps the access time if it may. `flags` are added.
ErrnoOr<UniqueFd> OpenQuietly(int dir_fd, const std::string& name, int flags);

// Reports that `name` cannot be read on `leg`.
void ReportUnreadable(absl::string_view leg, absl::string_view action,
                      Errno error, const ReportFinding& report);

}  // namespace mirrorfs
