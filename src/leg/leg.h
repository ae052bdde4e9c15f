// SPDX-License-Identifier: GPL-2.0-or-later
//
// One leg's directory, and the only door to its files. Every path is relative
// to the leg's root, has no leading '/', and is resolved beneath the root
// (openat2: no symlinks, no "..", no other mount); the empty path is the root.
// Paths longer than PATH_MAX are walked in pieces.
//
// Each call to the file system is one that may hang (see base/fiber.h), and
// answers ETIMEDOUT then.
//
// Threads: all calls from any thread. Results are what the leg's own file
// system answered; EINTR is retried inside, short transfers are not hidden.
// Nothing here is durable until SyncAll or an fsync of the descriptor.
//
// A leg that is let go keeps nothing open any more, so that its file system can
// be unmounted; calls that begin after that answer ENOTCONN. Each call keeps
// what it uses until it has returned.
#pragma once

#include <dirent.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/errno.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "leg/away_times.h"
#include "leg/caller.h"
#include "leg/dir_cache.h"
#include "leg/foreign_notes.h"
#include "leg/leg_fd.h"
#include "region/leg_set.h"

namespace mirrorfs {

class Leg {
 public:
  // Opens the directory at `path`. NotFound, FailedPrecondition (not a
  // directory), PermissionDenied or DeadlineExceeded otherwise. `target`: what
  // calls to that path hang on, if somebody has asked it before.
  static absl::StatusOr<std::unique_ptr<Leg>> Open(
      const std::string& path, std::shared_ptr<CallTarget> target = nullptr);

  const std::string& path() const { return path_; }
  const std::shared_ptr<CallTarget>& target() const { return target_; }
  // f(fd of the root), as a call to the leg.
  template <typename F>
  std::invoke_result_t<F&, int> CallRoot(F f) const {
    DirRef root = Root();
    if (root == nullptr) return LetGoAnswer<std::invoke_result_t<F&, int>>();
    return MakeCall(*target_,
                    [root = std::move(root), f = std::move(f)]() mutable {
                      return f(root->get());
                    });
  }
  // Kept open as long as the leg is: what locks it.
  void Keep(LegFd lock);
  void LetGo();
  bool is_let_go() const { return Root() == nullptr; }
  dev_t dev() const { return dev_; }
  ino_t root_ino() const { return root_ino_; }

  // Set once by assembly, before any other thread knows the leg.
  void Identify(LegSlot slot, std::string name, std::string uuid);
  LegSlot slot() const { return slot_; }
  const std::string& name() const { return name_; }
  const std::string& uuid() const { return uuid_; }

  // When it was away, by the clock that stamps its files. Set before any other
  // thread knows the leg.
  void SetAway(AwayTimes away) { away_ = std::move(away); }
  const AwayTimes& away() const { return away_; }
  // Whether an object with that change time was changed by somebody else while
  // the leg was away.
  bool ChangedWhileAway(const timespec& ctime) const;
  // Whether nobody has changed it since the leg returned the last time, if it
  // was away at all.
  bool ChangedBeforeReturn(const timespec& ctime) const;
  // That clock has been seen to say `now_ns`: what it stamps from then on is
  // ours, even if it was set back.
  void SawClock(int64_t now_ns);
  ForeignNotes& foreign_notes() const { return *foreign_notes_; }

  // Whether the leg stores POSIX ACLs, and extended attributes at all.
  bool HasAcls() const;

  ErrnoOr<LegFd> OpenObject(absl::string_view path, int flags,
                            mode_t mode = 0) const;
  ErrnoOr<struct stat> Stat(absl::string_view path) const;
  // What is made belongs to `caller`, see ActingAs.
  ErrnoOr<LegFd> Create(absl::string_view path, int flags, mode_t mode,
                        const Caller& caller = {}) const;
  ErrnoOr<LegFd> CreateUnnamed(absl::string_view dir, int flags, mode_t mode,
                               const Caller& caller = {}) const;
  Errno Mkdir(absl::string_view path, mode_t mode,
              const Caller& caller = {}) const;
  Errno Mknod(absl::string_view path, mode_t mode, dev_t rdev,
              const Caller& caller = {}) const;
  Errno Symlink(absl::string_view target, absl::string_view path,
                const Caller& caller = {}) const;
  Errno Link(absl::string_view from, absl::string_view to) const;
  // Gives a file opened with CreateUnnamed its first name.
  Errno LinkFd(const LegFd& fd, absl::string_view to) const;
  Errno Unlink(absl::string_view path) const;
  // The same, but what had the name is not freed before the result goes, where
  // freeing it takes longer than that. No descriptor: nothing is kept.
  ErrnoOr<LegFd> UnlinkKept(absl::string_view path) const;
  Errno Rmdir(absl::string_view path) const;
  // `flags` as for renameat2(2).
  Errno Rename(absl::string_view from, absl::string_view to,
               unsigned flags) const;
  ErrnoOr<std::string> Readlink(absl::string_view path) const;
  ErrnoOr<struct statvfs> Statvfs() const;
  // Sets the modification time, not following a symlink.
  Errno SetMtime(absl::string_view path, const timespec& mtime) const;
  // A parent directory (opened O_PATH, shared with the cache).
  ErrnoOr<DirRef> Dir(absl::string_view path) const;

  // What the clock that stamps this leg's files says, ns since 1970. Touches a
  // file in the private directory.
  ErrnoOr<int64_t> StampNs() const;
  // By how much the clock that stamps this leg's files is behind ours, ns;
  // never negative. Touches a file in the private directory.
  int64_t ClockLagNs() const;

  // To be asked whether it answers at all, whatever it answers; may be done
  // when the leg is gone. Touches a file in the private directory.
  std::function<void()> Question() const;

  // Everything written to this leg's file system so far is durable, if
  // syncs_whole(). Otherwise each object must be synced by itself.
  Errno SyncAll() const;
  bool syncs_whole() const { return syncs_whole_; }

  // Raised whenever recovery may have changed what a name on this leg leads to:
  // a descriptor opened before may be of a file that has another name now, or
  // none.
  uint64_t replaced_epoch() const { return replaced_epoch_.load(); }
  void NamesReplaced();
  // This is the same leg as `before`, opened anew.
  void StartAfter(const Leg& before) {
    first_epoch_ = before.replaced_epoch() + 1;
    replaced_epoch_ = first_epoch_;
  }
  // The epoch in which it was opened.
  uint64_t first_epoch() const { return first_epoch_; }
  // A name in the private directory that nobody else uses, for what is made
  // before it is renamed to its place.
  std::string NewTemporaryPath();
  // Takes away what an earlier recovery left there when it was killed. Another
  // name of a file would make it look as if it had more names than it has.
  void RemoveTemporaries() const;
  // A directory moved or went: cached descriptors may be found by a path that
  // means something else now.
  void ForgetDirs() const { dirs_->Clear(); }

 private:
  Leg() = default;

  template <typename R>
  static R LetGoAnswer() {
    if constexpr (std::is_constructible_v<R, absl::Status>) {
      return R(absl::UnavailableError("the leg is not here"));
    } else {
      return R(Errno(ENOTCONN));
    }
  }
  DirRef Root() const;
  ErrnoOr<UniqueFd> OpenOwned(absl::string_view path, int flags,
                              mode_t mode = 0) const;

  std::string path_;
  std::shared_ptr<CallTarget> target_;
  mutable std::mutex kept_mutex_;
  DirRef root_;  // null when let go; guarded by kept_mutex_, as is lock_
  LegFd lock_;
  dev_t dev_ = 0;
  ino_t root_ino_ = 0;
  // The last unlink of a file takes several times as long as the removal of its
  // name. Not asked of network file systems, which would give a new name to
  // what is open.
  bool frees_slowly_ = false;
  bool syncs_whole_ = true;
  LegSlot slot_ = -1;
  std::string name_;
  std::string uuid_;
  AwayTimes away_;
  std::atomic<int64_t> away_limit_ns_{INT64_MAX};
  uint64_t first_epoch_ = 0;
  std::atomic<uint64_t> replaced_epoch_{0};
  std::atomic<uint64_t> temporaries_{0};
  std::unique_ptr<DirCache> dirs_;
  const std::unique_ptr<ForeignNotes> foreign_notes_ =
      std::make_unique<ForeignNotes>();
};

// Opens `path` beneath `dir_fd` as described above, for any length of path.
ErrnoOr<UniqueFd> OpenBeneath(int dir_fd, absl::string_view path, int flags,
                              mode_t mode = 0);

}  // namespace mirrorfs
