// SPDX-License-Identifier: GPL-2.0-or-later
//
// Handlers of operations on open files.
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdint.h>
#include <unistd.h>

#include <algorithm>

#include "faulty_leg.h"
#include "leg/caller.h"
#include "leg/object.h"

namespace mirrorfs::faulty {
namespace {

// Positions come with each request; a descriptor of ours must not have its own
// idea of them, and must not bypass or wait for caches.
int PlainFlags(int flags) {
  return (flags & ~(O_APPEND | O_DIRECT | O_NOFOLLOW | O_SYNC)) | O_CLOEXEC;
}

int FdOf(const fuse_file_info* info) { return static_cast<int>(info->fh); }

void Remember(fuse_file_info* info, UniqueFd fd) {
  info->fh = static_cast<uint64_t>(fd.Release());
  info->direct_io = 1;
}

void Open(fuse_req_t request, fuse_ino_t id, fuse_file_info* info) {
  Serve(request, Op::kOpen, id, nullptr,
        [&](FaultyLeg& leg, const Verdict&) -> ErrnoOr<Reply> {
          const std::string path =
              "/proc/self/fd/" + std::to_string(leg.FdOf(id));
          Unsynced::Lock lock;
          if (info->flags & O_TRUNC) {
            lock = leg.unsynced().Before(leg.FdOf(id), 0, UINT64_MAX);
          }
          UniqueFd fd(open(path.c_str(), PlainFlags(info->flags)));
          if (!fd.valid()) return Errno::Last();
          Remember(info, std::move(fd));
          return Reply([info](fuse_req_t r) {
            if (fuse_reply_open(r, info) != 0) close(FdOf(info));
          });
        });
}

ErrnoOr<Reply> CreateReply(FaultyLeg& leg, UniqueFd fd, fuse_file_info* info) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd.get());
  UniqueFd object(open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!object.valid()) return Errno::Last();
  const ErrnoOr<fuse_entry_param> entry = leg.Enter(std::move(object));
  if (!entry.ok()) return entry.error();
  Remember(info, std::move(fd));
  return Reply([entry = *entry, info](fuse_req_t r) {
    FaultyLeg& leg = LegOf(r);
    if (fuse_reply_create(r, &entry, info) == 0) return;
    close(FdOf(info));
    leg.Forget(entry.ino, 1);
  });
}

// Opens `name` in `parent` with `flags` as the caller, and answers.
void Make(fuse_req_t request, Op op, fuse_ino_t parent, const char* name,
          int flags, mode_t mode, fuse_file_info* info) {
  const fuse_ctx* context = fuse_req_ctx(request);
  const Caller caller = {context->uid, context->gid, context->umask};
  Serve(request, op, parent, name,
        [&](FaultyLeg& leg, const Verdict&) -> ErrnoOr<Reply> {
          if (leg.space().Take(Space::kName) < Space::kName) {
            return Errno(ENOSPC);
          }
          UniqueFd fd;
          {
            const ActingAs acting(caller);
            fd = UniqueFd(openat(leg.FdOf(parent), name, flags, mode));
          }
          if (!fd.valid()) {
            const Errno error = Errno::Last();
            leg.space().Give(Space::kName);
            return error;
          }
          return CreateReply(leg, std::move(fd), info);
        });
}

void Create(fuse_req_t request, fuse_ino_t parent, const char* name,
            mode_t mode, fuse_file_info* info) {
  Make(request, Op::kCreate, parent, name,
       PlainFlags(info->flags) | O_CREAT | O_NOFOLLOW, mode, info);
}

#if FUSE_USE_VERSION >= 317
void Tmpfile(fuse_req_t request, fuse_ino_t parent, mode_t mode,
             fuse_file_info* info) {
  Make(request, Op::kTmpfile, parent, ".",
       (PlainFlags(info->flags) & ~(O_CREAT | O_EXCL)) | O_TMPFILE, mode, info);
}
#endif

void Release(fuse_req_t request, fuse_ino_t, fuse_file_info* info) {
  close(FdOf(info));
  fuse_reply_err(request, 0);
}

void Read(fuse_req_t request, fuse_ino_t id, size_t size, off_t offset,
          fuse_file_info* info) {
  Serve(request, Op::kRead, id, nullptr,
        [&](FaultyLeg&, const Verdict& verdict) -> ErrnoOr<Reply> {
          if (verdict.limit >= 0) {
            size = std::min(size, static_cast<size_t>(verdict.limit));
          }
          std::string buffer(size, '\0');
          const ssize_t got = pread(FdOf(info), buffer.data(), size, offset);
          if (got < 0) return Errno::Last();
          buffer.resize(static_cast<size_t>(got));
          return Reply([buffer = std::move(buffer)](fuse_req_t r) {
            fuse_reply_buf(r, buffer.data(), buffer.size());
          });
        });
}

// Of `size` bytes at `offset`, how many there is space for.
int64_t FittingSize(FaultyLeg& leg, int fd, int64_t size, off_t offset) {
  if (leg.space().left() == Space::kUnlimited) return size;
  const ErrnoOr<struct stat> st = StatObject(fd);
  if (!st.ok()) return size;
  const int64_t growth = std::max<int64_t>(
      0, offset + size - std::max<int64_t>(offset, st->st_size));
  return size - (growth - leg.space().Take(growth));
}

void Write(fuse_req_t request, fuse_ino_t id, const char* bytes, size_t size,
           off_t offset, fuse_file_info* info) {
  Serve(request, Op::kWrite, id, nullptr,
        [&](FaultyLeg& leg, const Verdict& verdict) -> ErrnoOr<Reply> {
          const int fd = FdOf(info);
          auto wanted = static_cast<int64_t>(size);
          if (verdict.limit >= 0) wanted = std::min(wanted, verdict.limit);
          const int64_t fitting = FittingSize(leg, fd, wanted, offset);
          if (fitting == 0 && wanted > 0) return Errno(ENOSPC);
          const Unsynced::Lock lock =
              leg.unsynced().Before(fd, static_cast<uint64_t>(offset),
                                    static_cast<uint64_t>(fitting));
          const WithoutSetIdPrivilege without(
              {TakesSetId(request, fd), fuse_req_ctx(request)->gid});
          const ssize_t written =
              pwrite(fd, bytes, static_cast<size_t>(fitting), offset);
          if (written < 0) return Errno::Last();
          return Reply([written](fuse_req_t r) {
            fuse_reply_write(r, static_cast<size_t>(written));
          });
        });
}

void Fsync(fuse_req_t request, fuse_ino_t id, int data_only,
           fuse_file_info* info) {
  Serve(request, Op::kFsync, id, nullptr,
        [&](FaultyLeg& leg, const Verdict& verdict) {
          const int fd = FdOf(info);
          if (verdict.lose) {
            leg.unsynced().Lose(fd, INT32_MAX);
            return Done(verdict.error);
          }
          const Errno error =
              FromSyscall(data_only ? fdatasync(fd) : fsync(fd));
          if (error.ok()) leg.unsynced().Synced(fd);
          return Done(error);
        });
}

void Fallocate(fuse_req_t request, fuse_ino_t id, int mode, off_t offset,
               off_t length, fuse_file_info* info) {
  Serve(request, Op::kFallocate, id, nullptr,
        [&](FaultyLeg& leg, const Verdict&) -> ErrnoOr<Reply> {
          const int fd = FdOf(info);
          const bool allocates = !(mode & FALLOC_FL_PUNCH_HOLE);
          if (allocates && FittingSize(leg, fd, length, offset) < length) {
            return Errno(ENOSPC);
          }
          const Unsynced::Lock lock = leg.unsynced().Before(
              fd, static_cast<uint64_t>(offset), static_cast<uint64_t>(length));
          const WithoutSetIdPrivilege without(
              {TakesSetId(request, fd), fuse_req_ctx(request)->gid});
          return Done(fallocate(fd, mode, offset, length));
        });
}

void Copy(fuse_req_t request, fuse_ino_t, off_t from_offset,
          fuse_file_info* from, fuse_ino_t id, off_t offset, fuse_file_info* to,
          size_t size, int flags) {
  Serve(request, Op::kCopy, id, nullptr,
        [&](FaultyLeg& leg, const Verdict&) -> ErrnoOr<Reply> {
          const int fd = FdOf(to);
          const int64_t fitting =
              FittingSize(leg, fd, static_cast<int64_t>(size), offset);
          if (fitting == 0 && size > 0) return Errno(ENOSPC);
          const Unsynced::Lock lock =
              leg.unsynced().Before(fd, static_cast<uint64_t>(offset), size);
          const WithoutSetIdPrivilege without(
              {TakesSetId(request, fd), fuse_req_ctx(request)->gid});
          const ssize_t copied = copy_file_range(
              FdOf(from), &from_offset, fd, &offset,
              static_cast<size_t>(fitting), static_cast<unsigned>(flags));
          if (copied < 0) return Errno::Last();
          return Reply([copied](fuse_req_t r) {
            fuse_reply_write(r, static_cast<size_t>(copied));
          });
        });
}

void Lseek(fuse_req_t request, fuse_ino_t id, off_t offset, int whence,
           fuse_file_info* info) {
  Serve(request, Op::kLseek, id, nullptr,
        [&](FaultyLeg&, const Verdict&) -> ErrnoOr<Reply> {
          const off_t at = lseek(FdOf(info), offset, whence);
          if (at < 0) return Errno::Last();
          return Reply([at](fuse_req_t r) { fuse_reply_lseek(r, at); });
        });
}

}  // namespace

void FillFiles(fuse_lowlevel_ops& operations) {
  operations.open = Open;
  operations.create = Create;
#if FUSE_USE_VERSION >= 317
  operations.tmpfile = Tmpfile;
#endif
  operations.release = Release;
  operations.read = Read;
  operations.write = Write;
  operations.fsync = Fsync;
  operations.fallocate = Fallocate;
  operations.copy_file_range = Copy;
  operations.lseek = Lseek;
}

}  // namespace mirrorfs::faulty
