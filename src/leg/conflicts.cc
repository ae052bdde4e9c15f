// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/conflicts.h"

#include <stdio.h>

#include "absl/strings/str_cat.h"
#include "leg/label.h"
#include "leg/walk.h"
#include "region/region_key.h"

namespace mirrorfs {
namespace {

constexpr char kConflictsName[] = "conflicts";
constexpr int kBatchesMax = 10'000;

// Something else is there, or is what should be a directory on the way.
bool IsInTheWay(Errno error) {
  return error == Errno(EEXIST) || error == Errno(ENOTDIR) ||
         error == Errno(ELOOP);
}

Errno MakeParents(Leg& leg, const std::string& path) {
  const size_t private_end = sizeof(kPrivateDir);
  for (size_t slash = path.find('/', private_end); slash != std::string::npos;
       slash = path.find('/', slash + 1)) {
    const Errno error = leg.Mkdir(path.substr(0, slash), 0700);
    if (!error.ok() && error != Errno(EEXIST)) return error;
  }
  return kOk;
}

Errno RenameToNew(Leg& leg, const std::string& from, const std::string& to) {
  const Errno error = leg.Rename(from, to, RENAME_NOREPLACE);
  if (error != Errno(EINVAL) && error != Errno(ENOSYS)) return error;
  // The file system does not know how, and nobody else makes names here.
  const ErrnoOr<struct stat> there = leg.Stat(to);
  if (there.ok()) return Errno(EEXIST);
  return there.error() == Errno(ENOENT) ? leg.Rename(from, to, 0)
                                        : there.error();
}

}  // namespace

std::string ConflictsPath() {
  return absl::StrCat(kPrivateDir, "/", kConflictsName);
}

ErrnoOr<std::string> MoveToConflicts(Leg& leg, const std::string& from,
                                     const std::string& path,
                                     const std::string& batch) {
  // The administrator may have removed directories that were made before.
  leg.ForgetDirs();
  std::string dir = JoinPath(ConflictsPath(), batch);
  for (int n = 1; n < kBatchesMax; ++n) {
    const std::string to = JoinPath(dir, path);
    Errno error = MakeParents(leg, to);
    if (error.ok()) error = RenameToNew(leg, from, to);
    if (error.ok()) return to;
    if (!IsInTheWay(error)) return error;
    dir = JoinPath(ConflictsPath(), absl::StrCat(batch, ".", n));
  }
  return Errno(EEXIST);
}

ErrnoOr<uint64_t> CountConflicts(const Leg& leg) {
  uint64_t count = 0;
  const auto look = [&](const std::string&, const struct stat& st) {
    if (!S_ISDIR(st.st_mode)) ++count;
  };
  const Errno error = WalkLeg(leg, look, ConflictsPath());
  if (!error.ok()) return error;
  return count;
}

}  // namespace mirrorfs
