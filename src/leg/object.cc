// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/object.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "absl/strings/match.h"

namespace mirrorfs {
namespace {

struct ProcPath {
  explicit ProcPath(int fd) {
    snprintf(text, sizeof(text), "/proc/self/fd/%d", fd);
  }
  char text[32];
};

// Reads a value whose size is not known: call(buffer, size) as getxattr(2).
template <typename Call>
ErrnoOr<std::string> ReadSized(Call call) {
  std::string buffer(256, '\0');
  for (;;) {
    const ssize_t size = call(buffer.data(), buffer.size());
    if (size >= 0) {
      buffer.resize(static_cast<size_t>(size));
      return buffer;
    }
    if (errno != ERANGE) return Errno::Last();
    const ssize_t wanted = call(nullptr, 0);
    if (wanted < 0) return Errno::Last();
    buffer.resize(static_cast<size_t>(wanted) + 256);
  }
}

}  // namespace

ErrnoOr<struct stat> StatObject(int fd) {
  struct stat st;
  if (fstatat(fd, "", &st, AT_EMPTY_PATH) != 0) return Errno::Last();
  return st;
}

ErrnoOr<mode_t> ModeOf(int fd) {
  struct statx st;
  if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_MODE, &st) != 0) {
    return Errno::Last();
  }
  return mode_t{st.stx_mode};
}

Errno Chmod(int fd, mode_t mode) {
  return FromSyscall(chmod(ProcPath(fd).text, mode));
}

Errno Chown(int fd, uid_t uid, gid_t gid) {
  return FromSyscall(fchownat(fd, "", uid, gid, AT_EMPTY_PATH));
}

Errno SetTimes(int fd, const timespec times[2]) {
  return FromSyscall(utimensat(fd, "", times, AT_EMPTY_PATH));
}

Errno SetXattr(int fd, const std::string& name, absl::string_view value,
               int flags) {
  return FromSyscall(setxattr(ProcPath(fd).text, name.c_str(), value.data(),
                              value.size(), flags));
}

ErrnoOr<std::string> GetXattr(int fd, const std::string& name) {
  const ProcPath path(fd);
  return ReadSized([&](char* buffer, size_t size) {
    return getxattr(path.text, name.c_str(), buffer, size);
  });
}

Errno RemoveXattr(int fd, const std::string& name) {
  return FromSyscall(removexattr(ProcPath(fd).text, name.c_str()));
}

ErrnoOr<std::vector<std::string>> ListXattrs(int fd) {
  const ProcPath path(fd);
  const ErrnoOr<std::string> list = ReadSized([&](char* buffer, size_t size) {
    return listxattr(path.text, buffer, size);
  });
  if (!list.ok()) {
    if (list.error() == Errno(EOPNOTSUPP)) return std::vector<std::string>();
    return list.error();
  }
  std::vector<std::string> names;
  for (size_t at = 0; at < list->size();) {
    std::string name(list->c_str() + at);
    at += name.size() + 1;
    if (!absl::StartsWith(name, "trusted.SGI_ACL_")) {
      names.push_back(std::move(name));
    }
  }
  return names;
}

}  // namespace mirrorfs
