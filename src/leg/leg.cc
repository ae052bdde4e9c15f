// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/leg.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

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

// Counts what the block device beneath a file system has got done; null when
// it is on none.
std::function<uint64_t()> WorkCounter(dev_t dev) {
  const std::string path =
      absl::StrCat("/sys/dev/block/", major(dev), ":", minor(dev), "/stat");
  if (access(path.c_str(), R_OK) != 0) return nullptr;
  return [path] {
    std::ifstream stat(path);
    uint64_t count = 0;
    // Reads and writes that have completed are the first and the fifth.
    uint64_t field = 0;
    for (int i = 0; i < 5 && stat >> field; ++i) {
      if (i == 0 || i == 4) count += field;
    }
    return count;
  };
}

// Whether syncfs(2) reaches what keeps the data. Linux does not tell the
// servers of 9P, nor those of FUSE (virtiofs aside, which looks like the
// others); but what FUSE has on a block device it writes there.
bool SyncsWhole(const struct statfs& fs, dev_t dev) {
  switch (static_cast<uint32_t>(fs.f_type)) {
    case FUSE_SUPER_MAGIC:
      return major(dev) != 0;
    case V9FS_MAGIC:
    case 0:  // it did not say
      return false;
    default:
      return true;
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

absl::StatusOr<std::unique_ptr<Leg>> Leg::Open(
    const std::string& path, std::shared_ptr<CallTarget> target) {
  if (target == nullptr) target = std::make_shared<CallTarget>(path);
  struct Opened {
    DirRef root;
    struct stat st;
    struct statfs fs;
  };
  const ErrnoOr<Opened> opened = MakeCall(*target, [path]() -> ErrnoOr<Opened> {
    Opened result;
    result.root = std::make_shared<const UniqueFd>(
        open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!result.root->valid()) return Errno::Last();
    if (fstat(result.root->get(), &result.st) != 0) return Errno::Last();
    if (fstatfs(result.root->get(), &result.fs) != 0) result.fs = {};
    return result;
  });
  if (!opened.ok()) {
    return ToStatus(opened.error(), absl::StrCat("leg ", path));
  }
  target->SetProgress(WorkCounter(opened->st.st_dev));
  std::unique_ptr<Leg> leg(new Leg);
  leg->path_ = path;
  leg->target_ = std::move(target);
  leg->root_ = opened->root;
  leg->dev_ = opened->st.st_dev;
  leg->root_ino_ = opened->st.st_ino;
  leg->frees_slowly_ = opened->fs.f_type == EXT4_SUPER_MAGIC;
  leg->syncs_whole_ = SyncsWhole(opened->fs, leg->dev_);
  leg->dirs_ = std::make_unique<DirCache>(kDirsCachedMax);
  return leg;
}

void Leg::Identify(LegSlot slot, std::string name, std::string uuid) {
  slot_ = slot;
  name_ = std::move(name);
  uuid_ = std::move(uuid);
}

DirRef Leg::Root() const {
  std::lock_guard lock(kept_mutex_);
  return root_;
}

void Leg::Keep(LegFd lock) {
  std::lock_guard guard(kept_mutex_);
  lock_ = std::move(lock);
}

void Leg::LetGo() {
  DirRef root;  // both closed outside the lock
  LegFd lock;
  {
    std::lock_guard guard(kept_mutex_);
    root.swap(root_);
    std::swap(lock, lock_);
  }
  // After the root: who looks for a directory from now on finds none to keep.
  ForgetDirs();
}

bool Leg::HasAcls() const {
  const Errno error = CallRoot([](int root) {
    return FromSyscall(fgetxattr(root, "system.posix_acl_access", nullptr, 0));
  });
  return error.ok() || error == Errno(ENODATA);
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
  ErrnoOr<UniqueFd> opened = OpenOwned(path, O_PATH | O_DIRECTORY);
  if (!opened.ok()) return opened.error();
  DirRef dir = std::make_shared<const UniqueFd>(std::move(*opened));
  dirs_->Insert(path, dir, generation);
  return dir;
}

ErrnoOr<UniqueFd> Leg::OpenOwned(absl::string_view path, int flags,
                                 mode_t mode) const {
  return CallRoot([path = std::string(path), flags, mode](int root) {
    return OpenBeneath(root, path, flags | O_NOFOLLOW, mode);
  });
}

ErrnoOr<LegFd> Leg::OpenObject(absl::string_view path, int flags,
                               mode_t mode) const {
  ErrnoOr<UniqueFd> opened = OpenOwned(path, flags, mode);
  if (!opened.ok()) return opened.error();
  return LegFd(target_, std::move(*opened));
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

// Runs call(place) -> -1 and errno, or not, as a call to the leg.
template <typename Call>
Errno AtPlace(const Leg& leg, absl::string_view path, Call call) {
  ErrnoOr<Place> place = PlaceOf(leg, path);
  if (!place.ok()) return place.error();
  return MakeCall(*leg.target(), [place = std::move(*place), call] {
    return RetryEintr([&] { return call(place); });
  });
}

// The same for what opens a descriptor, as the caller.
template <typename Call>
ErrnoOr<LegFd> OpenAtPlace(const Leg& leg, DirRef dir, const Caller& caller,
                           Call call) {
  ErrnoOr<UniqueFd> opened =
      MakeCall(*leg.target(), [dir, caller, call]() -> ErrnoOr<UniqueFd> {
        const ActingAs acting(caller);
        int fd = -1;
        const Errno error = RetryEintr([&] { return fd = call(dir->get()); });
        if (!error.ok()) return error;
        return UniqueFd(fd);
      });
  if (!opened.ok()) return opened.error();
  return LegFd(leg.target(), std::move(*opened));
}

}  // namespace

ErrnoOr<struct stat> Leg::Stat(absl::string_view path) const {
  const auto stat_at = [](int dir, const char* name, int flags) {
    struct stat st;
    if (fstatat(dir, name, &st, flags) != 0) {
      return ErrnoOr<struct stat>(Errno::Last());
    }
    return ErrnoOr<struct stat>(st);
  };
  if (path.empty()) {
    return CallRoot(
        [stat_at](int root) { return stat_at(root, "", AT_EMPTY_PATH); });
  }
  ErrnoOr<Place> place = PlaceOf(*this, path);
  if (!place.ok()) return place.error();
  const ErrnoOr<struct stat> st =
      MakeCall(*target_, [place = std::move(*place), stat_at] {
        return stat_at(place.fd(), place.c_str(), AT_SYMLINK_NOFOLLOW);
      });
  // A mount inside the leg: neither identity nor rename would be right there.
  if (st.ok() && st->st_dev != dev_) return Errno(EXDEV);
  return st;
}

ErrnoOr<LegFd> Leg::Create(absl::string_view path, int flags, mode_t mode,
                           const Caller& caller) const {
  const ErrnoOr<Place> place = PlaceOf(*this, path);
  if (!place.ok()) return place.error();
  return OpenAtPlace(
      *this, place->dir, caller, [name = place->name, flags, mode](int dir) {
        return openat(dir, name.c_str(),
                      flags | O_CREAT | O_NOFOLLOW | O_CLOEXEC, mode);
      });
}

ErrnoOr<LegFd> Leg::CreateUnnamed(absl::string_view dir, int flags, mode_t mode,
                                  const Caller& caller) const {
  const ErrnoOr<DirRef> parent = Dir(dir);
  if (!parent.ok()) return parent.error();
  return OpenAtPlace(*this, *parent, caller, [flags, mode](int dir) {
    return openat(dir, ".", flags | O_TMPFILE | O_CLOEXEC, mode);
  });
}

Errno Leg::Mkdir(absl::string_view path, mode_t mode,
                 const Caller& caller) const {
  return AtPlace(*this, path, [mode, caller](const Place& at) {
    const ActingAs acting(caller);
    return mkdirat(at.fd(), at.c_str(), mode);
  });
}

Errno Leg::Mknod(absl::string_view path, mode_t mode, dev_t rdev,
                 const Caller& caller) const {
  return AtPlace(*this, path, [mode, rdev, caller](const Place& at) {
    const ActingAs acting(caller);
    return mknodat(at.fd(), at.c_str(), mode, rdev);
  });
}

Errno Leg::Symlink(absl::string_view target, absl::string_view path,
                   const Caller& caller) const {
  return AtPlace(*this, path,
                 [text = std::string(target), caller](const Place& at) {
                   const ActingAs acting(caller);
                   return symlinkat(text.c_str(), at.fd(), at.c_str());
                 });
}

Errno Leg::Link(absl::string_view from, absl::string_view to) const {
  const ErrnoOr<Place> old_place = PlaceOf(*this, from);
  if (!old_place.ok()) return old_place.error();
  return AtPlace(*this, to, [old = *old_place](const Place& at) {
    return linkat(old.fd(), old.c_str(), at.fd(), at.c_str(), 0);
  });
}

Errno Leg::LinkFd(const LegFd& fd, absl::string_view to) const {
  const ErrnoOr<Place> place = PlaceOf(*this, to);
  if (!place.ok()) return place.error();
  return fd.Call([at = *place](int fd) {
    return RetryEintr(
        [&] { return linkat(fd, "", at.fd(), at.c_str(), AT_EMPTY_PATH); });
  });
}

Errno Leg::Unlink(absl::string_view path) const {
  return AtPlace(*this, path, [](const Place& at) {
    return unlinkat(at.fd(), at.c_str(), 0);
  });
}

ErrnoOr<LegFd> Leg::UnlinkKept(absl::string_view path) const {
  if (!frees_slowly_) {
    const Errno error = Unlink(path);
    return error.ok() ? ErrnoOr<LegFd>(LegFd()) : error;
  }
  ErrnoOr<Place> place = PlaceOf(*this, path);
  if (!place.ok()) return place.error();
  ErrnoOr<UniqueFd> kept =
      MakeCall(*target_, [place = std::move(*place)]() -> ErrnoOr<UniqueFd> {
        UniqueFd fd(
            openat(place.fd(), place.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
        const Errno error =
            RetryEintr([&] { return unlinkat(place.fd(), place.c_str(), 0); });
        if (!error.ok()) return error;
        return fd;
      });
  if (!kept.ok()) return kept.error();
  return kept->valid() ? LegFd(target_, std::move(*kept)) : LegFd();
}

Errno Leg::Rmdir(absl::string_view path) const {
  const Errno result = AtPlace(*this, path, [](const Place& at) {
    return unlinkat(at.fd(), at.c_str(), AT_REMOVEDIR);
  });
  if (result.ok()) ForgetDirs();
  return result;
}

Errno Leg::Rename(absl::string_view from, absl::string_view to,
                  unsigned flags) const {
  const ErrnoOr<Place> old_place = PlaceOf(*this, from);
  if (!old_place.ok()) return old_place.error();
  return AtPlace(*this, to, [old = *old_place, flags](const Place& at) {
    return renameat2(old.fd(), old.c_str(), at.fd(), at.c_str(), flags);
  });
}

ErrnoOr<std::string> Leg::Readlink(absl::string_view path) const {
  ErrnoOr<Place> place = PlaceOf(*this, path);
  if (!place.ok()) return place.error();
  return MakeCall(
      *target_, [place = std::move(*place)]() -> ErrnoOr<std::string> {
        std::string target(PATH_MAX, '\0');
        const ssize_t length =
            readlinkat(place.fd(), place.c_str(), target.data(), target.size());
        if (length < 0) return Errno::Last();
        target.resize(static_cast<size_t>(length));
        return target;
      });
}

ErrnoOr<struct statvfs> Leg::Statvfs() const {
  return CallRoot([](int root) -> ErrnoOr<struct statvfs> {
    struct statvfs st;
    if (fstatvfs(root, &st) != 0) return Errno::Last();
    return st;
  });
}

Errno Leg::SetMtime(absl::string_view path, const timespec& mtime) const {
  if (path.empty()) {
    return CallRoot([mtime](int root) {
      const timespec times[2] = {{0, UTIME_OMIT}, mtime};
      return FromSyscall(futimens(root, times));
    });
  }
  return AtPlace(*this, path, [mtime](const Place& at) {
    const timespec times[2] = {{0, UTIME_OMIT}, mtime};
    return utimensat(at.fd(), at.c_str(), times, AT_SYMLINK_NOFOLLOW);
  });
}

bool Leg::ChangedWhileAway(const timespec& ctime) const {
  const int64_t at = ToNs(ctime);
  return at < away_limit_ns_.load() && IsIn(away_, at);
}

bool Leg::ChangedBeforeReturn(const timespec& ctime) const {
  if (away_.empty()) return false;
  return ToNs(ctime) < std::min(away_limit_ns_.load(), away_.back().to_ns);
}

void Leg::SawClock(int64_t now_ns) {
  int64_t limit = away_limit_ns_.load();
  while (now_ns < limit &&
         !away_limit_ns_.compare_exchange_weak(limit, now_ns)) {
  }
}

namespace {

ErrnoOr<int64_t> StampIn(int root) {
  const ErrnoOr<UniqueFd> probe = OpenBeneath(
      root, absl::StrCat(kPrivateDir, "/clock"), O_RDWR | O_CREAT, 0600);
  if (!probe.ok()) return probe.error();
  struct stat st;
  if (futimens(probe->get(), nullptr) != 0 || fstat(probe->get(), &st) != 0) {
    return Errno::Last();
  }
  return ToNs(st.st_ctim);
}

}  // namespace

ErrnoOr<int64_t> Leg::StampNs() const { return CallRoot(StampIn); }

std::function<void()> Leg::Question() const {
  DirRef root = Root();
  if (root == nullptr) return [] {};
  return [target = target_, root = std::move(root)]() mutable {
    (void)MakeCall(*target,
                   [root = std::move(root)] { return StampIn(root->get()); });
  };
}

int64_t Leg::ClockLagNs() const {
  const int64_t now = SystemClock().RealtimeNs();
  const ErrnoOr<int64_t> stamped = StampNs();
  return stamped.ok() ? std::max<int64_t>(0, now - *stamped) : 0;
}

Errno Leg::SyncAll() const {
  return CallRoot([](int root) { return FromSyscall(syncfs(root)); });
}

}  // namespace mirrorfs
