// SPDX-License-Identifier: GPL-2.0-or-later
#include <CLI/CLI.hpp>
#include <memory>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/leg_command.h"

namespace mirrorfs {

void AddOnlineCommand(CLI::App& app, int* exit_code) {
  auto* command =
      app.add_subcommand("online", "Take a leg in again that was taken out");
  auto args = std::make_shared<LegCommandArgs>();
  AddMirrorArgument(command, args.get());
  AddLegArgument(command, args.get());
  AddDryRunFlag(command, args.get());
  AddJsonFlag(command, args.get());
  command->callback([args, exit_code] {
    *exit_code =
        RunLegCommand(*args, {{"command", "online"}},
                      absl::StrCat("leg ", args->leg,
                                   " takes part, and gets what it missed"));
  });
}

}  // namespace mirrorfs
