// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <bit>
#include <cstdint>

namespace mirrorfs {

inline constexpr uint64_t kRegionBytesMin = 4096;
inline constexpr uint64_t kRegionBytesMax = uint64_t{1} << 30;
inline constexpr uint64_t kRegionBytesDefault = uint64_t{1} << 20;

constexpr bool IsValidRegionSize(uint64_t bytes) {
  return std::has_single_bit(bytes) && bytes >= kRegionBytesMin &&
         bytes <= kRegionBytesMax;
}

// A half-open range of region indexes.
struct RegionRange {
  uint64_t first = 0;
  uint64_t end = 0;
  constexpr uint64_t size() const { return end - first; }
  friend constexpr bool operator==(RegionRange, RegionRange) = default;
};

// Regions touched by `length` bytes at `offset`. Empty when length is 0; a
// range that would pass the end of the address space is cut there.
constexpr RegionRange RegionsOf(uint64_t offset, uint64_t length,
                                uint64_t region_bytes) {
  const uint64_t first = offset / region_bytes;
  if (length == 0) return {first, first};
  const uint64_t last_byte =
      offset > UINT64_MAX - (length - 1) ? UINT64_MAX : offset + (length - 1);
  return {first, last_byte / region_bytes + 1};
}

}  // namespace mirrorfs
