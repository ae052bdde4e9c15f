// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace mirrorfs {

// The bytes that `key` of a request holds in hexadecimal, which JSON's text
// cannot hold in general; empty without that key. InvalidArgument if they are
// no such thing.
absl::StatusOr<std::string> BytesIn(const nlohmann::json& request,
                                    const char* key);

}  // namespace mirrorfs
