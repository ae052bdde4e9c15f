// SPDX-License-Identifier: GPL-2.0-or-later
//
// What a mounted mirror says of itself on its control socket; the shapes are
// in docs/control-protocol.md.
#pragma once

#include <string>
#include <vector>

#include "control/dirty_bytes.h"
#include "mirror/mirror.h"
#include "nlohmann/json.hpp"
#include "recovery/progress.h"

namespace mirrorfs {

struct MirrorFacts {
  std::string mount_point;
  std::vector<std::string> leg_paths;  // by slot, also of missing legs
  bool read_only = false;
};

nlohmann::json DescribeMirror(Mirror& mirror, const HealProgress& progress,
                              DirtyBytes& dirty, const MirrorFacts& facts);

// "degraded, 1 of 2 legs in sync": cheap, and looks at no leg.
std::string SummarizeMirror(Mirror& mirror);

nlohmann::json DescribeDirtyRegions(Mirror& mirror);

}  // namespace mirrorfs
