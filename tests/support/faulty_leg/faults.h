// SPDX-License-Identifier: GPL-2.0-or-later
//
// Which requests go wrong, and how: a list of rules that a test changes while
// the leg is in use.
#pragma once

#include <bitset>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <random>
#include <string>

#include "absl/strings/string_view.h"
#include "base/errno.h"
#include "nlohmann/json.hpp"

namespace mirrorfs::faulty {

// What can be asked of a leg. The names in JSON are those of kOpNames.
enum class Op {
  kLookup,
  kGetattr,
  kReadlink,
  kMknod,
  kMkdir,
  kSymlink,
  kUnlink,
  kRmdir,
  kRename,
  kLink,
  kOpen,
  kCreate,
  kTmpfile,
  kRead,
  kWrite,
  kFsync,
  kOpendir,
  kReaddir,
  kFsyncdir,
  kStatfs,
  kTruncate,
  kChmod,
  kChown,
  kUtimens,
  kSetxattr,
  kGetxattr,
  kListxattr,
  kRemovexattr,
  kFallocate,
  kCopy,
  kLseek,
  kCount,
};

std::optional<Op> OpByName(absl::string_view name);
absl::string_view OpName(Op op);

struct Rule {
  std::bitset<static_cast<size_t>(Op::kCount)> ops;
  // fnmatch(3) pattern of the path below the leg's root, where '*' passes '/'.
  // Empty: all.
  std::string path;
  bool spare_private = false;  // not for .mirrorfs and what is in it
  Errno error;
  bool after = false;  // the error is answered after the deed
  bool hang = false;   // until the rule is taken away
  int64_t delay_ms = 0;
  int64_t limit = -1;  // of a read or write: bytes at most
  bool lose = false;   // an fsync that loses what it should have kept
  double rate = 1;
  int64_t skip = 0;    // matching requests that pass first
  int64_t count = -1;  // how many times; -1: always
};

// What a rule says about one request, after delays and hanging are over.
struct Verdict {
  Errno error;
  bool after = false;
  bool lose = false;
  int64_t limit = -1;
};

// Thread-safe.
class Faults {
 public:
  // The first rule that matches and strikes decides. `path` is asked for only
  // when a rule looks at it.
  Verdict Judge(Op op, const std::function<std::string()>& path);

  uint64_t Add(const Rule& rule);
  // Those who hang by it go on.
  void Remove(uint64_t id);
  void Clear();
  // Requests by operation, how often each rule struck, and who hangs.
  nlohmann::json Describe() const;

 private:
  struct Standing {
    uint64_t id;
    Rule rule;
    uint64_t matched = 0;
    uint64_t struck = 0;
  };

  bool Strikes(Standing& standing, Op op, const std::string& path);
  bool Stands(uint64_t id) const;
  void Wait(std::unique_lock<std::mutex>& lock, uint64_t id, const Rule& rule);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Standing> rules_;
  uint64_t next_id_ = 1;
  int hanging_ = 0;
  uint64_t requests_[static_cast<size_t>(Op::kCount)] = {};
  std::minstd_rand random_;
};

}  // namespace mirrorfs::faulty
