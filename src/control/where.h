// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "control/mirror_status.h"
#include "mirror/mirror.h"
#include "nlohmann/json.hpp"

namespace mirrorfs {

// Which legs hold what the mirror has at `path` (relative to its root), and
// what of it each of them lacks as far as the log knows; the shape is in
// docs/control-protocol.md. NotFound when nothing is there.
absl::StatusOr<nlohmann::json> DescribeWhere(Mirror& mirror,
                                             const MirrorFacts& facts,
                                             const std::string& path);

}  // namespace mirrorfs
