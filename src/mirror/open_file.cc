// SPDX-License-Identifier: GPL-2.0-or-later
#include "mirror/open_file.h"

#include <sys/stat.h>

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

LegFd OpenFile::Get(const Current& current, uint64_t epoch) {
  const Opened* opened = current.load();
  return opened == nullptr || opened->epoch < epoch ? LegFd() : opened->fd;
}

LegFd OpenFile::write_fd(LegSlot slot, uint64_t epoch) const {
  return Get(on_leg_[slot].write, epoch);
}

LegFd OpenFile::read_fd(LegSlot slot, uint64_t epoch) const {
  LegFd fd = write_fd(slot, epoch);
  return fd.valid() ? fd : Get(on_leg_[slot].read, epoch);
}

LegSet OpenFile::writable_legs() const {
  LegSet legs;
  for (size_t slot = 0; slot < on_leg_.size(); ++slot) {
    if (on_leg_[slot].write.load() != nullptr) {
      legs |= LegSet::Of(static_cast<LegSlot>(slot));
    }
  }
  return legs;
}

void OpenFile::SetReadFd(LegSlot slot, LegFd fd, uint64_t epoch) {
  Set(on_leg_[slot].read, std::move(fd), epoch);
}

void OpenFile::SetWriteFd(LegSlot slot, LegFd fd, uint64_t epoch) {
  Set(on_leg_[slot].write, std::move(fd), epoch);
}

void OpenFile::Set(Current& current, LegFd fd, uint64_t epoch) {
  Opened* before = current.load();
  if (before != nullptr && AreOfOneObject(before->fd, fd)) {
    before->epoch = epoch;
    return;
  }
  std::lock_guard lock(kept_mutex_);
  current = &kept_.emplace_back(std::move(fd), epoch);
}

}  // namespace mirrorfs
