// SPDX-License-Identifier: GPL-2.0-or-later
#include "region/region_key.h"

#include <climits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace mirrorfs {
namespace {

constexpr char kTerminator = '\x00';
constexpr char kSeparator = '\x01';
constexpr char kEscape = '\x02';
constexpr char kEscapedSeparator = '\x02';
constexpr char kEscapedEscape = '\x03';

void AppendPath(absl::string_view path, std::string& out) {
  for (const char c : path) {
    if (c == '/') {
      out += kSeparator;
    } else if (c == kSeparator) {
      out += kEscape;
      out += kEscapedSeparator;
    } else if (c == kEscape) {
      out += kEscape;
      out += kEscapedEscape;
    } else {
      out += c;
    }
  }
}

// Undoes AppendPath up to the terminator; returns the bytes consumed
// including the terminator, or nothing when the text is malformed.
std::optional<size_t> ParsePath(absl::string_view encoded, std::string& path) {
  for (size_t i = 0; i < encoded.size(); ++i) {
    const char c = encoded[i];
    if (c == kTerminator) return i + 1;
    if (c == kSeparator) {
      path += '/';
    } else if (c == kEscape) {
      if (++i == encoded.size()) return std::nullopt;
      if (encoded[i] == kEscapedSeparator) {
        path += kSeparator;
      } else if (encoded[i] == kEscapedEscape) {
        path += kEscape;
      } else {
        return std::nullopt;
      }
    } else {
      path += c;
    }
  }
  return std::nullopt;
}

}  // namespace

const char* RegionKindName(RegionKind kind) {
  switch (kind) {
    case RegionKind::kEntries:
      return "entries";
    case RegionKind::kAttributes:
      return "attributes";
    case RegionKind::kData:
      return "data";
  }
  return "unknown";
}

std::string EncodeRegionKey(const RegionKey& key) {
  std::string out;
  out.reserve(key.path.size() + 10);
  AppendPath(key.path, out);
  out += kTerminator;
  out += static_cast<char>(key.kind);
  if (key.kind == RegionKind::kData) {
    for (int shift = 56; shift >= 0; shift -= 8) {
      out += static_cast<char>(key.index >> shift);
    }
  }
  return out;
}

std::optional<RegionKey> DecodeRegionKey(absl::string_view encoded) {
  RegionKey key;
  const std::optional<size_t> used = ParsePath(encoded, key.path);
  if (!used || *used == encoded.size()) return std::nullopt;
  const auto kind = static_cast<uint8_t>(encoded[*used]);
  if (kind < 1 || kind > 3) return std::nullopt;
  key.kind = static_cast<RegionKind>(kind);
  const absl::string_view index = encoded.substr(*used + 1);
  if (index.size() != (key.kind == RegionKind::kData ? 8u : 0u)) {
    return std::nullopt;
  }
  for (const char c : index) {
    key.index = key.index << 8 | static_cast<uint8_t>(c);
  }
  return key;
}

EncodedRange SubtreeRange(absl::string_view path) {
  // Everything is beneath the root, whose own path is empty. A name may be made
  // of 0xff bytes, but it is shorter than this.
  if (path.empty()) return {std::string(), std::string(PATH_MAX, '\xff')};
  std::string encoded;
  AppendPath(path, encoded);
  return {encoded + kTerminator, encoded + kEscape};
}

EncodedRange ObjectRange(absl::string_view path) {
  std::string encoded;
  AppendPath(path, encoded);
  return {encoded + kTerminator, encoded + kSeparator};
}

bool LiesIn(absl::string_view path, absl::string_view directory) {
  if (!absl::StartsWith(path, directory)) return false;
  return path.size() == directory.size() || directory.empty() ||
         directory.back() == '/' || path[directory.size()] == '/';
}

std::string RebasePath(absl::string_view path, absl::string_view from,
                       absl::string_view to) {
  return absl::StrCat(to, path.substr(from.size()));
}

absl::string_view ParentPath(absl::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == absl::string_view::npos ? absl::string_view()
                                          : path.substr(0, slash);
}

absl::string_view BaseName(absl::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == absl::string_view::npos ? path : path.substr(slash + 1);
}

std::string JoinPath(absl::string_view parent, absl::string_view name) {
  return parent.empty() ? std::string(name) : absl::StrCat(parent, "/", name);
}

}  // namespace mirrorfs
