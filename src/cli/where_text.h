// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>

#include "nlohmann/json.hpp"

namespace mirrorfs {

// A "where" answer as lines for people: what it is, and of each leg where it
// lies and what it lacks.
std::string WhereText(const nlohmann::json& answer);

}  // namespace mirrorfs
