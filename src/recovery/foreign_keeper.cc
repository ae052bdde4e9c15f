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
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/kill_point.h"
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

// The first byte at or after `at` that is not in a hole; `at` if that cannot be
// told.
uint64_t NextData(const LegFd& file, uint64_t at, uint64_t size) {
  const ErrnoOr<off_t> data =
      SeekContent(file, static_cast<off_t>(at), SEEK_DATA);
  if (data.ok()) return static_cast<uint64_t>(*data);
  return data.error() == Errno(ENXIO) ? size : at;
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
  const ErrnoOr<std::optional<Taken>> taken = TakeUp(leg, path);
  if (!taken.ok()) return taken.error();
  if (!taken->has_value()) return false;
  const Taken& file = **taken;
  // The log's failure, and not the leg's.
  Errno error = mirror_->log().Flush().ok() ? kOk : Errno(EAGAIN);
  if (error.ok()) error = KeepContent(leg, path, file);
  if (error.ok()) leg.foreign_notes().Remove(leg, file.object.second);
  {
    std::lock_guard lock(mutex_);
    in_work_.erase(file.object);
  }
  if (!error.ok()) return error;
  std::shared_lock names(mirror_->names_lock());
  const ErrnoOr<struct stat> now = leg.Stat(path);
  if (!now.ok() || now->st_ino != file.object.second) return Errno(EAGAIN);
  return true;
}

// Nothing if there is nothing to keep.
ErrnoOr<std::optional<ForeignKeeper::Taken>> ForeignKeeper::TakeUp(
    Leg& leg, const std::string& path) {
  std::shared_lock names(mirror_->names_lock());
  const ErrnoOr<struct stat> st = leg.Stat(path);
  // That it is not there others will find.
  if (!st.ok() || !HasForeignContent(leg, path, *st)) {
    return std::optional<Taken>();
  }
  // It keeps its name until the log says of that what a rename takes along.
  const std::vector<RegionKey> held = {RegionKey::Attributes(path)};
  mirror_->gate().StartRecovery(held);
  ErrnoOr<std::optional<Taken>> taken = TakeUpHeld(leg, path);
  mirror_->gate().FinishRecovery(held);
  return taken;
}

ErrnoOr<std::optional<ForeignKeeper::Taken>> ForeignKeeper::TakeUpHeld(
    Leg& leg, const std::string& path) {
  const ErrnoOr<struct stat> st = leg.Stat(path);
  if (!st.ok() || !HasForeignContent(leg, path, *st)) {
    return std::optional<Taken>();
  }
  ErrnoOr<LegFd> file = leg.OpenObject(path, kOpenFlags);
  if (!file.ok()) return file.error();
  const Object object = {leg.slot(), st->st_ino};
  {
    std::lock_guard lock(mutex_);
    if (!in_work_.insert(object).second) return Errno(EAGAIN);
  }
  // Whatever else happens to its change time.
  leg.foreign_notes().Add(leg, st->st_ino);
  RegionRecord record;
  record.missing = LegSet::Of(leg.slot());
  record.tail_from = 0;
  mirror_->log().MarkRegion(RegionKey::Attributes(path), record);
  ErrnoOr<LegFd> truth = mirror_->primary().OpenObject(path, kOpenFlags);
  return std::optional<Taken>(
      {object, std::move(*file), truth.ok() ? std::move(*truth) : LegFd()});
}

Errno ForeignKeeper::KeepContent(Leg& leg, const std::string& path,
                                 const Taken& taken) {
  ErrnoOr<struct stat> st = StatObject(taken.file);
  if (!st.ok()) return st.error();
  const ErrnoOr<bool> same = IsPrimarys(taken.truth, taken.file, *st);
  if (!same.ok()) return same.error();
  Errno error;
  if (!*same) error = Tell(leg, path, KeepCopy(leg, path, taken.file, *st));
  if (!error.ok()) return error;
  const timespec times[2] = {{0, UTIME_OMIT}, st->st_mtim};
  error = SetTimes(taken.file, times);
  st = StatObject(taken.file);
  if (!error.ok() || !st.ok()) return error.ok() ? st.error() : error;
  leg.SawClock(ToNs(st->st_ctim));
  return kOk;
}

Errno ForeignKeeper::BeforeRemoving(Leg& leg, const std::string& path,
                                    const struct stat& st) {
  // By its other names the file could be written still.
  if (S_ISREG(st.st_mode) && st.st_nlink > 1) {
    const ErrnoOr<LegFd> file = leg.OpenObject(path, kOpenFlags);
    if (!file.ok()) return file.error();
    const Errno error = Tell(leg, path, KeepCopy(leg, path, *file, st));
    if (error.ok()) leg.foreign_notes().Remove(leg, st.st_ino);
    return error;
  }
  const ErrnoOr<std::string> kept =
      MoveToConflicts(leg, path, PathToKeep(path), BatchOf(leg));
  leg.NamesReplaced();
  if (kept.ok()) leg.foreign_notes().Remove(leg, st.st_ino);
  return Tell(leg, path, kept);
}

TakeInstead ForeignKeeper::Taker(Leg& leg) {
  return [this, &leg](const std::string& path,
                      const struct stat& st) -> ErrnoOr<bool> {
    if (leg.away().empty()) return false;
    if (S_ISDIR(st.st_mode)) {
      // The first thing that is taken from it hides that it was moved in.
      NoteIfForeign(leg, path, st);
      return false;
    }
    if (!IsForeign(leg, path, st)) return false;
    const Errno error = BeforeRemoving(leg, path, st);
    if (!error.ok()) return error;
    // A copy was kept of what has other names.
    return !leg.Stat(path).ok();
  };
}

// Whether the content is what the primary has. When it cannot be asked, it is
// taken for another.
ErrnoOr<bool> ForeignKeeper::IsPrimarys(const LegFd& truth, const LegFd& file,
                                        const struct stat& st) {
  const ErrnoOr<struct stat> wanted = StatObject(truth);
  if (!wanted.ok() || !S_ISREG(wanted->st_mode)) return false;
  if (wanted->st_size != st.st_size) return false;
  const uint64_t size = static_cast<uint64_t>(st.st_size);
  CallBuffer buffers[2] = {CallBuffer(kCopyBufferBytes),
                           CallBuffer(kCopyBufferBytes)};
  for (uint64_t at = 0;;) {
    at = std::min(NextData(truth, at, size), NextData(file, at, size));
    if (at >= size) return true;
    if (!pacer_->WaitForTurn(kCopyBufferBytes, *stopping_)) return Errno(EINTR);
    const ErrnoOr<size_t> there =
        ReadContent(truth, buffers[0], kCopyBufferBytes, at);
    if (!there.ok()) return false;
    const ErrnoOr<size_t> here =
        ReadContent(file, buffers[1], kCopyBufferBytes, at);
    if (!here.ok()) return here.error();
    const bool equal = *there == *here &&
                       memcmp(buffers[0].data(), buffers[1].data(), *here) == 0;
    if (!equal || *here == 0) return equal;
    at += *here;
  }
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

Errno ForeignKeeper::Tell(const Leg& leg, const std::string& path,
                          const ErrnoOr<std::string>& kept) {
  if (kept.ok()) {
    KillPoint("foreign-kept");
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
