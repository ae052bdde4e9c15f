// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "absl/status/statusor.h"
#include "leg/leg_targets.h"
#include "mirror/assembly.h"
#include "mount/options.h"

namespace mirrorfs {

// The legs of a mount, judged and locked against other daemons; made before, if
// that is wanted. Waits for those that come up late, as long as `command` says,
// and makes its paths of legs absolute. Fails when the mount cannot be.
absl::StatusOr<Assembly> GatherLegs(MountCommand& command, LegTargets& targets);

}  // namespace mirrorfs
