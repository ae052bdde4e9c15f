// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/leg_lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include "absl/strings/str_cat.h"
#include "base/errno.h"
#include "leg/label.h"

namespace mirrorfs {

absl::Status LockLeg(Leg& leg) {
  const std::string name = absl::StrCat(kPrivateDir, "/lock");
  const ErrnoOr<LegFd> fd =
      leg.OpenObject(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  // A read-only leg cannot be changed by the other daemon either.
  if (fd.error() == Errno(EROFS)) return absl::OkStatus();
  if (!fd.ok()) {
    return ToStatus(fd.error(), absl::StrCat("leg ", leg.path(), ": ", name));
  }
  const Errno locked = fd->Call(
      [](int fd) { return FromSyscall(flock(fd, LOCK_EX | LOCK_NB)); });
  if (!locked.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "leg ", leg.path(), ": in use by a mirror that is mounted"));
  }
  leg.Keep(*fd);
  return absl::OkStatus();
}

}  // namespace mirrorfs
