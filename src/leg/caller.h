// SPDX-License-Identifier: GPL-2.0-or-later
//
// Creating as the calling user: owner, group (setgid directories), quota and
// the default ACL or umask are then right at once, by the leg's own rules, and
// no moment exists in which an object belongs to somebody else.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace mirrorfs {

struct Caller {
  uid_t uid = 0;
  gid_t gid = 0;
  mode_t umask = 0;
  int64_t asked_ns = 0;  // when the request came, ns since 1970
};

// While it lives, what this thread creates belongs to the caller. The thread
// keeps its capabilities: whether the caller may do it has been decided by the
// kernel before the request was sent (default_permissions).
class ActingAs {
 public:
  explicit ActingAs(const Caller& caller);
  ~ActingAs();
  ActingAs(const ActingAs&) = delete;
  ActingAs& operator=(const ActingAs&) = delete;

 private:
  const Caller caller_;
};

// On whose behalf the content of a file is changed.
struct ContentWriter {
  // What an ordinary user's change takes from the file is taken.
  bool takes_set_id = false;
  gid_t group = 0;  // his
};

// While it lives, if it is wanted, what this thread writes, truncates or
// allocates loses its set-id bits by the leg's own rules, as it does when an
// ordinary user of that group changes it: CAP_FSETID is lowered. Six system
// calls, so it is not for files without such bits.
class WithoutSetIdPrivilege {
 public:
  explicit WithoutSetIdPrivilege(const ContentWriter& writer);
  ~WithoutSetIdPrivilege();
  WithoutSetIdPrivilege(const WithoutSetIdPrivilege&) = delete;
  WithoutSetIdPrivilege& operator=(const WithoutSetIdPrivilege&) = delete;

 private:
  const bool wanted_;
};

}  // namespace mirrorfs
