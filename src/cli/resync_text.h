// SPDX-License-Identifier: GPL-2.0-or-later
//
// How far repairs are, in words and as a bar.
#pragma once

#include <cstdint>
#include <string>

#include "cli/mirror_status.h"

namespace mirrorfs {

struct ResyncState {
  uint64_t done_bytes = 0;
  uint64_t total_bytes = 0;  // as far as it is known by now
  uint64_t bytes_per_second = 0;
  uint64_t eta_seconds = 0;

  double Share() const;  // from 0 to 1
};

ResyncState ResyncOf(const LegStatus& leg);
// Of all legs of the mirror that are being repaired.
ResyncState ResyncOf(const MirrorStatus& mirror);

// "41.2%  38 MB/s  ~3s left", what is known of it.
std::string ResyncSpeed(const ResyncState& state);

// "87 MiB of 212 MiB, 41.2%  38 MB/s  ~3s left"
std::string ResyncLine(const ResyncState& state);

// "[######----]  87 MiB of ..." in at most so many columns.
std::string ResyncBar(const ResyncState& state, int columns);

}  // namespace mirrorfs
