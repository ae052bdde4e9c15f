// SPDX-License-Identifier: GPL-2.0-or-later
//
// Handlers of operations on open files.
#include <fcntl.h>

#include <algorithm>

#include "fuse/request.h"

namespace mirrorfs {
namespace {

bool IsForWriting(int flags) { return (flags & O_ACCMODE) != O_RDONLY; }

void PrepareAnswer(const FileSystem& fs, fuse_file_info* info) {
  info->keep_cache = 1;
  info->direct_io = fs.options().direct_io;
#if FUSE_USE_VERSION >= 317
  info->parallel_direct_writes = 1;
#endif
}

void SetHandle(fuse_file_info* info, std::shared_ptr<OpenFile> file) {
  info->fh = reinterpret_cast<uint64_t>(new FileHandle{std::move(file)});
}

void DropHandle(FileSystem& fs, NodeId id, fuse_file_info* info) {
  delete &HandleOf(info);
  fs.nodes().Close(id);
}

void Open(fuse_req_t request, fuse_ino_t id, fuse_file_info* info) {
  FileSystem& fs = FsOf(request);
  Errno error;
  {
    SharedNames names = HoldNames(fs);
    if (CameByOldName(fs, names, id)) return Answer(request, Errno(ESTALE));
    const std::shared_lock stripe(fs.nodes().Stripe(id));
    std::shared_ptr<OpenFile> file =
        fs.nodes().Open(id, fs.nodes().NewOpenFile());
    if (!file) return Answer(request, Errno(ESTALE));
    const ErrnoOr<ObjectRef> object = ObjectOf(fs, id);
    if (!object.ok()) {
      error = object.error();
    } else {
      error = ErrorAbout(*object, AskAbout(fs, *object, [&] {
        return IsForWriting(info->flags)
                   ? fs.mirror().OpenForWrite(*object, *file)
                   : fs.mirror().OpenForRead(*object, *file);
      }));
    }
    SetHandle(info, std::move(file));
  }
  if (!error.ok()) {
    DropHandle(fs, id, info);
    return Answer(request, error);
  }
  PrepareAnswer(fs, info);
  if (fuse_reply_open(request, info) != 0) DropHandle(fs, id, info);
}

void Create(fuse_req_t request, fuse_ino_t parent, const char* name,
            mode_t mode, fuse_file_info* info) {
  FileSystem& fs = FsOf(request);
  const Caller caller = CallerOf(request);
  fuse_entry_param entry;
  {
    SharedNames names = HoldNames(fs);
    const ErrnoOr<std::string> path = PathToChange(fs, parent, name);
    if (!path.ok()) return Answer(request, path.error());
    std::shared_ptr<OpenFile> file = fs.nodes().NewOpenFile();
    const ErrnoOr<struct stat> st = AskAbout(
        fs, std::string(ParentPath(*path)),
        [&] { return fs.mirror().Create(*path, 0, mode, caller, *file); });
    const bool made = st.ok();
    // The name came to be meanwhile: that is what is opened.
    const bool there = st.error() == Errno(EEXIST) && !(info->flags & O_EXCL);
    if (!made && !there) return Answer(request, st.error());
    const ErrnoOr<fuse_entry_param> found =
        made ? EntryMade(fs, names, parent, name, *st, caller.asked_ns)
             : FindEntry(fs, names, parent, name);
    if (!found.ok()) return Answer(request, found.error());
    entry = *found;
    file = fs.nodes().Open(entry.ino, file);
    const ErrnoOr<ObjectRef> object = ObjectOf(fs, entry.ino);
    Errno error = object.error();
    if (object.ok() && !made) {
      error = ErrorAbout(*object, fs.mirror().OpenForWrite(*object, *file));
    }
    SetHandle(info, std::move(file));
    if (!error.ok()) {
      DropHandle(fs, entry.ino, info);
      fs.nodes().Forget(entry.ino, 1);
      return Answer(request, error);
    }
  }
  PrepareAnswer(fs, info);
  if (fuse_reply_create(request, &entry, info) != 0) {
    DropHandle(fs, entry.ino, info);
    fs.nodes().Forget(entry.ino, 1);
  }
}

#if FUSE_USE_VERSION >= 317
void Tmpfile(fuse_req_t request, fuse_ino_t parent, mode_t mode,
             fuse_file_info* info) {
  FileSystem& fs = FsOf(request);
  const Caller caller = CallerOf(request);
  fuse_entry_param entry = {};
  {
    const SharedNames names = HoldNames(fs);
    const std::optional<std::string> dir = fs.nodes().PathOf(parent);
    if (!dir) return Answer(request, Errno(ESTALE));
    std::shared_ptr<OpenFile> file = fs.nodes().NewOpenFile();
    const ErrnoOr<struct stat> st = AskAbout(fs, *dir, [&] {
      return fs.mirror().CreateUnnamed(*dir, info->flags, mode, caller, *file);
    });
    if (!st.ok()) return Answer(request, st.error());
    entry.ino = fs.nodes().RememberUnnamed(*st, caller.asked_ns);
    entry.attr = *st;
    entry.attr_timeout = fs.AttrTimeout(*st);
    SetHandle(info, fs.nodes().Open(entry.ino, file));
  }
  PrepareAnswer(fs, info);
  if (fuse_reply_create(request, &entry, info) != 0) {
    DropHandle(fs, entry.ino, info);
    fs.nodes().Forget(entry.ino, 1);
  }
}
#endif

void Release(fuse_req_t request, fuse_ino_t id, fuse_file_info* info) {
  FileSystem& fs = FsOf(request);
  {
    HeldObject object(fs, id);
    if (object.ok()) fs.mirror().SettleTimes(*object, *HandleOf(info).file);
  }
  DropHandle(fs, id, info);
  Answer(request, kOk);
}

void Read(fuse_req_t request, fuse_ino_t id, size_t size, off_t offset,
          fuse_file_info* info) {
  FileSystem& fs = FsOf(request);
  CallBuffer buffer = fs.buffers().Take(size);
  ErrnoOr<size_t> got = size_t{0};
  {
    HeldObject object(fs, id);
    if (!object.ok()) return Answer(request, object.error());
    got = AskAbout(fs, *object, [&] {
      return fs.mirror().Read(*object, *HandleOf(info).file, offset, buffer,
                              size);
    });
  }
  if (!got.ok()) return Answer(request, got.error());
  fuse_reply_buf(request, buffer.data(), *got);
  fs.buffers().Give(std::move(buffer));
}

void Write(fuse_req_t request, fuse_ino_t id, const char* data, size_t size,
           off_t offset, fuse_file_info* info) {
  FileSystem& fs = FsOf(request);
  // Of writes past its page cache the kernel leaves O_SYNC to us; of others it
  // asks for an fsync.
  const bool past_cache = info->flags & O_DIRECT || fs.options().direct_io;
  const bool data_sync = past_cache && info->flags & O_DSYNC;
  ErrnoOr<size_t> taken = size_t{0};
  {
    HeldObject object(fs, id);
    if (!object.ok()) return Answer(request, object.error());
    // What comes from the page cache is nobody's write: the bits may have been
    // set since.
    if (!info->writepage) object->writer = WriterOf(request, *object);
    taken = AskAbout(fs, *object, [&] {
      return fs.mirror().Write(*object, *HandleOf(info).file, offset,
                               absl::string_view(data, size), data_sync);
    });
  }
  if (!taken.ok()) return Answer(request, taken.error());
  fuse_reply_write(request, *taken);
}

void Fsync(fuse_req_t request, fuse_ino_t id, int data_only,
           fuse_file_info* info) {
  FileSystem& fs = FsOf(request);
  HeldObject object(fs, id);
  if (!object.ok()) return Answer(request, object.error());
  OpenFile& file = *HandleOf(info).file;
  if (data_only == 0) fs.mirror().SettleTimes(*object, file);
  Answer(request, AskAbout(fs, *object, [&] {
           return fs.mirror().Fsync(*object, file, data_only != 0);
         }));
}

void Fallocate(fuse_req_t request, fuse_ino_t id, int mode, off_t offset,
               off_t length, fuse_file_info* info) {
  FileSystem& fs = FsOf(request);
  HeldObject object(fs, id);
  if (!object.ok()) return Answer(request, object.error());
  object->writer = WriterOf(request, *object);
  Answer(request, AskAbout(fs, *object, [&] {
           return fs.mirror().Fallocate(*object, *HandleOf(info).file, mode,
                                        offset, length);
         }));
}

void Lseek(fuse_req_t request, fuse_ino_t id, off_t offset, int whence,
           fuse_file_info* info) {
  FileSystem& fs = FsOf(request);
  HeldObject object(fs, id);
  if (!object.ok()) return Answer(request, object.error());
  const ErrnoOr<off_t> at = AskAbout(fs, *object, [&] {
    return fs.mirror().Seek(*object, *HandleOf(info).file, offset, whence);
  });
  if (!at.ok()) return Answer(request, at.error());
  fuse_reply_lseek(request, *at);
}

void CopyFileRange(fuse_req_t request, fuse_ino_t from_id, off_t from_offset,
                   fuse_file_info* from_info, fuse_ino_t to_id, off_t to_offset,
                   fuse_file_info* to_info, size_t length, int flags) {
  FileSystem& fs = FsOf(request);
  const SharedNames names = HoldNames(fs);
  const StripePair<std::shared_lock> stripes(fs.nodes(), from_id, to_id);
  const ErrnoOr<ObjectRef> from = ObjectOf(fs, from_id);
  ErrnoOr<ObjectRef> to = ObjectOf(fs, to_id);
  if (!from.ok() || !to.ok()) return Answer(request, Errno(ESTALE));
  to->writer = WriterOf(request, *to);
  const auto copy = [&] {
    return fs.mirror().CopyRange(*from, *HandleOf(from_info).file, from_offset,
                                 *to, *HandleOf(to_info).file, to_offset,
                                 length);
  };
  const ErrnoOr<size_t> copied =
      AskAbout(fs, *from, [&] { return AskAbout(fs, *to, copy); });
  if (!copied.ok()) return Answer(request, copied.error());
  fuse_reply_write(request, *copied);
}

}  // namespace

void FillFileOperations(fuse_lowlevel_ops& operations) {
  operations.open = Open;
  operations.create = Create;
  operations.release = Release;
  operations.read = Read;
  operations.write = Write;
  operations.fsync = Fsync;
  operations.fallocate = Fallocate;
  operations.lseek = Lseek;
  operations.copy_file_range = CopyFileRange;
#if FUSE_USE_VERSION >= 317
  operations.tmpfile = Tmpfile;
#endif
}

}  // namespace mirrorfs
