// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/resync_text.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "cli/text.h"

namespace mirrorfs {
namespace {

constexpr int kBarMin = 10;
constexpr int kBarMax = 40;

}  // namespace

double ResyncState::Share() const {
  if (total_bytes == 0) return 0;
  return static_cast<double>(std::min(done_bytes, total_bytes)) / total_bytes;
}

ResyncState ResyncOf(const LegStatus& leg) {
  return {leg.done_bytes, leg.total_bytes, leg.bytes_per_second,
          leg.eta_seconds};
}

ResyncState ResyncOf(const MirrorStatus& mirror) {
  ResyncState sum;
  for (const LegStatus& leg : mirror.legs) {
    if (leg.state != "resync") continue;
    sum.done_bytes += leg.done_bytes;
    sum.total_bytes += leg.total_bytes;
    sum.bytes_per_second += leg.bytes_per_second;
    sum.eta_seconds = std::max(sum.eta_seconds, leg.eta_seconds);
  }
  return sum;
}

std::string ResyncSpeed(const ResyncState& state) {
  std::vector<std::string> parts;
  if (state.total_bytes > 0) {
    parts.push_back(absl::StrFormat("%.1f%%", 100 * state.Share()));
  }
  if (state.bytes_per_second > 0) {
    const double mega = state.bytes_per_second / 1e6;
    parts.push_back(mega < 10 ? absl::StrFormat("%.1f MB/s", mega)
                              : absl::StrFormat("%.0f MB/s", mega));
  }
  if (state.eta_seconds > 0) {
    parts.push_back(absl::StrCat(
        "~", RoughDuration(absl::Seconds(state.eta_seconds)), " left"));
  }
  return absl::StrJoin(parts, "  ");
}

std::string ResyncLine(const ResyncState& state) {
  if (state.total_bytes == 0) return "looking for what differs";
  return absl::StrCat(BinaryBytes(state.done_bytes), " of ",
                      BinaryBytes(state.total_bytes), "  ", ResyncSpeed(state));
}

std::string ResyncBar(const ResyncState& state, int columns) {
  const std::string line = ResyncLine(state);
  // Two brackets, and two blanks before the words.
  const int room = columns - 4 - static_cast<int>(line.size());
  if (room < kBarMin) {
    return line.substr(0, static_cast<size_t>(std::max(columns, 0)));
  }
  const int width = std::min(room, kBarMax);
  const int full = static_cast<int>(width * state.Share());
  return absl::StrCat("[", std::string(full, '#'),
                      std::string(width - full, '-'), "]  ", line);
}

}  // namespace mirrorfs
