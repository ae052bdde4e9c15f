// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/caller.h"

#include <linux/capability.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace mirrorfs {
namespace {

// The raw calls: glibc's wrappers for ids act on every thread of the process,
// and setfsuid's has no way to be told that it must not.
void SetFsIds(uid_t uid, gid_t gid) {
  syscall(SYS_setfsgid, gid);
  syscall(SYS_setfsuid, uid);
}

// Makes this thread's effective capabilities all that it is permitted, but for
// those whose bits are in `without` (none is above 31).
void RaiseCapabilities(uint32_t without = 0) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2];
  if (syscall(SYS_capget, &header, data) != 0) return;
  for (__user_cap_data_struct& word : data) word.effective = word.permitted;
  data[0].effective &= ~without;
  syscall(SYS_capset, &header, data);
}

// The umask is per process unless a thread leaves the shared file system
// context, once.
void OwnUmask() {
  thread_local const bool alone = unshare(CLONE_FS) == 0;
  (void)alone;
}

}  // namespace

ActingAs::ActingAs(const Caller& caller) : caller_(caller) {
  OwnUmask();
  umask(caller.umask);
  if (caller.uid == 0 && caller.gid == 0) return;
  SetFsIds(caller.uid, caller.gid);
  // A change of the fsuid away from 0 has taken the file capabilities away.
  RaiseCapabilities();
}

ActingAs::~ActingAs() {
  if (caller_.uid != 0 || caller_.gid != 0) SetFsIds(0, 0);
  umask(0);
}

WithoutSetIdPrivilege::WithoutSetIdPrivilege(const ContentWriter& writer)
    : wanted_(writer.takes_set_id) {
  if (!wanted_) return;
  // Where the group may not execute the file, its members keep the bit.
  syscall(SYS_setfsgid, writer.group);
  RaiseCapabilities(1u << CAP_FSETID);
}

WithoutSetIdPrivilege::~WithoutSetIdPrivilege() {
  if (!wanted_) return;
  RaiseCapabilities();
  syscall(SYS_setfsgid, 0);
}

}  // namespace mirrorfs
