// SPDX-License-Identifier: GPL-2.0-or-later
#include "faults.h"

#include <fnmatch.h>

#include <algorithm>
#include <chrono>
#include <iterator>

#include "absl/strings/match.h"
#include "leg/label.h"

namespace mirrorfs::faulty {
namespace {

constexpr absl::string_view kOpNames[] = {
    "lookup",   "getattr",  "readlink",  "mknod",       "mkdir",     "symlink",
    "unlink",   "rmdir",    "rename",    "link",        "open",      "create",
    "tmpfile",  "read",     "write",     "fsync",       "opendir",   "readdir",
    "fsyncdir", "statfs",   "truncate",  "chmod",       "chown",     "utimens",
    "setxattr", "getxattr", "listxattr", "removexattr", "fallocate", "copy",
    "lseek"};
static_assert(std::size(kOpNames) == static_cast<size_t>(Op::kCount));

bool IsPrivatePath(absl::string_view path) {
  return path == kPrivateDir ||
         absl::StartsWith(path, std::string(kPrivateDir) + "/");
}

}  // namespace

std::optional<Op> OpByName(absl::string_view name) {
  const auto* const found =
      std::find(std::begin(kOpNames), std::end(kOpNames), name);
  if (found == std::end(kOpNames)) return std::nullopt;
  return static_cast<Op>(found - std::begin(kOpNames));
}

absl::string_view OpName(Op op) { return kOpNames[static_cast<size_t>(op)]; }

Verdict Faults::Judge(Op op, const std::function<std::string()>& path) {
  std::unique_lock lock(mutex_);
  ++requests_[static_cast<size_t>(op)];
  std::optional<std::string> known_path;
  for (Standing& standing : rules_) {
    const Rule& rule = standing.rule;
    if (!rule.ops.test(static_cast<size_t>(op))) continue;
    const bool by_path = !rule.path.empty() || rule.spare_private;
    if (by_path && !known_path) known_path = path();
    if (!Strikes(standing, op, known_path.value_or(""))) continue;
    const Rule copy = rule;
    Wait(lock, standing.id, copy);
    return {copy.error, copy.after, copy.lose, copy.limit};
  }
  return {};
}

bool Faults::Strikes(Standing& standing, Op op, const std::string& path) {
  const Rule& rule = standing.rule;
  if (rule.spare_private && IsPrivatePath(path)) return false;
  if (!rule.path.empty() && fnmatch(rule.path.c_str(), path.c_str(), 0) != 0) {
    return false;
  }
  if (static_cast<int64_t>(standing.matched++) < rule.skip) return false;
  if (rule.count >= 0 && static_cast<int64_t>(standing.struck) >= rule.count) {
    return false;
  }
  if (rule.rate < 1 &&
      std::uniform_real_distribution<>(0, 1)(random_) >= rule.rate) {
    return false;
  }
  ++standing.struck;
  return true;
}

bool Faults::Stands(uint64_t id) const {
  return std::any_of(rules_.begin(), rules_.end(),
                     [id](const Standing& one) { return one.id == id; });
}

void Faults::Wait(std::unique_lock<std::mutex>& lock, uint64_t id,
                  const Rule& rule) {
  const auto gone = [this, id] { return !Stands(id); };
  ++hanging_;
  if (rule.hang) {
    changed_.wait(lock, gone);
  } else if (rule.delay_ms > 0) {
    changed_.wait_for(lock, std::chrono::milliseconds(rule.delay_ms), gone);
  }
  --hanging_;
}

uint64_t Faults::Add(const Rule& rule) {
  std::lock_guard lock(mutex_);
  rules_.push_back({next_id_, rule});
  return next_id_++;
}

void Faults::Remove(uint64_t id) {
  std::lock_guard lock(mutex_);
  rules_.remove_if([id](const Standing& one) { return one.id == id; });
  changed_.notify_all();
}

void Faults::Clear() {
  std::lock_guard lock(mutex_);
  rules_.clear();
  changed_.notify_all();
}

nlohmann::json Faults::Describe() const {
  std::lock_guard lock(mutex_);
  nlohmann::json requests = nlohmann::json::object();
  for (size_t op = 0; op < std::size(kOpNames); ++op) {
    requests[std::string(kOpNames[op])] = requests_[op];
  }
  nlohmann::json rules = nlohmann::json::object();
  for (const Standing& standing : rules_) {
    rules[std::to_string(standing.id)] = standing.struck;
  }
  return {{"requests", requests}, {"rules", rules}, {"hanging", hanging_}};
}

}  // namespace mirrorfs::faulty
