// SPDX-License-Identifier: GPL-2.0-or-later
#include "recovery/pacer.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"

namespace mirrorfs {
namespace {

constexpr absl::Duration kLookEvery = absl::Milliseconds(100);
// The longest wait in one piece: limits change, and applications pause.
constexpr absl::Duration kWaitPiece = absl::Milliseconds(100);

}  // namespace

Pacer::Pacer(std::function<absl::Time()> now,
             std::function<uint64_t()> requests)
    : now_(std::move(now)),
      requests_(std::move(requests)),
      paid_at_(now_()),
      looked_at_(paid_at_),
      requests_seen_(requests_()) {}

void Pacer::SetLimits(PaceLimits limits) {
  std::lock_guard lock(mutex_);
  limits_ = limits;
}

absl::Duration Pacer::Ask(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  const absl::Time now = now_();
  LookAtApplications(now);
  const uint64_t rate = RateNow(now);
  if (rate == 0) {
    debt_bytes_ = 0;
    paid_at_ = now;
    return absl::ZeroDuration();
  }
  // A clock that is set back pays nothing.
  const double seconds = std::max(absl::ToDoubleSeconds(now - paid_at_), 0.0);
  paid_at_ = now;
  const double burst = rate * absl::ToDoubleSeconds(kBurst);
  debt_bytes_ = std::max(debt_bytes_ - rate * seconds, -burst);
  const absl::Duration wait = absl::Seconds(debt_bytes_ / rate);
  // Not the debt is asked: a rest of it can be too small for a wait.
  if (wait > absl::ZeroDuration()) return wait;
  debt_bytes_ += static_cast<double>(bytes);
  return absl::ZeroDuration();
}

bool Pacer::WaitForTurn(uint64_t bytes, const std::atomic<bool>& stopping) {
  while (!stopping) {
    const absl::Duration delay = Ask(bytes);
    if (delay <= absl::ZeroDuration()) return true;
    absl::SleepFor(std::min(delay, kWaitPiece));
  }
  return false;
}

uint64_t Pacer::RateNow(absl::Time now) const {
  const uint64_t most = limits_.rate_max;
  if (limits_.rate_min == 0 || now >= active_until_) return most;
  return most == 0 ? limits_.rate_min : std::min(limits_.rate_min, most);
}

void Pacer::LookAtApplications(absl::Time now) {
  const absl::Duration elapsed = now - looked_at_;
  if (elapsed >= absl::ZeroDuration() && elapsed < kLookEvery) return;
  const uint64_t requests = requests_();
  const uint64_t more = requests - std::exchange(requests_seen_, requests);
  looked_at_ = now;
  if (elapsed < absl::ZeroDuration()) return;
  if (more >= kActiveRequestsPerSecond * absl::ToDoubleSeconds(elapsed) &&
      more > 0) {
    active_until_ = now + kActiveFor;
  }
}

}  // namespace mirrorfs
