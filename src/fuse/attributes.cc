// SPDX-License-Identifier: GPL-2.0-or-later
//
// Handlers of operations on attributes.
#include <fcntl.h>
#include <sys/stat.h>

#include "absl/strings/match.h"
#include "fuse/request.h"

namespace mirrorfs {
namespace {

void AnswerAttributes(fuse_req_t request, NodeId id, const ObjectRef& object) {
  FileSystem& fs = FsOf(request);
  const ErrnoOr<struct stat> st =
      AskAbout(fs, object, [&] { return fs.mirror().Stat(object); });
  if (!st.ok()) return Answer(request, ErrorAbout(object, st.error()));
  const struct stat shown = fs.Show(*st, id);
  fuse_reply_attr(request, &shown, fs.AttrTimeout(shown));
}

void Getattr(fuse_req_t request, fuse_ino_t id, fuse_file_info* info) {
  FileSystem& fs = FsOf(request);
  HeldObject object(fs, id);
  if (!object.ok()) return Answer(request, object.error());
  AnswerAttributes(request, id, *object);
}

timespec TimeOf(const timespec& time, int valid, int set, int set_now) {
  if (valid & set_now) return {0, UTIME_NOW};
  if (valid & set) return time;
  return {0, UTIME_OMIT};
}

constexpr int kTimes = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW |
                       FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW;

// With HANDLE_KILLPRIV_V2 the kernel asks for nothing at all in two cases:
// somebody without CAP_FSETID is about to change the content of a file with
// set-id bits, or chown(2) was called for neither owner nor group. Both take
// the bits. But the second is not for strangers to do, and they look the same;
// so a stranger's write takes them itself.
bool AsksToTakeSetId(fuse_req_t request, const ObjectRef& object, int valid) {
  constexpr int kChanges = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID |
                           FUSE_SET_ATTR_GID | FUSE_SET_ATTR_SIZE | kTimes;
  FileSystem& fs = FsOf(request);
  if (valid & kChanges || !fs.takes_set_id()) return false;
  const ErrnoOr<struct stat> st = fs.mirror().Stat(object);
  const uid_t caller = fuse_req_ctx(request)->uid;
  return st.ok() && HasSetId(st->st_mode) &&
         (caller == 0 || caller == st->st_uid);
}

// As the leg does it for chown(2): the set-group-ID bit of a file that its
// group may not execute stays.
Errno TakeSetId(Mirror& mirror, const ObjectRef& object) {
  const ErrnoOr<struct stat> st = mirror.Stat(object);
  if (!st.ok() || !HasSetId(st->st_mode)) return kOk;
  return mirror.Chown(object, uid_t(-1), gid_t(-1));
}

Errno SetAttributes(Mirror& mirror, const ObjectRef& object,
                    const struct stat& wanted, int valid) {
  Errno error;
  if (valid & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) {
    error = mirror.Chown(object,
                         valid & FUSE_SET_ATTR_UID ? wanted.st_uid : uid_t(-1),
                         valid & FUSE_SET_ATTR_GID ? wanted.st_gid : gid_t(-1));
  }
  if (error.ok() && valid & FUSE_SET_ATTR_SIZE) {
    error = mirror.Truncate(object, wanted.st_size);
    if (error.ok() && valid & FUSE_SET_ATTR_KILL_SUID) {
      error = TakeSetId(mirror, object);
    }
  }
  // After those two, because both take set-id bits away.
  if (error.ok() && valid & FUSE_SET_ATTR_MODE) {
    error = mirror.Chmod(object, wanted.st_mode & 07777);
  }
  if (error.ok() && valid & kTimes) {
    error = mirror.SetTimes(object,
                            TimeOf(wanted.st_atim, valid, FUSE_SET_ATTR_ATIME,
                                   FUSE_SET_ATTR_ATIME_NOW),
                            TimeOf(wanted.st_mtim, valid, FUSE_SET_ATTR_MTIME,
                                   FUSE_SET_ATTR_MTIME_NOW));
  }
  return error;
}

void Setattr(fuse_req_t request, fuse_ino_t id, struct stat* wanted, int valid,
             fuse_file_info* info) {
  FileSystem& fs = FsOf(request);
  SharedNames names = HoldNames(fs);
  if (info == nullptr && CameByOldName(fs, names, id)) {
    return Answer(request, Errno(ESTALE));
  }
  HeldObject object(fs, std::move(names), id);
  if (!object.ok()) return Answer(request, object.error());
  const Errno error = AskAbout(fs, *object, [&] {
    return AsksToTakeSetId(request, *object, valid)
               ? fs.mirror().Chown(*object, uid_t(-1), gid_t(-1))
               : SetAttributes(fs.mirror(), *object, *wanted, valid);
  });
  if (!error.ok()) return Answer(request, ErrorAbout(*object, error));
  AnswerAttributes(request, id, *object);
}

void Statfs(fuse_req_t request, fuse_ino_t id) {
  const ErrnoOr<struct statvfs> st = FsOf(request).mirror().Statvfs();
  if (!st.ok()) return Answer(request, st.error());
  fuse_reply_statfs(request, &*st);
}

// The two-step answer of getxattr and listxattr: the size when `size` is 0.
void AnswerSized(fuse_req_t request, const std::string& value, size_t size) {
  if (size == 0) {
    fuse_reply_xattr(request, value.size());
  } else if (value.size() > size) {
    Answer(request, Errno(ERANGE));
  } else {
    fuse_reply_buf(request, value.data(), value.size());
  }
}

void Getxattr(fuse_req_t request, fuse_ino_t id, const char* name,
              size_t size) {
  FileSystem& fs = FsOf(request);
  HeldObject object(fs, id);
  if (!object.ok()) return Answer(request, object.error());
  const ErrnoOr<std::string> value = AskAbout(
      fs, *object, [&] { return fs.mirror().GetXattr(*object, name); });
  if (!value.ok()) return Answer(request, ErrorAbout(*object, value.error()));
  AnswerSized(request, *value, size);
}

void Listxattr(fuse_req_t request, fuse_ino_t id, size_t size) {
  FileSystem& fs = FsOf(request);
  HeldObject object(fs, id);
  if (!object.ok()) return Answer(request, object.error());
  const ErrnoOr<std::vector<std::string>> list =
      AskAbout(fs, *object, [&] { return fs.mirror().ListXattr(*object); });
  if (!list.ok()) return Answer(request, ErrorAbout(*object, list.error()));
  std::string text;
  // Others do not see these on a local file system; the daemon always does.
  const bool sees_trusted = fuse_req_ctx(request)->uid == 0;
  for (const std::string& name : *list) {
    if (!sees_trusted && absl::StartsWith(name, "trusted.")) continue;
    text += name;
    text += '\0';
  }
  AnswerSized(request, text, size);
}

// `change(mirror, object)` changes an extended attribute.
template <typename Change>
void ChangeXattr(fuse_req_t request, NodeId id, Change change) {
  FileSystem& fs = FsOf(request);
  HeldObject object(fs, id);
  if (!object.ok()) return Answer(request, object.error());
  const Errno error =
      AskAbout(fs, *object, [&] { return change(fs.mirror(), *object); });
  Answer(request, ErrorAbout(*object, error));
}

void Setxattr(fuse_req_t request, fuse_ino_t id, const char* name,
              const char* value, size_t size, int flags) {
  ChangeXattr(request, id, [&](Mirror& mirror, const ObjectRef& object) {
    return mirror.SetXattr(object, name, absl::string_view(value, size), flags);
  });
}

void Removexattr(fuse_req_t request, fuse_ino_t id, const char* name) {
  ChangeXattr(request, id, [&](Mirror& mirror, const ObjectRef& object) {
    return mirror.RemoveXattr(object, name);
  });
}

}  // namespace

void FillAttributeOperations(fuse_lowlevel_ops& operations) {
  operations.getattr = Getattr;
  operations.setattr = Setattr;
  operations.statfs = Statfs;
  operations.getxattr = Getxattr;
  operations.listxattr = Listxattr;
  operations.setxattr = Setxattr;
  operations.removexattr = Removexattr;
}

}  // namespace mirrorfs
