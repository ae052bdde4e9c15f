// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/errno.h"

#include <system_error>

namespace mirrorfs {

std::string ErrnoText(Errno error) {
  return std::generic_category().message(error.value());
}

absl::Status ToStatus(Errno error, absl::string_view object) {
  if (error.ok()) return absl::OkStatus();
  return absl::ErrnoToStatus(error.value(), object);  // adds the text
}

}  // namespace mirrorfs
