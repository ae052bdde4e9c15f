// SPDX-License-Identifier: GPL-2.0-or-later
//
// Which mounted mirror a person means.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "cli/mirror_status.h"
#include "nlohmann/json.hpp"

namespace mirrorfs {

// How long a daemon may take for a status before it counts as hanging.
inline constexpr absl::Duration kStatusTimeout = absl::Seconds(5);

struct MountedMirror {
  std::string socket;
  nlohmann::json json;  // its status as the daemon gave it
  MirrorStatus status;
};

struct MountedMirrors {
  // Nobody could be asked: that is for root.
  bool denied = false;
  std::vector<MountedMirror> mirrors;  // by name
  // One line for each daemon that is there and did not answer.
  std::vector<std::string> silent;
};

// What is said of `what` when all.denied.
absl::Status OnlyForRoot(absl::string_view what);

// Asks every daemon that listens.
MountedMirrors AskAllDaemons();

// The mirror whose mount point, name, uuid or leg `what` is. NotFound when
// none is (the message tells why one could be missing), InvalidArgument when
// several are.
absl::StatusOr<MountedMirror> FindMirror(const std::string& what);
absl::StatusOr<MountedMirror> FindMirrorAmong(const MountedMirrors& all,
                                              const std::string& what);

// The ways to write the path `what` that a daemon may have recorded, the
// cheapest first. The last two look at the file system, the very last one at
// the object itself, which hangs when that does.
std::string AbsolutePath(const std::string& what);
std::string PathWithRealParent(const std::string& what);
std::string RealPath(const std::string& what);

// True when a daemon serves the mirror with this uuid, or may do so: asked
// before labels or files of legs are touched offline.
bool MayBeMounted(absl::string_view mirror_uuid);

}  // namespace mirrorfs
