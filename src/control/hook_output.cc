// SPDX-License-Identifier: GPL-2.0-or-later
#include "control/hook_output.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

namespace mirrorfs {

HookOutput::~HookOutput() {
  if (!line_.empty()) Say();
}

bool HookOutput::ReadSome(int fd) {
  char buffer[4096];
  const ssize_t got = read(fd, buffer, sizeof(buffer));
  if (got < 0) return errno == EINTR;
  for (ssize_t i = 0; i < got; ++i) {
    if (buffer[i] == '\n') {
      Say();
    } else if (line_.size() < kLineBytesMax) {
      line_ += buffer[i];
    }
  }
  return got > 0;
}

void HookOutput::ReadRest(int fd) {
  fcntl(fd, F_SETFL, O_NONBLOCK);
  // A pipe holds 64 KiB; more than that is somebody who goes on writing.
  for (int i = 0; i < 16 && ReadSome(fd); ++i) {
  }
}

void HookOutput::Say() {
  ++lines_;
  if (lines_ <= kLinesMax) {
    spdlog::info("hook {}: {}", name_, line_);
  } else if (lines_ == kLinesMax + 1) {
    spdlog::info("hook {}: says more, which is left out", name_);
  }
  line_.clear();
}

}  // namespace mirrorfs
