// SPDX-License-Identifier: GPL-2.0-or-later
//
// Sizes and durations as people write them in options.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace mirrorfs {

// "4096", "64K", "1M", "2G", "1T" (powers of 1024, either case) to bytes.
absl::StatusOr<uint64_t> ParseSize(absl::string_view text);

// "500ms", "15s", "5m", "1h"; a bare number is seconds. Never negative.
absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text);

// Three significant digits and a unit: "812G", "1.9T", "0". Input is bytes.
std::string FormatSize(uint64_t bytes);

}  // namespace mirrorfs
