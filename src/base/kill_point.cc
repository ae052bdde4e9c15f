// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/kill_point.h"

#ifndef NDEBUG

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace mirrorfs {
namespace {

using NameAndValue = std::pair<std::string, std::string>;

NameAndValue ReadWish(const char* variable) {
  const char* text = getenv(variable);
  if (text == nullptr) return {};
  return absl::StrSplit(text, absl::MaxSplits(':', 1));
}

int ReadCount(const NameAndValue& wish) {
  int count = 1;
  (void)absl::SimpleAtoi(wish.second, &count);
  return count;
}

void WaitWhileThere(const std::string& file) {
  if (access(file.c_str(), F_OK) != 0) return;
  std::ofstream(file + ".reached").flush();
  while (access(file.c_str(), F_OK) == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

}  // namespace

void KillPoint(const char* name) {
  static const NameAndValue kill_at = ReadWish("MIRRORFS_KILL_AT");
  static const int count = ReadCount(kill_at);
  static std::atomic<int> passages{0};
  static const NameAndValue hold_at = ReadWish("MIRRORFS_HOLD_AT");
  if (hold_at.first == name) WaitWhileThere(hold_at.second);
  if (kill_at.first == name && ++passages == count) kill(getpid(), SIGKILL);
}

}  // namespace mirrorfs

#endif
