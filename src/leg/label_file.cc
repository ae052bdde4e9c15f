// SPDX-License-Identifier: GPL-2.0-or-later
//
// The file that a label lies in.
//
// A mirror whose legs are full must be mounted, and its labels written, before
// anything in it can be removed. So each label takes the place of the one
// before the last: both files keep their length, the text is padded to it, and
// they change names.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/errno.h"
#include "base/fd.h"
#include "leg/label.h"
#include "leg/leg.h"

namespace mirrorfs {
namespace {

constexpr char kLabelName[] = "label";
constexpr char kNextName[] = "label.new";
constexpr char kRetiredName[] = "label.detached";
constexpr size_t kLabelBytesMax = 1 << 20;
constexpr size_t kPlaceBytesMin = 16 << 10;
// A label is replaced rarely, a reader is overtaken by two at most.
constexpr int kReadsMax = 3;

Errno WriteAll(int fd, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Errno::Last();
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return kOk;
}

ErrnoOr<std::string> ReadAll(int fd, size_t bytes_max) {
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t got = read(fd, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Errno::Last();
    if (got == 0) return text;
    text.append(buffer, static_cast<size_t>(got));
    if (text.size() > bytes_max) return Errno(EFBIG);
  }
}

// Opens .mirrorfs, making it when it is not there.
ErrnoOr<UniqueFd> OpenPrivateDir(int root_fd) {
  if (mkdirat(root_fd, kPrivateDir, 0700) != 0 && errno != EEXIST) {
    return Errno::Last();
  }
  UniqueFd dir(openat(root_fd, kPrivateDir,
                      O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!dir.valid()) return Errno::Last();
  return dir;
}

UniqueFd OpenNext(int dir_fd) {
  return UniqueFd(openat(dir_fd, kNextName,
                         O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
}

// A place that somebody has another name of, in a backup made of hard links, is
// not ours to write to.
ErrnoOr<UniqueFd> OpenOwnNext(int dir_fd) {
  UniqueFd file = OpenNext(dir_fd);
  struct stat st = {};
  if (file.valid() && fstat(file.get(), &st) == 0 && st.st_nlink > 1 &&
      unlinkat(dir_fd, kNextName, 0) == 0) {
    file = OpenNext(dir_fd);
  }
  if (!file.valid()) return Errno::Last();
  return file;
}

ErrnoOr<size_t> SizeOf(int fd) {
  struct stat st;
  if (fstat(fd, &st) != 0) return Errno::Last();
  return static_cast<size_t>(st.st_size);
}

// Makes the place at least as long as labels of twice the length will need, as
// long as there is space: a label grows by one event at a time. Answers how
// long it is.
ErrnoOr<size_t> ReservePlace(int fd, size_t label_bytes) {
  ErrnoOr<size_t> bytes = SizeOf(fd);
  if (bytes.ok() && *bytes > kLabelBytesMax) {
    if (ftruncate(fd, 0) != 0) return Errno::Last();
    bytes = 0;
  }
  const size_t wanted = std::max(kPlaceBytesMin, 2 * label_bytes);
  if (!bytes.ok() || *bytes >= wanted) return bytes;
  // Where the file system cannot allocate, glibc writes zeros. A part of it
  // is no use, and others may need it.
  if (posix_fallocate(fd, 0, wanted) == 0) return wanted;
  if (ftruncate(fd, *bytes) != 0) return Errno::Last();
  return bytes;
}

Errno WriteToPlace(int fd, const Label& label) {
  const std::string text = FormatLabel(label);
  const ErrnoOr<size_t> place = ReservePlace(fd, text.size());
  if (!place.ok()) return place.error();
  const Errno error = WriteAll(fd, FormatLabel(label, *place));
  if (error.ok()) return error;
  // btrfs writes to other blocks than before, and has more need of them the
  // longer it is.
  if (ftruncate(fd, 0) != 0 || lseek(fd, 0, SEEK_SET) != 0) {
    return Errno::Last();
  }
  return WriteAll(fd, text);
}

Errno ChangePlaces(int dir_fd) {
  if (renameat2(dir_fd, kNextName, dir_fd, kLabelName, RENAME_EXCHANGE) == 0) {
    return kOk;
  }
  // The first label, or a file system that cannot exchange.
  if (renameat(dir_fd, kNextName, dir_fd, kLabelName) != 0) {
    return Errno::Last();
  }
  return kOk;
}

Errno ReplaceLabelDurable(int dir_fd, const Label& label) {
  // Else what is the place to us could still be the label after a crash.
  if (fsync(dir_fd) != 0) return Errno::Last();
  const ErrnoOr<UniqueFd> file = OpenOwnNext(dir_fd);
  if (!file.ok()) return file.error();
  Errno error = WriteToPlace(file->get(), label);
  if (error.ok()) error = FromSyscall(fsync(file->get()));
  if (error.ok()) error = ChangePlaces(dir_fd);
  if (!error.ok()) return error;
  const ErrnoOr<UniqueFd> next = OpenOwnNext(dir_fd);
  if (next.ok()) (void)ReservePlace(next->get(), FormatLabel(label).size());
  return FromSyscall(fsync(dir_fd));
}

Errno RetireLabelIn(int dir_fd) {
  if (renameat(dir_fd, kLabelName, dir_fd, kRetiredName) != 0) {
    return Errno::Last();
  }
  return FromSyscall(fsync(dir_fd));
}

std::string LabelPath() { return absl::StrCat(kPrivateDir, "/", kLabelName); }

// `overtaken`: the label was replaced meanwhile, and what was read may be of
// two of them.
absl::StatusOr<Label> ReadLabelOnce(int root_fd, bool* overtaken) {
  const std::string name = LabelPath();
  const UniqueFd file(openat(root_fd, name.c_str(),
                             O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat st;
  if (!file.valid() || fstat(file.get(), &st) != 0) {
    if (errno == ENOENT) return absl::NotFoundError("no mirrorfs label");
    return ToStatus(Errno::Last(), name);
  }
  if (!S_ISREG(st.st_mode)) {
    return absl::DataLossError("the label is damaged: it is not a file");
  }
  const ErrnoOr<std::string> text = ReadAll(file.get(), kLabelBytesMax);
  if (!text.ok()) return ToStatus(text.error(), name);
  struct stat now;
  *overtaken = fstatat(root_fd, name.c_str(), &now, AT_SYMLINK_NOFOLLOW) == 0 &&
               now.st_ino != st.st_ino;
  return ParseLabel(*text);
}

}  // namespace

absl::StatusOr<Label> ReadLabel(int root_fd) {
  for (int reads = 1;; ++reads) {
    bool overtaken = false;
    absl::StatusOr<Label> label = ReadLabelOnce(root_fd, &overtaken);
    if (label.ok() || !overtaken || reads == kReadsMax) return label;
  }
}

absl::Status WriteLabelDurable(int root_fd, const Label& label) {
  const ErrnoOr<UniqueFd> dir = OpenPrivateDir(root_fd);
  if (!dir.ok()) return ToStatus(dir.error(), kPrivateDir);
  const Errno error = ReplaceLabelDurable(dir->get(), label);
  if (!error.ok()) return ToStatus(error, "label");
  // The directory may have been made just now.
  return ToStatus(FromSyscall(fsync(root_fd)), "leg");
}

absl::StatusOr<Label> ReadLabel(const Leg& leg) {
  return leg.CallRoot([](int root) { return ReadLabel(root); });
}

bool HasLabel(const Leg& leg) {
  const Errno error = leg.CallRoot([](int root) {
    struct stat st;
    return FromSyscall(
        fstatat(root, LabelPath().c_str(), &st, AT_SYMLINK_NOFOLLOW));
  });
  return error != Errno(ENOENT);
}

absl::Status WriteLabelDurable(const Leg& leg, const Label& label) {
  return leg.CallRoot(
      [label](int root) { return WriteLabelDurable(root, label); });
}

absl::Status RetireLabel(const Leg& leg) {
  return leg.CallRoot([](int root) { return RetireLabel(root); });
}

absl::Status RetireLabel(int root_fd) {
  const ErrnoOr<UniqueFd> dir = OpenPrivateDir(root_fd);
  if (!dir.ok()) return ToStatus(dir.error(), kPrivateDir);
  return ToStatus(RetireLabelIn(dir->get()), "label");
}

}  // namespace mirrorfs
