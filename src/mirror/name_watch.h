// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace mirrorfs {

// Who looks for all names of a file is told of those that come to be meanwhile.
// Thread-safe.
class NameWatch {
 public:
  virtual ~NameWatch() = default;
  // Files are about to have other names, and nothing holds that up any more.
  // Each call is followed by one of Moved. `paths`: all that may be a name of
  // one of them before or after.
  virtual void Moving(const std::vector<std::string>& paths) = 0;
  // It was done, or not, or taken back.
  virtual void Moved(const std::vector<std::string>& paths) = 0;
  // A directory has moved, or changed places with what was at `to`. No name
  // moves meanwhile.
  virtual void DirMoved(absl::string_view from, absl::string_view to,
                        bool exchanged) = 0;
  // A directory may have moved, or not.
  virtual void DirInDoubt() = 0;
};

// One request that gives other names to files, for who watches, if anybody.
class FileMove {
 public:
  FileMove(NameWatch* watch, std::vector<std::string> paths)
      : watch_(watch), paths_(std::move(paths)) {}
  FileMove(const FileMove&) = delete;
  FileMove& operator=(const FileMove&) = delete;
  ~FileMove() {
    if (begun_) watch_->Moved(paths_);
  }

  void Begin() {
    if (watch_ == nullptr) return;
    begun_ = true;
    watch_->Moving(paths_);
  }

 private:
  NameWatch* const watch_;
  const std::vector<std::string> paths_;
  bool begun_ = false;
};

}  // namespace mirrorfs
