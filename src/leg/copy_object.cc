// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/copy_object.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "leg/content.h"
#include "leg/object.h"

namespace mirrorfs {
namespace {

constexpr uint64_t kBlockBytes = 64 << 10;

// These know a descriptor by number, or as one of a leg.
template <typename Fd>
Errno CopyXattrs(const Fd& from, const Fd& to) {
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

Errno SetSize(const LegFd& fd, off_t size) {
  return fd.Call([size](int fd) { return SetSize(fd, size); });
}

// `size` bytes of the buffer, from `at` in it on. Where that takes too long the
// buffer is another afterwards: who is late still reads from this one.
Errno WriteFully(const LegFd& fd, CallBuffer& buffer, size_t at, size_t size,
                 uint64_t offset) {
  for (size_t done = 0; done < size;) {
    const ErrnoOr<size_t> written = WriteContent(
        fd, absl::string_view(buffer.data() + at + done, size - done),
        offset + done, ContentWriter(), buffer.shared());
    if (written.error() == Errno(ETIMEDOUT)) buffer.Renew();
    if (!written.ok()) return written.error();
    if (*written == 0) return Errno(ENOSPC);
    done += *written;
  }
  return kOk;
}

bool IsZero(const char* data, size_t size) {
  return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

// Writes the blocks of `wanted` that are not in `present`.
Errno WriteDifferences(const LegFd& to, uint64_t offset, CallBuffer& wanted,
                       size_t size, const CallBuffer& present,
                       size_t present_size, CopyCount* count) {
  for (size_t at = 0; at < size; at += kBlockBytes) {
    const size_t block = std::min<size_t>(kBlockBytes, size - at);
    if (at + block <= present_size &&
        memcmp(wanted.data() + at, present.data() + at, block) == 0) {
      continue;
    }
    const Errno error = WriteFully(to, wanted, at, block, offset + at);
    if (!error.ok()) return error;
    count->copied_bytes += block;
  }
  return kOk;
}

Errno CopyData(const LegFd& from, const LegFd& to, uint64_t begin, uint64_t end,
               CallBuffer buffers[2], CopyCount* count) {
  for (uint64_t at = begin; at < end;) {
    const size_t size = std::min(kCopyBufferBytes, end - at);
    const ErrnoOr<size_t> wanted = ReadContent(from, buffers[0], size, at);
    if (!wanted.ok()) return wanted.error();
    const ErrnoOr<size_t> present = ReadContent(to, buffers[1], size, at);
    if (!present.ok()) return present.error();
    count->compared_bytes += *wanted;
    const Errno error = WriteDifferences(to, at, buffers[0], *wanted,
                                         buffers[1], *present, count);
    if (!error.ok()) return error;
    if (*wanted < size) break;  // the end of the source
    at += size;
  }
  return kOk;
}

// A hole of the source: nothing but zeros, and no blocks where the target's
// file system can give them back.
Errno MakeHole(const LegFd& to, uint64_t begin, uint64_t end,
               CallBuffer buffers[2], CopyCount* count) {
  const ErrnoOr<struct stat> st = StatObject(to);
  if (!st.ok()) return st.error();
  end = std::min<uint64_t>(end, st->st_size);
  if (begin >= end) return kOk;
  const ErrnoOr<off_t> data =
      SeekContent(to, static_cast<off_t>(begin), SEEK_DATA);
  if (!data.ok() || static_cast<uint64_t>(*data) >= end) return kOk;
  const Errno punched = AllocateContent(
      to, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, begin, end - begin);
  if (punched.ok() || punched == Errno(ETIMEDOUT)) return punched;
  for (uint64_t at = begin; at < end;) {
    const size_t size = std::min(kCopyBufferBytes, end - at);
    const ErrnoOr<size_t> got = ReadContent(to, buffers[1], size, at);
    if (!got.ok()) return got.error();
    if (!IsZero(buffers[1].data(), *got)) {
      std::fill_n(buffers[1].data(), *got, '\0');
      const Errno error = WriteFully(to, buffers[1], 0, *got, at);
      if (!error.ok()) return error;
      count->copied_bytes += *got;
    }
    at += size;
  }
  return kOk;
}

template <typename Fd>
Errno CopyAllAttributes(const Fd& from, const Fd& to) {
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

Errno CopyRange(const LegFd& from, const LegFd& to, uint64_t begin,
                uint64_t end, CallBuffer buffers[2], CopyCount* count) {
  const ErrnoOr<struct stat> st = StatObject(from);
  if (!st.ok()) return st.error();
  end = std::min<uint64_t>(end, st->st_size);
  while (begin < end) {
    const ErrnoOr<off_t> found =
        SeekContent(from, static_cast<off_t>(begin), SEEK_DATA);
    if (!found.ok() && found.error() != Errno(ENXIO)) {
      return CopyData(from, to, begin, end, buffers, count);
    }
    const uint64_t data = found.ok() ? std::min<uint64_t>(end, *found) : end;
    Errno error = MakeHole(to, begin, data, buffers, count);
    if (!error.ok() || data == end) return error;
    const ErrnoOr<off_t> hole =
        SeekContent(from, static_cast<off_t>(data), SEEK_HOLE);
    const uint64_t data_end = hole.ok() ? std::min<uint64_t>(end, *hole) : end;
    error = CopyData(from, to, data, data_end, buffers, count);
    if (!error.ok()) return error;
    begin = data_end;
  }
  return kOk;
}

}  // namespace

Errno CopyAttributes(int from, int to) { return CopyAllAttributes(from, to); }

Errno CopyAttributes(const LegFd& from, const LegFd& to) {
  return CopyAllAttributes(from, to);
}

Errno CopyContent(const LegFd& from, const LegFd& to, uint64_t begin,
                  uint64_t end, CallBuffer buffers[2], CopyCount* count) {
  const Errno error = CopyRange(from, to, begin, end, buffers, count);
  // A write that was left behind may still take from them.
  if (error == Errno(ETIMEDOUT)) {
    for (int i : {0, 1}) buffers[i].Renew();
  }
  return error;
}

}  // namespace mirrorfs
