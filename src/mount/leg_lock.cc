// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/leg_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/errno.h"
#include "leg/label.h"

namespace mirrorfs {

absl::Status LegLocks::Take(const std::vector<std::unique_ptr<Leg>>& legs) {
  for (const std::unique_ptr<Leg>& leg : legs) {
    if (leg == nullptr) continue;
    if (absl::Status status = TakeOne(*leg); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status LegLocks::TakeOne(const Leg& leg) {
  const std::string name = absl::StrCat(kPrivateDir, "/lock");
  // A read-only leg cannot be changed by the other daemon either.
  UniqueFd fd(openat(leg.root_fd(), name.c_str(),
                     O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid() && errno == EROFS) return absl::OkStatus();
  struct stat st;
  if (!fd.valid() || fstat(fd.get(), &st) != 0) {
    return ToStatus(Errno::Last(),
                    absl::StrCat("leg ", leg.path(), ": ", name));
  }
  std::lock_guard lock(mutex_);
  // A leg that has been away and is back may be locked by ourselves.
  const bool ours =
      std::any_of(locks_.begin(), locks_.end(), [&](const Lock& lock) {
        return lock.dev == st.st_dev && lock.ino == st.st_ino;
      });
  if (ours) return absl::OkStatus();
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "leg ", leg.path(), ": in use by a mirror that is mounted"));
  }
  locks_.push_back({st.st_dev, st.st_ino, std::move(fd)});
  return absl::OkStatus();
}

void LegLocks::Release(const Leg& leg) {
  const std::string name = absl::StrCat(kPrivateDir, "/lock");
  struct stat st;
  if (fstatat(leg.root_fd(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
    return;
  }
  std::lock_guard lock(mutex_);
  std::erase_if(locks_, [&](const Lock& held) {
    return held.dev == st.st_dev && held.ino == st.st_ino;
  });
}

}  // namespace mirrorfs
