// SPDX-License-Identifier: GPL-2.0-or-later
#include "region/region_record.h"

#include <algorithm>

namespace mirrorfs {
namespace {

constexpr char kVersion = 1;
constexpr size_t kEncodedBytes = 26;
enum Flags : uint8_t { kDirty = 1, kDeep = 2, kDirectory = 4 };

void AppendLe64(uint64_t value, std::string& out) {
  for (int shift = 0; shift < 64; shift += 8) {
    out += static_cast<char>(value >> shift);
  }
}

uint64_t Le64At(absl::string_view bytes, size_t offset) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) {
    value = value << 8 | static_cast<uint8_t>(bytes[offset + i]);
  }
  return value;
}

}  // namespace

RegionRecord Merge(const RegionRecord& a, const RegionRecord& b) {
  RegionRecord merged;
  merged.dirty = a.dirty || b.dirty;
  merged.missing = a.missing | b.missing;
  merged.deep = a.deep || b.deep;
  merged.directory = a.directory || b.directory;
  merged.since_ns = std::min(a.since_ns, b.since_ns);
  merged.tail_from = std::min(a.tail_from, b.tail_from);
  return merged;
}

std::string EncodeRegionRecord(const RegionRecord& record) {
  std::string out;
  out.reserve(kEncodedBytes);
  out += kVersion;
  out += static_cast<char>((record.dirty ? kDirty : 0) |
                           (record.deep ? kDeep : 0) |
                           (record.directory ? kDirectory : 0));
  AppendLe64(record.missing.bits(), out);
  AppendLe64(static_cast<uint64_t>(record.since_ns), out);
  AppendLe64(record.tail_from, out);
  return out;
}

std::optional<RegionRecord> DecodeRegionRecord(absl::string_view bytes) {
  if (bytes.size() != kEncodedBytes || bytes[0] != kVersion) {
    return std::nullopt;
  }
  const auto flags = static_cast<uint8_t>(bytes[1]);
  if (flags > (kDirty | kDeep | kDirectory)) return std::nullopt;
  RegionRecord record;
  record.dirty = flags & kDirty;
  record.deep = flags & kDeep;
  record.directory = flags & kDirectory;
  record.missing = LegSet(Le64At(bytes, 2));
  record.since_ns = static_cast<int64_t>(Le64At(bytes, 10));
  record.tail_from = Le64At(bytes, 18);
  return record;
}

}  // namespace mirrorfs
