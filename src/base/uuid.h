// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>

namespace mirrorfs {

// A random (version 4) UUID in its usual 36-character text form.
std::string NewUuid();

}  // namespace mirrorfs
