// SPDX-License-Identifier: GPL-2.0-or-later
//
// A directory passed through as a FUSE file system that goes wrong when a test
// says so. It stands for a disk beneath a leg.
//
// Nothing is cached by the kernel (no timeouts, direct I/O), so that every
// request arrives here and can fail. syncfs(2) does not arrive: the kernel does
// not pass it on.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>

#include "base/errno.h"
#include "base/fd.h"
#include "faults.h"
#include "fuse/fuse_api.h"
#include "unsynced.h"

namespace mirrorfs::faulty {

// An object that the kernel knows. Its descriptor (O_PATH) keeps the inode
// number from being used again.
struct Node {
  // By which it is known: device, inode number, and a path where each name of a
  // file is to look like a file.
  using Identity = std::tuple<dev_t, ino_t, std::string>;

  UniqueFd fd;
  Identity identity;
  uint64_t lookups = 0;

  // Makes `st`, which is of this object, what the kernel is to see.
  void Disguise(struct stat& st) const;
};

// Space as a small disk would have it: what makes a file longer, and names.
class Space {
 public:
  static constexpr int64_t kUnlimited = -1;
  static constexpr int64_t kName = 4096;  // what a new name costs

  void Set(int64_t left) { left_ = left; }
  int64_t left() const { return left_; }
  // How much of `bytes` there is; it is taken.
  int64_t Take(int64_t bytes);
  void Give(int64_t bytes);

 private:
  std::mutex mutex_;
  std::atomic<int64_t> left_ = kUnlimited;
};

class FaultyLeg {
 public:
  // `source` is an absolute path without symlinks.
  explicit FaultyLeg(std::string source);

  Faults& faults() { return faults_; }
  Unsynced& unsynced() { return unsynced_; }
  Space& space() { return space_; }

  static const fuse_lowlevel_ops& Operations();

  // The O_PATH descriptor behind a node id. Node ids are addresses.
  int FdOf(fuse_ino_t id) const;
  ErrnoOr<struct stat> StatOf(fuse_ino_t id) const;
  // From now on files that are looked up get an inode number for each name.
  void SplitNames() { split_names_ = true; }
  // Relative to the leg's root; "" is the root.
  std::string PathOf(fuse_ino_t id, const char* name) const;
  // One more lookup of the object called `name` in `parent`.
  ErrnoOr<fuse_entry_param> Enter(fuse_ino_t parent, const char* name);
  ErrnoOr<fuse_entry_param> Enter(UniqueFd object, std::string path = "");
  void Forget(fuse_ino_t id, uint64_t lookups);

 private:
  const std::string source_;
  Node root_;
  mutable std::mutex mutex_;
  std::map<Node::Identity, Node*> nodes_;
  std::atomic<bool> split_names_ = false;
  Faults faults_;
  Unsynced unsynced_;
  Space space_;
};

inline FaultyLeg& LegOf(fuse_req_t request) {
  return *static_cast<FaultyLeg*>(fuse_req_userdata(request));
}

// How a request that succeeded is answered; null: with "success" alone.
using Reply = std::function<void(fuse_req_t)>;

// Runs a request, unless a fault comes first. `act(leg, verdict)` does it and
// returns ErrnoOr<Reply>.
template <typename Act>
void Serve(fuse_req_t request, Op op, fuse_ino_t node, const char* name,
           Act act) {
  FaultyLeg& leg = LegOf(request);
  const Verdict verdict =
      leg.faults().Judge(op, [&] { return leg.PathOf(node, name); });
  if (!verdict.error.ok() && !verdict.after && !verdict.lose) {
    fuse_reply_err(request, verdict.error.value());
    return;
  }
  const ErrnoOr<Reply> reply = act(leg, verdict);
  const Errno error = verdict.error.ok() ? reply.error() : verdict.error;
  if (!error.ok() || !*reply) {
    fuse_reply_err(request, error.value());
  } else {
    (*reply)(request);
  }
}

inline ErrnoOr<Reply> Done(Errno error) {
  if (!error.ok()) return error;
  return Reply();
}
inline ErrnoOr<Reply> Done(long syscall_result) {
  return Done(FromSyscall(syscall_result));
}

// Whether a change of content by this request takes the file's set-id bits:
// the kernel leaves that to us, by the rights of the thread that asks.
bool TakesSetId(fuse_req_t request, int fd);

ErrnoOr<Reply> EntryReply(FaultyLeg& leg, fuse_ino_t parent, const char* name);

void FillNames(fuse_lowlevel_ops& operations);
void FillFiles(fuse_lowlevel_ops& operations);
void FillAttributes(fuse_lowlevel_ops& operations);

// Answers one command of a test; see faulty_leg.py for what there is.
nlohmann::json Command(FaultyLeg& leg, const nlohmann::json& request);

}  // namespace mirrorfs::faulty
