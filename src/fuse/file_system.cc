// SPDX-License-Identifier: GPL-2.0-or-later
#include "fuse/file_system.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "fuse/request.h"
#include "leg/object.h"

namespace mirrorfs {
namespace {

constexpr unsigned kMaxRequestBytes = 1 << 20;

void Init(void* fs, fuse_conn_info* connection) {
  static_cast<FileSystem*>(fs)->OnInit(connection);
}

fuse_lowlevel_ops MakeOperations() {
  fuse_lowlevel_ops operations = {};
  operations.init = Init;
  FillNameOperations(operations);
  FillAttributeOperations(operations);
  FillFileOperations(operations);
  FillDirectoryOperations(operations);
  // There is nothing to do at close: without this handler the kernel stops
  // asking after the first time. Locks are the kernel's own, too.
  operations.flush = nullptr;
  return operations;
}

// For how long a new primary that answers neither yes nor no, for want of
// memory say, is asked for the number of a file. Everybody waits.
constexpr absl::Duration kLearningMax = absl::Seconds(2);
constexpr absl::Duration kLearningPause = absl::Milliseconds(10);

// Whether it is in effect from now on.
bool Want(fuse_conn_info* connection, unsigned capability, bool wanted) {
#if FUSE_USE_VERSION >= 317
  if (wanted) return fuse_set_feature_flag(connection, capability);
  fuse_unset_feature_flag(connection, capability);
#else
  if (wanted && (connection->capable & capability)) {
    connection->want |= capability;
    return true;
  }
  connection->want &= ~capability;
#endif
  return false;
}

}  // namespace

FileSystem::FileSystem(Mirror* mirror, FileSystemOptions options,
                       std::function<void()> ready)
    : mirror_(mirror),
      options_(options),
      ready_(std::move(ready)),
      nodes_(mirror->primary().root_ino()),
      buffers_(kMaxRequestBytes) {}

const fuse_lowlevel_ops& FileSystem::Operations() {
  static const fuse_lowlevel_ops operations = MakeOperations();
  return operations;
}

void FileSystem::OnInit(fuse_conn_info* connection) {
  // Truncation always comes as a change of size: one way to mark and do it.
  Want(connection, FUSE_CAP_ATOMIC_O_TRUNC, false);
  // Only the mount changes the legs, so what the kernel caches stays true.
  Want(connection, FUSE_CAP_AUTO_INVAL_DATA, false);
  Want(connection, FUSE_CAP_CACHE_SYMLINKS, true);
  Want(connection, FUSE_CAP_WRITEBACK_CACHE, options_.writeback_cache);
  // libfuse does not want it by itself, whatever its documentation says.
  Want(connection, FUSE_CAP_PARALLEL_DIROPS, true);
  // A write is received into memory once and goes to every leg from there; a
  // pipe can be read once only.
  Want(connection, FUSE_CAP_SPLICE_READ, false);
  // The leg's file system applies the umask, or a default ACL instead of it.
  Want(connection, FUSE_CAP_DONT_MASK, true);
  Want(connection, FUSE_CAP_POSIX_ACL, options_.acls);
  // Of direct writes the kernel always leaves this to us.
  takes_set_id_ = options_.direct_io;
  // Spares a question about security.capability before each write.
#ifdef FUSE_CAP_HANDLE_KILLPRIV_V2
  if (Want(connection, FUSE_CAP_HANDLE_KILLPRIV_V2, true)) {
    takes_set_id_ = true;
  }
#else
  if (init_flags_.adds_killpriv_v2()) takes_set_id_ = true;
#endif
#ifdef FUSE_CAP_DIRECT_IO_ALLOW_MMAP
  Want(connection, FUSE_CAP_DIRECT_IO_ALLOW_MMAP, options_.direct_io);
#endif
#ifdef FUSE_CAP_NO_EXPORT_SUPPORT
  Want(connection, FUSE_CAP_NO_EXPORT_SUPPORT, true);
#endif
  connection->max_write = kMaxRequestBytes;
  connection->max_readahead = kMaxRequestBytes;
  connection->max_background = 64;
  connection->congestion_threshold = 48;
  connection->time_gran = 1;
  ready_();
}

void FileSystem::LearnIdentity() {
  const std::unique_lock names(mirror_->names_lock());
  while (!IdentityIsCurrent()) {
    const uint64_t epoch = mirror_->legs().primary_epoch();
    const absl::Time deadline = absl::Now() + kLearningMax;
    nodes_.Rekey([&](const std::string& path) {
      ErrnoOr<struct stat> st = mirror_->StatPath(path);
      while (!st.ok() && !IsAbsent(st.error()) && absl::Now() < deadline) {
        absl::SleepFor(kLearningPause);
        st = mirror_->StatPath(path);
      }
      return st.ok() ? st->st_ino : ino_t{0};
    });
    identity_epoch_ = epoch;
  }
}

SharedNames FileSystem::HoldNames() {
  for (;;) {
    SharedNames names(mirror_->names_lock());
    const bool current = IdentityIsCurrent();
    if (current && !doubts_.any()) return names;
    names.unlock();
    if (!current) {
      LearnIdentity();
    } else if (!doubts_.Settle()) {
      return SharedNames(mirror_->names_lock());
    }
  }
}

bool FileSystem::SettleOpenFiles() {
  for (const NodeId id : nodes_.OpenNodes()) {
    std::optional<ObjectRef> object = nodes_.Ref(id);
    if (!object || !object->open || !object->open->times_unsettled) continue;
    const SharedNames names = HoldNames();
    const std::shared_lock stripe(nodes_.Stripe(id));
    object = nodes_.Ref(id);
    if (doubts_.any()) return false;
    if (!object || !object->open) continue;
    mirror_->SettleTimes(*object, *object->open);
  }
  return true;
}

void FileSystem::LetGo(LegSlot slot, uint64_t epoch) {
  for (const std::shared_ptr<OpenFile>& file : nodes_.OpenFiles()) {
    file->LetGo(slot, epoch);
  }
}

struct stat FileSystem::Show(struct stat st, NodeId id) const {
  // A directory's link count is that of its subdirectories, and find(1)
  // believes it; ours is not to be found.
  if (id == kRootNode && st.st_nlink > 2) --st.st_nlink;
  st.st_ino = nodes_.ShownIno(id, st.st_ino);
  return st;
}

double FileSystem::AttrTimeout(const struct stat& st) const {
  // A write that takes its set-id bits is answered without attributes, and
  // exec(2) believes the ones that are cached.
  if (takes_set_id_ && HasSetId(st.st_mode)) return 0;
  return absl::ToDoubleSeconds(options_.attr_timeout);
}

fuse_entry_param FileSystem::EntryFor(NodeId parent, absl::string_view name,
                                      const struct stat& st,
                                      int64_t created_ns) {
  return EntryOf(nodes_.Remember(parent, name, st, created_ns), st);
}

std::optional<fuse_entry_param> FileSystem::EntryFound(NodeId parent,
                                                       absl::string_view name,
                                                       const struct stat& st,
                                                       uint64_t losses) {
  const NodeId id = nodes_.RememberFound(parent, name, st, losses);
  if (id == 0) return std::nullopt;
  return EntryOf(id, st);
}

fuse_entry_param FileSystem::EntryOf(NodeId id, const struct stat& st) const {
  fuse_entry_param entry = {};
  entry.ino = id;
  entry.attr = Show(st, id);
  entry.attr_timeout = AttrTimeout(st);
  entry.entry_timeout = absl::ToDoubleSeconds(options_.entry_timeout);
  return entry;
}

}  // namespace mirrorfs
