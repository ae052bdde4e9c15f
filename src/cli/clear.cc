// SPDX-License-Identifier: GPL-2.0-or-later
#include <CLI/CLI.hpp>
#include <memory>

#include "cli/commands.h"
#include "cli/leg_command.h"

namespace mirrorfs {

void AddClearCommand(CLI::App& app, int* exit_code) {
  auto* command = app.add_subcommand(
      "clear", "Set the error counters of a leg, or of all legs, to zero");
  auto args = std::make_shared<LegCommandArgs>();
  AddMirrorArgument(command, args.get());
  AddLegArgument(command, args.get())->required(false);
  AddJsonFlag(command, args.get());
  command->callback([args, exit_code] {
    *exit_code = RunLegCommand(*args, {{"command", "clear"}},
                               "the error counters are zero");
  });
}

}  // namespace mirrorfs
