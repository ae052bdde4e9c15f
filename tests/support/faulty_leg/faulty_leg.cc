// SPDX-License-Identifier: GPL-2.0-or-later
#include "faulty_leg.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <functional>

#include "leg/object.h"

namespace mirrorfs::faulty {
namespace {

void Want(fuse_conn_info* connection, unsigned capability, bool wanted) {
#if FUSE_USE_VERSION >= 317
  if (wanted) {
    fuse_set_feature_flag(connection, capability);
  } else {
    fuse_unset_feature_flag(connection, capability);
  }
#else
  if (wanted) {
    connection->want |= connection->capable & capability;
  } else {
    connection->want &= ~capability;
  }
#endif
}

void Init(void*, fuse_conn_info* connection) {
  Want(connection, FUSE_CAP_DONT_MASK, true);
  Want(connection, FUSE_CAP_POSIX_ACL, true);
  Want(connection, FUSE_CAP_READDIRPLUS, false);
  Want(connection, FUSE_CAP_WRITEBACK_CACHE, false);
#ifdef FUSE_CAP_HANDLE_KILLPRIV_V2
  Want(connection, FUSE_CAP_HANDLE_KILLPRIV_V2, false);
#endif
  connection->max_write = 1 << 20;
  connection->time_gran = 1;
}

}  // namespace

int64_t Space::Take(int64_t bytes) {
  if (left_ == kUnlimited) return bytes;
  std::lock_guard lock(mutex_);
  const int64_t taken = std::min(bytes, left_.load());
  left_ -= taken;
  return taken;
}

void Space::Give(int64_t bytes) {
  if (left_ == kUnlimited) return;
  std::lock_guard lock(mutex_);
  left_ += bytes;
}

FaultyLeg::FaultyLeg(std::string source) : source_(std::move(source)) {
  root_.fd = UniqueFd(open(source_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  const ErrnoOr<struct stat> st = StatObject(root_.fd.get());
  if (!st.ok()) return;
  root_.identity = {st->st_dev, st->st_ino, ""};
}

const fuse_lowlevel_ops& FaultyLeg::Operations() {
  static const fuse_lowlevel_ops operations = [] {
    fuse_lowlevel_ops filled = {};
    filled.init = Init;
    FillNames(filled);
    FillFiles(filled);
    FillAttributes(filled);
    return filled;
  }();
  return operations;
}

void Node::Disguise(struct stat& st) const {
  const std::string& path = std::get<2>(identity);
  if (!path.empty()) st.st_ino ^= std::hash<std::string>()(path);
}

ErrnoOr<struct stat> FaultyLeg::StatOf(fuse_ino_t id) const {
  const Node* node =
      id == FUSE_ROOT_ID ? &root_ : reinterpret_cast<const Node*>(id);
  ErrnoOr<struct stat> st = StatObject(node->fd.get());
  if (st.ok()) node->Disguise(*st);
  return st;
}

int FaultyLeg::FdOf(fuse_ino_t id) const {
  if (id == FUSE_ROOT_ID) return root_.fd.get();
  return reinterpret_cast<Node*>(id)->fd.get();
}

std::string FaultyLeg::PathOf(fuse_ino_t id, const char* name) const {
  const std::string link = "/proc/self/fd/" + std::to_string(FdOf(id));
  char buffer[PATH_MAX];
  const ssize_t length = readlink(link.c_str(), buffer, sizeof(buffer));
  std::string path(buffer, static_cast<size_t>(std::max<ssize_t>(length, 0)));
  path.erase(0, std::min(path.size(), source_.size() + 1));
  if (name == nullptr) return path;
  return path.empty() ? name : path + "/" + name;
}

ErrnoOr<fuse_entry_param> FaultyLeg::Enter(fuse_ino_t parent,
                                           const char* name) {
  UniqueFd object(openat(FdOf(parent), name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!object.valid()) return Errno::Last();
  return Enter(std::move(object),
               split_names_ ? PathOf(parent, name) : std::string());
}

ErrnoOr<fuse_entry_param> FaultyLeg::Enter(UniqueFd object, std::string path) {
  const ErrnoOr<struct stat> st = StatObject(object.get());
  if (!st.ok()) return st.error();
  if (!S_ISREG(st->st_mode)) path.clear();
  const Node::Identity identity = {st->st_dev, st->st_ino, std::move(path)};
  std::lock_guard lock(mutex_);
  Node*& node = nodes_[identity];
  if (node == nullptr) node = new Node{std::move(object), identity};
  ++node->lookups;
  fuse_entry_param entry = {};
  entry.ino = reinterpret_cast<fuse_ino_t>(node);
  entry.attr = *st;
  node->Disguise(entry.attr);
  return entry;
}

void FaultyLeg::Forget(fuse_ino_t id, uint64_t lookups) {
  if (id == FUSE_ROOT_ID) return;
  Node* node = reinterpret_cast<Node*>(id);
  std::lock_guard lock(mutex_);
  node->lookups -= lookups;
  if (node->lookups > 0) return;
  nodes_.erase(node->identity);
  delete node;
}

bool TakesSetId(fuse_req_t request, int fd) {
  const ErrnoOr<mode_t> mode = ModeOf(fd);
  if (mode.ok() && !HasSetId(*mode)) return false;
  std::ifstream status("/proc/" + std::to_string(fuse_req_ctx(request)->pid) +
                       "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("CapEff:", 0) != 0) continue;
    const uint64_t effective = std::stoull(line.substr(7), nullptr, 16);
    return (effective >> CAP_FSETID & 1) == 0;
  }
  return false;
}

ErrnoOr<Reply> EntryReply(FaultyLeg& leg, fuse_ino_t parent, const char* name) {
  const ErrnoOr<fuse_entry_param> entry = leg.Enter(parent, name);
  if (!entry.ok()) return entry.error();
  return Reply([entry = *entry](fuse_req_t request) {
    FaultyLeg& leg = LegOf(request);
    if (fuse_reply_entry(request, &entry) != 0) leg.Forget(entry.ino, 1);
  });
}

}  // namespace mirrorfs::faulty
