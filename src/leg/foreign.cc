// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/foreign.h"

#include "leg/label.h"
#include "region/region_key.h"

namespace mirrorfs {
namespace {

// A directory that was renamed or had its attributes changed, but not its
// names: those have been changed before, in another place.
bool IsMovedIn(const Leg& leg, const struct stat& dir) {
  if (leg.foreign_notes().Has(leg, dir.st_ino)) return true;
  return leg.ChangedWhileAway(dir.st_ctim) &&
         !leg.ChangedWhileAway(dir.st_mtim);
}

bool IsInMovedIn(const Leg& leg, absl::string_view path) {
  for (absl::string_view at = ParentPath(path);
       !at.empty() && at != kPrivateDir; at = ParentPath(at)) {
    const ErrnoOr<struct stat> dir = leg.Stat(at);
    if (dir.ok() && IsMovedIn(leg, *dir)) return true;
  }
  return false;
}

}  // namespace

bool IsForeign(const Leg& leg, absl::string_view path, const struct stat& st) {
  if (leg.away().empty()) return false;
  if (leg.ChangedWhileAway(st.st_ctim)) return true;
  if (leg.foreign_notes().Has(leg, st.st_ino)) return true;
  return leg.ChangedBeforeReturn(st.st_ctim) && IsInMovedIn(leg, path);
}

void NoteIfForeign(const Leg& leg, absl::string_view path) {
  if (leg.away().empty()) return;
  const ErrnoOr<struct stat> st = leg.Stat(path);
  if (st.ok()) NoteIfForeign(leg, path, *st);
}

void NoteIfForeign(const Leg& leg, absl::string_view path,
                   const struct stat& st) {
  // The root is not moved: its label says which one it is.
  if (leg.away().empty() || path.empty()) return;
  const bool foreign =
      S_ISDIR(st.st_mode) ? IsMovedIn(leg, st) : IsForeign(leg, path, st);
  if (foreign) leg.foreign_notes().Add(leg, st.st_ino);
}

void NoteIsNew(const Leg& leg, absl::string_view path) {
  if (leg.foreign_notes().empty()) return;
  const ErrnoOr<struct stat> st = leg.Stat(path);
  if (st.ok()) leg.foreign_notes().Remove(leg, st->st_ino);
}

}  // namespace mirrorfs
