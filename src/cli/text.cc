// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/text.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "base/units.h"

namespace mirrorfs {
namespace {

// Length of the UTF-8 character that `text` starts with; 0 when it is none, or
// one of the C1 control characters.
size_t Utf8CharLength(absl::string_view text) {
  const auto byte = [&](size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
  };
  const auto continues = [&](size_t i) { return (byte(i) & 0xc0) == 0x80; };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf && continues(1)) {
    return lead == 0xc2 && byte(1) < 0xa0 ? 0 : 2;
  }
  if ((lead & 0xf0) == 0xe0 && continues(1) && continues(2)) {
    const unsigned code =
        (lead & 15) << 12 | (byte(1) & 63) << 6 | (byte(2) & 63);
    const bool surrogate = code >= 0xd800 && code <= 0xdfff;
    // Marks that turn the direction of the text around can disguise a name.
    const bool turns = (code >= 0x202a && code <= 0x202e) ||
                       (code >= 0x2066 && code <= 0x2069);
    const bool separates = code == 0x2028 || code == 0x2029;
    return code < 0x800 || surrogate || turns || separates ? 0 : 3;
  }
  if (lead >= 0xf0 && lead <= 0xf4 && continues(1) && continues(2) &&
      continues(3)) {
    const bool overlong = lead == 0xf0 && byte(1) < 0x90;
    const bool too_large = lead == 0xf4 && byte(1) > 0x8f;
    return overlong || too_large ? 0 : 4;
  }
  return 0;
}

// Columns that a terminal needs, as far as counting characters tells.
size_t Width(absl::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (c & 0xc0) != 0x80; });
}

}  // namespace

std::string Printable(absl::string_view text) {
  std::string out;
  while (!text.empty()) {
    const char c = text.front();
    const size_t length = Utf8CharLength(text);
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\\') {
      out += "\\\\";
    } else if (length == 0 || absl::ascii_iscntrl(c)) {
      absl::StrAppendFormat(&out, "\\x%02x", static_cast<unsigned char>(c));
    } else {
      absl::StrAppend(&out, text.substr(0, length));
    }
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return out;
}

std::string Count(uint64_t n, absl::string_view singular,
                  absl::string_view plural) {
  return absl::StrCat(n, " ", n == 1 ? singular : plural);
}

std::string ShortSize(uint64_t bytes) {
  const std::string size = FormatSize(bytes);
  const std::string whole = absl::StrReplaceAll(size, {{".0", ""}});
  const absl::StatusOr<uint64_t> exact = ParseSize(whole);
  return exact.ok() && *exact == bytes ? whole : size;
}

std::string BinaryBytes(uint64_t bytes) {
  const std::string size = ShortSize(bytes);
  if (absl::ascii_isdigit(size.back())) return absl::StrCat(size, " B");
  return absl::StrCat(size.substr(0, size.size() - 1), " ",
                      size.substr(size.size() - 1), "iB");
}

std::string RoughDuration(absl::Duration duration) {
  const int64_t seconds = absl::ToInt64Seconds(duration);
  const auto two = [](int64_t large, const char* large_unit, int64_t small,
                      const char* small_unit) {
    if (small == 0) return absl::StrCat(large, large_unit);
    return absl::StrCat(large, large_unit, " ", small, small_unit);
  };
  if (seconds < 60) return absl::StrCat(seconds, "s");
  const int64_t minutes = seconds / 60;
  if (minutes < 60) return absl::StrCat(minutes, "m");
  if (minutes < 24 * 60) return two(minutes / 60, "h", minutes % 60, "m");
  return two(minutes / (24 * 60), "d", minutes / 60 % 24, "h");
}

std::string AlignColumns(const std::vector<std::vector<std::string>>& rows,
                         absl::string_view align, absl::string_view indent) {
  std::vector<size_t> widths(align.size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], Width(row[i]));
    }
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line(indent);
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string pad(widths[i] - Width(row[i]), ' ');
      absl::StrAppend(&line, i == 0 ? "" : "  ", align[i] == 'r' ? pad : "",
                      row[i], align[i] == 'r' ? "" : pad);
    }
    absl::StrAppend(&out, absl::StripTrailingAsciiWhitespace(line), "\n");
  }
  return out;
}

}  // namespace mirrorfs
