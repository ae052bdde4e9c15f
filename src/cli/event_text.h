// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>

#include "absl/time/time.h"
#include "nlohmann/json.hpp"

namespace mirrorfs {

// One event as a line for people: when, what, which leg, and more of it.
std::string EventLine(const nlohmann::json& event, absl::TimeZone zone);

}  // namespace mirrorfs
