// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/kill_point.h"

#ifndef NDEBUG

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace mirrorfs {
namespace {

struct Wish {
  std::string name;
  int count = 0;
};

Wish ReadWish() {
  const char* text = getenv("MIRRORFS_KILL_AT");
  if (text == nullptr) return {};
  const std::pair<std::string, std::string> parts = absl::StrSplit(text, ':');
  Wish wish{parts.first, 1};
  (void)absl::SimpleAtoi(parts.second, &wish.count);
  return wish;
}

}  // namespace

void KillPoint(const char* name) {
  static const Wish wish = ReadWish();
  static std::atomic<int> passages{0};
  if (wish.count == 0 || wish.name != name) return;
  if (++passages == wish.count) kill(getpid(), SIGKILL);
}

}  // namespace mirrorfs

#endif
