// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/leg_command.h"

#include <CLI/CLI.hpp>
#include <iostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cli/exit_code.h"
#include "cli/output.h"
#include "cli/text.h"
#include "control/control_client.h"

namespace mirrorfs {
namespace {

// Labels are written to every leg, and disks may have to spin up.
constexpr absl::Duration kTimeout = absl::Minutes(2);

}  // namespace

void AddMirrorArgument(CLI::App* command, LegCommandArgs* args) {
  command->add_option("MIRROR", args->what, "mount point, name, uuid or a leg")
      ->required();
}

CLI::Option* AddLegArgument(CLI::App* command, LegCommandArgs* args) {
  return command
      ->add_option("LEG", args->leg, "the name, uuid or path of a leg")
      ->required();
}

void AddDryRunFlag(CLI::App* command, LegCommandArgs* args) {
  command->add_flag("-n,--dry-run", args->dry_run,
                    "only look whether it can be done");
}

void AddJsonFlag(CLI::App* command, LegCommandArgs* args) {
  command->add_flag("--json", args->json, "print JSON");
}

int RunLegCommand(const LegCommandArgs& args, nlohmann::json request,
                  const std::string& done, const nlohmann::json& more) {
  const absl::StatusOr<MountedMirror> mirror = FindMirror(args.what);
  if (!mirror.ok()) {
    PrintError(mirror.status());
    return absl::IsNotFound(mirror.status()) ? kExitNotMounted : kExitUsage;
  }
  if (!args.leg.empty()) request["leg"] = args.leg;
  request["dry_run"] = args.dry_run;
  const absl::Status status =
      ControlCall(mirror->socket, request, kTimeout).status();
  if (!status.ok()) {
    const bool gone = absl::IsUnavailable(status);
    PrintError(absl::StrCat(
        args.what, ": ", gone ? "was unmounted meanwhile" : status.message()));
    return gone ? kExitNotMounted : kExitUsage;
  }
  if (args.json) {
    nlohmann::ordered_json document = {{"name", mirror->status.name},
                                       {"uuid", mirror->status.uuid}};
    if (!args.leg.empty()) document["leg"] = args.leg;
    if (more.is_object()) document.update(nlohmann::ordered_json(more));
    document["dry_run"] = args.dry_run;
    PrintJson(std::move(document));
  } else {
    std::cout << Printable(mirror->status.name) << ": "
              << (args.dry_run ? "could be done: " : "") << Printable(done)
              << "\n";
  }
  return kExitHealthy;
}

}  // namespace mirrorfs
