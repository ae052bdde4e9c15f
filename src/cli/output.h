// SPDX-License-Identifier: GPL-2.0-or-later
//
// How commands speak: answers on standard output, trouble as one line on
// standard error.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace mirrorfs {

// Version of the JSON that commands print.
inline constexpr int kJsonSchema = 1;

// "mirrorfs: MESSAGE" on standard error, as one line whatever is in it.
void PrintError(absl::string_view message);
void PrintError(const absl::Status& status);

// One document with "schema" put in front. Bytes that are not UTF-8 become
// U+FFFD.
void PrintJson(nlohmann::ordered_json document);
// The same on one line, for output that goes on.
void PrintJsonLine(nlohmann::ordered_json document);

}  // namespace mirrorfs
