// SPDX-License-Identifier: GPL-2.0-or-later
#include "mirror/open_file.h"

namespace mirrorfs {

OpenFile::~OpenFile() {
  for (OnLeg& leg : on_leg_) {
    Retire(leg.read_fd.exchange(-1));
    Retire(leg.write_fd.exchange(-1));
  }
}

int OpenFile::read_fd(LegSlot slot) const {
  const int both = on_leg_[slot].write_fd.load();
  return both >= 0 ? both : on_leg_[slot].read_fd.load();
}

LegSet OpenFile::writable_legs() const {
  LegSet legs;
  for (size_t slot = 0; slot < on_leg_.size(); ++slot) {
    if (on_leg_[slot].write_fd.load() >= 0) {
      legs |= LegSet::Of(static_cast<LegSlot>(slot));
    }
  }
  return legs;
}

void OpenFile::SetReadFd(LegSlot slot, UniqueFd fd) {
  Retire(on_leg_[slot].read_fd.exchange(fd.Release()));
}

void OpenFile::SetWriteFd(LegSlot slot, UniqueFd fd, uint64_t epoch) {
  Retire(on_leg_[slot].write_fd.exchange(fd.Release()));
  on_leg_[slot].epoch.store(epoch);
}

void OpenFile::Retire(int fd) {
  if (fd < 0) return;
  std::lock_guard lock(retired_mutex_);
  retired_.emplace_back(fd);
}

}  // namespace mirrorfs
