// SPDX-License-Identifier: GPL-2.0-or-later
//
// Pieces of text for people.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace mirrorfs {

// `text` with control characters and backslashes escaped (\n, \x1b, \\), so
// that a file's name can neither break a line nor drive a terminal. UTF-8
// passes through; bytes that are not UTF-8 are escaped.
std::string Printable(absl::string_view text);

// "1 file", "2 files".
std::string Count(uint64_t n, absl::string_view singular,
                  absl::string_view plural);

// FormatSize without a fraction that says nothing: "1M", "1.9T".
std::string ShortSize(uint64_t bytes);

// "104 MiB", "12 B".
std::string BinaryBytes(uint64_t bytes);

// "3s", "5m", "2h 10m", "4d 3h".
std::string RoughDuration(absl::Duration duration);

// Rows of cells as aligned columns, two blanks between, no blanks at the end
// of lines. `align` has one letter a column: 'l' or 'r'.
std::string AlignColumns(const std::vector<std::vector<std::string>>& rows,
                         absl::string_view align, absl::string_view indent);

}  // namespace mirrorfs
