// SPDX-License-Identifier: GPL-2.0-or-later
#include "mirror/assembly.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace mirrorfs {
namespace {

std::string NameOf(const Label& label) {
  return label.FindMember(label.leg_uuid)->name;
}

absl::Status Conflict(const Label& a, const Label& b) {
  return absl::AbortedError(absl::StrCat(
      "conflict: legs \"", NameOf(a), "\" and \"", NameOf(b), "\" of mirror \"",
      a.mirror_name,
      "\" were each changed without the other; choose the one to keep with "
      "`mirrorfs resolve --keep LEG LEG...`"));
}

// The newest label, once it is certain that all others lead to it.
absl::StatusOr<size_t> FindNewest(const std::vector<Label>& labels) {
  size_t newest = 0;
  for (size_t i = 1; i < labels.size(); ++i) {
    if (CompareLabels(labels[i], labels[newest]) == LabelOrder::kNewer) {
      newest = i;
    }
  }
  for (const Label& label : labels) {
    const LabelOrder order = CompareLabels(label, labels[newest]);
    if (order != LabelOrder::kSame && order != LabelOrder::kOlder) {
      return Conflict(labels[newest], label);
    }
  }
  return newest;
}

bool IsWhole(const Label& label) {
  return label.FindMember(label.leg_uuid)->in_sync;
}

// Among labels of one generation: of a leg that is not half healed, and the
// one written last. Within a generation only the orderly-end stamp and the
// log's session change, and an interrupted round of stamps must count as not
// made.
size_t PreferUnclean(const std::vector<Label>& labels, size_t newest) {
  size_t best = newest;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (CompareLabels(labels[i], labels[newest]) != LabelOrder::kSame) continue;
    const bool better =
        IsWhole(labels[i]) &&
        (!IsWhole(labels[best]) || (!labels[i].clean && labels[best].clean));
    if (better) best = i;
  }
  return best;
}

void PlaceLeg(FoundLeg found, const LabelMember& member, Assembly& assembly) {
  found.leg->Identify(member.slot, member.name, member.uuid);
  assembly.paths[member.slot] = found.path;
  assembly.legs[member.slot] = std::move(found.leg);
}

// A path at which no leg was found, and why not.
struct Unclaimed {
  std::string path;
  std::string reason;
};

// Gives them to the members that were not found, in order: status wants to say
// where a missing leg was expected.
void PlaceMissing(const std::vector<Unclaimed>& unclaimed, Assembly& assembly) {
  size_t next = 0;
  for (const LabelMember& member : assembly.label.members) {
    if (!assembly.paths[member.slot].empty()) continue;
    if (next == unclaimed.size()) return;
    assembly.paths[member.slot] = unclaimed[next].path;
    assembly.reasons[member.slot] = unclaimed[next].reason;
    ++next;
  }
}

// A crash may have come before a new leg had its label.
void SettleJoining(Assembly& assembly) {
  std::erase_if(assembly.label.members, [&](const LabelMember& member) {
    return member.joining && assembly.legs[member.slot] == nullptr;
  });
  for (LabelMember& member : assembly.label.members) member.joining = false;
}

FoundLeg Probe(const std::string& path, bool writable, LegTargets& targets) {
  absl::StatusOr<std::unique_ptr<Leg>> leg = Leg::Open(path, targets.For(path));
  if (!leg.ok()) return {path, nullptr, leg.status()};
  const ErrnoOr<struct statvfs> st = (*leg)->Statvfs();
  if (writable && st.ok() && st->f_flag & ST_RDONLY) {
    return {path, nullptr,
            absl::FailedPreconditionError("its file system is read-only")};
  }
  absl::StatusOr<Label> label = ReadLabel(**leg);
  return {path, std::move(*leg), std::move(label)};
}

// The uuid of the mirror that is meant; empty when there is no label at all.
absl::StatusOr<std::string> WhichMirror(const std::vector<FoundLeg>& found,
                                        absl::string_view name) {
  std::map<std::string, int> votes;
  std::map<std::string, std::string> names;
  for (const FoundLeg& leg : found) {
    if (!leg.label.ok()) continue;
    names[leg.label->mirror_uuid] = leg.label->mirror_name;
    if (name.empty() || leg.label->mirror_name == name) {
      ++votes[leg.label->mirror_uuid];
    }
  }
  // Nobody has that name: let the check against the label say so.
  if (votes.empty()) return names.empty() ? "" : names.begin()->first;
  const auto fewer = [](const auto& a, const auto& b) {
    return a.second < b.second;
  };
  const auto most = std::max_element(votes.begin(), votes.end(), fewer);
  for (const auto& [uuid, count] : votes) {
    if (uuid != most->first && count == most->second) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the legs belong to different mirrors (\"", names[uuid], "\" and \"",
          names[most->first], "\"); say which with name="));
    }
  }
  return most->first;
}

// OK when the leg has a usable label of that mirror.
absl::Status Belongs(const FoundLeg& leg, const std::string& mirror_uuid) {
  if (!leg.label.ok()) return leg.label.status();
  if (leg.label->mirror_uuid == mirror_uuid) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "belongs to another mirror (\"", leg.label->mirror_name, "\")"));
}

}  // namespace

std::string ReasonOf(const absl::Status& status, const std::string& path) {
  const std::string prefix = absl::StrCat("leg ", path, ": ");
  return std::string(absl::StripPrefix(status.message(), prefix));
}

absl::StatusOr<LabelVerdict> JudgeLabels(const std::vector<Label>& labels) {
  absl::StatusOr<size_t> newest = FindNewest(labels);
  if (!newest.ok()) return newest.status();
  LabelVerdict verdict;
  verdict.newest = PreferUnclean(labels, *newest);
  const Label& truth = labels[verdict.newest];
  for (const Label& label : labels) {
    const LabelMember* member = truth.FindMember(label.leg_uuid);
    // Detached, and not told so; it is older than the truth.
    if (member == nullptr) continue;
    const LegSet slot = LegSet::Of(member->slot);
    if (verdict.present.contains(slot)) {
      return absl::FailedPreconditionError(absl::StrCat(
          "leg \"", member->name, "\" is there twice (one is a copy)"));
    }
    verdict.present |= slot;
    if (member->offline) {
      verdict.offline |= slot;
      continue;
    }
    if (label.generation == truth.generation && !IsWhole(label)) {
      // Of this generation, but its healing did not end. The log knows.
    } else if (CompareLabels(label, truth) == LabelOrder::kSame &&
               member->in_sync) {
      verdict.in_sync |= slot;
      if (label.leg_uuid == truth.primary_uuid) verdict.primary = member->slot;
    } else if (member->in_sync || member->left_at != label.generation.id ||
               member->left_uses != label.uses) {
      verdict.unaccounted |= slot;
    }
  }
  if (verdict.in_sync.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("no up-to-date leg of mirror \"", truth.mirror_name,
                     "\" is here; bring the missing leg back"));
  }
  if (verdict.primary < 0) {
    verdict.primary = std::countr_zero(verdict.in_sync.bits());
  }
  verdict.present -= verdict.offline;
  return verdict;
}

absl::StatusOr<Assembly> Assemble(const std::vector<std::string>& paths,
                                  absl::string_view name, bool writable,
                                  LegTargets& targets) {
  std::vector<FoundLeg> found;
  for (const std::string& path : paths)
    found.push_back(Probe(path, writable, targets));
  const absl::StatusOr<std::string> mirror_uuid = WhichMirror(found, name);
  if (!mirror_uuid.ok()) return mirror_uuid.status();

  Assembly assembly;
  std::vector<Label> labels;
  std::vector<FoundLeg> members;
  std::vector<Unclaimed> unclaimed;
  for (FoundLeg& leg : found) {
    const absl::Status status = Belongs(leg, *mirror_uuid);
    if (absl::IsUnimplemented(status)) {
      return absl::UnimplementedError(
          absl::StrCat("leg ", leg.path, ": ", status.message()));
    }
    if (!status.ok()) {
      const std::string reason = ReasonOf(status, leg.path);
      assembly.notes.push_back(
          absl::StrCat("leg ", leg.path, " is missing: ", reason));
      unclaimed.push_back({leg.path, reason});
      continue;
    }
    labels.push_back(*leg.label);
    members.push_back(std::move(leg));
  }
  if (labels.empty()) {
    const bool none =
        std::all_of(found.begin(), found.end(), [](const FoundLeg& leg) {
          return leg.label.ok() || absl::IsNotFound(leg.label.status());
        });
    return absl::NotFoundError(absl::StrCat(
        assembly.notes[0],
        none ? "; make a mirror with `mirrorfs create` or -o create" : ""));
  }
  absl::StatusOr<LabelVerdict> verdict = JudgeLabels(labels);
  if (!verdict.ok()) return verdict.status();
  assembly.verdict = *verdict;
  assembly.label = labels[verdict->newest];
  assembly.legs.resize(kLegsMax);
  assembly.paths.resize(kLegsMax);
  assembly.reasons.resize(kLegsMax);
  assembly.labels.resize(kLegsMax);
  for (size_t i = 0; i < members.size(); ++i) {
    const LabelMember* member = assembly.label.FindMember(labels[i].leg_uuid);
    if (member == nullptr) {
      assembly.notes.push_back(
          absl::StrCat("leg ", members[i].path,
                       " is left out: it was detached from mirror \"",
                       assembly.label.mirror_name, "\""));
      continue;
    }
    if (member->offline) {
      assembly.paths[member->slot] = members[i].path;
      continue;
    }
    assembly.labels[member->slot] = labels[i];
    PlaceLeg(std::move(members[i]), *member, assembly);
  }
  SettleJoining(assembly);
  PlaceMissing(unclaimed, assembly);
  return assembly;
}

}  // namespace mirrorfs
