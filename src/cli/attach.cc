// SPDX-License-Identifier: GPL-2.0-or-later
//
// attach and replace: a directory becomes a leg of a mounted mirror.
#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/leg_command.h"
#include "cli/mirror_lookup.h"

namespace mirrorfs {
namespace {

struct AttachArgs : LegCommandArgs {
  std::string path;
  std::string name;
};

void AddNewLegArguments(CLI::App* command, AttachArgs* args) {
  command->add_option("PATH", args->path, "the directory of the new leg")
      ->required();
  command->add_option("--name", args->name,
                      "of the new leg [that of its directory]");
  AddDryRunFlag(command, args);
  AddJsonFlag(command, args);
}

int Run(const AttachArgs& args, const char* command, const std::string& done) {
  // We look where symlinks lead, and not the daemon: it might be in itself.
  const std::string path = RealPath(AbsolutePath(args.path));
  nlohmann::json request = {{"command", command},
                            {"path_hex", absl::BytesToHexString(path)}};
  if (!args.name.empty()) request["name"] = args.name;
  return RunLegCommand(args, request, done, {{"path", path}});
}

}  // namespace

void AddAttachCommand(CLI::App& app, int* exit_code) {
  auto* command = app.add_subcommand(
      "attach", "Add a leg, which is filled while the mirror is in use");
  auto args = std::make_shared<AttachArgs>();
  AddMirrorArgument(command, args.get());
  AddNewLegArguments(command, args.get());
  command->callback([args, exit_code] {
    *exit_code =
        Run(*args, "attach",
            absl::StrCat(
                args->path,
                " is a leg, and gets what it lacks; name it in fstab, too"));
  });
}

void AddReplaceCommand(CLI::App& app, int* exit_code) {
  auto* command = app.add_subcommand(
      "replace", "Add a leg that takes another one's place once it is filled");
  auto args = std::make_shared<AttachArgs>();
  AddMirrorArgument(command, args.get());
  AddLegArgument(command, args.get());
  AddNewLegArguments(command, args.get());
  command->callback([args, exit_code] {
    *exit_code = Run(*args, "replace",
                     absl::StrCat(args->path, " is filled, and replaces leg ",
                                  args->leg, " then; change fstab, too"));
  });
}

}  // namespace mirrorfs
