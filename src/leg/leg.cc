// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/leg.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "leg/label.h"
#include "leg/walk.h"
#include "region/region_key.h"

namespace mirrorfs {
namespace {

constexpr size_t kDirsCachedMax = 256;
// openat2 may answer EAGAIN when a rename elsewhere raced with "..", which
// RESOLVE_BENEATH has to watch; it is to be tried again.
constexpr int kResolveTriesMax = 64;

constexpr char kTemporaryPrefix[] = "new.";

ErrnoOr<UniqueFd> ResolveOnce(int dir_fd, const std::string& path, int flags,
                              mode_t mode) {
  open_how how = {};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.mode = flags & (O_CREAT | __O_TMPFILE) ? mode : 0;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
                RESOLVE_NO_XDEV;
  for (int tries = 0;;) {
    const long fd =
        syscall(SYS_openat2, dir_fd, path.c_str(), &how, sizeof(how));
    if (fd >= 0) return UniqueFd(static_cast<int>(fd));
    if (errno == EINTR) continue;
    if (errno != EAGAIN || ++tries == kResolveTriesMax) return Errno::Last();
  }
}

template <typename Call>
Errno RetryEintr(Call call) {
  for (;;) {
    if (call() >= 0) return kOk;
    if (errno != EINTR) return Errno::Last();
  }
}

}  // namespace

ErrnoOr<UniqueFd> OpenBeneath(int dir_fd, absl::string_view path, int flags,
                              mode_t mode) {
  UniqueFd piece_dir;
  while (path.size() >= PATH_MAX) {
    const size_t slash = path.substr(0, PATH_MAX - 1).rfind('/');
    if (slash == absl::string_view::npos) return Errno(ENAMETOOLONG);
    ErrnoOr<UniqueFd> next = ResolveOnce(
        dir_fd, std::string(path.substr(0, slash)), O_PATH | O_DIRECTORY, 0);
    if (!next.ok()) return next;
    piece_dir = std::move(*next);
    dir_fd = piece_dir.get();
    path.remove_prefix(slash + 1);
  }
  return ResolveOnce(dir_fd, path.empty() ? "." : std::string(path), flags,
                     mode);
}

absl::StatusOr<std::unique_ptr<Leg>> Leg::Open(const std::string& path) {
  std::unique_ptr<Leg> leg(new Leg);
  leg->path_ = path;
  leg->root_ = UniqueFd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat st;
  if (!leg->root_.valid() || fstat(leg->root_.get(), &st) != 0) {
    return ToStatus(Errno::Last(), absl::StrCat("leg ", path));
  }
  leg->dev_ = st.st_dev;
  leg->root_ino_ = st.st_ino;
  leg->dirs_ = std::make_unique<DirCache>(kDirsCachedMax);
  return leg;
}

void Leg::Identify(LegSlot slot, std::string name, std::string uuid) {
  slot_ = slot;
  name_ = std::move(name);
  uuid_ = std::move(uuid);
}

bool Leg::HasAcls() const {
  return fgetxattr(root_.get(), "system.posix_acl_access", nullptr, 0) >= 0 ||
         errno == ENODATA;
}

void Leg::NamesReplaced() {
  replaced_epoch_.fetch_add(1);
  ForgetDirs();
}

std::string Leg::NewTemporaryPath() {
  return absl::StrCat(kPrivateDir, "/", kTemporaryPrefix, temporaries_++);
}

void Leg::RemoveTemporaries() const {
  const auto names = ListNames(*this, kPrivateDir);
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    if (!absl::StartsWith(name, kTemporaryPrefix)) continue;
    const std::string path = JoinPath(kPrivateDir, name);
    if (Unlink(path) == Errno(EISDIR)) (void)Rmdir(path);
  }
}

ErrnoOr<DirRef> Leg::Dir(absl::string_view path) const {
  if (DirRef cached = dirs_->Find(path)) return cached;
  const uint64_t generation = dirs_->generation();
  ErrnoOr<UniqueFd> opened = OpenObject(path, O_PATH | O_DIRECTORY);
  if (!opened.ok()) return opened.error();
  DirRef dir = std::make_shared<const UniqueFd>(std::move(*opened));
  dirs_->Insert(path, dir, generation);
  return dir;
}

ErrnoOr<UniqueFd> Leg::OpenObject(absl::string_view path, int flags) const {
  return OpenBeneath(root_.get(), path, flags | O_NOFOLLOW);
}

ErrnoOr<struct stat> Leg::Stat(absl::string_view path) const {
  struct stat st;
  if (path.empty()) {
    if (fstat(root_.get(), &st) != 0) return Errno::Last();
    return st;
  }
  const ErrnoOr<DirRef> dir = Dir(ParentPath(path));
  if (!dir.ok()) return dir.error();
  const std::string name(BaseName(path));
  if (fstatat((*dir)->get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
    return Errno::Last();
  }
  // A mount inside the leg: neither identity nor rename would be right there.
  if (st.st_dev != dev_) return Errno(EXDEV);
  return st;
}

namespace {

// A path as the *at calls want it.
struct Place {
  DirRef dir;
  std::string name;
  int fd() const { return dir->get(); }
  const char* c_str() const { return name.c_str(); }
};

ErrnoOr<Place> PlaceOf(const Leg& leg, absl::string_view path) {
  ErrnoOr<DirRef> dir = leg.Dir(ParentPath(path));
  if (!dir.ok()) return dir.error();
  return Place{std::move(*dir), std::string(BaseName(path))};
}

// Runs call(place) -> -1 and errno, or not.
template <typename Call>
Errno AtPlace(const Leg& leg, absl::string_view path, Call call) {
  const ErrnoOr<Place> place = PlaceOf(leg, path);
  if (!place.ok()) return place.error();
  return RetryEintr([&] { return call(*place); });
}

}  // namespace

ErrnoOr<UniqueFd> Leg::Create(absl::string_view path, int flags,
                              mode_t mode) const {
  const ErrnoOr<Place> place = PlaceOf(*this, path);
  if (!place.ok()) return place.error();
  const int fd = openat(place->fd(), place->c_str(),
                        flags | O_CREAT | O_NOFOLLOW | O_CLOEXEC, mode);
  if (fd < 0) return Errno::Last();
  return UniqueFd(fd);
}

ErrnoOr<UniqueFd> Leg::CreateUnnamed(absl::string_view dir, int flags,
                                     mode_t mode) const {
  const ErrnoOr<DirRef> parent = Dir(dir);
  if (!parent.ok()) return parent.error();
  const int fd =
      openat((*parent)->get(), ".", flags | O_TMPFILE | O_CLOEXEC, mode);
  if (fd < 0) return Errno::Last();
  return UniqueFd(fd);
}

Errno Leg::Mkdir(absl::string_view path, mode_t mode) const {
  return AtPlace(*this, path, [&](const Place& at) {
    return mkdirat(at.fd(), at.c_str(), mode);
  });
}

Errno Leg::Mknod(absl::string_view path, mode_t mode, dev_t rdev) const {
  return AtPlace(*this, path, [&](const Place& at) {
    return mknodat(at.fd(), at.c_str(), mode, rdev);
  });
}

Errno Leg::Symlink(absl::string_view target, absl::string_view path) const {
  const std::string text(target);
  return AtPlace(*this, path, [&](const Place& at) {
    return symlinkat(text.c_str(), at.fd(), at.c_str());
  });
}

Errno Leg::Link(absl::string_view from, absl::string_view to) const {
  const ErrnoOr<Place> old_place = PlaceOf(*this, from);
  if (!old_place.ok()) return old_place.error();
  return AtPlace(*this, to, [&](const Place& at) {
    return linkat(old_place->fd(), old_place->c_str(), at.fd(), at.c_str(), 0);
  });
}

Errno Leg::LinkFd(int fd, absl::string_view to) const {
  return AtPlace(*this, to, [&](const Place& at) {
    return linkat(fd, "", at.fd(), at.c_str(), AT_EMPTY_PATH);
  });
}

Errno Leg::Unlink(absl::string_view path) const {
  return AtPlace(*this, path, [&](const Place& at) {
    return unlinkat(at.fd(), at.c_str(), 0);
  });
}

Errno Leg::Rmdir(absl::string_view path) const {
  const Errno result = AtPlace(*this, path, [&](const Place& at) {
    return unlinkat(at.fd(), at.c_str(), AT_REMOVEDIR);
  });
  if (result.ok()) ForgetDirs();
  return result;
}

Errno Leg::Rename(absl::string_view from, absl::string_view to,
                  unsigned flags) const {
  const ErrnoOr<Place> old_place = PlaceOf(*this, from);
  if (!old_place.ok()) return old_place.error();
  return AtPlace(*this, to, [&](const Place& at) {
    return renameat2(old_place->fd(), old_place->c_str(), at.fd(), at.c_str(),
                     flags);
  });
}

ErrnoOr<std::string> Leg::Readlink(absl::string_view path) const {
  const ErrnoOr<Place> place = PlaceOf(*this, path);
  if (!place.ok()) return place.error();
  std::string target(PATH_MAX, '\0');
  const ssize_t length =
      readlinkat(place->fd(), place->c_str(), target.data(), target.size());
  if (length < 0) return Errno::Last();
  target.resize(static_cast<size_t>(length));
  return target;
}

ErrnoOr<struct statvfs> Leg::Statvfs() const {
  struct statvfs st;
  if (fstatvfs(root_.get(), &st) != 0) return Errno::Last();
  return st;
}

Errno Leg::SetMtime(absl::string_view path, const timespec& mtime) const {
  const timespec times[2] = {{0, UTIME_OMIT}, mtime};
  if (path.empty()) return FromSyscall(futimens(root_.get(), times));
  return AtPlace(*this, path, [&](const Place& at) {
    return utimensat(at.fd(), at.c_str(), times, AT_SYMLINK_NOFOLLOW);
  });
}

int64_t Leg::ClockLagNs() const {
  const int64_t now = SystemClock().RealtimeNs();
  const ErrnoOr<UniqueFd> probe = OpenBeneath(
      root_.get(), absl::StrCat(kPrivateDir, "/clock"), O_RDWR | O_CREAT, 0600);
  struct stat st;
  if (!probe.ok() || futimens(probe->get(), nullptr) != 0 ||
      fstat(probe->get(), &st) != 0) {
    return 0;
  }
  const int64_t stamped =
      st.st_ctim.tv_sec * int64_t{1'000'000'000} + st.st_ctim.tv_nsec;
  return std::max<int64_t>(0, now - stamped);
}

Errno Leg::SyncAll() const { return FromSyscall(syncfs(root_.get())); }

}  // namespace mirrorfs
