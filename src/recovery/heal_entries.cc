// SPDX-License-Identifier: GPL-2.0-or-later
#include <fcntl.h>

#include "base/clock.h"
#include "leg/object.h"
#include "recovery/healer.h"

namespace mirrorfs {
namespace {

bool SameKind(const struct stat& a, const struct stat& b) {
  if ((a.st_mode & S_IFMT) != (b.st_mode & S_IFMT)) return false;
  const bool device = S_ISCHR(a.st_mode) || S_ISBLK(a.st_mode);
  return !device || a.st_rdev == b.st_rdev;
}

// What a look at the inodes tells; xattrs and content are another matter.
bool SameAttributes(const struct stat& a, const struct stat& b) {
  const bool sized = S_ISREG(a.st_mode);
  return a.st_mode == b.st_mode && a.st_uid == b.st_uid &&
         a.st_gid == b.st_gid && SameTime(a.st_mtim, b.st_mtim) &&
         (!sized || a.st_size == b.st_size);
}

// EAGAIN when a name that led to that file has moved since: where it leads to
// now has to be asked for again.
Errno StillLeadsTo(const ErrnoOr<struct stat>& st, ino_t ino) {
  if (!st.ok() && !IsGone(st.error())) return st.error();
  return st.ok() && st->st_ino == ino ? kOk : Errno(EAGAIN);
}

// Whether both are of one file.
bool SameFile(const ErrnoOr<struct stat>& a, const ErrnoOr<struct stat>& b) {
  return a.ok() && b.ok() && a->st_ino == b->st_ino;
}

// The deepest directory that both lie in.
absl::string_view CommonDir(absl::string_view a, absl::string_view b) {
  absl::string_view dir = ParentPath(a);
  while (!LiesIn(ParentPath(b), dir)) dir = ParentPath(dir);
  return dir;
}

}  // namespace

Errno Healer::RemoveGone(Leg& leg, const std::string& path) {
  if (!MayBeGone(path)) return Errno(EAGAIN);
  return RemoveNames(leg, path);
}

Errno Healer::HealName(const DirtyLog::Work& work, Leg& leg,
                       const std::string& path) {
  const ErrnoOr<struct stat> truth = Truth(path);
  if (!truth.ok()) return truth.error();
  ErrnoOr<struct stat> copy = leg.Stat(path);
  if (!copy.ok() && !IsGone(copy.error())) return copy.error();
  if (copy.ok()) {
    const ErrnoOr<bool> away = PutAside(leg, path, *copy);
    if (!away.ok()) return away.error();
  }
  bool made = false;
  if (const Errno error = BringMoved(work, leg, path, &made); !error.ok()) {
    return error;
  }
  copy = leg.Stat(path);
  bool same = copy.ok() && SameKind(*truth, *copy);
  if (same && S_ISLNK(truth->st_mode)) {
    const ErrnoOr<std::string> target = FromPrimary(mirror_->Readlink(path));
    if (!target.ok()) return target.error();
    const ErrnoOr<std::string> there = leg.Readlink(path);
    same = there.ok() && *there == *target;
  }
  if (copy.ok() && !same) {
    if (const Errno error = RemoveNames(leg, path); !error.ok()) return error;
    copy = Errno(ENOENT);
  }
  const bool whole = work.record.deep.has(leg.slot()) ||
                     ToNs(truth->st_ctim) >= work.record.since_ns;
  if (IsOneOfSeveral(truth) || IsOneOfSeveral(copy)) {
    const Errno error = HealLinks(work, leg, path, *truth, &made);
    if (!error.ok()) return error;
    copy = leg.Stat(path);
  }
  if (!copy.ok()) {
    if (!IsGone(copy.error())) return copy.error();
    const Errno error = MakeAnew(leg, path, *truth, path);
    if (!error.ok()) return error;
    made = true;
  }
  if (made || whole || !SameAttributes(*truth, *copy)) {
    const bool tree = made || work.record.deep.has(leg.slot());
    LacksWhole(path, *truth, leg, tree);
  }
  return kOk;
}

bool Healer::IsOneOfSeveral(const ErrnoOr<struct stat>& st) {
  return st.ok() && !S_ISDIR(st->st_mode) && st->st_nlink > 1;
}

// Whether that name, which lies in the directory in work, is right on the leg.
bool Healer::IsHealed(const Leg& leg, absl::string_view path) const {
  const auto found = names_healed_.find(leg.slot());
  return found != names_healed_.end() && found->second.contains(path);
}

// A placeholder at `at` for what the primary has at `path`.
Errno Healer::MakeAnew(Leg& leg, const std::string& path,
                       const struct stat& truth, const std::string& at) {
  Errno error;
  if (S_ISDIR(truth.st_mode)) {
    error = leg.Mkdir(at, 0700);
  } else if (S_ISREG(truth.st_mode)) {
    error = leg.Create(at, O_WRONLY | O_EXCL, 0600).error();
  } else if (S_ISLNK(truth.st_mode)) {
    const ErrnoOr<std::string> target = FromPrimary(mirror_->Readlink(path));
    error = target.ok() ? leg.Symlink(*target, at) : target.error();
  } else {
    error = leg.Mknod(at, (truth.st_mode & S_IFMT) | 0600, truth.st_rdev);
  }
  if (error.ok()) NoteIsNew(leg, at);
  return error;
}

// Gives what was made at `temporary` the name, in place of whatever has it.
Errno Healer::PutInPlace(Leg& leg, const std::string& temporary,
                         const std::string& path) {
  Errno error = KeepForeign(leg, path);
  if (error.ok()) error = leg.Rename(temporary, path, 0);
  // As another name of a file it would count.
  if (!error.ok()) (void)leg.Unlink(temporary);
  leg.NamesReplaced();
  return error;
}

// A new object takes the place of whatever has the name on the leg.
Errno Healer::ReplaceByNew(Leg& leg, const std::string& path,
                           const struct stat& truth) {
  const std::string temporary = leg.NewTemporaryPath();
  Errno error = MakeAnew(leg, path, truth, temporary);
  if (error.ok()) error = PutInPlace(leg, temporary, path);
  return error;
}

// Whether `other` leads on the leg to what it shall lead to, seen from `path`:
// no directory between the two lacks names, but for the one in work, of which
// the name on the way is right already. What lies above both is the same for
// both, wherever it belongs.
bool Healer::IsSettled(const DirtyLog::Work& work, const Leg& leg,
                       const std::string& path, const std::string& other) {
  const absl::string_view common = CommonDir(path, other);
  for (absl::string_view at = other; at != common; at = ParentPath(at)) {
    const std::string dir(ParentPath(at));
    if (dir == work.key.path) {
      if (!IsHealed(leg, at)) return false;
      continue;
    }
    const auto record = mirror_->log().Find(RegionKey::Entries(dir));
    if (record && record->missing.has(leg.slot())) return false;
  }
  return true;
}

// Whether the leg's `path` is looked at again, whatever comes of the
// directories on the way to it. In the directory in work, each name is looked
// at once.
bool Healer::IsStillToCome(const DirtyLog::Work& work, const Leg& leg,
                           const std::string& path) const {
  const absl::string_view own = ParentPath(path);
  for (absl::string_view at = path; !at.empty(); at = ParentPath(at)) {
    const absl::string_view dir = ParentPath(at);
    if (dir == own && dir == work.key.path) {
      if (!IsHealed(leg, path)) return true;
      continue;
    }
    const auto record =
        mirror_->log().Find(RegionKey::Entries(std::string(dir)));
    if (!record) continue;
    const LegSet counts = dir == own ? record->missing : record->deep;
    if (counts.has(leg.slot())) return true;
  }
  return false;
}

// Makes `path` on the leg another name of what `other` leads to there, if that
// is the primary's file, held off from changes meanwhile. Nothing happens when
// it is not.
Errno Healer::Follow(const DirtyLog::Work& work, Leg& leg,
                     const std::string& path, const std::string& other,
                     const struct stat& truth, bool* followed) {
  const RegionKey dir = RegionKey::Entries(std::string(ParentPath(other)));
  std::vector<RegionKey> held;
  if (dir != work.key) held.push_back(dir);
  mirror_->gate().StartRecovery(held);
  const ErrnoOr<struct stat> real = Truth(other);
  const ErrnoOr<struct stat> there = leg.Stat(other);
  const ErrnoOr<struct stat> copy = leg.Stat(path);
  Errno error = StillLeadsTo(real, truth.st_ino);
  *followed = error.ok() && there.ok() && SameKind(truth, *there) &&
              IsSettled(work, leg, path, other);
  if (*followed && !SameFile(copy, there)) {
    const std::string temporary = leg.NewTemporaryPath();
    NoteIfForeign(leg, other, *there);
    error = leg.Link(other, temporary);
    if (error.ok()) error = PutInPlace(leg, temporary, path);
    // A leg that does not show them as one file would be mended for ever.
    if (error.ok() && !SameFile(leg.Stat(path), leg.Stat(other))) {
      error = Errno(EOPNOTSUPP);
    }
  }
  mirror_->gate().FinishRecovery(held);
  return error;
}

// Sees to it that `path` on the leg is a name of the file that the primary's
// other names of it lead to, and of no other. `made`: it is a new, empty one.
Errno Healer::HealLinks(const DirtyLog::Work& work, Leg& leg,
                        const std::string& path, const struct stat& truth,
                        bool* made) {
  const std::optional<std::vector<std::string>> names =
      links_->NamesOf(path, truth.st_ino);
  if (!names) return Errno(EAGAIN);
  const ErrnoOr<struct stat> copy = leg.Stat(path);
  nlink_t shared = copy.ok() ? 1 : 0;
  std::vector<std::string> apart;
  std::vector<std::string> together;
  for (const std::string& other : *names) {
    if (other == path) continue;
    const ErrnoOr<struct stat> there = leg.Stat(other);
    const bool shares = SameFile(there, copy);
    shared += shares;
    if (there.ok()) (shares ? together : apart).push_back(other);
    if (!IsSettled(work, leg, path, other)) continue;
    bool followed = false;
    const Errno error = Follow(work, leg, path, other, truth, &followed);
    if (!error.ok()) return error;
    if (followed) return LookAtThoseApart(work, leg, path, truth, *names);
  }
  // None to follow: this one is what the others will follow, those too whose
  // own directory lacks nothing, because one above it does. It may be written
  // if no name that the primary's file does not have leads to it.
  LookAgain(work, leg, apart);
  if (!copy.ok() || shared == copy->st_nlink) return kOk;
  LookAgain(work, leg, together);
  *made = true;
  return ReplaceByNew(leg, path, truth);
}

// Names that lead elsewhere on the leg than `path`, with which they shall share
// a file, are looked at again.
Errno Healer::LookAtThoseApart(const DirtyLog::Work& work, Leg& leg,
                               const std::string& path,
                               const struct stat& truth,
                               const std::vector<std::string>& names) {
  const ErrnoOr<struct stat> st = leg.Stat(path);
  if (!st.ok()) return st.error();
  std::vector<std::string> apart;
  Errno moved;
  for (const std::string& other : names) {
    const Errno leads = StillLeadsTo(Truth(other), truth.st_ino);
    if (!leads.ok()) moved = leads;
    const ErrnoOr<struct stat> there = leg.Stat(other);
    if (there.ok() && there->st_ino != st->st_ino) apart.push_back(other);
  }
  LookAgain(work, leg, apart);
  return moved;
}

void Healer::LookAgain(const DirtyLog::Work& work, const Leg& leg,
                       const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (!IsStillToCome(work, leg, name)) NameIsMissing(name, leg.slot());
  }
}

// The object's attributes and content, and with `tree` everything beneath it,
// become regions that the leg lacks.
void Healer::LacksWhole(const std::string& path, const struct stat& truth,
                        Leg& leg, bool tree) {
  RegionRecord record;
  record.missing = LegSet::Of(leg.slot());
  RegionRecord attributes = record;
  attributes.directory = S_ISDIR(truth.st_mode);
  if (S_ISREG(truth.st_mode)) attributes.tail_from = 0;
  mirror_->log().MarkRegion(RegionKey::Attributes(path), attributes);
  if (S_ISDIR(truth.st_mode) && tree) {
    record.deep = record.missing;
    mirror_->log().MarkRegion(RegionKey::Entries(path), record);
  }
}

}  // namespace mirrorfs
