// SPDX-License-Identifier: GPL-2.0-or-later
#include "control/where.h"

#include <sys/stat.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "leg/label.h"

namespace mirrorfs {
namespace {

using Json = nlohmann::json;

struct Range {
  uint64_t begin = 0;
  uint64_t end = 0;
};

// What one leg lacks of one object.
struct Lack {
  bool name = false;        // the way to it, or what it is, may be wrong
  bool attributes = false;  // mode, owner, times, xattrs
  bool entries = false;     // of a directory: the names in it
  std::vector<Range> ranges;

  bool any() const { return name || attributes || entries || !ranges.empty(); }
};

const char* KindName(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return "file";
    case S_IFDIR:
      return "directory";
    case S_IFLNK:
      return "symlink";
    case S_IFIFO:
      return "fifo";
    case S_IFSOCK:
      return "socket";
    default:
      return "device";
  }
}

bool IsPrivate(const std::string& path) { return LiesIn(path, kPrivateDir); }

// Looks one object up in the log.
class Finder {
 public:
  Finder(Mirror& mirror, const std::string& path, const struct stat& st)
      : log_(mirror.log()), path_(path), st_(st) {
    log_.ForEach([this](const RegionKey& key, const RegionRecord& record) {
      if (key.path == path_) own_.push_back({key, record});
    });
  }

  Lack LackOf(LegSlot leg) const {
    Lack lack;
    // Records on the way: the name itself, and with deep ones everything.
    for (absl::string_view at = path_; !at.empty();) {
      const bool direct = at.size() == path_.size();
      at = ParentPath(at);
      const auto record = log_.Find(RegionKey::Entries(std::string(at)));
      if (!record || !record->missing.has(leg)) continue;
      lack.name = true;
      const bool new_there = direct && ToNs(st_.st_ctim) >= record->since_ns;
      if (record->deep.has(leg) || new_there) Whole(lack);
    }
    for (const DirtyLog::Work& own : own_) {
      if (own.record.missing.has(leg)) AddOwn(own, leg, lack);
    }
    Merge(lack.ranges);
    return lack;
  }

  Lack Everything() const {
    Lack lack;
    lack.name = true;
    Whole(lack);
    return lack;
  }

 private:
  void Whole(Lack& lack) const {
    lack.attributes = true;
    lack.entries = S_ISDIR(st_.st_mode);
    Add(lack, 0, UINT64_MAX);
  }

  uint64_t size() const {
    return S_ISREG(st_.st_mode) ? static_cast<uint64_t>(st_.st_size) : 0;
  }

  void Add(Lack& lack, uint64_t begin, uint64_t end) const {
    end = std::min(end, size());
    if (begin < end) lack.ranges.push_back({begin, end});
  }

  void AddOwn(const DirtyLog::Work& own, LegSlot leg, Lack& lack) const {
    const uint64_t region_bytes = log_.GetRegionSize();
    switch (own.key.kind) {
      case RegionKind::kEntries:
        lack.entries = true;
        break;
      case RegionKind::kAttributes: {
        lack.attributes = true;
        const uint64_t tail = log_.TailToHeal(own.key, LegSet::Of(leg));
        if (tail < kNoTail / region_bytes) {
          Add(lack, tail * region_bytes, UINT64_MAX);
        }
        break;
      }
      case RegionKind::kData:
        if (own.key.index == kSizeGuardIndex) {
          lack.attributes = true;
        } else {
          Add(lack, own.key.index * region_bytes,
              (own.key.index + 1) * region_bytes);
        }
    }
  }

  static void Merge(std::vector<Range>& ranges) {
    std::sort(ranges.begin(), ranges.end(),
              [](const Range& a, const Range& b) { return a.begin < b.begin; });
    std::vector<Range> merged;
    for (const Range& range : ranges) {
      if (!merged.empty() && range.begin <= merged.back().end) {
        merged.back().end = std::max(merged.back().end, range.end);
      } else {
        merged.push_back(range);
      }
    }
    ranges = std::move(merged);
  }

  DirtyLog& log_;
  const std::string& path_;
  const struct stat& st_;
  std::vector<DirtyLog::Work> own_;
};

// Whether the leg has anything of that kind there.
bool IsThere(Leg& leg, const std::string& path, mode_t mode) {
  const ErrnoOr<struct stat> st = leg.Stat(path);
  return st.ok() && (st->st_mode & S_IFMT) == (mode & S_IFMT);
}

Json DescribeLack(const Lack& lack, const char* state) {
  Json stale = Json::array();
  uint64_t bytes = 0;
  for (const Range& range : lack.ranges) {
    stale.push_back(
        {{"offset", range.begin}, {"bytes", range.end - range.begin}});
    bytes += range.end - range.begin;
  }
  return {{"state", state},
          {"name_stale", lack.name},
          {"attributes_stale", lack.attributes},
          {"entries_stale", lack.entries},
          {"stale_bytes", bytes},
          {"stale", std::move(stale)}};
}

}  // namespace

absl::StatusOr<Json> DescribeWhere(Mirror& mirror, const MirrorFacts& facts,
                                   const std::string& path) {
  ErrnoOr<struct stat> st = Errno(ENOENT);
  if (!IsPrivate(path)) st = mirror.StatPath(path);
  if (!st.ok()) return absl::NotFoundError(ErrnoText(st.error()));
  const Finder finder(mirror, path, *st);
  Json legs = Json::array();
  for (const LabelMember& member : mirror.membership().view().label.members) {
    const LegSlot slot = member.slot;
    Lack lack = finder.LackOf(slot);
    const char* state = lack.any() ? "stale" : "current";
    if (!mirror.present().has(slot)) {
      state = "missing";
    } else if (!IsThere(mirror.leg(slot), path, st->st_mode)) {
      state = "absent";
      lack = finder.Everything();
    }
    Json leg = DescribeLack(lack, state);
    leg["name"] = member.name;
    leg["primary"] = slot == mirror.primary_slot();
    leg["path"] = facts.leg_paths[slot];
    legs.push_back(std::move(leg));
  }
  return Json{{"path", path},
              {"kind", KindName(st->st_mode)},
              {"bytes", S_ISREG(st->st_mode) ? st->st_size : 0},
              {"legs", std::move(legs)}};
}

}  // namespace mirrorfs
