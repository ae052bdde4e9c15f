// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/units.h"

#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace mirrorfs {
namespace {

constexpr char kSizeUnits[] = "KMGT";

absl::Status NotA(absl::string_view what, absl::string_view text) {
  return absl::InvalidArgumentError(absl::StrCat("not a ", what, ": ", text));
}

}  // namespace

absl::StatusOr<uint64_t> ParseSize(absl::string_view text) {
  absl::string_view digits = text;
  int shift = 0;
  if (!text.empty() && !absl::ascii_isdigit(text.back())) {
    const char unit = absl::ascii_toupper(text.back());
    const char* found = std::char_traits<char>::find(kSizeUnits, 4, unit);
    if (found == nullptr) return NotA("size", text);
    shift = 10 * static_cast<int>(found - kSizeUnits + 1);
    digits.remove_suffix(1);
  }
  uint64_t value = 0;
  if (digits.empty() || !absl::ascii_isdigit(digits.front()) ||
      !absl::SimpleAtoi(digits, &value)) {
    return NotA("size", text);
  }
  if (value > (UINT64_MAX >> shift)) return NotA("size", text);
  return value << shift;
}

absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text) {
  absl::Duration duration;
  std::string written(text);
  if (!written.empty() && absl::ascii_isdigit(written.back())) written += "s";
  if (!absl::ParseDuration(written, &duration) ||
      duration < absl::ZeroDuration()) {
    return NotA("duration", text);
  }
  return duration;
}

std::string FormatSize(uint64_t bytes) {
  double value = static_cast<double>(bytes);
  int unit = -1;
  while (value >= 999.5 && unit < 3) {
    value /= 1024;
    ++unit;
  }
  if (unit < 0) return absl::StrCat(bytes);
  const char suffix = kSizeUnits[unit];
  if (value < 9.95) return absl::StrFormat("%.1f%c", value, suffix);
  return absl::StrFormat("%.0f%c", value, suffix);
}

}  // namespace mirrorfs
