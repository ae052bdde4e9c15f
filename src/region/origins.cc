// SPDX-License-Identifier: GPL-2.0-or-later
#include "region/origins.h"

#include <algorithm>

#include "region/little_endian.h"

namespace mirrorfs {
namespace {

constexpr size_t kLegsBytes = 8;
constexpr size_t kHeadBytes = kLegsBytes + 2;

}  // namespace

LegSet Origins::legs() const {
  LegSet legs;
  for (const auto& place : places_) legs |= place.second;
  return legs;
}

const std::string* Origins::Of(LegSlot leg) const {
  for (const auto& [path, legs] : places_) {
    if (legs.has(leg)) return &path;
  }
  return nullptr;
}

void Origins::Set(LegSlot leg, absl::string_view path) {
  Keep(legs() - LegSet::Of(leg));
  const auto at = std::lower_bound(
      places_.begin(), places_.end(), path,
      [](const auto& place, absl::string_view to) { return place.first < to; });
  if (at != places_.end() && at->first == path) {
    at->second |= LegSet::Of(leg);
  } else {
    places_.emplace(at, std::string(path), LegSet::Of(leg));
  }
}

void Origins::Keep(LegSet legs) {
  for (auto& place : places_) place.second = place.second & legs;
  std::erase_if(places_,
                [](const auto& place) { return place.second.empty(); });
}

void Origins::Forget(absl::string_view path) {
  std::erase_if(places_,
                [&](const auto& place) { return place.first == path; });
}

Origins Merge(const Origins& a, const Origins& b) {
  if (b.empty()) return a;
  Origins merged = a;
  b.ForEach([&](const std::string& path, LegSet legs) {
    legs.ForEach([&](LegSlot leg) {
      const std::string* known = merged.Of(leg);
      if (known == nullptr || path < *known) merged.Set(leg, path);
    });
  });
  return merged;
}

void AppendOrigins(const Origins& origins, std::string& out) {
  origins.ForEach([&](const std::string& path, LegSet legs) {
    if (path.size() > UINT16_MAX) return;
    AppendLittleEndian(legs.bits(), kLegsBytes, out);
    AppendLittleEndian(path.size(), kHeadBytes - kLegsBytes, out);
    out += path;
  });
}

std::optional<Origins> ParseOrigins(absl::string_view bytes) {
  Origins origins;
  while (!bytes.empty()) {
    if (bytes.size() < kHeadBytes) return std::nullopt;
    const LegSet legs(LittleEndianAt(bytes, 0, kLegsBytes));
    const size_t length =
        LittleEndianAt(bytes, kLegsBytes, kHeadBytes - kLegsBytes);
    bytes.remove_prefix(kHeadBytes);
    if (legs.empty() || length == 0 || length > bytes.size()) {
      return std::nullopt;
    }
    const absl::string_view path = bytes.substr(0, length);
    if (!(legs & origins.legs()).empty()) return std::nullopt;
    legs.ForEach([&](LegSlot leg) { origins.Set(leg, path); });
    bytes.remove_prefix(length);
  }
  return origins;
}

}  // namespace mirrorfs
