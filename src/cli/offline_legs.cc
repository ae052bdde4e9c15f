// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/offline_legs.h"

#include <fcntl.h>
#include <sys/file.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errno.h"
#include "base/fd.h"
#include "cli/exit_code.h"
#include "cli/mirror_lookup.h"
#include "leg/new_mirror.h"

namespace mirrorfs {
namespace {

absl::Status Mounted(absl::string_view what) {
  return absl::FailedPreconditionError(absl::StrCat(
      what, ": the mirror is mounted; `mirrorfs umount` it first"));
}

// A daemon holds the lock of each of its legs, under whatever path and run
// directory. No file is no daemon yet.
absl::Status TakeLock(int root_fd, const std::string& path,
                      std::vector<UniqueFd>* locks) {
  const std::string name = absl::StrCat(kPrivateDir, "/lock");
  UniqueFd lock(
      openat(root_fd, name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!lock.valid()) {
    return errno == ENOENT
               ? absl::OkStatus()
               : ToStatus(Errno::Last(), absl::StrCat(path, "/", name));
  }
  if (flock(lock.get(), LOCK_SH | LOCK_NB) != 0) return Mounted(path);
  locks->push_back(std::move(lock));
  return absl::OkStatus();
}

absl::Status Open(const std::string& path, OfflineLegs* legs) {
  const UniqueFd root(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) {
    return absl::NotFoundError(
        absl::StrCat(path, ": ", ErrnoText(Errno::Last())));
  }
  absl::StatusOr<Label> label = ReadLabel(root.get());
  if (label.ok()) {
    legs->labels.push_back(*std::move(label));
    return TakeLock(root.get(), path, &legs->locks);
  }
  return absl::NotFoundError(absl::StrCat(path, ": ",
                                          absl::IsNotFound(label.status())
                                              ? "not a leg of a mirror"
                                              : label.status().message()));
}

absl::Status CheckTogether(const std::vector<std::string>& paths,
                           const std::vector<Label>& labels) {
  for (size_t i = 1; i < labels.size(); ++i) {
    if (labels[i].mirror_uuid != labels[0].mirror_uuid) {
      return absl::InvalidArgumentError(
          absl::StrCat(paths[i], ": belongs to mirror \"",
                       labels[i].mirror_name, "\", not to that of ", paths[0]));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<OfflineLegs> OpenOffline(const std::vector<std::string>& paths,
                                        size_t count_min) {
  if (paths.size() < count_min) {
    return absl::InvalidArgumentError("at least two legs are needed");
  }
  OfflineLegs legs;
  for (const std::string& path : paths) {
    absl::Status status = Open(path, &legs);
    if (!status.ok()) return status;
  }
  absl::Status status = CheckLegPaths(paths);
  if (!status.ok()) return absl::InvalidArgumentError(status.message());
  status = CheckTogether(paths, legs.labels);
  if (!status.ok()) return status;
  // The legs given may be all but those that are mounted.
  const Label& label = legs.labels[0];
  if (MayBeMounted(label.mirror_uuid)) {
    return Mounted(label.mirror_name);
  }
  return legs;
}

int OfflineExitCode(const absl::Status& status) {
  return absl::IsNotFound(status) ? kExitNotMounted : kExitUsage;
}

}  // namespace mirrorfs
