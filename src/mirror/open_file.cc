// SPDX-License-Identifier: GPL-2.0-or-later
#include "mirror/open_file.h"

#include <utility>

namespace mirrorfs {

LegFd OpenFile::write_fd(LegSlot slot) const {
  const LegFd* fd = on_leg_[slot].write_fd.load();
  return fd == nullptr ? LegFd() : *fd;
}

LegFd OpenFile::read_fd(LegSlot slot) const {
  const LegFd* fd = on_leg_[slot].write_fd.load();
  if (fd == nullptr) fd = on_leg_[slot].read_fd.load();
  return fd == nullptr ? LegFd() : *fd;
}

LegSet OpenFile::writable_legs() const {
  LegSet legs;
  for (size_t slot = 0; slot < on_leg_.size(); ++slot) {
    if (on_leg_[slot].write_fd.load() != nullptr) {
      legs |= LegSet::Of(static_cast<LegSlot>(slot));
    }
  }
  return legs;
}

void OpenFile::SetReadFd(LegSlot slot, LegFd fd) {
  on_leg_[slot].read_fd.store(Keep(std::move(fd)));
}

void OpenFile::SetWriteFd(LegSlot slot, LegFd fd, uint64_t epoch) {
  on_leg_[slot].write_fd.store(Keep(std::move(fd)));
  on_leg_[slot].epoch.store(epoch);
}

const LegFd* OpenFile::Keep(LegFd fd) {
  std::lock_guard lock(kept_mutex_);
  kept_.push_back(std::move(fd));
  return &kept_.back();
}

}  // namespace mirrorfs
