// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/label.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "region/region_range.h"

namespace mirrorfs {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kMagic[] = "mirrorfs label ";
constexpr size_t kChecksumBytes = 16;  // in hex digits

std::string Checksum(absl::string_view text) {
  return absl::StrFormat("%0*x", kChecksumBytes,
                         XXH3_64bits(text.data(), text.size()));
}

Json MemberToJson(const LabelMember& member) {
  Json json = {{"name", member.name},
               {"uuid", member.uuid},
               {"slot", member.slot},
               {"in_sync", member.in_sync},
               {"left_at", member.left_at}};
  if (member.left_uses != 0) json["left_uses"] = member.left_uses;
  if (member.offline) json["offline"] = true;
  if (!member.replaces.empty()) json["replaces"] = member.replaces;
  if (member.joining) json["joining"] = true;
  if (member.away_since_ns != 0) json["away_since"] = member.away_since_ns;
  for (const AwayTime& time : member.away) {
    json["away"].push_back({time.from_ns, time.to_ns});
  }
  return json;
}

Json LabelToJson(const Label& label) {
  Json members = Json::array();
  for (const LabelMember& member : label.members) {
    members.push_back(MemberToJson(member));
  }
  return {{"mirror", label.mirror_name},
          {"mirror_uuid", label.mirror_uuid},
          {"leg_uuid", label.leg_uuid},
          {"region_bytes", label.region_bytes},
          {"generation", label.generation.number},
          {"generation_id", label.generation.id},
          {"primary_uuid", label.primary_uuid},
          {"clean", label.clean},
          {"uses", label.uses},
          {"log",
           {{"type", label.log.type},
            {"uuid", label.log.uuid},
            {"leg_uuid", label.log.leg_uuid},
            {"dir", label.log.dir},
            {"session", label.log.session}}},
          {"next_slot", label.next_slot},
          {"legs", members},
          {"history", label.history}};
}

LabelMember MemberFromJson(const Json& json) {
  LabelMember member;
  member.name = json.at("name").get<std::string>();
  member.uuid = json.at("uuid").get<std::string>();
  member.slot = json.at("slot").get<int>();
  member.in_sync = json.at("in_sync").get<bool>();
  member.left_at = json.at("left_at").get<std::string>();
  // Labels of earlier versions have none of these.
  member.left_uses = json.value("left_uses", uint64_t{0});
  member.offline = json.value("offline", false);
  member.replaces = json.value("replaces", "");
  member.joining = json.value("joining", false);
  member.away_since_ns = json.value("away_since", int64_t{0});
  for (const Json& time : json.value("away", Json::array())) {
    member.away.push_back(
        {time.at(0).get<int64_t>(), time.at(1).get<int64_t>()});
  }
  return member;
}

// Throws Json::exception when something is absent or of another type.
Label LabelFromJson(const Json& json) {
  Label label;
  label.mirror_name = json.at("mirror").get<std::string>();
  label.mirror_uuid = json.at("mirror_uuid").get<std::string>();
  label.leg_uuid = json.at("leg_uuid").get<std::string>();
  label.region_bytes = json.at("region_bytes").get<uint64_t>();
  label.generation.number = json.at("generation").get<uint64_t>();
  label.generation.id = json.at("generation_id").get<std::string>();
  label.primary_uuid = json.at("primary_uuid").get<std::string>();
  label.clean = json.at("clean").get<bool>();
  const Json& log = json.at("log");
  label.log.type = log.at("type").get<std::string>();
  label.log.uuid = log.at("uuid").get<std::string>();
  label.log.leg_uuid = log.at("leg_uuid").get<std::string>();
  label.log.dir = log.at("dir").get<std::string>();
  label.log.session = log.at("session").get<std::string>();
  label.next_slot = json.value("next_slot", 0);
  label.uses = json.value("uses", uint64_t{0});
  for (const Json& member : json.at("legs")) {
    label.members.push_back(MemberFromJson(member));
  }
  label.history = json.at("history").get<std::vector<std::string>>();
  return label;
}

bool IsPlausible(const Label& label) {
  LegSet slots;
  for (const LabelMember& member : label.members) {
    if (member.slot < 0 || member.slot >= kLegsMax) return false;
    if (slots.has(member.slot)) return false;
    slots |= LegSet::Of(member.slot);
  }
  return IsValidRegionSize(label.region_bytes) &&
         label.FindMember(label.leg_uuid) != nullptr &&
         !label.mirror_uuid.empty() && !label.generation.id.empty();
}

absl::Status Damaged(absl::string_view why) {
  return absl::DataLossError(absl::StrCat("the label is damaged: ", why));
}

}  // namespace

const LabelMember* Label::FindMember(absl::string_view uuid) const {
  for (const LabelMember& member : members) {
    if (member.uuid == uuid) return &member;
  }
  return nullptr;
}

LabelMember* Label::FindMember(absl::string_view uuid) {
  return const_cast<LabelMember*>(std::as_const(*this).FindMember(uuid));
}

LegSlot Label::FreeSlot() const {
  LegSet taken;
  LegSlot fresh = next_slot;
  for (const LabelMember& member : members) {
    taken |= LegSet::Of(member.slot);
    fresh = std::max(fresh, member.slot + 1);
  }
  if (fresh < kLegsMax) return fresh;
  const LegSlot unused = std::countr_one(taken.bits());
  return unused < kLegsMax ? unused : -1;
}

std::string FormatLabel(const Label& label, size_t bytes_min) {
  std::string body =
      LabelToJson(label).dump(2, ' ', false, Json::error_handler_t::replace) +
      "\n";
  const std::string head = absl::StrCat(kMagic, kLabelFormat, " ");
  const size_t bytes = head.size() + kChecksumBytes + 1 + body.size();
  if (bytes < bytes_min) body.append(bytes_min - bytes, ' ');
  return absl::StrCat(head, Checksum(body), "\n", body);
}

absl::StatusOr<Label> ParseLabel(absl::string_view text) {
  const size_t newline = text.find('\n');
  if (newline == absl::string_view::npos || !absl::StartsWith(text, kMagic)) {
    return Damaged("it does not begin like one");
  }
  const absl::string_view body = text.substr(newline + 1);
  const std::vector<std::string> words = absl::StrSplit(
      text.substr(sizeof(kMagic) - 1, newline - (sizeof(kMagic) - 1)), ' ');
  if (words.size() == 2 && words[1] != Checksum(body)) {
    return Damaged("its checksum is wrong");
  }
  if (words[0] != absl::StrCat(kLabelFormat)) {
    return absl::UnimplementedError(
        absl::StrCat("the label has format ", words[0], ", this program knows ",
                     kLabelFormat, "; use the mirrorfs that wrote it"));
  }
  if (words.size() != 2) return Damaged("it has no checksum");
  const Json json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return Damaged("it is not JSON");
  try {
    Label label = LabelFromJson(json);
    if (!IsPlausible(label)) return Damaged("its fields contradict each other");
    return label;
  } catch (const Json::exception& error) {
    return Damaged("a field is absent or of another type");
  }
}

LabelOrder CompareLabels(const Label& a, const Label& b) {
  // The history ends somewhere; since when a leg is away is never forgotten.
  const auto knows = [](const Label& label, const Label& other) {
    const LabelMember* member = label.FindMember(other.leg_uuid);
    return (member != nullptr && !member->in_sync &&
            member->left_at == other.generation.id) ||
           std::find(label.history.begin(), label.history.end(),
                     other.generation.id) != label.history.end();
  };
  if (a.generation.id == b.generation.id) {
    if (a.uses == b.uses) return LabelOrder::kSame;
    return a.uses < b.uses ? LabelOrder::kOlder : LabelOrder::kNewer;
  }
  const bool a_knows = knows(a, b);
  const bool b_knows = knows(b, a);
  if (a_knows == b_knows) return LabelOrder::kConflict;
  return a_knows ? LabelOrder::kNewer : LabelOrder::kOlder;
}

}  // namespace mirrorfs
