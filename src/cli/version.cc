// SPDX-License-Identifier: GPL-2.0-or-later
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/output.h"
#include "leg/label.h"

namespace mirrorfs {

void AddVersionCommand(CLI::App& app, int* exit_code) {
  auto* command = app.add_subcommand("version", "Which mirrorfs this is");
  auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "print JSON");
  command->callback([json, exit_code] {
    if (*json) {
      PrintJson(
          {{"version", MIRRORFS_VERSION}, {"label_format", kLabelFormat}});
    } else {
      std::cout << "mirrorfs " MIRRORFS_VERSION "\n";
    }
    *exit_code = kExitHealthy;
  });
}

}  // namespace mirrorfs
