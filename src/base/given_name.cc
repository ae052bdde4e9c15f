// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/given_name.h"

#include <algorithm>

#include "absl/strings/ascii.h"

namespace mirrorfs {

bool IsNameToGive(absl::string_view name) {
  constexpr size_t kBytesMax = 255;
  return !name.empty() && name.size() <= kBytesMax && name != "." &&
         name != ".." && std::none_of(name.begin(), name.end(), [](char c) {
           return c == '/' || absl::ascii_iscntrl(c);
         });
}

}  // namespace mirrorfs
