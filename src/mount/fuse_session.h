// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "base/watchdog.h"
#include "fuse/file_system.h"
#include "mount/options.h"

namespace mirrorfs {

// The kernel's side of the mount, for as long as it lives.
class FuseSession {
 public:
  // Mounts; requests wait in the kernel until Serve.
  absl::Status Mount(const MountCommand& command, FileSystem* fs);
  // Answers requests until the mount is gone or a signal asks to end; see
  // RequestLoop::Run. `threads`: how many workers at most, 0 for our choice.
  absl::Status Serve(int threads, Watchdog* watchdog);
  ~FuseSession();

 private:
  absl::Status AddInitFlags();

  fuse_session* session_ = nullptr;
  bool mounted_ = false;
  NameDoubts* doubts_ = nullptr;  // which tell the session
};

}  // namespace mirrorfs
