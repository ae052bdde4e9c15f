// SPDX-License-Identifier: GPL-2.0-or-later
//
// What was moved while the leg was away is moved there, too: its content is
// compared then like that of anything that was made anew, and found equal. The
// log says where the leg has it (Origins). Directories are healed one by one,
// so it may lie in the way before its new place is there: it waits in the
// private directory then.
#include <spdlog/spdlog.h>

#include "base/kill_point.h"
#include "leg/label.h"
#include "leg/remove_tree.h"
#include "recovery/healer.h"

namespace mirrorfs {
namespace {

// Whether the one can be had by moving the other. A file with several names is
// found by them (HealLinks); anything else is as quickly made.
bool CanBecome(const ErrnoOr<struct stat>& truth, const struct stat& st) {
  if (!truth.ok()) return false;
  if (S_ISDIR(truth->st_mode)) return S_ISDIR(st.st_mode);
  return S_ISREG(truth->st_mode) && S_ISREG(st.st_mode) &&
         truth->st_nlink == 1 && st.st_nlink == 1;
}

// The same of what the leg has there. A file that somebody else has changed is
// kept as it is, and the other made anew. A directory that he moved to there
// may be the mirror's, with other attributes; what is in it is kept.
bool CanBecome(const ErrnoOr<struct stat>& truth, const Leg& leg,
               const std::string& path, const struct stat& st) {
  return CanBecome(truth, st) &&
         !ForeignKeeper::HasForeignContent(leg, path, st);
}

bool IsAside(absl::string_view path) { return LiesIn(path, kPrivateDir); }

}  // namespace

Errno Healer::RemoveNames(Leg& leg, const std::string& path) {
  const TakeInstead keep = keeper_->Taker(leg);
  return RemoveTree(
      leg, path,
      [&](const std::string& at, const struct stat& st) -> ErrnoOr<bool> {
        const ErrnoOr<bool> away = PutAside(leg, at, st);
        if (!away.ok() || *away) return away;
        return keep(at, st);
      });
}

Errno Healer::KeepForeign(Leg& leg, const std::string& path) {
  const ErrnoOr<struct stat> st = leg.Stat(path);
  if (!st.ok()) return IsGone(st.error()) ? kOk : st.error();
  if (S_ISDIR(st->st_mode) || !IsForeign(leg, path, *st)) return kOk;
  return keeper_->BeforeRemoving(leg, path, *st);
}

// Puts aside what is at `path` on the leg if that is another object of the
// primary's, which gets it when its directory is healed.
ErrnoOr<bool> Healer::PutAside(Leg& leg, const std::string& path,
                               const struct stat& st) {
  bool wanted = false;
  for (const std::string& to : mirror_->log().MovedTo(path, leg.slot())) {
    wanted |= CanBecome(Truth(to), leg, path, st);
  }
  if (!wanted) return false;
  const std::string aside = AsidePath(path);
  if (const ErrnoOr<struct stat> before = leg.Stat(aside);
      before.ok() && mirror_->log().MovedTo(aside, leg.slot()).empty()) {
    // By one that was killed then; what has the name now was made since.
    NoteMove(leg, path, aside, *before);
    return false;
  }
  Errno error = RemoveTree(leg, aside, keeper_->Taker(leg));
  NoteIfForeign(leg, path, st);
  if (error.ok()) error = leg.Rename(path, aside, 0);
  leg.NamesReplaced();
  if (!error.ok()) return error;
  KillPoint("moved-aside");
  NoteMove(leg, path, aside, st);
  return true;
}

void Healer::NoteMove(Leg& leg, const std::string& from, const std::string& to,
                      const struct stat& st) {
  mirror_->log().MoveOrigins(from, to, leg.slot());
  // Not to be done a second time after a crash, when something else may have
  // the old name. For a file that costs less than this.
  if (S_ISDIR(st.st_mode)) (void)mirror_->log().FlushLazily();
}

// Where the leg has what shall be at `path`; empty: nowhere.
std::string Healer::FindMoved(Leg& leg, const std::string& path) {
  const auto record = mirror_->log().Find(RegionKey::Attributes(path));
  const std::string* origin =
      record ? record->moved_from.Of(leg.slot()) : nullptr;
  if (origin == nullptr) return std::string();
  const ErrnoOr<struct stat> truth = Truth(path);
  const auto usable = [&](const std::string& at) {
    const ErrnoOr<struct stat> st = leg.Stat(at);
    return st.ok() && CanBecome(truth, leg, at, *st);
  };
  if (IsAside(*origin)) return usable(*origin) ? *origin : std::string();
  // It, or what it is in, may have been put aside just before a crash. What the
  // log says of the rest that is in there has to follow.
  for (absl::string_view at = *origin; !at.empty(); at = ParentPath(at)) {
    const std::string whole = AsidePath(at);
    const std::string aside = RebasePath(*origin, at, whole);
    if (!usable(aside)) continue;
    if (const ErrnoOr<struct stat> st = leg.Stat(whole);
        st.ok() && mirror_->log().MovedTo(whole, leg.slot()).empty()) {
      NoteMove(leg, std::string(at), whole, *st);
    }
    return aside;
  }
  // What stands at a name that was healed since is what shall stand there.
  const LegSet lacking = mirror_->log().Lacking(RegionKey::Attributes(*origin));
  return lacking.has(leg.slot()) && usable(*origin) ? *origin : std::string();
}

// Moves to `path` what the leg has of it elsewhere, in place of what is there.
Errno Healer::BringMoved(const DirtyLog::Work& work, Leg& leg,
                         const std::string& path, bool* brought) {
  std::string source = FindMoved(leg, path);
  if (!source.empty() && leg.Stat(path).ok()) {
    const Errno error = RemoveNames(leg, path);
    if (!error.ok()) return error;
    source = FindMoved(leg, path);  // it may have been in there
  }
  if (!source.empty()) {
    const ErrnoOr<struct stat> st = leg.Stat(source);
    if (st.ok()) NoteIfForeign(leg, source, *st);
    const Errno error =
        st.ok() ? leg.Rename(source, path, 0) : Errno(st.error());
    leg.NamesReplaced();
    if (IsLegFailure(error)) return error;
    if (error.ok()) {
      KillPoint("moved-brought");
      mirror_->log().SetOrigin(path, leg.slot(), path);
      NoteMove(leg, source, path, *st);
      if (!IsAside(source) && ParentPath(source) != work.key.path) {
        NameIsMissing(source, leg.slot());
      }
      *brought = true;
    }
  }
  // It cannot be done.
  if (!*brought) mirror_->log().SetOrigin(path, leg.slot(), path);
  return kOk;
}

}  // namespace mirrorfs
