// SPDX-License-Identifier: GPL-2.0-or-later
//
// Handlers of operations on open directories. A stream's offsets are those of
// the primary's file system, which knows how to keep them stable while names
// come and go.
#include <dirent.h>
#include <fcntl.h>

#include <memory>

#include "fuse/request.h"

namespace mirrorfs {
namespace {

struct DirHandle {
  DIR* stream = nullptr;
  off_t next = 0;          // where the stream stands
  dirent* held = nullptr;  // read, but it did not fit into the last answer

  ~DirHandle() {
    if (stream != nullptr) closedir(stream);
  }
};

DirHandle& DirOf(const fuse_file_info* info) {
  return *reinterpret_cast<DirHandle*>(info->fh);
}

void Opendir(fuse_req_t request, fuse_ino_t id, fuse_file_info* info) {
  FileSystem& fs = FsOf(request);
  auto handle = std::make_unique<DirHandle>();
  {
    const SharedNames names = HoldNames(fs);
    const std::optional<std::string> path = fs.nodes().PathOf(id);
    if (!path) return Answer(request, Errno(ENOENT));
    ErrnoOr<UniqueFd> fd = fs.mirror().OpenDir(*path);
    if (!fd.ok()) return Answer(request, fd.error());
    handle->stream = fdopendir(fd->get());
    if (handle->stream == nullptr) return Answer(request, Errno::Last());
    fd->Release();
    // So that its attributes can be told when it has been removed.
    const std::shared_ptr<OpenFile> open =
        fs.nodes().Open(id, fs.nodes().NewOpenFile());
    if (open && open->read_fd(fs.mirror().primary_slot()) < 0) {
      open->SetReadFd(
          fs.mirror().primary_slot(),
          UniqueFd(fcntl(dirfd(handle->stream), F_DUPFD_CLOEXEC, 0)));
    }
  }
  info->fh = reinterpret_cast<uint64_t>(handle.get());
  if (fuse_reply_open(request, info) == 0) {
    handle.release();
  } else {
    fs.nodes().Close(id);
  }
}

void Releasedir(fuse_req_t request, fuse_ino_t id, fuse_file_info* info) {
  delete &DirOf(info);
  FsOf(request).nodes().Close(id);
  Answer(request, kOk);
}

// The entry at which the stream stands, or null at its end and on errors.
dirent* Next(DirHandle& dir) {
  if (dir.held == nullptr) {
    errno = 0;
    dir.held = readdir(dir.stream);
  }
  return dir.held;
}

bool IsDots(absl::string_view name) { return name == "." || name == ".."; }

// Adds one entry to the answer; 0 when it has no room for it.
class Filler {
 public:
  Filler(fuse_req_t request, NodeId dir_id, DirHandle& dir, bool plus)
      : request_(request),
        fs_(FsOf(request)),
        dir_id_(dir_id),
        dir_(dir),
        plus_(plus) {}

  size_t Add(char* buffer, size_t room, const dirent& entry) {
    if (IsPrivate(dir_id_, entry.d_name)) return kSkipped;
    struct stat st = {};
    st.st_ino = entry.d_ino;
    st.st_mode = static_cast<mode_t>(entry.d_type) << 12;
    if (!plus_) {
      const size_t size = fuse_add_direntry(request_, buffer, room,
                                            entry.d_name, &st, entry.d_off);
      return size > room ? 0 : size;
    }
    return AddPlus(buffer, room, entry, st);
  }

  static constexpr size_t kSkipped = SIZE_MAX;

 private:
  size_t AddPlus(char* buffer, size_t room, const dirent& entry,
                 const struct stat& brief) {
    fuse_entry_param shown = {};
    shown.attr = brief;
    bool counted = false;
    if (!IsDots(entry.d_name)) {
      struct stat st;
      // Without a node id the kernel looks it up, should anybody ask.
      if (fstatat(dirfd(dir_.stream), entry.d_name, &st, AT_SYMLINK_NOFOLLOW) ==
              0 &&
          st.st_dev == fs_.mirror().primary().dev()) {
        shown = fs_.EntryFor(dir_id_, entry.d_name, st, 0);
        counted = true;
      }
    }
    const size_t size = fuse_add_direntry_plus(
        request_, buffer, room, entry.d_name, &shown, entry.d_off);
    if (size <= room) return size;
    if (counted) fs_.nodes().Forget(shown.ino, 1);
    return 0;
  }

  fuse_req_t request_;
  FileSystem& fs_;
  const NodeId dir_id_;
  DirHandle& dir_;
  const bool plus_;
};

void ReadEntries(fuse_req_t request, NodeId id, size_t size, off_t offset,
                 fuse_file_info* info, bool plus) {
  DirHandle& dir = DirOf(info);
  if (offset != dir.next) {
    seekdir(dir.stream, offset);
    dir.next = offset;
    dir.held = nullptr;
  }
  thread_local std::string buffer;
  buffer.resize(size);
  size_t used = 0;
  Filler filler(request, id, dir, plus);
  const SharedNames names = HoldNames(FsOf(request));
  while (const dirent* entry = Next(dir)) {
    const size_t added = filler.Add(buffer.data() + used, size - used, *entry);
    if (added == 0) break;
    if (added != Filler::kSkipped) used += added;
    dir.next = entry->d_off;
    dir.held = nullptr;
  }
  if (used == 0 && dir.held == nullptr && errno != 0) {
    return Answer(request, Errno::Last());
  }
  fuse_reply_buf(request, buffer.data(), used);
}

void Readdir(fuse_req_t request, fuse_ino_t id, size_t size, off_t offset,
             fuse_file_info* info) {
  ReadEntries(request, id, size, offset, info, false);
}

void Readdirplus(fuse_req_t request, fuse_ino_t id, size_t size, off_t offset,
                 fuse_file_info* info) {
  ReadEntries(request, id, size, offset, info, true);
}

void Fsyncdir(fuse_req_t request, fuse_ino_t id, int data_only,
              fuse_file_info* info) {
  FileSystem& fs = FsOf(request);
  const SharedNames names = HoldNames(fs);
  const std::optional<std::string> path = fs.nodes().PathOf(id);
  // A directory that was removed has nothing to lose.
  Answer(request, path ? fs.mirror().FsyncDir(*path) : kOk);
}

}  // namespace

void FillDirectoryOperations(fuse_lowlevel_ops& operations) {
  operations.opendir = Opendir;
  operations.releasedir = Releasedir;
  operations.readdir = Readdir;
  operations.readdirplus = Readdirplus;
  operations.fsyncdir = Fsyncdir;
}

}  // namespace mirrorfs
