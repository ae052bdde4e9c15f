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
  const ErrnoOr<LegFd> fd =
      leg.OpenObject(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd.error() == Errno(EROFS)) return absl::OkStatus();
  const ErrnoOr<struct stat> st =
      fd.ok() ? StatObject(*fd) : ErrnoOr<struct stat>(fd.error());
  if (!st.ok()) {
    return ToStatus(st.error(), absl::StrCat("leg ", leg.path(), ": ", name));
  }
  std::lock_guard lock(mutex_);
  // A leg that has been away and is back may be locked by ourselves.
  const bool ours =
      std::any_of(locks_.begin(), locks_.end(), [&](const Lock& lock) {
        return lock.dev == st->st_dev && lock.ino == st->st_ino;
      });
  if (ours) return absl::OkStatus();
  const Errno locked = fd->Call(
      [](int fd) { return FromSyscall(flock(fd, LOCK_EX | LOCK_NB)); });
  if (!locked.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "leg ", leg.path(), ": in use by a mirror that is mounted"));
  }
  locks_.push_back({st->st_dev, st->st_ino, *fd});
  return absl::OkStatus();
}

void LegLocks::Release(const Leg& leg) {
  const std::string name = absl::StrCat(kPrivateDir, "/lock");
  const ErrnoOr<struct stat> st = leg.Stat(name);
  if (!st.ok()) return;
  std::lock_guard lock(mutex_);
  std::erase_if(locks_, [&](const Lock& held) {
    return held.dev == st->st_dev && held.ino == st->st_ino;
  });
}

}  // namespace mirrorfs
