// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/copy_object.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "leg/object.h"

namespace mirrorfs {
namespace {

constexpr uint64_t kPieceBytes = 1 << 20;
constexpr uint64_t kBlockBytes = 64 << 10;

Errno CopyXattrs(int from, int to) {
  const ErrnoOr<std::vector<std::string>> wanted = ListXattrs(from);
  if (!wanted.ok()) return wanted.error();
  const ErrnoOr<std::vector<std::string>> present = ListXattrs(to);
  if (!present.ok()) return present.error();
  const absl::flat_hash_set<std::string> keep(wanted->begin(), wanted->end());
  for (const std::string& name : *present) {
    if (keep.contains(name)) continue;
    const Errno error = RemoveXattr(to, name);
    if (!error.ok() && error != Errno(ENODATA)) return error;
  }
  for (const std::string& name : *wanted) {
    const ErrnoOr<std::string> value = GetXattr(from, name);
    if (!value.ok()) {
      if (value.error() == Errno(ENODATA)) continue;
      return value.error();
    }
    const ErrnoOr<std::string> old = GetXattr(to, name);
    if (old.ok() && *old == *value) continue;
    if (const Errno error = SetXattr(to, name, *value, 0); !error.ok()) {
      return error;
    }
  }
  return kOk;
}

// O_PATH descriptors cannot be truncated; /proc leads to the file itself.
Errno SetSize(int fd, off_t size) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  return FromSyscall(truncate(path.c_str(), size));
}

ErrnoOr<size_t> ReadUpTo(int fd, char* buffer, size_t size, uint64_t offset) {
  size_t got = 0;
  while (got < size) {
    const ssize_t now =
        pread(fd, buffer + got, size - got, static_cast<off_t>(offset + got));
    if (now < 0 && errno == EINTR) continue;
    if (now < 0) return Errno::Last();
    if (now == 0) break;
    got += static_cast<size_t>(now);
  }
  return got;
}

Errno WriteFully(int fd, const char* data, size_t size, uint64_t offset) {
  for (size_t done = 0; done < size;) {
    const ssize_t now =
        pwrite(fd, data + done, size - done, static_cast<off_t>(offset + done));
    if (now < 0 && errno == EINTR) continue;
    if (now < 0) return Errno::Last();
    done += static_cast<size_t>(now);
  }
  return kOk;
}

bool IsZero(const char* data, size_t size) {
  return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

// Writes the blocks of `wanted` that are not in `present`.
Errno WriteDifferences(int to, uint64_t offset, const char* wanted, size_t size,
                       const char* present, size_t present_size,
                       CopyCount* count) {
  for (size_t at = 0; at < size; at += kBlockBytes) {
    const size_t block = std::min<size_t>(kBlockBytes, size - at);
    if (at + block <= present_size &&
        memcmp(wanted + at, present + at, block) == 0) {
      continue;
    }
    const Errno error = WriteFully(to, wanted + at, block, offset + at);
    if (!error.ok()) return error;
    count->copied_bytes += block;
  }
  return kOk;
}

Errno CopyData(int from, int to, uint64_t begin, uint64_t end,
               std::string buffers[2], CopyCount* count) {
  for (uint64_t at = begin; at < end;) {
    const size_t size = std::min(kPieceBytes, end - at);
    for (int i : {0, 1}) {
      if (buffers[i].size() < size) buffers[i].resize(size);
    }
    const ErrnoOr<size_t> wanted = ReadUpTo(from, buffers[0].data(), size, at);
    if (!wanted.ok()) return wanted.error();
    const ErrnoOr<size_t> present = ReadUpTo(to, buffers[1].data(), size, at);
    if (!present.ok()) return present.error();
    count->compared_bytes += *wanted;
    const Errno error = WriteDifferences(to, at, buffers[0].data(), *wanted,
                                         buffers[1].data(), *present, count);
    if (!error.ok()) return error;
    if (*wanted < size) break;  // the end of the source
    at += size;
  }
  return kOk;
}

// A hole of the source: nothing but zeros, and no blocks where the target's
// file system can give them back.
Errno MakeHole(int to, uint64_t begin, uint64_t end, std::string buffers[2],
               CopyCount* count) {
  struct stat st;
  if (fstat(to, &st) != 0) return Errno::Last();
  end = std::min<uint64_t>(end, st.st_size);
  if (begin >= end) return kOk;
  const off_t data = lseek(to, static_cast<off_t>(begin), SEEK_DATA);
  if (data < 0 || static_cast<uint64_t>(data) >= end) return kOk;
  if (fallocate(to, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                static_cast<off_t>(begin),
                static_cast<off_t>(end - begin)) == 0) {
    return kOk;
  }
  for (uint64_t at = begin; at < end;) {
    const size_t size = std::min(kPieceBytes, end - at);
    if (buffers[1].size() < size) buffers[1].resize(size);
    const ErrnoOr<size_t> got = ReadUpTo(to, buffers[1].data(), size, at);
    if (!got.ok()) return got.error();
    if (!IsZero(buffers[1].data(), *got)) {
      std::fill_n(buffers[1].begin(), *got, '\0');
      const Errno error = WriteFully(to, buffers[1].data(), *got, at);
      if (!error.ok()) return error;
      count->copied_bytes += *got;
    }
    at += size;
  }
  return kOk;
}

}  // namespace

Errno CopyAttributes(int from, int to) {
  const ErrnoOr<struct stat> truth = StatObject(from);
  if (!truth.ok()) return truth.error();
  ErrnoOr<struct stat> copy = StatObject(to);
  if (!copy.ok()) return copy.error();
  if (copy->st_uid != truth->st_uid || copy->st_gid != truth->st_gid) {
    const Errno error = Chown(to, truth->st_uid, truth->st_gid);
    if (!error.ok()) return error;
  }
  if (const Errno error = CopyXattrs(from, to); !error.ok()) return error;
  if (S_ISREG(truth->st_mode) && copy->st_size != truth->st_size) {
    if (const Errno error = SetSize(to, truth->st_size); !error.ok()) {
      return error;
    }
  }
  // After what may have changed it: chown drops bits, an ACL sets them.
  copy = StatObject(to);
  if (!copy.ok()) return copy.error();
  if (!S_ISLNK(truth->st_mode) && copy->st_mode != truth->st_mode) {
    const Errno error = Chmod(to, truth->st_mode & 07777);
    if (!error.ok()) return error;
  }
  if (SameTime(copy->st_mtim, truth->st_mtim)) return kOk;
  const timespec times[2] = {truth->st_atim, truth->st_mtim};
  return SetTimes(to, times);
}

Errno CopyContent(int from, int to, uint64_t begin, uint64_t end,
                  std::string buffers[2], CopyCount* count) {
  struct stat st;
  if (fstat(from, &st) != 0) return Errno::Last();
  end = std::min<uint64_t>(end, st.st_size);
  while (begin < end) {
    const off_t found = lseek(from, static_cast<off_t>(begin), SEEK_DATA);
    if (found < 0 && errno != ENXIO) {
      return CopyData(from, to, begin, end, buffers, count);
    }
    const uint64_t data = found < 0 ? end : std::min<uint64_t>(end, found);
    Errno error = MakeHole(to, begin, data, buffers, count);
    if (!error.ok() || data == end) return error;
    const off_t hole = lseek(from, static_cast<off_t>(data), SEEK_HOLE);
    const uint64_t data_end = hole < 0 ? end : std::min<uint64_t>(end, hole);
    error = CopyData(from, to, data, data_end, buffers, count);
    if (!error.ok()) return error;
    begin = data_end;
  }
  return kOk;
}

}  // namespace mirrorfs
