// SPDX-License-Identifier: GPL-2.0-or-later
//
// The commands of the control socket that change the legs of a mirror.
#pragma once

#include "control/control_server.h"
#include "mount/leg_admin.h"
#include "nlohmann/json.hpp"

namespace mirrorfs {

using LegCommandAnswer = ControlAnswer (*)(LegAdmin& admin,
                                           const nlohmann::json& request);

// Null when `name` is none of them.
LegCommandAnswer FindLegCommand(const std::string& name);

}  // namespace mirrorfs
