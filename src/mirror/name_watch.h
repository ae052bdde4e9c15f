// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace mirrorfs {

// Who looks for all names of a file is told of those that come to be meanwhile.
// Thread-safe.
class NameWatch {
 public:
  virtual ~NameWatch() = default;
  // A file is about to get another name, and nothing holds that up any more.
  // Each call is followed by one of Moved.
  virtual void Moving() = 0;
  // Names that it has now, as far as they may be new to the watch; none if
  // nothing came of it.
  virtual void Moved(const std::vector<std::string>& paths) = 0;
  // A directory has moved, or changed places with what was at `to`. No name
  // moves meanwhile.
  virtual void DirMoved(absl::string_view from, absl::string_view to,
                        bool exchanged) = 0;
};

// One request that gives names to files, for who watches, if anybody.
class FileMove {
 public:
  explicit FileMove(NameWatch* watch) : watch_(watch) {}
  FileMove(const FileMove&) = delete;
  FileMove& operator=(const FileMove&) = delete;
  ~FileMove() {
    if (begun_) watch_->Moved(paths_);
  }

  void Begin() {
    if (watch_ == nullptr) return;
    begun_ = true;
    watch_->Moving();
  }
  // It was done.
  void CameTo(absl::string_view path) { paths_.emplace_back(path); }

 private:
  NameWatch* const watch_;
  bool begun_ = false;
  std::vector<std::string> paths_;
};

}  // namespace mirrorfs
