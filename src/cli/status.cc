// SPDX-License-Identifier: GPL-2.0-or-later
#include <fcntl.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/errno.h"
#include "base/fd.h"
#include "base/mount_table.h"
#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/mirror_lookup.h"
#include "cli/output.h"
#include "cli/status_text.h"
#include "cli/text.h"
#include "leg/label.h"

namespace mirrorfs {
namespace {

using Json = nlohmann::ordered_json;

struct StatusArgs {
  std::string what;
  bool json = false;
};

int PrintMirrors(const std::vector<MountedMirror>& mirrors, bool json) {
  int exit_code = kExitHealthy;
  Json list = Json::array();
  for (const MountedMirror& mirror : mirrors) {
    exit_code = MoreUrgent(exit_code, ExitCodeOf(mirror.status));
    list.push_back(Json(mirror.json));
    if (json) continue;
    if (&mirror != &mirrors.front()) std::cout << "\n";
    std::cout << StatusText(mirror.status);
  }
  if (json) PrintJson({{"mirrors", std::move(list)}});
  return exit_code;
}

void PrintDead(const std::string& mount_point) {
  PrintError(absl::StrCat(mount_point,
                          ": its daemon is gone or does not answer; "
                          "`mirrorfs umount` it and mount again"));
}

// Mounts of ours whose daemons were killed.
std::vector<std::string> DeadMounts() {
  std::vector<std::string> dead;
  for (const MountEntry& entry : ReadMountTable()) {
    if (IsDeadMirrorMount(entry)) dead.push_back(entry.mount_point);
  }
  return dead;
}

int StatusOfAll(bool json) {
  const MountedMirrors all = AskAllDaemons();
  if (all.denied) {
    PrintError(OnlyForRoot("status"));
    return kExitUsage;
  }
  for (const std::string& silent : all.silent) PrintError(silent);
  // Not where a daemon may hang: then asking its mount hangs, too.
  const std::vector<std::string> dead =
      all.silent.empty() ? DeadMounts() : std::vector<std::string>();
  for (const std::string& mount_point : dead) PrintDead(mount_point);
  const int exit_code = PrintMirrors(all.mirrors, json);
  if (!all.silent.empty() || !dead.empty()) {
    return MoreUrgent(exit_code, kExitDegraded);
  }
  if (!all.mirrors.empty()) return exit_code;
  if (!json) std::cout << "no mirrors are mounted\n";
  return kExitNotMounted;
}

const char* MemberState(const LabelMember& member) {
  return member.in_sync ? "in-sync" : "stale";
}

Json OfflineJson(const Label& label, const std::string& path) {
  Json mirror = {{"name", label.mirror_name},
                 {"uuid", label.mirror_uuid},
                 {"state", "not-mounted"},
                 {"generation", label.generation.number},
                 {"region_size", label.region_bytes},
                 {"legs", Json::array()}};
  for (const LabelMember& member : label.members) {
    Json leg = {{"name", member.name},
                {"uuid", member.uuid},
                {"state", MemberState(member)},
                {"primary", member.uuid == label.primary_uuid}};
    if (member.uuid == label.leg_uuid) leg["path"] = AbsolutePath(path);
    mirror["legs"].push_back(std::move(leg));
  }
  return {{"mirrors", Json::array({std::move(mirror)})}};
}

void PrintOffline(const Label& label, const std::string& path) {
  std::cout << Printable(label.mirror_name) << "   not mounted\n"
            << "  what the label on " << Printable(path) << " says, generation "
            << label.generation.number << ", region "
            << ShortSize(label.region_bytes) << ":\n\n";
  std::vector<std::vector<std::string>> rows = {{"LEG", "STATE", "UUID", ""}};
  for (const LabelMember& member : label.members) {
    const bool primary = member.uuid == label.primary_uuid;
    rows.push_back({absl::StrCat(Printable(member.name), primary ? " *" : ""),
                    MemberState(member), Printable(member.uuid),
                    member.uuid == label.leg_uuid ? "this leg" : ""});
  }
  std::cout << AlignColumns(rows, "llll", "  ") << "  (* primary)\n";
}

bool IsDeadMount(const std::string& what) {
  const std::vector<MountEntry> table = ReadMountTable();
  const MountEntry* entry = FindMount(table, PathWithRealParent(what));
  return entry != nullptr && IsMirrorMount(*entry);
}

// `what` is not mounted; perhaps it is a leg all the same.
int StatusOffline(const StatusArgs& args, const absl::Status& not_found) {
  if (IsDeadMount(args.what)) {
    PrintDead(args.what);
    return kExitNotMounted;
  }
  const UniqueFd root(
      open(args.what.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) {
    PrintError(not_found);
    return kExitNotMounted;
  }
  const absl::StatusOr<Label> label = ReadLabel(root.get());
  if (!label.ok()) {
    PrintError(absl::IsNotFound(label.status())
                   ? not_found
                   : absl::DataLossError(absl::StrCat(
                         args.what, ": ", label.status().message())));
  } else if (args.json) {
    PrintJson(OfflineJson(*label, args.what));
  } else {
    PrintOffline(*label, args.what);
  }
  return kExitNotMounted;
}

int RunStatus(const StatusArgs& args) {
  if (args.what.empty()) return StatusOfAll(args.json);
  const absl::StatusOr<MountedMirror> mirror = FindMirror(args.what);
  if (mirror.ok()) return PrintMirrors({*mirror}, args.json);
  if (absl::IsNotFound(mirror.status())) {
    return StatusOffline(args, mirror.status());
  }
  PrintError(mirror.status());
  return kExitUsage;
}

}  // namespace

void AddStatusCommand(CLI::App& app, int* exit_code) {
  auto* command = app.add_subcommand("status", "How mirrors are");
  auto args = std::make_shared<StatusArgs>();
  command->add_option("MIRROR", args->what,
                      "mount point, name, uuid or a leg [all]");
  command->add_flag("--json", args->json, "print JSON");
  command->callback([args, exit_code] { *exit_code = RunStatus(*args); });
}

}  // namespace mirrorfs
