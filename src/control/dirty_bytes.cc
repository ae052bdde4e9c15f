// SPDX-License-Identifier: GPL-2.0-or-later
#include "control/dirty_bytes.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <system_error>

#include "absl/container/flat_hash_map.h"
#include "absl/time/clock.h"
#include "base/clock.h"
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
    if (key.kind == RegionKind::kEntries) return AddNewIn(key.path, record);
    if (key.path != path_) BeginFile(key.path);
    record.missing.ForEach([&](LegSlot slot) {
      if (key.kind == RegionKind::kAttributes) {
        const uint64_t from = mirror_.log().TailToHeal(key, LegSet::Of(slot));
        if (from >= tail_[slot]) return;
        tail_[slot] = from;
        bytes_[slot] += BytesIn(from, kNoTail);
      } else if (key.index < tail_[slot] && key.index != kSizeGuardIndex) {
        bytes_[slot] += BytesIn(key.index, key.index + 1);
      }
    });
  }

  std::vector<uint64_t> bytes() && { return std::move(bytes_); }

 private:
  // Recovery compares whole what was made there since the record was, see
  // RegionRecord::since_ns. A directory comes before what lies in it.
  void AddNewIn(const std::string& dir, const RegionRecord& record) {
    if (record.since_ns == kNever) return;
    const ErrnoOr<std::vector<DirEntry>> entries = mirror_.ListDir(dir);
    if (!entries.ok()) return;
    for (const DirEntry& entry : *entries) {
      std::string path = JoinPath(dir, entry.name);
      const ErrnoOr<struct stat> st = mirror_.StatPath(path);
      if (!st.ok() || !S_ISREG(st->st_mode) ||
          ToNs(st->st_ctim) < record.since_ns) {
        continue;
      }
      record.missing.ForEach([&](LegSlot slot) {
        bytes_[slot] += static_cast<uint64_t>(st->st_size);
      });
      whole_.emplace(std::move(path), record.missing);
    }
  }

  void BeginFile(const std::string& path) {
    path_ = path;
    size_known_ = false;
    std::fill(tail_.begin(), tail_.end(), kNoTail);
    const auto whole = whole_.extract(path);
    if (whole.empty()) return;
    whole.mapped().ForEach([&](LegSlot slot) { tail_[slot] = 0; });
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
  // Files that are counted whole already, and for which legs.
  absl::flat_hash_map<std::string, LegSet> whole_;
  std::vector<uint64_t> tail_;  // where each leg's begins in this file
  std::string path_;
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
