// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/errno.h"

#include <system_error>

#include "absl/strings/str_cat.h"

namespace mirrorfs {

std::string ErrnoText(Errno error) {
  return std::generic_category().message(error.value());
}

absl::Status ToStatus(Errno error, absl::string_view object) {
  if (error.ok()) return absl::OkStatus();
  return absl::ErrnoToStatus(
      error.value(), absl::StrCat(object, ": ", ErrnoText(error)));
}

}  // namespace mirrorfs
