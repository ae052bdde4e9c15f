// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <ctime>

namespace mirrorfs {

inline int64_t ToNs(const timespec& time) {
  return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
}

// Where time comes from, so that tests can make it jump. Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  // Nanoseconds since 1970, the clock that file systems stamp files with.
  virtual int64_t RealtimeNs() const = 0;
};

class SystemClock final : public Clock {
 public:
  int64_t RealtimeNs() const override {
    timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return ToNs(now);
  }
};

}  // namespace mirrorfs
