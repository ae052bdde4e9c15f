// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "absl/strings/string_view.h"

namespace mirrorfs {

// Whether a mirror or a leg may be given that name. One that is made from the
// name of a directory may be any.
bool IsNameToGive(absl::string_view name);

// What is said of another.
inline constexpr char kNameRule[] =
    "must be a name of at most 255 bytes without '/' and control characters";

}  // namespace mirrorfs
