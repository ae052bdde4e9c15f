// SPDX-License-Identifier: GPL-2.0-or-later
#include <fcntl.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/errno.h"
#include "base/fd.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/mirror_lookup.h"
#include "cli/output.h"
#include "cli/text.h"
#include "leg/new_mirror.h"

namespace mirrorfs {
namespace {

using Json = nlohmann::ordered_json;

struct CreateArgs {
  std::vector<std::string> legs;
  NewMirrorOptions options;
  std::optional<std::string> region_size;
  bool dry_run = false;
  bool json = false;
};

// In the order of args.legs, which is that of the label's members.
void PrintCreated(const CreateArgs& args, const Label& label) {
  std::cout << "created mirror \"" << Printable(label.mirror_name) << "\" ("
            << label.mirror_uuid << "), region "
            << ShortSize(label.region_bytes) << "\n";
  std::vector<std::vector<std::string>> rows;
  for (size_t i = 0; i < label.members.size(); ++i) {
    const LabelMember& member = label.members[i];
    const bool primary = member.uuid == label.primary_uuid;
    rows.push_back({absl::StrCat("leg ", Printable(member.name)),
                    Printable(args.legs[i]),
                    primary          ? "primary"
                    : member.in_sync ? ""
                                     : "filled when mounted"});
  }
  std::cout << AlignColumns(rows, "lll", "  ");
}

void PrintCreatedJson(const CreateArgs& args, const Label& label) {
  Json legs = Json::array();
  for (size_t i = 0; i < label.members.size(); ++i) {
    const LabelMember& member = label.members[i];
    legs.push_back({{"name", member.name},
                    {"path", AbsolutePath(args.legs[i])},
                    {"uuid", member.uuid},
                    {"state", member.in_sync ? "in-sync" : "stale"},
                    {"primary", member.uuid == label.primary_uuid}});
  }
  PrintJson({{"name", label.mirror_name},
             {"uuid", label.mirror_uuid},
             {"region_size", label.region_bytes},
             {"legs", legs}});
}

absl::Status CheckLegs(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    const UniqueFd root(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!root.valid())
      return ToStatus(Errno::Last(), absl::StrCat("leg ", path));
    const absl::StatusOr<Label> label = ReadLabel(root.get());
    if (label.ok()) {
      return absl::FailedPreconditionError(
          absl::StrCat("leg ", path, ": already belongs to mirror \"",
                       label->mirror_name, "\""));
    }
    if (!absl::IsNotFound(label.status())) return label.status();
  }
  return CheckLegPaths(paths);
}

int DryRun(const CreateArgs& args) {
  const absl::Status status = CheckLegs(args.legs);
  if (!status.ok()) {
    PrintError(status);
    return kExitUsage;
  }
  if (args.json) {
    PrintJson({{"dry_run", true}, {"legs", args.legs}});
    return kExitHealthy;
  }
  for (const std::string& leg : args.legs) {
    std::cout << "would label " << Printable(leg)
              << (leg == args.options.adopt ? ", keeping its files\n" : "\n");
  }
  return kExitHealthy;
}

int RunCreate(CreateArgs args) {
  if (args.region_size) {
    const absl::StatusOr<uint64_t> bytes = ParseSize(*args.region_size);
    if (!bytes.ok()) {
      PrintError(absl::StrCat("--region-size: ", bytes.status().message()));
      return kExitUsage;
    }
    args.options.region_bytes = *bytes;
  }
  if (args.dry_run) return DryRun(args);
  const absl::StatusOr<Label> label = CreateMirror(args.legs, args.options);
  if (!label.ok()) {
    PrintError(label.status());
    return kExitUsage;
  }
  if (args.json) {
    PrintCreatedJson(args, *label);
  } else {
    PrintCreated(args, *label);
  }
  return kExitHealthy;
}

}  // namespace

void AddCreateCommand(CLI::App& app, int* exit_code) {
  auto* command =
      app.add_subcommand("create", "Make directories the legs of a new mirror");
  auto args = std::make_shared<CreateArgs>();
  command->add_option("LEG", args->legs, "the legs' directories")->required();
  command->add_option("--name", args->options.name,
                      "of the mirror [that of the first leg's directory]");
  command->add_option("--region-size", args->region_size,
                      "unit of the dirty log, a power of two [1M]");
  command->add_option("--adopt", args->options.adopt,
                      "the leg whose files become the mirror's; all others "
                      "must be empty");
  command->add_flag("-n,--dry-run", args->dry_run,
                    "label nothing; only look whether the legs can be used");
  command->add_flag("--json", args->json, "print JSON");
  command->callback([args, exit_code] { *exit_code = RunCreate(*args); });
}

}  // namespace mirrorfs
