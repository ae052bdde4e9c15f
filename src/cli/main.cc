// SPDX-License-Identifier: GPL-2.0-or-later
//
// mirrorfs, the command that people use on mirrors.
#include <CLI/CLI.hpp>
#include <exception>
#include <iostream>
#include <memory>
#include <string>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/output.h"

namespace mirrorfs {
namespace {

void AddHelpCommand(CLI::App& app) {
  auto* command = app.add_subcommand("help", "What a command does");
  auto topic = std::make_shared<std::string>();
  command->add_option("COMMAND", *topic, "one of the commands");
  command->callback([&app, topic] {
    if (topic->empty()) {
      // app.help() would speak of the command that was given, which is help.
      std::cout << app.get_formatter()->make_help(&app, app.get_name(),
                                                  CLI::AppFormatMode::Normal);
      return;
    }
    // Throws, as any other wrong word, when there is no such command.
    std::cout << app.get_subcommand(*topic)->help("mirrorfs");
  });
}

int RunCommandLine(int argc, char** argv) {
  CLI::App app("Works with mirrors: directories that hold the same files.",
               "mirrorfs");
  int exit_code = kExitHealthy;
  app.require_subcommand(0, 1);
  app.set_version_flag("-V,--version", "mirrorfs " MIRRORFS_VERSION);
  app.footer(
      "Exit status: 0 healthy or done, 1 wrong usage or not done, 2 not "
      "mounted or not\na mirror, 3 degraded, 4 resyncing, 5 conflict or legs "
      "that differ, 64 errors\nrecorded. mirrorfs(8) says more.");
  AddCreateCommand(app, &exit_code);
  AddStatusCommand(app, &exit_code);
  AddDirtyCommand(app, &exit_code);
  AddWhereCommand(app, &exit_code);
  AddEventsCommand(app, &exit_code);
  AddGetCommand(app, &exit_code);
  AddSetCommand(app, &exit_code);
  AddWaitSyncCommand(app, &exit_code);
  AddUmountCommand(app, &exit_code);
  AddCheckCommand(app, &exit_code);
  AddOfflineCommand(app, &exit_code);
  AddOnlineCommand(app, &exit_code);
  AddAttachCommand(app, &exit_code);
  AddDetachCommand(app, &exit_code);
  AddReplaceCommand(app, &exit_code);
  AddPromoteCommand(app, &exit_code);
  AddResyncCommand(app, &exit_code);
  AddClearCommand(app, &exit_code);
  AddResolveCommand(app, &exit_code);
  AddVersionCommand(app, &exit_code);
  AddHelpCommand(app);
  try {
    app.parse(argc, argv);
    if (app.get_subcommands().empty()) {
      PrintError("a command is needed; try `mirrorfs help`");
      return kExitUsage;
    }
  } catch (const CLI::CallForHelp&) {
    std::cout << app.help();
  } catch (const CLI::CallForVersion& version) {
    std::cout << version.what() << "\n";
  } catch (const CLI::Error& error) {
    PrintError(std::string(error.what()) + "; try `mirrorfs help`");
    return kExitUsage;
  }
  return exit_code;
}

}  // namespace
}  // namespace mirrorfs

int main(int argc, char** argv) {
  try {
    const int exit_code = mirrorfs::RunCommandLine(argc, argv);
    // A full disk or a closed pipe must not look like an answer.
    if (std::cout.flush().good()) return exit_code;
    mirrorfs::PrintError("cannot write to standard output");
  } catch (const std::exception& error) {
    mirrorfs::PrintError(error.what());
  }
  return mirrorfs::kExitUsage;
}
