// SPDX-License-Identifier: GPL-2.0-or-later
#include "recovery/foreign_keeper.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <spdlog/spdlog.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <shared_mutex>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "leg/call_buffer.h"
#include "leg/conflicts.h"
#include "leg/content.h"
#include "leg/copy_object.h"
#include "leg/label.h"
#include "leg/object.h"

namespace mirrorfs {
namespace {

constexpr int kOpenFlags = O_RDONLY | O_NOATIME | O_NONBLOCK;
// What is copied before it is asked whether to go on.
constexpr uint64_t kPieceBytes = 16 << 20;
// Of each resync; the diagnostics and status have the rest.
constexpr uint64_t kEventsMax = 10;

// What is kept from one return of the leg lies together.
std::string BatchOf(const Leg& leg) {
  return absl::FormatTime("%Y%m%dT%H%M%SZ",
                          absl::FromUnixNanos(leg.away().back().to_ns),
                          absl::UTCTimeZone());
}

// What was put aside has no other path.
std::string PathToKeep(const std::string& path) {
  return std::string(absl::StripPrefix(path, absl::StrCat(kPrivateDir, "/")));
}

// A directory that was renamed or had its attributes changed, but not its
// names.
bool MovedAsWhole(const Leg& leg, const struct stat& dir) {
  return ForeignKeeper::IsForeign(leg, dir) &&
         !leg.ChangedWhileAway(dir.st_mtim);
}

}  // namespace

ForeignKeeper::ForeignKeeper(Mirror* mirror, HealProgress* progress,
                             Pacer* pacer, const std::atomic<bool>* stopping)
    : mirror_(mirror),
      progress_(progress),
      pacer_(pacer),
      stopping_(stopping) {}

ErrnoOr<bool> ForeignKeeper::BeforeWriting(Leg& leg, const std::string& path) {
  if (leg.away().empty()) return false;
  ErrnoOr<LegFd> file = Errno(ENOENT);
  ErrnoOr<struct stat> st = Errno(ENOENT);
  {
    std::shared_lock names(mirror_->names_lock());
    st = leg.Stat(path);
    // That it is not there others will find.
    if (!st.ok() || !HasForeignContent(leg, *st)) return false;
    file = leg.OpenObject(path, kOpenFlags);
  }
  if (!file.ok()) return file.error();
  const Object object = {leg.slot(), st->st_ino};
  {
    std::lock_guard lock(mutex_);
    if (!in_work_.insert(object).second) return Errno(EAGAIN);
  }
  const ErrnoOr<bool> kept = KeepContent(leg, path, *file);
  std::lock_guard lock(mutex_);
  in_work_.erase(object);
  return kept;
}

ErrnoOr<bool> ForeignKeeper::KeepContent(Leg& leg, const std::string& path,
                                         const LegFd& file) {
  ErrnoOr<struct stat> st = StatObject(file);
  if (!st.ok()) return st.error();
  if (!HasForeignContent(leg, *st)) return false;
  const ErrnoOr<bool> same = IsPrimarys(path, file, *st);
  if (!same.ok()) return same.error();
  Errno error;
  if (!*same) error = Tell(leg, path, KeepCopy(leg, path, file, *st));
  if (error.ok() && !*same) error = RecordLacksAll(leg, path);
  if (!error.ok()) return error;
  const timespec times[2] = {{0, UTIME_OMIT}, st->st_mtim};
  error = SetTimes(file, times);
  st = StatObject(file);
  if (!error.ok() || !st.ok()) return error.ok() ? st.error() : error;
  leg.SawClock(ToNs(st->st_ctim));
  return !*same;
}

Errno ForeignKeeper::BeforeRemoving(Leg& leg, const std::string& path,
                                    const struct stat& st) {
  // By its other names the file could be written still.
  if (S_ISREG(st.st_mode) && st.st_nlink > 1) {
    const ErrnoOr<LegFd> file = leg.OpenObject(path, kOpenFlags);
    if (!file.ok()) return file.error();
    return Tell(leg, path, KeepCopy(leg, path, *file, st));
  }
  const ErrnoOr<std::string> kept =
      MoveToConflicts(leg, path, PathToKeep(path), BatchOf(leg));
  leg.NamesReplaced();
  return Tell(leg, path, kept);
}

TakeInstead ForeignKeeper::Taker(Leg& leg) {
  std::string whole;  // beneath it everything is kept
  return [this, &leg, whole](const std::string& path,
                             const struct stat& st) mutable -> ErrnoOr<bool> {
    if (leg.away().empty()) return false;
    const bool in_whole = !whole.empty() && absl::StartsWith(path, whole);
    if (S_ISDIR(st.st_mode)) {
      if (!in_whole && MovedAsWhole(leg, st)) whole = path + "/";
      return false;
    }
    if (!in_whole && !IsForeign(leg, st)) return false;
    const Errno error = BeforeRemoving(leg, path, st);
    if (!error.ok()) return error;
    // A copy was kept of what has other names.
    return !leg.Stat(path).ok();
  };
}

// Whether the content is what the primary has. When it cannot be asked, it is
// taken for another.
ErrnoOr<bool> ForeignKeeper::IsPrimarys(const std::string& path,
                                        const LegFd& file,
                                        const struct stat& st) {
  const ErrnoOr<LegFd> truth = mirror_->primary().OpenObject(path, kOpenFlags);
  if (!truth.ok()) return false;
  const ErrnoOr<struct stat> wanted = StatObject(*truth);
  if (!wanted.ok() || !S_ISREG(wanted->st_mode)) return false;
  if (wanted->st_size != st.st_size) return false;
  CallBuffer buffers[2] = {CallBuffer(kCopyBufferBytes),
                           CallBuffer(kCopyBufferBytes)};
  for (uint64_t at = 0; at < static_cast<uint64_t>(st.st_size);) {
    if (!pacer_->WaitForTurn(kCopyBufferBytes, *stopping_)) return Errno(EINTR);
    const ErrnoOr<size_t> there =
        ReadContent(*truth, buffers[0], kCopyBufferBytes, at);
    if (!there.ok()) return false;
    const ErrnoOr<size_t> here =
        ReadContent(file, buffers[1], kCopyBufferBytes, at);
    if (!here.ok()) return here.error();
    const bool equal = *there == *here &&
                       memcmp(buffers[0].data(), buffers[1].data(), *here) == 0;
    if (!equal || *here == 0) return equal;
    at += *here;
  }
  return true;
}

ErrnoOr<std::string> ForeignKeeper::KeepCopy(Leg& leg, const std::string& path,
                                             const LegFd& file,
                                             const struct stat& st) {
  const std::string temporary = leg.NewTemporaryPath();
  const ErrnoOr<LegFd> copy = leg.Create(temporary, O_RDWR | O_EXCL, 0600);
  if (!copy.ok()) return copy.error();
  Errno error = CopyContentTo(file, *copy, st.st_size);
  if (error.ok()) error = CopyAttributes(file, *copy);
  ErrnoOr<std::string> kept = error;
  if (error.ok()) {
    kept = MoveToConflicts(leg, temporary, PathToKeep(path), BatchOf(leg));
  }
  if (!kept.ok()) {
    (void)leg.Unlink(temporary);
    return kept;
  }
  error = copy->Call([](int fd) { return FromSyscall(fsync(fd)); });
  return error.ok() ? kept : error;
}

// Without a pace: before, all of it was compared, or regions are held.
Errno ForeignKeeper::CopyContentTo(const LegFd& file, const LegFd& copy,
                                   uint64_t size) {
  const Errno shared = copy.CallWith(file, [](int to, int from) {
    return FromSyscall(ioctl(to, FICLONE, from));
  });
  if (shared.ok() || shared == Errno(ETIMEDOUT)) return shared;
  CallBuffer buffers[2] = {CallBuffer(kCopyBufferBytes),
                           CallBuffer(kCopyBufferBytes)};
  for (uint64_t at = 0; at < size; at += kPieceBytes) {
    if (*stopping_) return Errno(EINTR);
    CopyCount count;
    const uint64_t end = std::min(size, at + kPieceBytes);
    const Errno error = CopyContent(file, copy, at, end, buffers, &count);
    if (!error.ok()) return error;
  }
  return kOk;
}

Errno ForeignKeeper::RecordLacksAll(const Leg& leg, const std::string& path) {
  RegionRecord record;
  record.missing = LegSet::Of(leg.slot());
  record.tail_from = 0;
  mirror_->log().MarkRegion(RegionKey::Attributes(path), record);
  // The log's failure, and not the leg's.
  return mirror_->log().Flush().ok() ? kOk : Errno(EAGAIN);
}

Errno ForeignKeeper::Tell(const Leg& leg, const std::string& path,
                          const ErrnoOr<std::string>& kept) {
  if (kept.ok()) {
    spdlog::warn(
        "leg \"{}\": \"{}\" was changed there while the leg was away; "
        "that version is kept as {}",
        leg.name(), path, *kept);
    if (progress_->ConflictKept(leg.slot()).conflicts_kept < kEventsMax) {
      mirror_->Post(EventName::kConflictKept, leg.name(),
                    absl::StrCat(path, ": kept as ", *kept));
    }
    return kOk;
  }
  spdlog::warn(
      "leg \"{}\": \"{}\" was changed there while the leg was away, "
      "and is left as it is, because it cannot be kept: {}",
      leg.name(), path, ErrnoText(kept.error()));
  if (IsOutOfSpace(kept.error()) &&
      !progress_->ConflictWaits(leg.slot()).conflict_waits) {
    mirror_->Post(EventName::kEnospc, leg.name(),
                  absl::StrCat("no room to keep what was changed there while "
                               "it was away: ",
                               path));
  }
  return kept.error();
}

}  // namespace mirrorfs
