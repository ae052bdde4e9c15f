// SPDX-License-Identifier: GPL-2.0-or-later
#include "mirror/open_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

namespace mirrorfs {
namespace {

bool AreOfOneObject(const LegFd& a, const LegFd& b) {
  if (a.leg() != b.leg()) return false;
  const ErrnoOr<struct stat> of_a = StatObject(a);
  const ErrnoOr<struct stat> of_b = StatObject(b);
  return of_a.ok() && of_b.ok() && of_a->st_dev == of_b->st_dev &&
         of_a->st_ino == of_b->st_ino;
}

}  // namespace

OpenFile::Opened* OpenFile::FindLocked(LegSlot slot, Use use) {
  for (Opened& opened : opened_) {
    if (opened.slot == slot && opened.use == use) return &opened;
  }
  return nullptr;
}

LegFd OpenFile::GetLocked(LegSlot slot, Use use, uint64_t epoch) const {
  for (const Opened& opened : opened_) {
    if (opened.slot != slot || opened.use != use) continue;
    return opened.epoch < epoch ? LegFd() : opened.fd;
  }
  return LegFd();
}

bool OpenFile::IsGoneLocked(LegSlot slot, uint64_t epoch) const {
  return std::any_of(gone_.begin(), gone_.end(), [&](const Gone& gone) {
    return gone.slot == slot && epoch < gone.epoch;
  });
}

LegFd OpenFile::write_fd(LegSlot slot, uint64_t epoch) const {
  std::lock_guard lock(mutex_);
  return GetLocked(slot, Use::kWrite, epoch);
}

LegFd OpenFile::read_fd(LegSlot slot, uint64_t epoch) const {
  std::lock_guard lock(mutex_);
  LegFd fd = GetLocked(slot, Use::kWrite, epoch);
  return fd.valid() ? fd : GetLocked(slot, Use::kRead, epoch);
}

LegSet OpenFile::writable_legs() const {
  std::lock_guard lock(mutex_);
  LegSet legs;
  for (const Opened& opened : opened_) {
    if (opened.use == Use::kWrite) legs |= LegSet::Of(opened.slot);
  }
  return legs;
}

bool OpenFile::was_opened() const {
  std::lock_guard lock(mutex_);
  return !opened_.empty() || !gone_.empty();
}

void OpenFile::SetReadFd(LegSlot slot, LegFd fd, uint64_t epoch) {
  Set(slot, Use::kRead, std::move(fd), epoch);
}

void OpenFile::SetWriteFd(LegSlot slot, LegFd fd, uint64_t epoch) {
  Set(slot, Use::kWrite, std::move(fd), epoch);
}

void OpenFile::Set(LegSlot slot, Use use, LegFd fd, uint64_t epoch) {
  LegFd before;
  {
    std::lock_guard lock(mutex_);
    before = GetLocked(slot, use, kAnyEpoch);
  }
  const bool same = before.valid() && AreOfOneObject(before, fd);
  std::lock_guard lock(mutex_);
  if (IsGoneLocked(slot, epoch)) return;
  Opened* opened = FindLocked(slot, use);
  if (same && opened != nullptr) {
    opened->epoch = epoch;
  } else if (opened != nullptr) {
    // The one before ends with `before`, after the lock.
    opened->fd = std::move(fd);
    opened->epoch = epoch;
  } else {
    opened_.push_back({slot, use, std::move(fd), epoch});
  }
}

void OpenFile::LetGo(LegSlot slot, uint64_t epoch) {
  std::vector<LegFd> closing;  // outside the lock
  std::lock_guard lock(mutex_);
  std::erase_if(opened_, [&](Opened& opened) {
    if (opened.slot != slot || opened.epoch >= epoch) return false;
    closing.push_back(std::move(opened.fd));
    return true;
  });
  std::erase_if(gone_, [&](const Gone& gone) { return gone.slot == slot; });
  gone_.push_back({slot, epoch});
}

}  // namespace mirrorfs
