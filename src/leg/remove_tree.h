// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <sys/stat.h>

#include <functional>
#include <string>

#include "absl/strings/string_view.h"
#include "base/errno.h"
#include "leg/leg.h"

namespace mirrorfs {

// Asked before something is removed: it may take it away from there, and
// answers whether it did.
using TakeInstead = std::function<ErrnoOr<bool>(const std::string& path,
                                                const struct stat& st)>;

// Removes `path` and all beneath it. That nothing is there is no error.
Errno RemoveTree(Leg& leg, const std::string& path,
                 const TakeInstead& take = nullptr);

// Where, in the leg's private directory, what had the name `path` waits for the
// place it shall have. The same for the same path, so that it is found again
// after a crash.
std::string AsidePath(absl::string_view path);

// Removes what waits still.
Errno RemoveAsides(Leg& leg, const TakeInstead& take = nullptr);

}  // namespace mirrorfs
