// SPDX-License-Identifier: GPL-2.0-or-later
//
// What reading, writing and each namespace operation mean on N legs.
//
// Every change goes the same way: mark its regions (RegionGate), let the
// primary go first and decide the result, repeat it on the other legs that
// take it, record which did not, answer. Paths are relative to the mirror's
// root; the caller holds names_lock() shared during a call that takes one, so
// that the path keeps its meaning, or exclusively to rename a directory.
//
// Lock order: names_lock < node stripe (fuse) < region gate's wait
// < file range < leaf mutexes (log, membership, caches). No leaf is held
// during I/O on a leg.
//
// Threads: all calls from any thread.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/clock.h"
#include "base/errno.h"
#include "dirtylog/dirty_log.h"
#include "leg/caller.h"
#include "leg/leg.h"
#include "mirror/membership.h"
#include "mirror/names_lock.h"
#include "mirror/open_file.h"
#include "mirror/region_gate.h"
#include "mirror/unsettled_dirs.h"
#include "region/region_range.h"

namespace mirrorfs {

// The index of the data region that stands for a file's size; no file is long
// enough to have it as content.
inline constexpr uint64_t kSizeGuardIndex = UINT64_MAX;

// File systems stamp with a clock that ticks every few milliseconds.
inline constexpr int64_t kClockGrainNs = 100'000'000;
// How long a new file rides on its directory's mark. Longer would make a crash
// compare ever larger files whole; shorter costs an archive being unpacked a
// mark a file.
inline constexpr int64_t kCoverNs = 30'000'000'000;

enum class ReadFrom { kPrimary, kRoundRobin, kPrefer };

struct MirrorSetup {
  // By slot; null: missing.
  const std::vector<std::unique_ptr<Leg>>* legs = nullptr;
  LegSlot primary = 0;
  LegSet all;  // every member, present or not
  ReadFrom read_from = ReadFrom::kPrimary;
  LegSlot preferred = -1;    // for kPrefer
  int64_t clock_lag_ns = 0;  // of the primary, see Leg::ClockLagNs
};

class Mirror {
 public:
  // The legs, log, membership and clock outlive it.
  Mirror(const MirrorSetup& setup, DirtyLog* log, Membership* membership,
         const Clock* clock);

  // --- the set of legs ---
  const std::vector<std::unique_ptr<Leg>>& legs() const { return legs_; }
  Leg& primary() const { return *legs_[primary_]; }
  LegSlot primary_slot() const { return primary_; }
  LegSet all() const { return all_; }
  LegSet present() const { return present_; }
  LegSet secondaries() const { return present_ - LegSet::Of(primary_); }
  NamesLock& names_lock() { return names_lock_; }
  RegionGate& gate() { return gate_; }
  DirtyLog& log() { return *log_; }
  Membership& membership() { return *membership_; }
  // Which leg answers reads from now on; `preferred` for kPrefer.
  void SetReadFrom(ReadFrom read_from, LegSlot preferred);
  // Called when recovery has something new to do.
  void SetWorkListener(std::function<void()> listener) {
    on_work_ = std::move(listener);
  }

  // --- looking: the primary answers ---
  ErrnoOr<struct stat> Stat(const ObjectRef& object);
  ErrnoOr<std::string> Readlink(absl::string_view path);
  ErrnoOr<UniqueFd> OpenDir(absl::string_view path);
  // The smallest leg's numbers: what is promised must fit everywhere.
  ErrnoOr<struct statvfs> Statvfs();
  ErrnoOr<std::string> GetXattr(const ObjectRef& object,
                                const std::string& name);
  ErrnoOr<std::vector<std::string>> ListXattr(const ObjectRef& object);

  // --- names ---
  ErrnoOr<struct stat> Create(absl::string_view path, int flags, mode_t mode,
                              const Caller& caller, OpenFile& file);
  ErrnoOr<struct stat> CreateUnnamed(absl::string_view dir, int flags,
                                     mode_t mode, const Caller& caller,
                                     OpenFile& file);
  ErrnoOr<struct stat> Mkdir(absl::string_view path, mode_t mode,
                             const Caller& caller);
  ErrnoOr<struct stat> Mknod(absl::string_view path, mode_t mode, dev_t rdev,
                             const Caller& caller);
  ErrnoOr<struct stat> Symlink(absl::string_view target, absl::string_view path,
                               const Caller& caller);
  ErrnoOr<struct stat> Link(const ObjectRef& object, absl::string_view path);
  // `other_name`: another name of the same file, if it has one (it inherits
  // what the log says under this name).
  Errno Unlink(absl::string_view path, bool last_name,
               const std::string& other_name);
  Errno Rmdir(absl::string_view path);
  // `object`: what is moved. With RENAME_EXCHANGE and directories, the caller
  // says is_dir when either is one. `replaced_lives_on`: what is replaced has
  // other names; `heir` is one of them, if one is known.
  Errno Rename(const ObjectRef& object, absl::string_view to, unsigned flags,
               bool replaced_lives_on, std::string heir);

  // --- attributes ---
  Errno Chmod(const ObjectRef& object, mode_t mode);
  Errno Chown(const ObjectRef& object, uid_t uid, gid_t gid);
  // A time of UTIME_NOW becomes one time, the same on every leg.
  Errno SetTimes(const ObjectRef& object, timespec atime, timespec mtime);
  Errno SetXattr(const ObjectRef& object, const std::string& name,
                 absl::string_view value, int flags);
  Errno RemoveXattr(const ObjectRef& object, const std::string& name);

  // --- content ---
  Errno OpenForRead(const ObjectRef& object, OpenFile& file);
  Errno OpenForWrite(const ObjectRef& object, OpenFile& file);
  // Bytes read; fewer than asked for only at the end of the file.
  ErrnoOr<size_t> Read(const ObjectRef& object, OpenFile& file, uint64_t offset,
                       char* buffer, size_t size);
  // Bytes that every leg took. `data_sync`: durable before it returns.
  ErrnoOr<size_t> Write(const ObjectRef& object, OpenFile& file,
                        uint64_t offset, absl::string_view data,
                        bool data_sync);
  Errno Truncate(const ObjectRef& object, uint64_t size);
  Errno Fallocate(const ObjectRef& object, OpenFile& file, int mode,
                  uint64_t offset, uint64_t length);
  ErrnoOr<size_t> CopyRange(const ObjectRef& from_object, OpenFile& from,
                            uint64_t from_offset, const ObjectRef& to_object,
                            OpenFile& to, uint64_t to_offset, size_t length);
  ErrnoOr<off_t> Seek(OpenFile& file, off_t offset, int whence);
  // Durable on every leg that takes writes (I21). A leg that cannot is
  // recorded as lacking the file first.
  Errno Fsync(const ObjectRef& object, OpenFile& file, bool data_only);
  Errno FsyncDir(absl::string_view path);
  // Makes the modification time equal on all legs, when it may not be.
  void SettleTimes(const ObjectRef& object, OpenFile& file);
  // The same for all directories in which names have changed.
  void SettleDirs();

  // --- upkeep ---
  // Everything done so far is durable on every leg present.
  Errno SyncLegs();
  // One pass of clearing: `all` clears what has not cooled yet, too. `settle`
  // makes the times of open files equal, before they are declared clean.
  void ClearIdle(bool all, const std::function<void()>& settle);

 private:
  using OnLeg = std::function<Errno(Leg&)>;
  using OnObject = std::function<Errno(Leg& leg, int fd)>;

  RegionMark EntriesMark(absl::string_view dir, int64_t since_ns) const;
  RegionMark AttributesMark(const ObjectRef& object) const;
  RegionRecord DownRecord() const;
  // The marks that cover `range` of the file's regions, see mark_plan.cc.
  RegionGate::Request DataRequest(const ObjectRef& object, RegionRange range);
  std::optional<RegionMark> CoveringMark(const ObjectRef& object,
                                         uint64_t first_region);
  // Since when a directory's mark has to cover what was made at `created_ns`
  // (0: now).
  int64_t CoverSince(int64_t created_ns = 0) const;

  // Whether a change that fails has done nothing.
  enum class Atomic { kYes, kNo };
  // Runs `change` on the primary, then on the other legs that take it.
  // `undo` takes it back from a leg when another has no space for it.
  Errno OnAllLegs(RegionGate::Request request, Atomic atomic,
                  const OnLeg& change, const OnLeg& undo);
  RegionGate::Request AttributesRequest(const ObjectRef& object);
  // Changes the object's attributes on all legs by `change`.
  Errno OnObjectOfAllLegs(const ObjectRef& object, const OnObject& change);
  // After the primary took the change: the others, and what to answer.
  Errno OnOthers(RegionChange& change, Atomic atomic, const OnLeg& apply,
                 const OnLeg& undo);
  std::vector<RegionStates::IdleRegion> HotDirectories();
  Errno RecordFailures(RegionChange& change, LegSet failed, Errno error);
  std::string FindOtherName(absl::string_view path);
  bool MarkMoved(const ObjectRef& object, absl::string_view from,
                 absl::string_view to);
  ErrnoOr<struct stat> FinishNew(absl::string_view path, Errno error);
  void UnsettleDirs(const RegionChange& change);
  void EqualizeMtime(absl::string_view path, LegSet legs);

  ErrnoOr<UniqueFd> ObjectFd(Leg& leg, const ObjectRef& object);
  int WriteFdOn(Leg& leg, const ObjectRef& object, OpenFile& file);
  LegSlot ReadLeg(const ObjectRef& object, uint64_t offset, size_t size);
  // Changes the bytes [begin, end) of the file on all legs by `change`.
  Errno OnContentOfAllLegs(RegionGate::Request request, const ObjectRef& object,
                           OpenFile& file, uint64_t begin, uint64_t end,
                           const OnObject& change);
  RegionGate::Request SizeRequest(const ObjectRef& object, uint64_t from);
  RegionMark SizeGuard(const ObjectRef& object) const;
  std::vector<RegionMark> MarksAhead(const ObjectRef& object,
                                     RegionRange range);
  Errno WriteOthers(RegionChange& change, const ObjectRef& object,
                    OpenFile& file, uint64_t offset, absl::string_view data,
                    size_t& taken);
  ErrnoOr<size_t> WriteLegs(const ObjectRef& object, OpenFile& file,
                            uint64_t offset, absl::string_view data);
  int AnyFdOn(Leg& leg, const ObjectRef& object, OpenFile& file);
  Errno RecordBehind(const ObjectRef& object, LegSet legs);
  size_t TakeBackTail(OpenFile& file, LegSet failed, uint64_t offset,
                      size_t taken);

  const std::vector<std::unique_ptr<Leg>>& legs_;
  const LegSlot primary_;
  const LegSet all_;
  LegSet present_;
  std::atomic<ReadFrom> read_from_;
  std::atomic<LegSlot> preferred_;
  DirtyLog* const log_;
  Membership* const membership_;
  const Clock* const clock_;
  const int64_t clock_slack_ns_;
  NamesLock names_lock_;
  RegionGate gate_;
  UnsettledDirs unsettled_dirs_;
  std::function<void()> on_work_;
};

}  // namespace mirrorfs
