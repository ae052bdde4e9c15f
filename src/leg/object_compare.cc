// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/object_compare.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <map>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "leg/object.h"

namespace mirrorfs {
namespace {

constexpr off_t kChunkBytes = 256 * 1024;

using Xattrs = std::map<std::string, std::string>;

int OpenAt2(int dir_fd, const std::string& name, int flags) {
  open_how how = {};
  how.flags = static_cast<uint64_t>(flags);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
                RESOLVE_NO_XDEV;
  for (;;) {
    const long fd =
        syscall(SYS_openat2, dir_fd, name.c_str(), &how, sizeof(how));
    // EAGAIN: a rename elsewhere kept the kernel from being sure.
    if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) {
      return static_cast<int>(fd);
    }
  }
}

bool IsMirrored(absl::string_view xattr) {
  return absl::StartsWith(xattr, "user.") ||
         absl::StartsWith(xattr, "trusted.") ||
         absl::StartsWith(xattr, "security.") ||
         absl::StartsWith(xattr, "system.posix_acl_");
}

ErrnoOr<Xattrs> ReadXattrs(const NamedObject& object) {
  const UniqueFd fd(
      OpenAt2(object.dir_fd, object.name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return Errno::Last();
  const ErrnoOr<std::vector<std::string>> names = ListXattrs(fd.get());
  if (!names.ok()) return names.error();
  Xattrs xattrs;
  for (const std::string& name : *names) {
    if (!IsMirrored(name)) continue;
    ErrnoOr<std::string> value = GetXattr(fd.get(), name);
    if (!value.ok()) return value.error();
    xattrs.emplace(name, std::move(*value));
  }
  return xattrs;
}

// Both objects and where findings go, so that comparing one more thing is one
// line.
class Comparison {
 public:
  Comparison(const NamedObject& a, const NamedObject& b,
             const ReportFinding& report)
      : a_(a), b_(b), report_(report) {}

  uint64_t Run() {
    if ((a_.st.st_mode & S_IFMT) != (b_.st.st_mode & S_IFMT)) {
      Differ("type", FileTypeName(a_.st.st_mode), FileTypeName(b_.st.st_mode));
      return 0;
    }
    CompareStat();
    CompareXattrs();
    if (S_ISLNK(a_.st.st_mode)) CompareTarget();
    if (!S_ISREG(a_.st.st_mode)) return 0;
    if (a_.st.st_size != b_.st.st_size) {
      Differ("size", absl::StrCat(a_.st.st_size), absl::StrCat(b_.st.st_size));
      return 0;
    }
    return CompareContent();
  }

 private:
  void Differ(absl::string_view what, absl::string_view a,
              absl::string_view b) {
    report_(what, absl::StrCat(a_.leg, ": ", a, ", ", b_.leg, ": ", b));
  }

  void CompareStat() {
    const mode_t mode_a = a_.st.st_mode & 07777;
    const mode_t mode_b = b_.st.st_mode & 07777;
    if (mode_a != mode_b) {
      Differ("mode", absl::StrFormat("%04o", mode_a),
             absl::StrFormat("%04o", mode_b));
    }
    if (a_.st.st_uid != b_.st.st_uid) {
      Differ("uid", absl::StrCat(a_.st.st_uid), absl::StrCat(b_.st.st_uid));
    }
    if (a_.st.st_gid != b_.st.st_gid) {
      Differ("gid", absl::StrCat(a_.st.st_gid), absl::StrCat(b_.st.st_gid));
    }
    const absl::Time mtime_a = absl::TimeFromTimespec(a_.st.st_mtim);
    const absl::Time mtime_b = absl::TimeFromTimespec(b_.st.st_mtim);
    if (mtime_a != mtime_b) Differ("mtime", Text(mtime_a), Text(mtime_b));
    const bool is_device = S_ISBLK(a_.st.st_mode) || S_ISCHR(a_.st.st_mode);
    if (is_device && a_.st.st_rdev != b_.st.st_rdev) {
      Differ("rdev", DeviceText(a_.st.st_rdev), DeviceText(b_.st.st_rdev));
    }
  }

  static std::string Text(absl::Time time) {
    return absl::FormatTime(absl::RFC3339_full, time, absl::UTCTimeZone());
  }

  static std::string DeviceText(dev_t device) {
    return absl::StrCat(major(device), ":", minor(device));
  }

  void CompareXattrs() {
    const ErrnoOr<Xattrs> a = ReadXattrs(a_);
    const ErrnoOr<Xattrs> b = ReadXattrs(b_);
    if (!a.ok()) ReportUnreadable(a_.leg, "xattrs", a.error(), report_);
    if (!b.ok()) ReportUnreadable(b_.leg, "xattrs", b.error(), report_);
    if (!a.ok() || !b.ok()) return;
    for (const auto& [name, value] : *a) {
      const auto other = b->find(name);
      if (other == b->end()) {
        OnlyOn(a_.leg, name);
      } else if (other->second != value) {
        report_("xattr", absl::StrCat(name, " has another value on ", b_.leg));
      }
    }
    for (const auto& [name, value] : *b) {
      if (a->find(name) == a->end()) OnlyOn(b_.leg, name);
    }
  }

  void OnlyOn(absl::string_view leg, absl::string_view xattr) {
    report_("xattr", absl::StrCat(xattr, " only on ", leg));
  }

  static ErrnoOr<std::string> Target(const NamedObject& object) {
    std::string target(PATH_MAX, '\0');
    const ssize_t size = readlinkat(object.dir_fd, object.name.c_str(),
                                    target.data(), target.size());
    if (size < 0) return Errno::Last();
    target.resize(size);
    return target;
  }

  void CompareTarget() {
    const ErrnoOr<std::string> a = Target(a_);
    const ErrnoOr<std::string> b = Target(b_);
    if (!a.ok()) ReportUnreadable(a_.leg, "readlink", a.error(), report_);
    if (!b.ok()) ReportUnreadable(b_.leg, "readlink", b.error(), report_);
    if (a.ok() && b.ok() && *a != *b) Differ("target", *a, *b);
  }

  UniqueFd OpenContent(const NamedObject& object) {
    // O_NONBLOCK: what was a file a moment ago may be a fifo now.
    ErrnoOr<UniqueFd> fd =
        OpenQuietly(object.dir_fd, object.name, O_NONBLOCK | O_NOCTTY);
    if (fd.ok()) return std::move(*fd);
    ReportUnreadable(object.leg, "open", fd.error(), report_);
    return UniqueFd();
  }

  // Start of the next data at or after `offset`, or `size` when only a hole is
  // left; `offset` itself when the file system does not say.
  static off_t NextData(int fd, off_t offset, off_t size) {
    const off_t data = lseek(fd, offset, SEEK_DATA);
    if (data >= 0) return data;
    return errno == ENXIO ? size : offset;
  }

  static bool MayHaveHoles(const struct stat& st) {
    return st.st_blocks * off_t{512} < st.st_size;
  }

  // Fills `buffer` from `offset` unless the file ends.
  static ErrnoOr<size_t> ReadAt(int fd, off_t offset, std::string* buffer) {
    size_t done = 0;
    while (done < buffer->size()) {
      const ssize_t got = pread(fd, buffer->data() + done,
                                buffer->size() - done, offset + done);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return Errno::Last();
      if (got == 0) break;
      done += got;
    }
    return done;
  }

  uint64_t CompareContent() {
    if (a_.st.st_size == 0) return 0;
    const UniqueFd a = OpenContent(a_);
    const UniqueFd b = OpenContent(b_);
    if (!a.valid() || !b.valid()) return 0;
    // A hole on both is equal without reading it.
    const bool sparse = MayHaveHoles(a_.st) && MayHaveHoles(b_.st);
    const off_t size = a_.st.st_size;
    uint64_t compared = 0;
    for (off_t offset = 0; offset < size;) {
      if (sparse) {
        offset = std::min(NextData(a.get(), offset, size),
                          NextData(b.get(), offset, size));
        if (offset >= size) break;
      }
      // No further than the file: reads that end beyond 2^63 are refused.
      const off_t bytes = std::min(kChunkBytes, size - offset);
      if (!CompareChunk(a.get(), b.get(), offset, bytes)) break;
      offset += bytes;
      compared += bytes;
    }
    return compared;
  }

  // False when there is no sense in going on.
  bool CompareChunk(int fd_a, int fd_b, off_t offset, size_t bytes) {
    buffer_a_.resize(bytes);
    buffer_b_.resize(bytes);
    const ErrnoOr<size_t> got_a = ReadAt(fd_a, offset, &buffer_a_);
    const ErrnoOr<size_t> got_b = ReadAt(fd_b, offset, &buffer_b_);
    const std::string action = absl::StrCat("read at byte ", offset);
    if (!got_a.ok()) ReportUnreadable(a_.leg, action, got_a.error(), report_);
    if (!got_b.ok()) ReportUnreadable(b_.leg, action, got_b.error(), report_);
    if (!got_a.ok() || !got_b.ok()) return false;
    const size_t both = std::min(*got_a, *got_b);
    const auto end = buffer_a_.begin() + both;
    const auto differs =
        std::mismatch(buffer_a_.begin(), end, buffer_b_.begin()).first;
    if (differs == end && *got_a == *got_b) return true;
    report_("content",
            absl::StrCat(a_.leg, " and ", b_.leg, " differ from byte ",
                         offset + (differs - buffer_a_.begin()), " on"));
    return false;
  }

  const NamedObject& a_;
  const NamedObject& b_;
  const ReportFinding& report_;
  std::string buffer_a_;
  std::string buffer_b_;
};

}  // namespace

uint64_t CompareObjects(const NamedObject& a, const NamedObject& b,
                        const ReportFinding& report) {
  return Comparison(a, b, report).Run();
}

const char* FileTypeName(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return "regular file";
    case S_IFDIR:
      return "directory";
    case S_IFLNK:
      return "symlink";
    case S_IFIFO:
      return "fifo";
    case S_IFSOCK:
      return "socket";
    case S_IFBLK:
      return "block device";
    case S_IFCHR:
      return "character device";
    default:
      return "object of unknown type";
  }
}

ErrnoOr<UniqueFd> OpenQuietly(int dir_fd, const std::string& name, int flags) {
  flags |= O_RDONLY | O_NOFOLLOW | O_CLOEXEC;
  UniqueFd fd(OpenAt2(dir_fd, name, flags | O_NOATIME));
  // Only the owner of a file may keep its access time.
  if (!fd.valid() && errno == EPERM) {
    fd = UniqueFd(OpenAt2(dir_fd, name, flags));
  }
  if (!fd.valid()) return Errno::Last();
  return fd;
}

void ReportUnreadable(absl::string_view leg, absl::string_view action,
                      Errno error, const ReportFinding& report) {
  if (error == Errno(EXDEV)) {
    report("mount", absl::StrCat("something is mounted here on ", leg,
                                 "; not compared"));
    return;
  }
  report("error", absl::StrCat(leg, ": ", action, ": ", ErrnoText(error)));
}

}  // namespace mirrorfs
