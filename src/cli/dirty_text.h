// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>

#include "nlohmann/json.hpp"

namespace mirrorfs {

// The regions of a "dirty" answer as lines for people: for each file the bytes
// that may differ and where they lie.
std::string DirtyText(const nlohmann::json& regions);

// Those that `leg` lacks.
nlohmann::json RegionsLackingOn(const nlohmann::json& regions,
                                const std::string& leg);

}  // namespace mirrorfs
