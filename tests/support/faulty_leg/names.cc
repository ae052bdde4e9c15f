// SPDX-License-Identifier: GPL-2.0-or-later
//
// Handlers of operations on names and directories.
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <vector>

#include "faulty_leg.h"
#include "leg/caller.h"

namespace mirrorfs::faulty {
namespace {

Caller CallerOf(fuse_req_t request) {
  const fuse_ctx* context = fuse_req_ctx(request);
  return {context->uid, context->gid, context->umask};
}

void Lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
  Serve(request, Op::kLookup, parent, name,
        [&](FaultyLeg& leg, const Verdict&) {
          return EntryReply(leg, parent, name);
        });
}

void Forget(fuse_req_t request, fuse_ino_t id, uint64_t lookups) {
  LegOf(request).Forget(id, lookups);
  fuse_reply_none(request);
}

void ForgetMulti(fuse_req_t request, size_t count, fuse_forget_data* forgets) {
  for (size_t i = 0; i < count; ++i) {
    LegOf(request).Forget(forgets[i].ino, forgets[i].nlookup);
  }
  fuse_reply_none(request);
}

// `make(parent_fd)` makes the object as the caller, and returns as a system
// call does.
template <typename Make>
void MakeObject(fuse_req_t request, Op op, fuse_ino_t parent, const char* name,
                Make make) {
  const Caller caller = CallerOf(request);
  Serve(request, op, parent, name,
        [&](FaultyLeg& leg, const Verdict&) -> ErrnoOr<Reply> {
          if (leg.space().Take(Space::kName) < Space::kName) {
            return Errno(ENOSPC);
          }
          {
            const ActingAs acting(caller);
            const Errno error = FromSyscall(make(leg.FdOf(parent)));
            if (!error.ok()) {
              leg.space().Give(Space::kName);
              return error;
            }
          }
          return EntryReply(leg, parent, name);
        });
}

void Mkdir(fuse_req_t request, fuse_ino_t parent, const char* name,
           mode_t mode) {
  MakeObject(request, Op::kMkdir, parent, name,
             [&](int dir) { return mkdirat(dir, name, mode); });
}

void Mknod(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode,
           dev_t rdev) {
  MakeObject(request, Op::kMknod, parent, name,
             [&](int dir) { return mknodat(dir, name, mode, rdev); });
}

void Symlink(fuse_req_t request, const char* target, fuse_ino_t parent,
             const char* name) {
  MakeObject(request, Op::kSymlink, parent, name,
             [&](int dir) { return symlinkat(target, dir, name); });
}

void Link(fuse_req_t request, fuse_ino_t id, fuse_ino_t parent,
          const char* name) {
  Serve(request, Op::kLink, parent, name,
        [&](FaultyLeg& leg, const Verdict&) -> ErrnoOr<Reply> {
          const Errno error = FromSyscall(
              linkat(leg.FdOf(id), "", leg.FdOf(parent), name, AT_EMPTY_PATH));
          if (!error.ok()) return error;
          return EntryReply(leg, parent, name);
        });
}

// What goes with the last name of the object, in bytes.
int64_t SpaceOf(int dir, const char* name) {
  struct stat st;
  if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0) return 0;
  if (!S_ISREG(st.st_mode)) return Space::kName;
  return st.st_nlink > 1 ? 0 : Space::kName + st.st_size;
}

void Remove(fuse_req_t request, Op op, fuse_ino_t parent, const char* name,
            int flags) {
  Serve(request, op, parent, name, [&](FaultyLeg& leg, const Verdict&) {
    const int dir = leg.FdOf(parent);
    const int64_t freed = SpaceOf(dir, name);
    const Errno error = FromSyscall(unlinkat(dir, name, flags));
    if (error.ok()) leg.space().Give(freed);
    return Done(error);
  });
}

void Unlink(fuse_req_t request, fuse_ino_t parent, const char* name) {
  Remove(request, Op::kUnlink, parent, name, 0);
}

void Rmdir(fuse_req_t request, fuse_ino_t parent, const char* name) {
  Remove(request, Op::kRmdir, parent, name, AT_REMOVEDIR);
}

void Rename(fuse_req_t request, fuse_ino_t parent, const char* name,
            fuse_ino_t new_parent, const char* new_name, unsigned flags) {
  Serve(
      request, Op::kRename, parent, name, [&](FaultyLeg& leg, const Verdict&) {
        const int to = leg.FdOf(new_parent);
        const int64_t freed =
            flags & RENAME_EXCHANGE ? 0 : SpaceOf(to, new_name);
        const Errno error =
            FromSyscall(renameat2(leg.FdOf(parent), name, to, new_name, flags));
        if (error.ok()) leg.space().Give(freed);
        return Done(error);
      });
}

void Readlink(fuse_req_t request, fuse_ino_t id) {
  Serve(request, Op::kReadlink, id, nullptr,
        [&](FaultyLeg& leg, const Verdict&) -> ErrnoOr<Reply> {
          std::string target(PATH_MAX, '\0');
          const ssize_t length =
              readlinkat(leg.FdOf(id), "", target.data(), target.size());
          if (length < 0) return Errno::Last();
          target.resize(static_cast<size_t>(length));
          return Reply([target](fuse_req_t r) {
            fuse_reply_readlink(r, target.c_str());
          });
        });
}

// An open directory: its names as they were when it was read from the start.
struct Directory {
  struct Entry {
    std::string name;
    struct stat st;  // inode number and type
  };
  UniqueFd fd;
  std::vector<Entry> entries;
};

Directory& DirectoryOf(const fuse_file_info* info) {
  return *reinterpret_cast<Directory*>(info->fh);
}

void Opendir(fuse_req_t request, fuse_ino_t id, fuse_file_info* info) {
  Serve(request, Op::kOpendir, id, nullptr,
        [&](FaultyLeg& leg, const Verdict&) -> ErrnoOr<Reply> {
          UniqueFd fd(
              openat(leg.FdOf(id), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
          if (!fd.valid()) return Errno::Last();
          info->fh = reinterpret_cast<uint64_t>(new Directory{std::move(fd)});
          return Reply([info](fuse_req_t r) { fuse_reply_open(r, info); });
        });
}

void Releasedir(fuse_req_t request, fuse_ino_t, fuse_file_info* info) {
  delete &DirectoryOf(info);
  fuse_reply_err(request, 0);
}

Errno ReadNames(Directory& directory) {
  const int copy = openat(directory.fd.get(), ".", O_RDONLY | O_CLOEXEC);
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(copy), &closedir);
  if (!stream) return Errno::Last();
  directory.entries.clear();
  errno = 0;
  while (const dirent* entry = readdir(stream.get())) {
    struct stat st = {};
    st.st_ino = entry->d_ino;
    st.st_mode = static_cast<mode_t>(entry->d_type) << 12;
    directory.entries.push_back({entry->d_name, st});
  }
  return Errno(errno);
}

void Readdir(fuse_req_t request, fuse_ino_t id, size_t size, off_t offset,
             fuse_file_info* info) {
  Serve(request, Op::kReaddir, id, nullptr,
        [&](FaultyLeg&, const Verdict&) -> ErrnoOr<Reply> {
          Directory& directory = DirectoryOf(info);
          if (offset == 0) {
            const Errno error = ReadNames(directory);
            if (!error.ok()) return error;
          }
          std::string buffer(size, '\0');
          size_t used = 0;
          for (auto at = static_cast<size_t>(offset);
               at < directory.entries.size(); ++at) {
            const Directory::Entry& entry = directory.entries[at];
            const size_t needed = fuse_add_direntry(
                request, buffer.data() + used, size - used, entry.name.c_str(),
                &entry.st, static_cast<off_t>(at + 1));
            if (needed > size - used) break;
            used += needed;
          }
          buffer.resize(used);
          return Reply([buffer](fuse_req_t r) {
            fuse_reply_buf(r, buffer.data(), buffer.size());
          });
        });
}

void Fsyncdir(fuse_req_t request, fuse_ino_t id, int, fuse_file_info* info) {
  Serve(request, Op::kFsyncdir, id, nullptr, [&](FaultyLeg&, const Verdict&) {
    return Done(fsync(DirectoryOf(info).fd.get()));
  });
}

}  // namespace

void FillNames(fuse_lowlevel_ops& operations) {
  operations.lookup = Lookup;
  operations.forget = Forget;
  operations.forget_multi = ForgetMulti;
  operations.mkdir = Mkdir;
  operations.mknod = Mknod;
  operations.symlink = Symlink;
  operations.link = Link;
  operations.unlink = Unlink;
  operations.rmdir = Rmdir;
  operations.rename = Rename;
  operations.readlink = Readlink;
  operations.opendir = Opendir;
  operations.releasedir = Releasedir;
  operations.readdir = Readdir;
  operations.fsyncdir = Fsyncdir;
}

}  // namespace mirrorfs::faulty
