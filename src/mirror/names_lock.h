// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "base/handover_lock.h"

namespace mirrorfs {

// What paths mean: shared while a path is used, exclusive while a directory
// moves.
using NamesLock = HandoverSharedMutex;

}  // namespace mirrorfs
