// SPDX-License-Identifier: GPL-2.0-or-later
#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/dirty_text.h"
#include "cli/exit_code.h"
#include "cli/mirror_lookup.h"
#include "cli/output.h"
#include "cli/text.h"
#include "control/control_client.h"

namespace mirrorfs {
namespace {

// The list may be long.
constexpr absl::Duration kDirtyTimeout = absl::Minutes(1);

struct DirtyArgs {
  std::string what;
  std::string leg;
  bool json = false;
};

bool HasLeg(const MirrorStatus& mirror, const std::string& name) {
  return std::any_of(mirror.legs.begin(), mirror.legs.end(),
                     [&](const LegStatus& leg) { return leg.name == name; });
}

void Print(const DirtyArgs& args, const MirrorStatus& mirror,
           const nlohmann::json& regions) {
  if (args.json) {
    PrintJson(
        {{"name", mirror.name}, {"uuid", mirror.uuid}, {"regions", regions}});
  } else if (regions.empty()) {
    std::cout << Printable(mirror.name) << ": nothing is dirty\n";
  } else {
    std::cout << DirtyText(regions);
  }
}

int RunDirty(const DirtyArgs& args) {
  const absl::StatusOr<MountedMirror> mirror = FindMirror(args.what);
  if (!mirror.ok()) {
    PrintError(mirror.status());
    return absl::IsNotFound(mirror.status()) ? kExitNotMounted : kExitUsage;
  }
  if (!args.leg.empty() && !HasLeg(mirror->status, args.leg)) {
    PrintError(absl::StrCat("--leg ", args.leg, ": mirror \"",
                            mirror->status.name, "\" has no such leg"));
    return kExitUsage;
  }
  const absl::StatusOr<nlohmann::json> answer =
      ControlCall(mirror->socket, {{"command", "dirty"}}, kDirtyTimeout);
  if (!answer.ok()) {
    PrintError(absl::StrCat(args.what, ": ", answer.status().message()));
    return absl::IsUnavailable(answer.status()) ? kExitNotMounted : kExitUsage;
  }
  const nlohmann::json none = nlohmann::json::array();
  const nlohmann::json& regions =
      answer->is_object() ? ArrayAt(*answer, "regions") : none;
  Print(args, mirror->status,
        args.leg.empty() ? regions : RegionsLackingOn(regions, args.leg));
  return kExitHealthy;
}

}  // namespace

void AddDirtyCommand(CLI::App& app, int* exit_code) {
  auto* command =
      app.add_subcommand("dirty", "What may differ between the legs");
  auto args = std::make_shared<DirtyArgs>();
  command->add_option("MIRROR", args->what, "mount point, name, uuid or a leg")
      ->required();
  command->add_option("--leg", args->leg, "only what this leg lacks");
  command->add_flag("--json", args->json, "print JSON");
  command->callback([args, exit_code] { *exit_code = RunDirty(*args); });
}

}  // namespace mirrorfs
