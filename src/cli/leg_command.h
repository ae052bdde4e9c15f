// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the commands have in common that change the legs of a mounted mirror.
#pragma once

#include <string>

#include "cli/mirror_lookup.h"
#include "nlohmann/json.hpp"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace mirrorfs {

struct LegCommandArgs {
  std::string what;
  std::string leg;
  bool dry_run = false;
  bool json = false;
};

// The words that such commands take, each where it wants them.
void AddMirrorArgument(CLI::App* command, LegCommandArgs* args);
CLI::Option* AddLegArgument(CLI::App* command, LegCommandArgs* args);
void AddDryRunFlag(CLI::App* command, LegCommandArgs* args);
void AddJsonFlag(CLI::App* command, LegCommandArgs* args);

// Sends `request` to the mirror that is meant, with the leg and dry_run in it,
// and prints the outcome: `done` for people (with "could be done: " in front
// when nothing was), or the JSON object of it, with `more` in it. Returns the
// exit code.
int RunLegCommand(const LegCommandArgs& args, nlohmann::json request,
                  const std::string& done, const nlohmann::json& more = {});

}  // namespace mirrorfs
