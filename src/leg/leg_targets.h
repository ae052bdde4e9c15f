// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/call_target.h"

namespace mirrorfs {

// What calls to a path hang on, for paths at which legs are looked for again
// and again: one that hangs is not asked a second time. Thread-safe.
class LegTargets {
 public:
  std::shared_ptr<CallTarget> For(const std::string& path) {
    std::lock_guard lock(mutex_);
    std::shared_ptr<CallTarget>& target = by_path_[path];
    if (target == nullptr) target = std::make_shared<CallTarget>(path);
    return target;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<CallTarget>> by_path_;
};

}  // namespace mirrorfs
