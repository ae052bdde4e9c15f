// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "base/fiber.h"
#include "mirror/mirror.h"

namespace mirrorfs {

// Bytes of content that each leg lacks, by slot: those of the regions that it
// lacks, and of files that are new in a directory whose names it lacks. What
// lies beneath a directory that it lacks with all beneath it is not among them:
// that is known when the names have been compared. Under one name no byte is
// counted twice, and none beyond the end of its file.
std::vector<uint64_t> CountDirtyBytes(Mirror& mirror);

// What status tells of the legs and only they know, by slot.
struct LegFigures {
  std::vector<uint64_t> dirty_bytes = std::vector<uint64_t>(kLegsMax);
  std::vector<std::optional<uint64_t>> free_bytes =
      std::vector<std::optional<uint64_t>>(kLegsMax);
  // Versions of others that are kept there.
  std::vector<std::optional<uint64_t>> conflicts =
      std::vector<std::optional<uint64_t>>(kLegsMax);
};

// The same for whoever asks often, and at once whatever the legs do: a fiber of
// its own asks them. Where that takes long, because a leg does not answer or
// very many files are dirty, an older answer is given; and counting never takes
// more than a tenth of the time. Thread-safe.
class DirtyBytes {
 public:
  // They outlive it.
  DirtyBytes(Mirror* mirror, Watchdog* watchdog)
      : mirror_(mirror), watchdog_(watchdog) {}
  LegFigures Get();

 private:
  void Count();

  Mirror* const mirror_;
  Watchdog* const watchdog_;
  std::mutex mutex_;
  std::condition_variable counted_;
  LegFigures known_;
  bool counting_ = false;
  absl::Time good_until_ = absl::InfinitePast();
  Fiber fiber_;
};

}  // namespace mirrorfs
