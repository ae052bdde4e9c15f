// SPDX-License-Identifier: GPL-2.0-or-later
//
// Operations on names.
#include <fcntl.h>
#include <linux/fs.h>

#include "leg/copy_object.h"
#include "leg/foreign.h"
#include "leg/object.h"
#include "leg/walk.h"
#include "mirror/mirror.h"

namespace mirrorfs {

// Once a new object stands: its times are equalized. Answers with the primary's
// attributes.
ErrnoOr<struct stat> Mirror::FinishNew(absl::string_view path, Errno error,
                                       LegSet no_heirs) {
  if (!error.ok()) return error;
  EqualizeNew(path, no_heirs);
  return EqualizeMtime(std::string(path));
}

LegSet Mirror::NoHeirs(absl::string_view dir) const {
  if (log_->LackingAnything().empty()) return LegSet();
  return log_->Lacking(RegionKey::Attributes(std::string(dir)));
}

void Mirror::EqualizeNew(absl::string_view path, LegSet no_heirs) {
  if (no_heirs.empty()) return;
  const RegionMark attributes{RegionKey::Attributes(std::string(path))};
  LegSet legs = no_heirs & secondaries();
  legs -= LeftToRecovery(attributes, legs);
  const ErrnoOr<LegFd> from = primary().OpenObject(path, O_PATH);
  legs.ForEach([&](LegSlot slot) {
    Leg& heir = leg(slot);
    const ErrnoOr<LegFd> to = heir.OpenObject(path, O_PATH);
    const Errno error = !from.ok() ? from.error()
                        : to.ok()  ? CopyAttributes(*from, *to)
                                   : to.error();
    if (!error.ok()) NotEqualized(heir, attributes, error);
  });
}

// What changes the name `path`: an entry of its directory.
RegionGate::Request Mirror::NameRequest(absl::string_view path,
                                        int64_t since_ns) const {
  RegionGate::Request request;
  request.marks.push_back(EntriesMark(ParentPath(path), since_ns));
  request.names.push_back(RegionKey::Attributes(std::string(path)));
  return request;
}

// A leg that was away gives a new change time to what has that path. Recovery,
// which may not have come to it yet, would not see any more that somebody else
// changed it meanwhile.
void Mirror::NoteForeign(const Leg& leg, absl::string_view path) const {
  if (leg.away().empty() || !log_->LackingAnything().has(leg.slot())) return;
  NoteIfForeign(leg, path);
}

ErrnoOr<struct stat> Mirror::Create(absl::string_view path, int flags,
                                    mode_t mode, const Caller& caller,
                                    OpenFile& file) {
  RegionGate::Request request = NameRequest(path, CoverSince(caller.asked_ns));
  const LegSet no_heirs = NoHeirs(ParentPath(path));
  const Errno error = OnAllLegs(
      std::move(request), Atomic::kYes,
      [&](Leg& leg) {
        ErrnoOr<LegFd> fd =
            leg.Create(path, flags | O_RDWR | O_EXCL, mode, caller);
        if (!fd.ok()) return fd.error();
        file.SetWriteFd(leg.slot(), std::move(*fd), leg.replaced_epoch());
        return kOk;
      },
      [&](Leg& leg) { return leg.Unlink(path); });
  if (!error.ok()) return error;
  EqualizeNew(path, no_heirs);
  file.times_unsettled = true;
  return AskPrimary([&](Leg & leg) -> ErrnoOr<struct stat> {
    const LegFd fd = file.write_fd(leg.slot());
    return fd.valid() ? StatObject(fd) : leg.Stat(path);
  });
}

ErrnoOr<struct stat> Mirror::CreateUnnamed(absl::string_view dir, int flags,
                                           mode_t mode, const Caller& caller,
                                           OpenFile& file) {
  const auto create = [&](Leg& leg) {
    ErrnoOr<LegFd> fd =
        leg.CreateUnnamed(dir, (flags & O_EXCL) | O_RDWR, mode, caller);
    if (!fd.ok()) return fd.error();
    file.SetWriteFd(leg.slot(), std::move(*fd), leg.replaced_epoch());
    return kOk;
  };
  const LegSet no_heirs = NoHeirs(dir);
  LegSlot decided = -1;
  const Errno error = OnPrimary(legs_->up(), create, &decided);
  if (!error.ok()) return error;
  // A leg that cannot is told so by Link, which finds no descriptor for it.
  (legs_->up() - LegSet::Of(decided)).ForEach([&](LegSlot slot) {
    if (!create(leg(slot)).ok() || !no_heirs.has(slot)) return;
    const Errno error =
        CopyAttributes(file.write_fd(decided), file.write_fd(slot));
    if (!error.ok()) file.NoteBehind(LegSet::Of(slot));
  });
  file.times_unsettled = true;
  const auto stat = [&](Leg & leg) -> ErrnoOr<struct stat> {
    const LegFd fd = file.write_fd(leg.slot());
    return fd.valid() ? StatObject(fd) : Errno(ENOENT);
  };
  return decided == legs_->primary() ? AskPrimary(stat) : stat(leg(decided));
}

ErrnoOr<struct stat> Mirror::Mkdir(absl::string_view path, mode_t mode,
                                   const Caller& caller) {
  RegionGate::Request request = NameRequest(path, CoverSince(caller.asked_ns));
  // Something will be made in it: one write marks many new directories.
  request.ahead.push_back(EntriesMark(path, CoverSince(caller.asked_ns)));
  const LegSet no_heirs = NoHeirs(ParentPath(path));
  const Errno error = OnAllLegs(
      std::move(request), Atomic::kYes,
      [&](Leg& leg) { return leg.Mkdir(path, mode, caller); },
      [&](Leg& leg) { return leg.Rmdir(path); });
  return FinishNew(path, error, no_heirs);
}

ErrnoOr<struct stat> Mirror::Mknod(absl::string_view path, mode_t mode,
                                   dev_t rdev, const Caller& caller) {
  RegionGate::Request request = NameRequest(path, CoverSince(caller.asked_ns));
  const LegSet no_heirs = NoHeirs(ParentPath(path));
  const Errno error = OnAllLegs(
      std::move(request), Atomic::kYes,
      [&](Leg& leg) { return leg.Mknod(path, mode, rdev, caller); },
      [&](Leg& leg) { return leg.Unlink(path); });
  return FinishNew(path, error, no_heirs);
}

ErrnoOr<struct stat> Mirror::Symlink(absl::string_view target,
                                     absl::string_view path,
                                     const Caller& caller) {
  RegionGate::Request request = NameRequest(path, CoverSince(caller.asked_ns));
  const LegSet no_heirs = NoHeirs(ParentPath(path));
  const Errno error = OnAllLegs(
      std::move(request), Atomic::kYes,
      [&](Leg& leg) { return leg.Symlink(target, path, caller); },
      [&](Leg& leg) { return leg.Unlink(path); });
  return FinishNew(path, error, no_heirs);
}

ErrnoOr<struct stat> Mirror::Link(const ObjectRef& object,
                                  absl::string_view path) {
  // A file made under another directory's mark has to be covered here, too.
  RegionGate::Request request =
      NameRequest(path, CoverSince(object.created_ns));
  // A leg on which the name to start from may be another file's must not be
  // given a second name for that.
  if (object.named) {
    request.sources.push_back(
        RegionKey::Entries(std::string(ParentPath(object.path))));
    request.names.push_back(RegionKey::Attributes(object.path));
  } else if (SyncsByObject()) {
    // What was written to it had no name to be on record under.
    request.marks.push_back({RegionKey::Attributes(std::string(path))});
    request.marks.back().record.tail_from = 0;
  }
  // The old name, too: a file that had one was nobody's concern.
  std::vector<std::string> paths = {std::string(path)};
  if (object.named) paths.push_back(object.path);
  FileMove move(name_watch_, std::move(paths));
  request.also = [&](LegSet) {
    move.Begin();
    return false;
  };
  const Errno error = OnAllLegs(
      std::move(request), Atomic::kYes,
      [&](Leg& leg) {
        if (object.named) {
          NoteForeign(leg, object.path);
          return leg.Link(object.path, path);
        }
        if (object.open == nullptr) return Errno(ENOENT);
        const LegFd fd = object.open->write_fd(
            leg.slot(), EpochOf(leg, object, *object.open));
        return fd.valid() ? leg.LinkFd(fd, path) : Errno(ENOENT);
      },
      [&](Leg& leg) { return leg.Unlink(path); });
  return FinishNew(path, error, LegSet());
}

Errno Mirror::UnlinkLast(absl::string_view path, std::shared_ptr<OpenFile> open,
                         std::vector<LegFd>* kept) {
  RegionGate::Request request = NameRequest(path, CoverSince());
  request.loses_name = std::move(open);
  // Who makes room is told of it when there is room.
  if (space_was_short_) kept = nullptr;
  return OnAllLegs(
      std::move(request), Atomic::kYes,
      [&](Leg& leg) {
        if (kept == nullptr) return leg.Unlink(path);
        const ErrnoOr<LegFd> unlinked = leg.UnlinkKept(path);
        if (unlinked.ok()) kept->push_back(*unlinked);
        return unlinked.error();
      },
      nullptr);
}

Errno Mirror::UnlinkOne(absl::string_view path, std::string other_name) {
  RegionGate::Request request = NameRequest(path, CoverSince());
  std::string heir = std::move(other_name);
  if (heir.empty() && log_->HasRecords(path)) heir = FindOtherName(path);
  if (!heir.empty()) {
    request.also = [&](LegSet) {
      return Carry([&] { return log_->CopyObject(path, heir); }).unflushed;
    };
  }
  return OnAllLegs(
      std::move(request), Atomic::kYes,
      [&](Leg& leg) {
        NoteForeign(leg, path);
        return leg.Unlink(path);
      },
      nullptr);
}

DirtyLog::Moving Mirror::Carry(const std::function<DirtyLog::Moving()>& carry) {
  DirtyLog::Moving moving;
  gate_.Carry([&] {
    moving = carry();
    return moving.copies;
  });
  return moving;
}

// Another name of the file at `path`, by a walk of the primary: for a file with
// several names whose others the kernel never asked for. Rare.
std::string Mirror::FindOtherName(absl::string_view path) {
  const ErrnoOr<struct stat> file = StatPath(path);
  std::string found;
  if (!file.ok()) return found;
  const auto look = [&](const std::string& name, const struct stat& st) {
    if (st.st_ino == file->st_ino && name != path) found = name;
  };
  constexpr int kTries = 3;
  for (int tries = 0; tries < kTries && found.empty(); ++tries) {
    if (WalkLeg(primary(), look).ok()) break;
  }
  return found;
}

Errno Mirror::Rmdir(absl::string_view path) {
  RegionGate::Request request = NameRequest(path, CoverSince());
  return OnAllLegs(
      std::move(request), Atomic::kYes,
      [&](Leg& leg) { return leg.Rmdir(path); }, nullptr);
}

// Legs that do not take a move.
LegSet Mirror::WithoutMove(absl::string_view from, absl::string_view to,
                           LegSet down) {
  return down |
         log_->Lacking(RegionKey::Entries(std::string(ParentPath(from)))) |
         log_->Lacking(RegionKey::Entries(std::string(ParentPath(to))));
}

Origins Mirror::OriginsOf(absl::string_view path, LegSet legs) {
  Origins origins;
  legs.ForEach(
      [&](LegSlot slot) { origins.Set(slot, log_->OriginOf(path, slot)); });
  return origins;
}

// A leg that does not take the move lacks at the new place all that it has, or
// lacks, at the old one; what it has at the new place is something else.
void Mirror::MarkMoved(const ObjectRef& object, absl::string_view to,
                       const Origins& origins, LegSet legs,
                       DirtyLog::Moving* moving) {
  if (legs.empty()) return;
  RegionRecord record;
  record.missing = legs;
  record.directory = object.is_dir;
  record.tail_from = 0;
  record.moved_from = origins;
  log_->MarkMissed(RegionKey::Attributes(std::string(to)), record, moving);
}

Errno Mirror::Rename(const ObjectRef& object, absl::string_view to,
                     unsigned flags, Victim victim) {
  const absl::string_view from = object.path;
  const int64_t since = CoverSince(object.created_ns);
  const bool replaces = victim.replaced != Replaced::kNothing;
  std::string& heir = victim.heir;
  if (victim.replaced == Replaced::kLivesOn && heir.empty() &&
      log_->HasRecords(to)) {
    heir = FindOtherName(to);
  }
  RegionGate::Request request = NameRequest(from, since);
  request.names.push_back(RegionKey::Attributes(std::string(to)));
  request.loses_name = std::move(victim.open);
  if (ParentPath(from) != ParentPath(to)) {
    request.marks.push_back(EntriesMark(ParentPath(to), since));
  }
  if (object.is_dir) {
    // By name alone a directory that stands on two legs looks the same; which
    // one it is has to be remembered for both places, now and for whatever is
    // made at the old one.
    for (const absl::string_view place : {from, to}) {
      request.moved.push_back(EntriesMark(place, kNever));
      request.moved.back().record.dirty_deep = true;
    }
  }
  const bool exchanges = flags & RENAME_EXCHANGE;
  const bool other_stays = exchanges || victim.replaced == Replaced::kLivesOn;
  DirtyLog::Moving moving;
  FileMove move(object.is_dir ? nullptr : name_watch_,
                {std::string(from), std::string(to)});
  request.also = [&](LegSet down) {
    move.Begin();
    const LegSet without = WithoutMove(from, to, down);
    const Origins moved = OriginsOf(from, without);
    const Origins swapped = OriginsOf(to, without);
    bool flush = !heir.empty() &&
                 Carry([&] { return log_->CopyObject(to, heir); }).unflushed;
    moving = Carry(
        [&] { return log_->BeginMove(from, to, object.is_dir, exchanges); });
    if (exchanges) MarkMoved(object, from, swapped, without, &moving);
    MarkMoved(object, to, moved, without, &moving);
    return flush || moving.unflushed;
  };
  LegSet took;
  const Errno error = OnAllLegs(
      std::move(request), Atomic::kYes,
      [&](Leg& leg) {
        NoteForeign(leg, from);
        if (other_stays) NoteForeign(leg, to);
        const Errno renamed = leg.Rename(from, to, flags);
        if (renamed.ok()) took |= LegSet::Of(leg.slot());
        if (object.is_dir) leg.ForgetDirs();
        return renamed;
      },
      [&](Leg& leg) {
        // What was replaced cannot be had back.
        if (replaces && !exchanges) return Errno(EEXIST);
        const Errno renamed = leg.Rename(to, from, flags);
        if (renamed.ok()) took -= LegSet::Of(leg.slot());
        if (object.is_dir) leg.ForgetDirs();
        return renamed;
      });
  if (object.is_dir && name_watch_ != nullptr) {
    // What has become of one in doubt comes by NoteRenamed. Else also where
    // another leg could not take it back.
    if (MayBeMade(error)) {
      name_watch_->DirInDoubt();
    } else if (took.has(legs_->primary())) {
      name_watch_->DirMoved(from, to, exchanges);
    }
  }
  if (!error.ok()) {
    // Else each one that is refused would double what the log says of a tree.
    if (object.is_dir && took.empty()) log_->UndoMove(moving);
    return error;
  }
  gate_.Carry([&] {
    log_->FinishMove(moving, took);
    std::vector<RegionKey> left;
    for (const DirtyLog::Moving::Left& one : moving.left) {
      left.push_back(one.key);
    }
    return left;
  });
  if (object.is_dir) {
    unsettled_dirs_.Moved(from, to);
    if (exchanges) unsettled_dirs_.Moved(to, from);
  }
  return error;
}

// Of files the index of names was told both places.
void Mirror::NoteRenamed(const std::string& from, const std::string& to,
                         bool exchange) {
  primary().ForgetDirs();
  const ErrnoOr<struct stat> moved = StatPath(to);
  if (!moved.ok() || !S_ISDIR(moved->st_mode)) return;
  if (name_watch_ != nullptr) name_watch_->DirMoved(from, to, exchange);
  unsettled_dirs_.Moved(from, to);
  if (exchange) unsettled_dirs_.Moved(to, from);
}

}  // namespace mirrorfs
