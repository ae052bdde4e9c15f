// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>

namespace mirrorfs {

struct WaitArgs {
  std::string what;  // as for FindMirror
  std::string timeout;
  std::string every = "10s";
  bool json = false;
  bool quiet = false;  // says nothing but what went wrong
};

// Waits until every leg that is there is in sync, says how far it is, and
// returns the exit code.
int WaitForSync(const WaitArgs& args);

}  // namespace mirrorfs
