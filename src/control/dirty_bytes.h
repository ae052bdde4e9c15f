// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "absl/time/time.h"
#include "mirror/mirror.h"

namespace mirrorfs {

// Bytes of content that each leg lacks, by slot, as far as the log knows by
// now: what only a directory's record speaks of is not among them. No byte is
// counted twice, and none beyond the end of its file.
std::vector<uint64_t> CountDirtyBytes(Mirror& mirror);

// The same for whoever asks often. It needs a look at every file that is
// dirty, so where there are very many an older answer is given, and counting
// never takes more than a tenth of the time. Thread-safe.
class DirtyBytes {
 public:
  // The mirror outlives it.
  explicit DirtyBytes(Mirror* mirror) : mirror_(mirror) {}
  std::vector<uint64_t> Get();

 private:
  Mirror* const mirror_;
  std::mutex mutex_;
  std::vector<uint64_t> bytes_;
  absl::Time good_until_ = absl::InfinitePast();
};

}  // namespace mirrorfs
