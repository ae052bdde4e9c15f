// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the dirty log is keyed by. A mirror of files can differ in three ways,
// so a region is one of three kinds:
//
//   entries     the names in one directory and what each name is
//   attributes  mode, owner, times, size, xattrs, device number of one object
//   data        region-size bytes of one file's content
//
// A region is named by path, not by inode number: a path means the same on
// every leg and after every crash, and a person can read it.
//
// Encoded form (the key in RocksDB, so this is a disk format):
//
//   path bytes, where '/' becomes 0x01 and the bytes 0x01 and 0x02 inside a
//   name become 0x02 0x02 and 0x02 0x03; then 0x00; then one byte of kind;
//   for data, the index as 8 bytes, most significant first.
//
// The terminator 0x00 and separator 0x01 sort below everything a name can
// contain, so that an object and all beneath it are one contiguous range
// [Encode(path) 0x00, Encode(path) 0x02) and a directory sorts before its
// children. The root of the mirror is the empty path.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"

namespace mirrorfs {

enum class RegionKind : uint8_t { kEntries = 1, kAttributes = 2, kData = 3 };

struct RegionKey {
  std::string path;  // relative to the mirror's root, no leading '/'
  RegionKind kind = RegionKind::kEntries;
  uint64_t index = 0;  // data only: offset / region size

  static RegionKey Entries(std::string path) {
    return {std::move(path), RegionKind::kEntries, 0};
  }
  static RegionKey Attributes(std::string path) {
    return {std::move(path), RegionKind::kAttributes, 0};
  }
  static RegionKey Data(std::string path, uint64_t index) {
    return {std::move(path), RegionKind::kData, index};
  }
  friend bool operator==(const RegionKey&, const RegionKey&) = default;
};

// "entries", "attributes" or "data".
const char* RegionKindName(RegionKind kind);

std::string EncodeRegionKey(const RegionKey& key);

// Nothing when `encoded` is not something that EncodeRegionKey can make.
std::optional<RegionKey> DecodeRegionKey(absl::string_view encoded);

// The half-open range of encoded keys of `path` and everything beneath it.
struct EncodedRange {
  std::string begin;
  std::string end;
};
EncodedRange SubtreeRange(absl::string_view path);
// The same without what lies beneath.
EncodedRange ObjectRange(absl::string_view path);

// `path` is `directory` or lies beneath it. Both relative to a leg, or both
// absolute.
bool LiesIn(absl::string_view path, absl::string_view directory);

// `path` moved from below `from` to below `to`. REQUIRES: LiesIn(path, from).
std::string RebasePath(absl::string_view path, absl::string_view from,
                       absl::string_view to);

// Parent of a path; the root's parent is the root. "a/b" -> "a", "a" -> "".
absl::string_view ParentPath(absl::string_view path);

// Last component. "a/b" -> "b".
absl::string_view BaseName(absl::string_view path);

// `name` in directory `parent`.
std::string JoinPath(absl::string_view parent, absl::string_view name);

}  // namespace mirrorfs
