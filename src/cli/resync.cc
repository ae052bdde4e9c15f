// SPDX-License-Identifier: GPL-2.0-or-later
#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/leg_command.h"
#include "cli/mirror_lookup.h"
#include "cli/wait_sync.h"
#include "region/region_key.h"

namespace mirrorfs {
namespace {

struct ResyncArgs : LegCommandArgs {
  std::string first;
  bool wait = false;
};

// The path within the mirror: as it is, or as it is seen in the mount.
std::string PathInMirror(const ResyncArgs& args) {
  const absl::StatusOr<MountedMirror> mirror = FindMirror(args.what);
  const std::string path = PathWithRealParent(args.first);
  if (!mirror.ok() || !LiesIn(path, mirror->status.mountpoint)) {
    return args.first;
  }
  const std::string rest = RebasePath(path, mirror->status.mountpoint, "");
  return std::string(absl::StripPrefix(rest, "/"));
}

int Run(const ResyncArgs& args) {
  nlohmann::json request = {{"command", "resync"}};
  if (!args.first.empty()) {
    request["first_hex"] = absl::BytesToHexString(PathInMirror(args));
  }
  const std::string whom =
      args.leg.empty() ? "every leg" : absl::StrCat("leg ", args.leg);
  const int exit_code = RunLegCommand(
      args, request, absl::StrCat(whom, " is compared with the primary"));
  if (exit_code != kExitHealthy || !args.wait || args.dry_run) return exit_code;
  return WaitForSync({.what = args.what, .quiet = args.json});
}

}  // namespace

void AddResyncCommand(CLI::App& app, int* exit_code) {
  auto* command = app.add_subcommand(
      "resync", "Compare everything with the primary, and repair");
  auto args = std::make_shared<ResyncArgs>();
  AddMirrorArgument(command, args.get());
  AddLegArgument(command, args.get())->required(false);
  command->add_option("--first", args->first,
                      "a file, or a directory, that comes before the rest");
  command->add_flag("--wait", args->wait, "wait until it is done");
  AddDryRunFlag(command, args.get());
  AddJsonFlag(command, args.get());
  command->callback([args, exit_code] { *exit_code = Run(*args); });
}

}  // namespace mirrorfs
