// SPDX-License-Identifier: GPL-2.0-or-later
#include <CLI/CLI.hpp>
#include <memory>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/leg_command.h"

namespace mirrorfs {
namespace {

struct DetachArgs : LegCommandArgs {
  bool track = false;
};

}  // namespace

void AddDetachCommand(CLI::App& app, int* exit_code) {
  auto* command = app.add_subcommand(
      "detach", "Make a leg a plain directory that the mirror forgets");
  auto args = std::make_shared<DetachArgs>();
  AddMirrorArgument(command, args.get());
  AddLegArgument(command, args.get());
  command->add_flag("--track", args->track,
                    "it stays a leg, taken out; what it misses is remembered");
  AddDryRunFlag(command, args.get());
  AddJsonFlag(command, args.get());
  command->callback([args, exit_code] {
    // It is the same, for people who think of it as of a disk that is away.
    const char* request = args->track ? "offline" : "detach";
    *exit_code = RunLegCommand(
        *args, {{"command", request}},
        absl::StrCat("leg ", args->leg,
                     args->track ? " is offline" : " is detached"),
        {{"track", args->track}});
  });
}

}  // namespace mirrorfs
