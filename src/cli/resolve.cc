// SPDX-License-Identifier: GPL-2.0-or-later
#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/leg_command.h"
#include "cli/mirror_lookup.h"
#include "cli/offline_legs.h"
#include "cli/output.h"
#include "cli/text.h"
#include "leg/new_mirror.h"

namespace mirrorfs {
namespace {

struct ResolveArgs {
  std::vector<std::string> legs;
  std::string keep;
  bool dry_run = false;
  bool json = false;
};

bool IsOneOf(const std::string& path, const std::vector<std::string>& paths) {
  return std::any_of(paths.begin(), paths.end(), [&](const std::string& other) {
    return RealPath(other) == RealPath(path);
  });
}

int ResolveMounted(const ResolveArgs& args) {
  LegCommandArgs words;
  words.what = args.legs[0];
  words.dry_run = args.dry_run;
  words.json = args.json;
  return RunLegCommand(
      words, {{"command", "resolve"}, {"keep", args.keep}},
      absl::StrCat(args.keep,
                   " stays as it is; legs in conflict are made equal to it"),
      {{"kept", args.keep}});
}

// Legs that were not named may be in conflict, too, and are not known to the
// one that is kept.
size_t NotNamed(const OfflineLegs& legs) {
  const std::vector<LabelMember>& members = legs.labels[0].members;
  return std::count_if(
      members.begin(), members.end(), [&](const LabelMember& member) {
        return std::none_of(
            legs.labels.begin(), legs.labels.end(),
            [&](const Label& label) { return label.leg_uuid == member.uuid; });
      });
}

int RunResolve(const ResolveArgs& args) {
  const bool one = args.legs.size() == 1;
  if (one && !absl::IsNotFound(FindMirror(args.legs[0]).status())) {
    return ResolveMounted(args);
  }
  // The one leg that is left may be one that was taken out.
  const absl::StatusOr<OfflineLegs> legs =
      OpenOffline(args.legs, /*count_min=*/1);
  if (!legs.ok()) {
    PrintError(legs.status());
    return OfflineExitCode(legs.status());
  }
  if (!IsOneOf(args.keep, args.legs)) {
    PrintError(absl::StrCat("--keep ", args.keep, ": is not one of the legs"));
    return kExitUsage;
  }
  if (!args.dry_run) {
    const absl::Status resolved = ResolveConflict(args.legs, args.keep);
    if (!resolved.ok()) {
      PrintError(resolved);
      return kExitUsage;
    }
  }
  if (args.json) {
    PrintJson({{"name", legs->labels[0].mirror_name},
               {"uuid", legs->labels[0].mirror_uuid},
               {"kept", args.keep},
               {"dry_run", args.dry_run}});
    return kExitHealthy;
  }
  std::cout << Printable(args.keep) << (args.dry_run ? " would stay" : " stays")
            << " as it is; the other legs named here are made equal to it at "
               "the next mount\n";
  if (const size_t others = NotNamed(*legs); others > 0) {
    std::cout << Count(others, "leg was", "legs were")
              << " not named; one that was changed without "
              << Printable(args.keep)
              << " is refused still until it is resolved, too\n";
  }
  return kExitHealthy;
}

}  // namespace

void AddResolveCommand(CLI::App& app, int* exit_code) {
  auto* command = app.add_subcommand(
      "resolve", "End a conflict: keep one leg's changes, give up the others'");
  auto args = std::make_shared<ResolveArgs>();
  command
      ->add_option("LEG", args->legs,
                   "all legs that are there, or a mounted mirror")
      ->required();
  command->add_option("--keep", args->keep, "the leg that stays as it is")
      ->required();
  command->add_flag("-n,--dry-run", args->dry_run, "check the legs only");
  command->add_flag("--json", args->json, "print JSON");
  command->callback([args, exit_code] { *exit_code = RunResolve(*args); });
}

}  // namespace mirrorfs
