// SPDX-License-Identifier: GPL-2.0-or-later
//
// Handlers of operations on open directories. A stream is a list of the names
// as they were when it was read from its beginning, so its offsets mean the
// same whatever leg answers, and stay stable while names come and go.
#include <dirent.h>

#include <memory>

#include "fuse/request.h"

namespace mirrorfs {
namespace {

struct DirHandle {
  std::vector<DirEntry> entries;  // . and .. first
};

DirHandle& DirOf(const fuse_file_info* info) {
  return *reinterpret_cast<DirHandle*>(info->fh);
}

void Opendir(fuse_req_t request, fuse_ino_t id, fuse_file_info* info) {
  FileSystem& fs = FsOf(request);
  {
    const SharedNames names = HoldNames(fs);
    const ErrnoOr<ObjectRef> object = ObjectOf(fs, id);
    if (!object.ok()) return Answer(request, object.error());
    if (!object->named) return Answer(request, Errno(ESTALE));
    // So that its attributes can be told when it has been removed.
    const std::shared_ptr<OpenFile> open =
        fs.nodes().Open(id, fs.nodes().NewOpenFile());
    if (!open) return Answer(request, Errno(ESTALE));
    const Errno error = AskAbout(
        fs, *object, [&] { return fs.mirror().OpenForRead(*object, *open); });
    if (!error.ok()) {
      fs.nodes().Close(id);
      return Answer(request, error);
    }
  }
  auto handle = std::make_unique<DirHandle>();
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

bool IsDots(absl::string_view name) { return name == "." || name == ".."; }

// Reads the whole directory. One that has been removed is empty.
Errno Load(FileSystem& fs, NodeId id, const std::optional<std::string>& path,
           DirHandle& dir) {
  dir.entries = {{".", 0, S_IFDIR}, {"..", 0, S_IFDIR}};
  if (!path) return kOk;
  const auto list = [&] { return fs.mirror().ListDir(*path); };
  ErrnoOr<std::vector<DirEntry>> names = AskAbout(fs, *path, list);
  // One that is being emptied is no error.
  if (names.ok() && fs.mirror().FailIfLabelIsGone()) names = list();
  if (!names.ok()) return names.error();
  dir.entries.reserve(names->size() + 2);
  std::move(names->begin(), names->end(), std::back_inserter(dir.entries));
  return kOk;
}

// Adds one entry to the answer; 0 when it has no room for it.
class Filler {
 public:
  Filler(fuse_req_t request, NodeId dir_id, std::optional<std::string> path,
         bool plus)
      : request_(request),
        fs_(FsOf(request)),
        dir_id_(dir_id),
        path_(std::move(path)),
        plus_(plus) {}

  size_t Add(char* buffer, size_t room, const DirEntry& entry, off_t next) {
    struct stat st = {};
    st.st_ino = IsDots(entry.name)
                    ? fs_.nodes().ShownIno(dir_id_, entry.ino)
                    : fs_.nodes().ShownInoOf(dir_id_, entry.name, entry.ino);
    st.st_mode = entry.type;
    if (plus_) return AddPlus(buffer, room, entry, st, next);
    const size_t size = fuse_add_direntry(request_, buffer, room,
                                          entry.name.c_str(), &st, next);
    return size > room ? 0 : size;
  }

 private:
  size_t AddPlus(char* buffer, size_t room, const DirEntry& entry,
                 const struct stat& brief, off_t next) {
    fuse_entry_param shown = {};
    shown.attr = brief;
    bool counted = false;
    if (path_ && !IsDots(entry.name)) {
      const uint64_t losses = fs_.nodes().TimesLost(dir_id_, entry.name);
      const ErrnoOr<struct stat> st =
          fs_.mirror().StatPath(JoinPath(*path_, entry.name));
      // Without a node id the kernel looks it up, should anybody ask.
      if (st.ok() && fs_.IdentityIsCurrent()) {
        const auto found = fs_.EntryFound(dir_id_, entry.name, *st, losses);
        if (found) shown = *found;
        counted = found.has_value();
      }
    }
    const size_t size = fuse_add_direntry_plus(
        request_, buffer, room, entry.name.c_str(), &shown, next);
    if (size <= room) return size;
    if (counted) fs_.nodes().Forget(shown.ino, 1);
    return 0;
  }

  fuse_req_t request_;
  FileSystem& fs_;
  const NodeId dir_id_;
  const std::optional<std::string> path_;
  const bool plus_;
};

void ReadEntries(fuse_req_t request, NodeId id, size_t size, off_t offset,
                 fuse_file_info* info, bool plus) {
  FileSystem& fs = FsOf(request);
  DirHandle& dir = DirOf(info);
  const SharedNames names = HoldNames(fs);
  const std::optional<std::string> path = fs.nodes().PathOf(id);
  if (offset == 0) {
    if (const Errno error = Load(fs, id, path, dir); !error.ok()) {
      return Answer(request, error);
    }
  }
  std::string buffer(size, '\0');
  size_t used = 0;
  Filler filler(request, id, path, plus);
  for (size_t at = offset; at < dir.entries.size(); ++at) {
    const size_t added =
        filler.Add(buffer.data() + used, size - used, dir.entries[at], at + 1);
    if (added == 0) break;
    used += added;
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
  if (!path) return Answer(request, kOk);
  Answer(request,
         AskAbout(fs, *path, [&] { return fs.mirror().FsyncDir(*path); }));
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
