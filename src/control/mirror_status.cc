// SPDX-License-Identifier: GPL-2.0-or-later
#include "control/mirror_status.h"

#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "leg/conflicts.h"

namespace mirrorfs {
namespace {

using Json = nlohmann::json;

const char* StateOf(Mirror& mirror, const Membership::View& membership,
                    LegSlot slot, uint64_t regions) {
  switch (mirror.legs().state(slot)) {
    case LegState::kMissing:
      return "missing";
    case LegState::kFailed:
      return "failed";
    case LegState::kOffline:
      return "offline";
    case LegState::kConflict:
      return "conflict";
    case LegState::kUp:
      break;
  }
  const bool member = membership.in_sync.has(slot);
  return member && regions == 0 ? "in-sync" : "resync";
}

// How far the repair of a leg is that still lacks `bytes`.
Json DescribeResync(const LegProgress& done, uint64_t bytes) {
  const uint64_t rate = done.bytes_per_second;
  return {{"done_bytes", done.done_bytes},
          {"copied_bytes", done.copied_bytes},
          {"total_bytes", done.done_bytes + bytes},
          {"rate", rate},
          {"eta_s", rate == 0 ? 0 : (bytes + rate - 1) / rate}};
}

// Why the repair does not get on.
Json DescribeFailing(const Setback& setback) {
  return {{"path", setback.path}, {"error", DescribeSetback(setback)}};
}

Json DescribeLeg(Mirror& mirror, const Membership::View& membership,
                 const LabelMember& member, const HealProgress& progress,
                 const LegFigures& figures, const MirrorFacts& facts) {
  const LegSlot slot = member.slot;
  const LegSet leg = LegSet::Of(slot);
  const LegProgress done = progress.Of(slot);
  const DirtyLog::SyncCount count = mirror.log().GetSyncCount(leg);
  const uint64_t bytes = figures.dirty_bytes[slot];
  Json json = {{"name", member.name},
               {"uuid", member.uuid},
               {"path", facts.leg_paths[slot]},
               {"state", StateOf(mirror, membership, slot, count.regions)},
               {"primary", slot == mirror.primary_slot()},
               {"write_mostly", mirror.write_mostly().has(slot)},
               {"errors",
                {{"read", mirror.legs().errors(slot).read.load()},
                 {"write", mirror.legs().errors(slot).write.load()},
                 {"checksum", 0}}},
               {"dirty",
                {{"bytes", bytes},
                 {"regions", count.regions},
                 {"files", count.files},
                 {"directories", count.directories}}},
               {"resync", DescribeResync(done, bytes)}};
  const std::string reason = mirror.legs().reason(slot);
  if (!mirror.present().has(slot) && !reason.empty()) json["reason"] = reason;
  const std::optional<Setback> setback = progress.setbacks.Of(slot);
  if (setback && json["state"] == "resync") {
    json["resync"]["failing"] = DescribeFailing(*setback);
  }
  const LabelMember* replaced = membership.label.FindMember(member.replaces);
  if (replaced != nullptr) json["replaces"] = replaced->name;
  if (mirror.present().has(slot)) {
    json["unanswered_s"] =
        absl::ToInt64Seconds(mirror.leg(slot).target()->WaitedFor());
    const std::optional<uint64_t> free = figures.free_bytes[slot];
    if (free) json["free_bytes"] = *free;
  }
  const std::optional<uint64_t> kept = figures.conflicts[slot];
  if (mirror.present().has(slot) && kept) {
    json["conflicts"] = {
        {"kept", *kept},
        {"waiting", done.conflict_waits && count.regions > 0},
        {"path", absl::StrCat(facts.leg_paths[slot], "/", ConflictsPath())}};
  }
  return json;
}

std::string MirrorState(const Json& legs) {
  bool conflict = false;
  bool down = false;
  bool resync = false;
  for (const Json& leg : legs) {
    const bool resyncs = leg["state"] == "resync";
    conflict |= leg["state"] == "conflict";
    resync |= resyncs;
    down |= !resyncs && leg["state"] != "in-sync";
  }
  return conflict ? "conflict"
         : down   ? "degraded"
         : resync ? "resyncing"
                  : "healthy";
}

Json DescribeLog(Mirror& mirror, const Label& label) {
  const DirtyLog::SyncCount count = mirror.log().GetSyncCount(mirror.all());
  const std::string status = mirror.log().Status(DirtyLog::StatusKind::kInfo);
  std::string location;
  if (label.log.type == "disk") {
    const LabelMember* leg = label.FindMember(label.log.leg_uuid);
    location = leg == nullptr ? label.log.dir : leg->name;
  }
  return {{"type", label.log.type},
          {"state", absl::EndsWith(status, " D") ? "failed" : "ok"},
          {"status", status},
          {"dirty_regions", count.regions + count.dirty},
          {"dirty_objects", count.files + count.directories},
          {"dirty_files", count.files},
          {"dirty_directories", count.directories},
          {"location", location}};
}

}  // namespace

Json DescribeMirror(Mirror& mirror, const HealProgress& progress,
                    DirtyBytes& dirty, const MirrorFacts& facts) {
  const LegFigures figures = dirty.Get();  // takes its time
  const Membership::View membership = mirror.membership().view();
  const Label& label = membership.label;
  Json legs = Json::array();
  for (const LabelMember& member : label.members) {
    legs.push_back(
        DescribeLeg(mirror, membership, member, progress, figures, facts));
  }
  return {{"name", label.mirror_name},
          {"uuid", label.mirror_uuid},
          {"mountpoint", facts.mount_point},
          {"state", MirrorState(legs)},
          {"read_only", facts.read_only},
          {"generation", label.generation.number},
          {"primary", mirror.primary().name()},
          {"region_size", label.region_bytes},
          {"pid", getpid()},
          {"log", DescribeLog(mirror, label)},
          {"legs", legs},
          {"scrub", {{"state", "idle"}, {"mismatches", 0}, {"repaired", 0}}}};
}

std::string SummarizeMirror(Mirror& mirror) {
  Json legs = Json::array();
  size_t in_sync = 0;
  const Membership::View membership = mirror.membership().view();
  for (const LabelMember& member : membership.label.members) {
    const DirtyLog::SyncCount count =
        mirror.log().GetSyncCount(LegSet::Of(member.slot));
    legs.push_back(
        {{"state", StateOf(mirror, membership, member.slot, count.regions)}});
    in_sync += legs.back()["state"] == "in-sync";
  }
  return absl::StrCat(MirrorState(legs), ", ", in_sync, " of ", legs.size(),
                      " legs in sync");
}

Json DescribeDirtyRegions(Mirror& mirror) {
  const Label label = mirror.membership().view().label;
  const uint64_t region_bytes = mirror.log().GetRegionSize();
  Json regions = Json::array();
  mirror.log().ForEach([&](const RegionKey& key, const RegionRecord& record) {
    Json missing = Json::array();
    for (const LabelMember& member : label.members) {
      if (record.missing.has(member.slot)) missing.push_back(member.name);
    }
    Json region = {{"path", key.path},
                   {"kind", RegionKindName(key.kind)},
                   {"dirty", record.dirty},
                   {"deep", record.dirty_deep || !record.deep.empty()},
                   {"missing", missing}};
    if (key.kind == RegionKind::kData) {
      if (key.index == kSizeGuardIndex) return;
      region["offset"] = key.index * region_bytes;
      region["bytes"] = region_bytes;
    } else if (record.tail_from < kNoTail / region_bytes) {
      region["offset"] = record.tail_from * region_bytes;
    }
    regions.push_back(region);
  });
  return {{"regions", regions}};
}

}  // namespace mirrorfs
