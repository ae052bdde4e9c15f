// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/foreign_notes.h"

#include <fcntl.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "leg/label.h"
#include "leg/leg.h"
#include "leg/walk.h"
#include "region/region_key.h"

namespace mirrorfs {
namespace {

std::string NotesPath() { return absl::StrCat(kPrivateDir, "/foreign"); }

std::string PathOf(ino_t ino) {
  return JoinPath(NotesPath(), absl::StrCat(ino));
}

}  // namespace

void ForeignNotes::Load(const Leg& leg) {
  {
    std::lock_guard lock(mutex_);
    if (loaded_) return;
  }
  const ErrnoOr<std::vector<std::string>> names = ListNames(leg, NotesPath());
  std::lock_guard lock(mutex_);
  // What another thread has removed since must not come back.
  if (std::exchange(loaded_, true)) return;
  if (!names.ok()) return;  // there are none, mostly
  for (const std::string& name : *names) {
    ino_t ino = 0;
    if (absl::SimpleAtoi(name, &ino)) inodes_.insert(ino);
  }
}

bool ForeignNotes::Has(const Leg& leg, ino_t ino) {
  Load(leg);
  std::lock_guard lock(mutex_);
  return inodes_.contains(ino);
}

void ForeignNotes::Add(const Leg& leg, ino_t ino) {
  Load(leg);
  {
    std::lock_guard lock(mutex_);
    if (!inodes_.insert(ino).second) return;
  }
  (void)leg.Mkdir(NotesPath(), 0700);
  (void)leg.Create(PathOf(ino), O_WRONLY, 0600);
}

void ForeignNotes::Remove(const Leg& leg, ino_t ino) {
  Load(leg);
  {
    std::lock_guard lock(mutex_);
    if (inodes_.erase(ino) == 0) return;
  }
  (void)leg.Unlink(PathOf(ino));
}

bool ForeignNotes::empty() {
  std::lock_guard lock(mutex_);
  return inodes_.empty();
}

void ForeignNotes::RemoveAll(const Leg& leg) {
  Load(leg);
  absl::flat_hash_set<ino_t> inodes;
  {
    std::lock_guard lock(mutex_);
    inodes = std::exchange(inodes_, {});
  }
  for (const ino_t ino : inodes) (void)leg.Unlink(PathOf(ino));
}

}  // namespace mirrorfs
