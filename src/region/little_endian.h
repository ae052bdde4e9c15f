// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace mirrorfs {

inline void AppendLittleEndian(uint64_t value, size_t bytes, std::string& out) {
  for (size_t i = 0; i < bytes; ++i) {
    out += static_cast<char>(value >> (8 * i));
  }
}

// REQUIRES: so many bytes are there.
inline uint64_t LittleEndianAt(absl::string_view bytes, size_t offset,
                               size_t count) {
  uint64_t value = 0;
  for (size_t i = count; i > 0; --i) {
    value = value << 8 | static_cast<uint8_t>(bytes[offset + i - 1]);
  }
  return value;
}

}  // namespace mirrorfs
