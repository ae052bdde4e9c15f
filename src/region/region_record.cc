// SPDX-License-Identifier: GPL-2.0-or-later
#include "region/region_record.h"

#include <algorithm>
#include <utility>

#include "region/little_endian.h"

namespace mirrorfs {
namespace {

constexpr char kVersionPlain = 3;
constexpr char kVersionMoved = 4;
constexpr size_t kPlainBytes = 34;
enum Flags : uint8_t { kDirty = 1, kDirtyDeep = 2, kDirectory = 4 };

}  // namespace

RegionRecord Merge(const RegionRecord& a, const RegionRecord& b) {
  RegionRecord merged;
  merged.dirty = a.dirty || b.dirty;
  merged.dirty_deep = a.dirty_deep || b.dirty_deep;
  merged.missing = a.missing | b.missing;
  merged.deep = a.deep | b.deep;
  merged.directory = a.directory || b.directory;
  merged.since_ns = std::min(a.since_ns, b.since_ns);
  merged.tail_from = std::min(a.tail_from, b.tail_from);
  merged.moved_from = Merge(a.moved_from, b.moved_from);
  return merged;
}

RegionRecord Tidied(RegionRecord record) {
  record.deep = record.deep & record.missing;
  record.dirty_deep = record.dirty_deep && record.dirty;
  return record;
}

std::string EncodeRegionRecord(const RegionRecord& record) {
  std::string out;
  out.reserve(kPlainBytes);
  out += record.moved_from.empty() ? kVersionPlain : kVersionMoved;
  out += static_cast<char>((record.dirty ? kDirty : 0) |
                           (record.dirty_deep ? kDirtyDeep : 0) |
                           (record.directory ? kDirectory : 0));
  AppendLittleEndian(record.missing.bits(), 8, out);
  AppendLittleEndian(record.deep.bits(), 8, out);
  AppendLittleEndian(static_cast<uint64_t>(record.since_ns), 8, out);
  AppendLittleEndian(record.tail_from, 8, out);
  AppendOrigins(record.moved_from, out);
  return out;
}

std::optional<RegionRecord> DecodeRegionRecord(absl::string_view bytes) {
  if (bytes.size() < kPlainBytes) return std::nullopt;
  const bool moved = bytes[0] == kVersionMoved;
  if (!moved && bytes[0] != kVersionPlain) return std::nullopt;
  // Only a record that was moved has more.
  if (moved == (bytes.size() == kPlainBytes)) return std::nullopt;
  const auto flags = static_cast<uint8_t>(bytes[1]);
  if (flags > (kDirty | kDirtyDeep | kDirectory)) return std::nullopt;
  RegionRecord record;
  record.dirty = flags & kDirty;
  record.dirty_deep = flags & kDirtyDeep;
  record.directory = flags & kDirectory;
  record.missing = LegSet(LittleEndianAt(bytes, 2, 8));
  record.deep = LegSet(LittleEndianAt(bytes, 10, 8));
  record.since_ns = static_cast<int64_t>(LittleEndianAt(bytes, 18, 8));
  record.tail_from = LittleEndianAt(bytes, 26, 8);
  if (Tidied(record) != record) return std::nullopt;
  std::optional<Origins> origins = ParseOrigins(bytes.substr(kPlainBytes));
  if (!origins) return std::nullopt;
  record.moved_from = std::move(*origins);
  return record;
}

}  // namespace mirrorfs
