// SPDX-License-Identifier: GPL-2.0-or-later
//
// Which regions a change marks. Marking must be nearly free, so a change looks
// for a mark that is already there and says enough:
//
//   * What this mount created is covered whole by the entries mark of its
//     directory, for as long as that stands: recovery compares everything in
//     it that was created since the mark. (Only what was created: an old file
//     overwritten in place may keep its old ctime through a loss of power. And
//     only while it has one name: another one would not inherit the cover. Not
//     where a leg has to be told what to make durable: the mark does not say.)
//   * After a truncation the file's attributes mark covers its tail.
//   * Who marks one region after another in a file marks ever larger groups of
//     neighbours with them, sequential or not.
#include <algorithm>
#include <bit>

#include "mirror/mirror.h"

namespace mirrorfs {
namespace {

constexpr uint64_t kMarkAheadRegionsMax = 64;
// More regions than this are marked as the file's tail, with one record.
constexpr uint64_t kSingleRegionsMax = 256;

}  // namespace

int64_t Mirror::CoverSince(int64_t created_ns) const {
  const int64_t now = clock_->RealtimeNs();
  return (created_ns == 0 ? now : std::min(now, created_ns)) - clock_slack_ns_;
}

RegionMark Mirror::EntriesMark(absl::string_view dir, int64_t since_ns) const {
  RegionMark mark{RegionKey::Entries(std::string(dir))};
  mark.record.since_ns = since_ns;
  return mark;
}

RegionMark Mirror::AttributesMark(const ObjectRef& object) const {
  RegionMark mark{RegionKey::Attributes(object.path)};
  mark.record.directory = object.is_dir;
  return mark;
}

// The mark of the directory or of the file's tail that covers the file from
// `first_region` on, if one stands.
std::optional<RegionMark> Mirror::CoveringMark(const ObjectRef& object,
                                               uint64_t first_region) {
  if (object.created_ns != 0 && !object.linked && !SyncsByObject() &&
      clock_->RealtimeNs() < object.created_ns + kCoverNs) {
    const int64_t since = CoverSince(object.created_ns);
    RegionMark entries = EntriesMark(ParentPath(object.path), since);
    const std::optional<RegionRecord> record = log_->Find(entries.key);
    if (record && record->dirty && record->since_ns <= since) return entries;
  }
  RegionMark attributes = AttributesMark(object);
  const std::optional<RegionRecord> record = log_->Find(attributes.key);
  if (record && record->dirty && record->tail_from <= first_region) {
    attributes.record.tail_from = first_region;
    return attributes;
  }
  return std::nullopt;
}

// Stands for the size of a file among its regions: whoever may make the file
// shorter changes it, and a copy of any of its regions holds it off.
RegionMark Mirror::SizeGuard(const ObjectRef& object) const {
  return {RegionKey::Data(object.path, kSizeGuardIndex)};
}

RegionGate::Request Mirror::DataRequest(const ObjectRef& object,
                                        RegionRange range) {
  if (!object.named) return UnnamedRequest(object);
  RegionGate::Request request;
  if (range.size() > kSingleRegionsMax) return SizeRequest(object, range.first);
  std::vector<RegionMark> regions;
  for (uint64_t index = range.first; index < range.end; ++index) {
    regions.push_back({RegionKey::Data(object.path, index)});
  }
  std::optional<RegionMark> cover = CoveringMark(object, range.first);
  if (cover) {
    request.covered = std::move(regions);
    request.cover = std::move(cover);
  } else {
    request.ahead = MarksAhead(object, range);
    request.marks = std::move(regions);
  }
  // It may make the file longer, so the healing of its size is waited for.
  request.covered.push_back(AttributesMark(object));
  CoverOtherNames(object, request);
  return request;
}

// What a leg lacks of a file with several names is on record under any of them,
// and so is its healing. When names are not known, a leg that lacks anything
// counts as lacking this.
void Mirror::CoverOtherNames(const ObjectRef& object,
                             RegionGate::Request& request) {
  if (!object.linked) return;
  const ErrnoOr<struct stat> st = Stat(object);
  if (!st.ok() || st->st_nlink != 1 + object.other_paths.size()) {
    request.linked = true;
    return;
  }
  std::vector<RegionMark> own = request.covered;
  own.insert(own.end(), request.marks.begin(), request.marks.end());
  for (RegionMark& mark : own) {
    if (mark.key.path != object.path) continue;
    for (const std::string& path : object.other_paths) {
      mark.key.path = path;
      request.covered.push_back(mark);
    }
  }
}

// The neighbours of a region about to be marked: the aligned group it lies in,
// as large as the number of marks this file has cost so far.
std::vector<RegionMark> Mirror::MarksAhead(const ObjectRef& object,
                                           RegionRange range) {
  const auto is_marked = [&](uint64_t index) {
    const auto record = log_->Find(RegionKey::Data(object.path, index));
    return record && record->dirty;
  };
  std::vector<RegionMark> ahead;
  if (!object.open || is_marked(range.end - 1)) return ahead;
  const uint64_t marks = object.open->marks.fetch_add(1);
  const uint64_t group =
      std::bit_floor(std::min(marks + 1, kMarkAheadRegionsMax));
  const uint64_t first = (range.end - 1) / group * group;
  for (uint64_t index = first; index < first + group; ++index) {
    if (index >= range.first && index < range.end) continue;
    ahead.push_back({RegionKey::Data(object.path, index)});
  }
  return ahead;
}

// Everything from region `from` to the end of the file changes, the size too.
RegionGate::Request Mirror::SizeRequest(const ObjectRef& object,
                                        uint64_t from) {
  if (!object.named) return UnnamedRequest(object);
  RegionGate::Request request;
  RegionMark attributes = AttributesMark(object);
  attributes.record.tail_from = from;
  request.cover = CoveringMark(object, from);
  (request.cover ? request.covered : request.marks)
      .push_back(std::move(attributes));
  request.covered.push_back(SizeGuard(object));
  CoverOtherNames(object, request);
  return request;
}

}  // namespace mirrorfs
