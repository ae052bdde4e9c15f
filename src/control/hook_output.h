// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>
#include <utility>

namespace mirrorfs {

// What a hook says, line by line to the diagnostics. A hook that says without
// end is not listened to without end.
class HookOutput {
 public:
  static constexpr size_t kLineBytesMax = 1000;
  static constexpr int kLinesMax = 100;

  explicit HookOutput(std::string name) : name_(std::move(name)) {}
  ~HookOutput();

  // What can be had from `fd` by one reading; false at its end.
  bool ReadSome(int fd);
  // What is there, without waiting for more.
  void ReadRest(int fd);

 private:
  void Say();

  const std::string name_;
  std::string line_;
  int lines_ = 0;
};

}  // namespace mirrorfs
