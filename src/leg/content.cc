// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/content.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

namespace mirrorfs {
namespace {

constexpr size_t kCopyPieceBytes = size_t{64} << 20;

ErrnoOr<size_t> ReadAt(int fd, char* buffer, size_t size, uint64_t offset) {
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

ErrnoOr<size_t> WriteAt(int fd, absl::string_view data, uint64_t offset) {
  size_t written = 0;
  while (written < data.size()) {
    const ssize_t now = pwrite(fd, data.data() + written, data.size() - written,
                               static_cast<off_t>(offset + written));
    if (now < 0 && errno == EINTR) continue;
    if (now < 0 && written == 0) return Errno::Last();
    if (now <= 0) break;
    written += static_cast<size_t>(now);
  }
  return written;
}

ErrnoOr<size_t> CopyAt(int from, uint64_t from_offset, int to,
                       uint64_t to_offset, size_t length) {
  auto in = static_cast<off_t>(from_offset);
  auto out = static_cast<off_t>(to_offset);
  size_t copied = 0;
  while (copied < length) {
    const ssize_t now =
        copy_file_range(from, &in, to, &out, length - copied, 0);
    if (now < 0 && errno == EINTR) continue;
    if (now < 0 && copied == 0) return Errno::Last();
    if (now <= 0) break;
    copied += static_cast<size_t>(now);
  }
  return copied;
}

ErrnoOr<size_t> CopyPiece(const LegFd& from, uint64_t from_offset,
                          const LegFd& to, uint64_t to_offset, size_t length,
                          ContentWriter writer) {
  return to.CallWith(
      from, [from_offset, to_offset, length, writer](int to_fd, int from_fd) {
        const WithoutSetIdPrivilege without(writer);
        return CopyAt(from_fd, from_offset, to_fd, to_offset, length);
      });
}

}  // namespace

ErrnoOr<size_t> ReadContent(const LegFd& file, CallBuffer& buffer, size_t size,
                            uint64_t offset) {
  const ErrnoOr<size_t> got =
      file.Call([memory = buffer.shared(), size, offset](int fd) {
        return ReadAt(fd, memory.get(), size, offset);
      });
  if (got.error() == Errno(ETIMEDOUT)) buffer.Renew();
  return got;
}

ErrnoOr<size_t> WriteContent(const LegFd& file, absl::string_view data,
                             uint64_t offset, ContentWriter writer,
                             std::shared_ptr<const void> keeper) {
  return file.Call([data, offset, writer, keeper = std::move(keeper)](int fd) {
    const WithoutSetIdPrivilege without(writer);
    return WriteAt(fd, data, offset);
  });
}

Errno TruncateContent(const LegFd& file, uint64_t size, ContentWriter writer) {
  return file.Call([size, writer](int fd) {
    const WithoutSetIdPrivilege without(writer);
    return FromSyscall(ftruncate(fd, static_cast<off_t>(size)));
  });
}

Errno AllocateContent(const LegFd& file, int mode, uint64_t offset,
                      uint64_t length, ContentWriter writer) {
  return file.Call([mode, offset, length, writer](int fd) {
    const WithoutSetIdPrivilege without(writer);
    Errno error;
    do {
      error = FromSyscall(fallocate(fd, mode, static_cast<off_t>(offset),
                                    static_cast<off_t>(length)));
    } while (error == Errno(EINTR));
    return error;
  });
}

ErrnoOr<size_t> CopyWithin(const LegFd& from, uint64_t from_offset,
                           const LegFd& to, uint64_t to_offset, size_t length,
                           ContentWriter writer) {
  // In pieces that a leg which works has done in time.
  size_t copied = 0;
  while (copied < length) {
    const size_t piece = std::min(kCopyPieceBytes, length - copied);
    const ErrnoOr<size_t> now = CopyPiece(from, from_offset + copied, to,
                                          to_offset + copied, piece, writer);
    const bool nothing = copied == 0 || now.error() == Errno(ETIMEDOUT);
    if (!now.ok() && nothing) return now;
    if (now.ok()) copied += *now;
    if (!now.ok() || *now < piece) break;
  }
  return copied;
}

ErrnoOr<off_t> SeekContent(const LegFd& file, off_t offset, int whence) {
  return file.Call([offset, whence](int fd) -> ErrnoOr<off_t> {
    const off_t at = lseek(fd, offset, whence);
    if (at == -1) return Errno::Last();
    // btrfs says 2^63 of the end of a file that is one byte shorter.
    return at < 0 ? std::numeric_limits<off_t>::max() : at;
  });
}

Errno SyncData(const LegFd& file) {
  return file.Call([](int fd) { return FromSyscall(fdatasync(fd)); });
}

void StartWriteback(const LegFd& file, uint64_t offset, uint64_t length) {
  (void)file.Call([offset, length](int fd) {
    return FromSyscall(sync_file_range(fd, static_cast<off_t>(offset),
                                       static_cast<off_t>(length),
                                       SYNC_FILE_RANGE_WRITE));
  });
}

void DropCache(const LegFd& file, uint64_t offset, size_t length) {
  (void)file.Call([offset, length](int fd) {
    return Errno(posix_fadvise(fd, static_cast<off_t>(offset),
                               static_cast<off_t>(length),
                               POSIX_FADV_DONTNEED));
  });
}

}  // namespace mirrorfs
