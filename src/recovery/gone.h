// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "base/errno.h"

namespace mirrorfs {

// What says that no such object is there any more, or that something else has
// taken its place or its directory's, rather than that it could not be reached.
inline bool IsGone(Errno error) {
  return error == Errno(ENOENT) || error == Errno(ENOTDIR) ||
         error == Errno(ELOOP) || error == Errno(EISDIR) ||
         error == Errno(ENXIO);
}

}  // namespace mirrorfs
