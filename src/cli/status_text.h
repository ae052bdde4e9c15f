// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>

#include "cli/mirror_status.h"

namespace mirrorfs {

// What `mirrorfs status` prints of one mirror: a head line, what is wrong and
// what to do about it, the log, the legs.
std::string StatusText(const MirrorStatus& mirror);

// What is wrong and what to do, empty when nothing is.
struct Advice {
  std::string status;
  std::string action;
};
Advice AdviceFor(const MirrorStatus& mirror);

}  // namespace mirrorfs
