// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "absl/status/status.h"
#include "leg/leg.h"

namespace mirrorfs {

// Keeps a second daemon off the leg, by whatever path it comes: a lock on its
// .mirrorfs/lock, held until the leg is let go, and given back by the kernel
// however we end. FailedPrecondition when another one has it.
absl::Status LockLeg(Leg& leg);

}  // namespace mirrorfs
