// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/request_bytes.h"

#include <boost/algorithm/hex.hpp>

#include "absl/strings/str_cat.h"

namespace mirrorfs {

// absl's HexStringToBytes of either Debian is deprecated in or missing from the
// other.
absl::StatusOr<std::string> BytesIn(const nlohmann::json& request,
                                    const char* key) {
  try {
    return boost::algorithm::unhex(request.value(key, ""));
  } catch (const boost::algorithm::hex_decode_error&) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", key, "\" is not hexadecimal"));
  }
}

}  // namespace mirrorfs
