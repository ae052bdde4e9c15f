// SPDX-License-Identifier: GPL-2.0-or-later
#include "control/dirty_bytes.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <system_error>

#include "absl/time/clock.h"
#include "leg/conflicts.h"

namespace mirrorfs {
namespace {

// What took less is counted anew each time.
constexpr absl::Duration kQuick = absl::Milliseconds(50);
constexpr int kRest = 10;
// How long an answer is waited for.
constexpr auto kWaitMax = std::chrono::seconds(2);

// Adds up the records of one file after the other: the log gives them in that
// order, and of each file the attributes first.
class Tally {
 public:
  explicit Tally(Mirror& mirror)
      : mirror_(mirror),
        region_bytes_(mirror.log().GetRegionSize()),
        bytes_(kLegsMax),
        tail_(kLegsMax, kNoTail) {}

  void Add(const RegionKey& key, const RegionRecord& record) {
    if (record.missing.empty()) return;
    if (key.path != path_ || !any_) BeginFile(key.path);
    if (key.kind == RegionKind::kAttributes && record.tail_from != kNoTail) {
      record.missing.ForEach([&](LegSlot slot) {
        tail_[slot] = record.tail_from;
        bytes_[slot] += BytesIn(record.tail_from, kNoTail);
      });
    } else if (key.kind == RegionKind::kData && key.index != kSizeGuardIndex) {
      record.missing.ForEach([&](LegSlot slot) {
        if (key.index >= tail_[slot]) return;  // counted with the tail
        bytes_[slot] += BytesIn(key.index, key.index + 1);
      });
    }
  }

  std::vector<uint64_t> bytes() && { return std::move(bytes_); }

 private:
  void BeginFile(const std::string& path) {
    any_ = true;
    path_ = path;
    size_known_ = false;
    std::fill(tail_.begin(), tail_.end(), kNoTail);
  }

  // Of the file's regions [from, to) those bytes that it has.
  uint64_t BytesIn(uint64_t from, uint64_t to) {
    if (!size_known_) {
      const ErrnoOr<struct stat> st = mirror_.StatPath(path_);
      const bool file = st.ok() && S_ISREG(st->st_mode);
      size_ = file ? static_cast<uint64_t>(st->st_size) : 0;
      size_known_ = true;
    }
    if (from >= (size_ + region_bytes_ - 1) / region_bytes_) return 0;
    const uint64_t end =
        to == kNoTail ? size_ : std::min(size_, to * region_bytes_);
    return end - from * region_bytes_;
  }

  Mirror& mirror_;
  const uint64_t region_bytes_;
  std::vector<uint64_t> bytes_;
  std::vector<uint64_t> tail_;  // where each leg's begins in this file
  std::string path_;
  bool any_ = false;
  uint64_t size_ = 0;
  bool size_known_ = false;
};

}  // namespace

std::vector<uint64_t> CountDirtyBytes(Mirror& mirror) {
  Tally tally(mirror);
  if (mirror.log().LackingAnything().empty()) return std::move(tally).bytes();
  mirror.log().ForEach([&](const RegionKey& key, const RegionRecord& record) {
    tally.Add(key, record);
  });
  return std::move(tally).bytes();
}

LegFigures DirtyBytes::Get() {
  std::unique_lock lock(mutex_);
  if (absl::Now() < good_until_) return known_;
  if (!counting_) {
    counting_ = true;
    try {
      fiber_ = Fiber(watchdog_, "status", [this] { Count(); });
    } catch (const std::system_error&) {
      counting_ = false;  // no thread to be had now
    }
  }
  counted_.wait_for(lock, kWaitMax, [this] { return !counting_; });
  return known_;
}

void DirtyBytes::Count() {
  const absl::Time begin = absl::Now();
  LegFigures now;
  now.dirty_bytes = CountDirtyBytes(*mirror_);
  mirror_->present().ForEach([&](LegSlot slot) {
    const ErrnoOr<struct statvfs> st = mirror_->leg(slot).Statvfs();
    if (st.ok()) now.free_bytes[slot] = st->f_bavail * st->f_frsize;
    const ErrnoOr<uint64_t> kept = CountConflicts(mirror_->leg(slot));
    if (kept.ok()) now.conflicts[slot] = *kept;
  });
  const absl::Duration took = absl::Now() - begin;
  std::lock_guard lock(mutex_);
  known_ = std::move(now);
  good_until_ = took < kQuick ? begin : absl::Now() + kRest * took;
  counting_ = false;
  counted_.notify_all();
}

}  // namespace mirrorfs
