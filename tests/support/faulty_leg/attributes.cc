// SPDX-License-Identifier: GPL-2.0-or-later
//
// Handlers of operations on attributes, and statfs.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>

#include "faulty_leg.h"
#include "leg/caller.h"
#include "leg/object.h"

namespace mirrorfs::faulty {
namespace {

ErrnoOr<Reply> AttributesReply(const FaultyLeg& leg, fuse_ino_t id) {
  const ErrnoOr<struct stat> st = leg.StatOf(id);
  if (!st.ok()) return st.error();
  return Reply([st = *st](fuse_req_t r) { fuse_reply_attr(r, &st, 0); });
}

void Getattr(fuse_req_t request, fuse_ino_t id, fuse_file_info*) {
  Serve(
      request, Op::kGetattr, id, nullptr,
      [&](FaultyLeg& leg, const Verdict&) { return AttributesReply(leg, id); });
}

Op OpOf(int to_set) {
  if (to_set & FUSE_SET_ATTR_SIZE) return Op::kTruncate;
  if (to_set & FUSE_SET_ATTR_MODE) return Op::kChmod;
  if (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) return Op::kChown;
  return Op::kUtimens;
}

Errno SetSize(fuse_req_t request, FaultyLeg& leg, int fd, off_t size) {
  const ErrnoOr<struct stat> before = StatObject(fd);
  if (!before.ok()) return before.error();
  const int64_t growth = size - before->st_size;
  // A longer file has a hole at its end, which takes no space.
  if (growth < 0) leg.space().Give(-growth);
  const Unsynced::Lock lock = leg.unsynced().Before(
      fd, static_cast<uint64_t>(size), static_cast<uint64_t>(before->st_size));
  const WithoutSetIdPrivilege without(
      {TakesSetId(request, fd), fuse_req_ctx(request)->gid});
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  return FromSyscall(truncate(path.c_str(), size));
}

Errno ChangeTimes(int fd, const struct stat& wanted, int to_set) {
  timespec times[2] = {wanted.st_atim, wanted.st_mtim};
  if (!(to_set & FUSE_SET_ATTR_ATIME)) times[0].tv_nsec = UTIME_OMIT;
  if (to_set & FUSE_SET_ATTR_ATIME_NOW) times[0].tv_nsec = UTIME_NOW;
  if (!(to_set & FUSE_SET_ATTR_MTIME)) times[1].tv_nsec = UTIME_OMIT;
  if (to_set & FUSE_SET_ATTR_MTIME_NOW) times[1].tv_nsec = UTIME_NOW;
  return SetTimes(fd, times);
}

Errno Change(fuse_req_t request, FaultyLeg& leg, int fd,
             const struct stat& wanted, int to_set) {
  Errno error;
  if (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) {
    error = Chown(fd, to_set & FUSE_SET_ATTR_UID ? wanted.st_uid : uid_t(-1),
                  to_set & FUSE_SET_ATTR_GID ? wanted.st_gid : gid_t(-1));
  }
  if (error.ok() && to_set & FUSE_SET_ATTR_SIZE) {
    error = SetSize(request, leg, fd, wanted.st_size);
  }
  if (error.ok() && to_set & FUSE_SET_ATTR_MODE) {
    error = Chmod(fd, wanted.st_mode & 07777);
  }
  constexpr int kTimes = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW |
                         FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW;
  if (error.ok() && to_set & kTimes) error = ChangeTimes(fd, wanted, to_set);
  return error;
}

void Setattr(fuse_req_t request, fuse_ino_t id, struct stat* wanted, int to_set,
             fuse_file_info*) {
  Serve(request, OpOf(to_set), id, nullptr,
        [&](FaultyLeg& leg, const Verdict&) -> ErrnoOr<Reply> {
          const int fd = leg.FdOf(id);
          const Errno error = Change(request, leg, fd, *wanted, to_set);
          if (!error.ok()) return error;
          return AttributesReply(leg, id);
        });
}

void Statfs(fuse_req_t request, fuse_ino_t id) {
  Serve(request, Op::kStatfs, id, nullptr,
        [&](FaultyLeg& leg, const Verdict&) -> ErrnoOr<Reply> {
          struct statvfs st;
          if (fstatvfs(leg.FdOf(id), &st) != 0) return Errno::Last();
          if (leg.space().left() != Space::kUnlimited) {
            const auto blocks =
                static_cast<uint64_t>(leg.space().left()) / st.f_frsize;
            st.f_bavail = std::min<uint64_t>(st.f_bavail, blocks);
            st.f_bfree = std::min<uint64_t>(st.f_bfree, blocks);
          }
          return Reply([st](fuse_req_t r) { fuse_reply_statfs(r, &st); });
        });
}

void SetOneXattr(fuse_req_t request, fuse_ino_t id, const char* name,
                 const char* value, size_t size, int flags) {
  Serve(request, Op::kSetxattr, id, nullptr,
        [&](FaultyLeg& leg, const Verdict&) {
          return Done(SetXattr(leg.FdOf(id), name, {value, size}, flags));
        });
}

// The kernel asks for the size first, with `room` 0.
ErrnoOr<Reply> SizedReply(std::string bytes, size_t room) {
  if (room == 0) {
    return Reply(
        [size = bytes.size()](fuse_req_t r) { fuse_reply_xattr(r, size); });
  }
  if (bytes.size() > room) return Errno(ERANGE);
  return Reply([bytes = std::move(bytes)](fuse_req_t r) {
    fuse_reply_buf(r, bytes.data(), bytes.size());
  });
}

void GetOneXattr(fuse_req_t request, fuse_ino_t id, const char* name,
                 size_t size) {
  Serve(request, Op::kGetxattr, id, nullptr,
        [&](FaultyLeg& leg, const Verdict&) -> ErrnoOr<Reply> {
          ErrnoOr<std::string> value = GetXattr(leg.FdOf(id), name);
          if (!value.ok()) return value.error();
          return SizedReply(*std::move(value), size);
        });
}

void Listxattr(fuse_req_t request, fuse_ino_t id, size_t size) {
  Serve(request, Op::kListxattr, id, nullptr,
        [&](FaultyLeg& leg, const Verdict&) -> ErrnoOr<Reply> {
          const ErrnoOr<std::vector<std::string>> names =
              ListXattrs(leg.FdOf(id));
          if (!names.ok()) return names.error();
          std::string list;
          for (const std::string& name : *names) list += name + '\0';
          return SizedReply(std::move(list), size);
        });
}

void Removexattr(fuse_req_t request, fuse_ino_t id, const char* name) {
  Serve(request, Op::kRemovexattr, id, nullptr,
        [&](FaultyLeg& leg, const Verdict&) {
          return Done(RemoveXattr(leg.FdOf(id), name));
        });
}

}  // namespace

void FillAttributes(fuse_lowlevel_ops& operations) {
  operations.getattr = Getattr;
  operations.setattr = Setattr;
  operations.statfs = Statfs;
  operations.setxattr = SetOneXattr;
  operations.getxattr = GetOneXattr;
  operations.listxattr = Listxattr;
  operations.removexattr = Removexattr;
}

}  // namespace mirrorfs::faulty
