// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "base/fd.h"

namespace mirrorfs {

// Keeps a directory open for as long as somebody uses it, cached or not.
using DirRef = std::shared_ptr<const UniqueFd>;

// The most recently used directories of a leg, opened O_PATH, by path. Bounded,
// because descriptors are scarce and each pins kernel memory; it saves one path
// walk in nearly every namespace operation. Thread-safe.
//
// A lookup that began before Clear must not put what it found back after it:
// Insert takes the generation that the caller read before opening.
class DirCache {
 public:
  explicit DirCache(size_t capacity) : capacity_(capacity) {}

  uint64_t generation() const;
  // Null when not cached.
  DirRef Find(absl::string_view path);
  void Insert(absl::string_view path, DirRef dir, uint64_t generation);
  void Clear();

 private:
  struct Slot {
    std::string path;
    DirRef dir;
  };

  const size_t capacity_;
  mutable std::mutex mutex_;
  std::list<Slot> by_use_;  // most recent first
  absl::flat_hash_map<std::string, std::list<Slot>::iterator> by_path_;
  uint64_t generation_ = 0;
};

}  // namespace mirrorfs
