// SPDX-License-Identifier: GPL-2.0-or-later
//
// Legs of one mirror that no daemon serves, for the commands that work on legs
// themselves.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/fd.h"
#include "leg/label.h"

namespace mirrorfs {

struct OfflineLegs {
  std::vector<Label> labels;
  // While they are held no daemon takes the legs.
  std::vector<UniqueFd> locks;
};

// The legs at `paths`, which belong to one mirror. Fails with NotFound when
// one is no leg, FailedPrecondition when the mirror is mounted, and
// InvalidArgument when they do not belong together.
absl::StatusOr<OfflineLegs> OpenOffline(const std::vector<std::string>& paths,
                                        size_t count_min = 2);

// The exit code for a failure of OpenOffline.
int OfflineExitCode(const absl::Status& status);

}  // namespace mirrorfs
