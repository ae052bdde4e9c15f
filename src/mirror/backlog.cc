// SPDX-License-Identifier: GPL-2.0-or-later
#include "mirror/backlog.h"

#include <algorithm>

namespace mirrorfs {

void Backlog::Added() {
  std::lock_guard lock(mutex_);
  if (!behind_) since_ = now_();
  behind_ = true;
  ++ahead_;
  if (slowing_ || now_() - since_ < kPatience) return;
  slowing_ = true;
  ahead_ += kGain;
}

void Backlog::Healed() {
  if (!behind_) return;
  std::lock_guard lock(mutex_);
  if (--ahead_ <= 0) ForgetLocked();
}

void Backlog::Done() {
  if (!behind_) return;
  std::lock_guard lock(mutex_);
  ForgetLocked();
}

void Backlog::ForgetLocked() {
  ahead_ = 0;
  behind_ = slowing_ = false;
}

absl::Duration Backlog::Delay() const {
  if (!behind_) return absl::ZeroDuration();
  std::lock_guard lock(mutex_);
  if (!slowing_) return absl::ZeroDuration();
  return std::min(kStepsMax, kStep * absl::ToDoubleSeconds(now_() - since_));
}

}  // namespace mirrorfs
