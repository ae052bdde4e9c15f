// SPDX-License-Identifier: GPL-2.0-or-later
//
// The mirror as a FUSE file system: thin handlers, by family, that turn node
// ids into paths, call the mirror and answer. This folder is the only one that
// knows libfuse.
//
// One request, one answer. A node may be forgotten by the kernel as soon as it
// has been answered, so nothing of it is touched after that.
#pragma once

#include <atomic>
#include <functional>
#include <shared_mutex>
#include <string>

#include "absl/time/time.h"
#include "fuse/fuse_api.h"
#include "fuse/init_flags.h"
#include "fuse/inode_table.h"
#include "fuse/name_doubts.h"
#include "mirror/mirror.h"

namespace mirrorfs {

struct FileSystemOptions {
  absl::Duration attr_timeout;
  absl::Duration entry_timeout;
  absl::Duration negative_timeout;
  bool writeback_cache = false;
  bool direct_io = false;  // no page cache at all
  bool acls = false;       // the legs store them, so they are enforced
};

// Paths keep their meaning while it lives.
using SharedNames = std::shared_lock<NamesLock>;

class FileSystem {
 public:
  // `ready` is called once the kernel has answered and the mount is usable.
  FileSystem(Mirror* mirror, FileSystemOptions options,
             std::function<void()> ready);

  static const fuse_lowlevel_ops& Operations();

  // Once nodes mean what the primary has; unless it cannot be asked: then it
  // will not answer who asked for this, either.
  SharedNames HoldNames();

  // Makes the times of all open files equal on all legs. False: it is not known
  // which file is which.
  bool SettleOpenFiles();

  // A leg is gone: closes what open files have on it, see OpenFile::LetGo.
  void LetGo(LegSlot slot, uint64_t epoch);

  Mirror& mirror() { return *mirror_; }
  InodeTable& nodes() { return nodes_; }
  NameDoubts& doubts() { return doubts_; }
  CallBufferPool& buffers() { return buffers_; }
  const FileSystemOptions& options() const { return options_; }
  const Clock& clock() const { return clock_; }
  InitFlags& init_flags() { return init_flags_; }
  void OnInit(fuse_conn_info* connection);
  // Whether the kernel leaves it to us to take set-id bits from a file when
  // somebody without CAP_FSETID changes its content.
  bool takes_set_id() const { return takes_set_id_; }

  // Whether inode numbers of the primary mean what the nodes think: a new
  // primary has others.
  bool IdentityIsCurrent() const {
    return identity_epoch_.load() == mirror_->legs().primary_epoch();
  }
  // Of the primary that gave the numbers which nodes have.
  uint64_t identity_epoch() const { return identity_epoch_.load(); }
  // From now on nodes have the numbers that the new primary has for them. The
  // names lock must not be held.
  void LearnIdentity();

  // Requests that applications made for something in the mirror.
  void CountRequest() { requests_.fetch_add(1, std::memory_order_relaxed); }
  uint64_t requests() const {
    return requests_.load(std::memory_order_relaxed);
  }

  // Attributes as the kernel shall see them.
  struct stat Show(struct stat st, NodeId id) const;
  // For how many seconds the kernel may believe them.
  double AttrTimeout(const struct stat& st) const;
  // The answer to whoever made `name`; counts a lookup.
  fuse_entry_param EntryFor(NodeId parent, absl::string_view name,
                            const struct stat& st, int64_t created_ns);
  // The same for what was found; see InodeTable::RememberFound.
  std::optional<fuse_entry_param> EntryFound(NodeId parent,
                                             absl::string_view name,
                                             const struct stat& st,
                                             uint64_t losses);

 private:
  fuse_entry_param EntryOf(NodeId id, const struct stat& st) const;

  Mirror* const mirror_;
  const FileSystemOptions options_;
  const std::function<void()> ready_;
  SystemClock clock_;
  InodeTable nodes_;
  NameDoubts doubts_{mirror_, &nodes_};
  CallBufferPool buffers_;
  std::atomic<uint64_t> identity_epoch_{0};
  InitFlags init_flags_;
  std::atomic<bool> takes_set_id_{false};
  std::atomic<uint64_t> requests_{0};
};

}  // namespace mirrorfs
