// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/leg_lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include "absl/strings/str_cat.h"
#include "base/errno.h"
#include "leg/label.h"

namespace mirrorfs {

absl::Status LegLocks::Take(const std::vector<std::unique_ptr<Leg>>& legs) {
  const std::string name = absl::StrCat(kPrivateDir, "/lock");
  for (const std::unique_ptr<Leg>& leg : legs) {
    if (leg == nullptr) continue;
    // A read-only leg cannot be changed by the other daemon either.
    UniqueFd lock(openat(leg->root_fd(), name.c_str(),
                         O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!lock.valid() && errno == EROFS) continue;
    if (!lock.valid()) {
      return ToStatus(Errno::Last(),
                      absl::StrCat("leg ", leg->path(), ": ", name));
    }
    if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
      return absl::FailedPreconditionError(absl::StrCat(
          "leg ", leg->path(), ": in use by a mirror that is mounted"));
    }
    locks_.push_back(std::move(lock));
  }
  return absl::OkStatus();
}

}  // namespace mirrorfs
