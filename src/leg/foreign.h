// SPDX-License-Identifier: GPL-2.0-or-later
//
// What somebody else changed on a leg while it was away, and has not been dealt
// with since.
//
// Its change time tells (Leg::ChangedWhileAway), or a note (ForeignNotes). What
// is in a directory that was moved to where it is has the times that it had
// before; so all in there counts that has not changed since the leg returned.
#pragma once

#include <sys/stat.h>

#include "absl/strings/string_view.h"
#include "leg/leg.h"

namespace mirrorfs {

// Whether what has that path on the leg, and is no directory, is foreign.
bool IsForeign(const Leg& leg, absl::string_view path, const struct stat& st);

// What has that path on the leg is about to get a new change time from us. If
// it is foreign, or a directory in which all is, that is noted.
void NoteIfForeign(const Leg& leg, absl::string_view path);
void NoteIfForeign(const Leg& leg, absl::string_view path,
                   const struct stat& st);

// What has that path is one that we have just made: it may have got the inode
// number of one that was noted.
void NoteIsNew(const Leg& leg, absl::string_view path);

}  // namespace mirrorfs
