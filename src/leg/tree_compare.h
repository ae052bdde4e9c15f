// SPDX-License-Identifier: GPL-2.0-or-later
//
// Whether several directory trees hold the same: every name, its attributes to
// the nanosecond, its content, and which names are one file. What lies in
// .mirrorfs at the root is not looked at; neither are access times, holes, nor
// the sizes of directories, which file systems choose for themselves.
//
// Meant for legs nobody writes to. Depth costs no descriptors beyond a fixed
// number and no stack, and paths may be longer than PATH_MAX. Nothing is
// followed out of a tree: no symlink, nothing mounted in it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace mirrorfs {

struct TreeDifference {
  std::string path;    // relative to the roots, "" for the roots themselves
  std::string what;    // missing, hard-links, or a word of object_compare.h
  std::string detail;  // one line for people, leg names included
};

struct TreeCompareCounts {
  uint64_t objects = 0;
  uint64_t bytes = 0;  // of content, read from both
  uint64_t differences = 0;
};

struct TreeToCompare {
  std::string root;
  std::string name;  // what differences call it
};

// Compares all trees with the first that has a name; `report` is told each
// difference, in order of path. What is missing on a tree is one difference,
// however much lies beneath it. What cannot be read is a difference. Fails
// only when a root cannot be opened.
absl::StatusOr<TreeCompareCounts> CompareTrees(
    const std::vector<TreeToCompare>& trees,
    const std::function<void(const TreeDifference&)>& report);

}  // namespace mirrorfs
