// SPDX-License-Identifier: GPL-2.0-or-later
//
// Making things durable, and times equal.
#include <fcntl.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "base/kill_point.h"
#include "leg/content.h"
#include "leg/object.h"
#include "leg/parallel_sync.h"
#include "mirror/mirror.h"

namespace mirrorfs {
namespace {

bool AnyOk(const std::vector<Errno>& results) {
  return std::any_of(results.begin(), results.end(),
                     [](Errno error) { return error.ok(); });
}

// Opens it to be synced; no descriptor where nothing is there that could be.
ErrnoOr<LegFd> OpenToSync(const Leg& leg, absl::string_view path) {
  const ErrnoOr<struct stat> st = leg.Stat(path);
  if (!st.ok())
    return IsAbsent(st.error()) ? LegFd() : ErrnoOr<LegFd>(st.error());
  if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode)) return LegFd();
  // It may have become a fifo meanwhile.
  ErrnoOr<LegFd> fd = leg.OpenObject(path, O_RDONLY | O_NONBLOCK);
  return !fd.ok() && IsAbsent(fd.error()) ? LegFd() : fd;
}

// Together, as many at a time as may be: a file system commits what is asked
// for at the same time at once.
Errno SyncEach(const Leg& leg, const std::set<std::string>& paths) {
  std::vector<LegFd> fds;
  for (auto path = paths.begin(); path != paths.end();) {
    ErrnoOr<LegFd> fd = OpenToSync(leg, *path);
    if (!fd.ok()) return fd.error();
    if (fd->valid()) fds.push_back(*std::move(fd));
    if (++path != paths.end() && fds.size() < kSyncedTogetherMax) continue;
    for (const Errno error : SyncTogether(fds, false)) {
      if (!error.ok()) return error;
    }
    fds.clear();
  }
  return kOk;
}

// True when it had another and has this one now: not every file system can hold
// every time.
ErrnoOr<bool> SetMtimeWhere(const LegFd& fd, const timespec& mtime) {
  ErrnoOr<struct stat> copy = StatObject(fd);
  if (!copy.ok()) return copy.error();
  if (SameTime(copy->st_mtim, mtime)) return false;
  const timespec times[2] = {{0, UTIME_OMIT}, mtime};
  if (const Errno error = SetTimes(fd, times); !error.ok()) return error;
  copy = StatObject(fd);
  if (!copy.ok()) return copy.error();
  return SameTime(copy->st_mtim, mtime);
}

}  // namespace

Errno Mirror::Fsync(const ObjectRef& object, OpenFile& file, bool data_only) {
  // What a leg lacks is on record; what it has must be durable all the same.
  const LegSet lacking = object.named
                             ? log_->Lacking(RegionKey::Attributes(object.path))
                             : LegSet();
  std::vector<LegFd> fds;
  std::vector<const Leg*> synced;
  LegErrnos failed;
  legs_->up().ForEach([&](LegSlot slot) {
    Leg& one = leg(slot);
    const ErrnoOr<LegFd> fd = AnyFdOn(one, object, file);
    if (fd.ok()) {
      fds.push_back(*fd);
      synced.push_back(&one);
    } else if (object.named && !lacking.has(slot)) {
      failed.emplace_back(&one, fd.error());
    }
  });
  const std::vector<Errno> results = SyncTogether(fds, data_only);
  for (size_t i = 0; i < results.size(); ++i) {
    if (!results[i].ok()) failed.emplace_back(synced[i], results[i]);
  }
  return AfterSync(object, failed, AnyOk(results));
}

// Some legs could not make something durable. What they had been given is not
// to be trusted, so they fail; what is not their failure as a whole is recorded
// as the file's. The last leg in sync answers for itself.
Errno Mirror::AfterSync(const ObjectRef& object, const LegErrnos& failed,
                        bool any_durable) {
  LegSet behind;
  for (const auto& [leg, error] : failed) {
    spdlog::error("leg \"{}\": fsync of {}: {}", leg->name(), object.path,
                  ErrnoText(error));
    ++legs_->errors(leg->slot()).write;
    if (IsLegFailure(error)) {
      if (!any_durable || !FailLeg(*leg, error)) return error;
    } else if (leg->slot() == legs_->primary()) {
      return error;
    } else {
      behind |= LegSet::Of(leg->slot());
    }
  }
  if (!object.named && object.open) object.open->NoteBehind(behind);
  return behind.empty() || !object.named ? kOk : RecordBehind(object, behind);
}

// From now on `legs` lack all of this file, durably recorded.
Errno Mirror::RecordBehind(const ObjectRef& object, LegSet legs) {
  RegionGate::Request request;
  if (object.is_dir) {
    request.marks.push_back(EntriesMark(object.path, CoverSince()));
  } else {
    request.marks.push_back(AttributesMark(object));
    request.marks.back().record.tail_from = 0;
  }
  ErrnoOr<RegionChange> change = Begin(std::move(request));
  if (!change.ok()) return change.error();
  return RecordFailures(*change, legs, kOk);
}

Errno Mirror::FsyncDir(absl::string_view path) {
  const LegSet lacking = log_->Lacking(RegionKey::Entries(std::string(path)));
  std::vector<LegFd> fds;
  std::vector<const Leg*> synced;
  LegErrnos failed;
  (legs_->up() - lacking).ForEach([&](LegSlot slot) {
    Leg& one = leg(slot);
    const ErrnoOr<LegFd> dir = one.OpenObject(path, O_RDONLY | O_DIRECTORY);
    if (!dir.ok()) {
      failed.emplace_back(&one, dir.error());
      return;
    }
    fds.push_back(*dir);
    synced.push_back(&one);
  });
  const std::vector<Errno> results = SyncTogether(fds, false);
  for (size_t i = 0; i < results.size(); ++i) {
    if (!results[i].ok()) failed.emplace_back(synced[i], results[i]);
  }
  ObjectRef object;
  object.path = std::string(path);
  object.is_dir = true;
  return AfterSync(object, failed, AnyOk(results));
}

bool Mirror::SyncsByObject() {
  bool any = false;
  legs_->up().ForEach([&](LegSlot slot) { any |= !leg(slot).syncs_whole(); });
  return any;
}

// A leg that cannot make things durable is not to be trusted with what it had
// been given: it fails.
Errno Mirror::SyncLegs(const std::set<std::string>& paths) {
  Errno result;
  legs_->up().ForEach([&](LegSlot slot) {
    Leg& asked = leg(slot);
    const Errno error =
        asked.syncs_whole() ? asked.SyncAll() : SyncEach(asked, paths);
    if (error.ok()) return;
    spdlog::error("leg \"{}\": making it durable: {}", asked.name(),
                  ErrnoText(error));
    ++legs_->errors(slot).write;
    if (IsLegFailure(error)) (void)FailLeg(asked, error);
    result = error;
  });
  return result;
}

void Mirror::SettleTimes(const ObjectRef& object, OpenFile& file) {
  if (!file.times_unsettled.exchange(false)) return;
  // Somebody may set the time meanwhile, on the primary and then on the others,
  // where what we read before would come last. So look again after each change,
  // and when it was of another primary; after a write, others will.
  bool again = true;
  while (again && !file.times_unsettled) {
    const uint64_t epoch = legs_->primary_epoch();
    const ErrnoOr<struct stat> truth = Stat(object);
    KillPoint("times-settling");
    if (!truth.ok() && !IsAbsent(truth.error())) file.times_unsettled = true;
    if (!truth.ok()) return;
    again = CopyMtime(object, file, truth->st_mtim) ||
            legs_->primary_epoch() != epoch;
  }
}

// True when a leg needed it.
bool Mirror::CopyMtime(const ObjectRef& object, OpenFile& file,
                       const timespec& mtime) {
  bool any = false;
  LegSet legs = file.writable_legs() & secondaries();
  if (object.named) legs -= LeftToRecovery(AttributesMark(object), legs);
  legs.ForEach([&](LegSlot slot) {
    const ErrnoOr<LegFd> fd = WriteFdOn(leg(slot), object, file);
    const ErrnoOr<bool> changed =
        fd.ok() ? SetMtimeWhere(*fd, mtime) : fd.error();
    any |= changed.ok() && *changed;
    if (!changed.ok() && object.named) {
      NotEqualized(leg(slot), AttributesMark(object), changed.error());
    }
  });
  return any;
}

}  // namespace mirrorfs
