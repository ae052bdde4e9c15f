// SPDX-License-Identifier: GPL-2.0-or-later
//
// Each command adds itself to the command line; when its word is there it runs
// and leaves its exit code in `*exit_code`.
#pragma once

namespace CLI {
class App;
}

namespace mirrorfs {

void AddAttachCommand(CLI::App& app, int* exit_code);
void AddCheckCommand(CLI::App& app, int* exit_code);
void AddClearCommand(CLI::App& app, int* exit_code);
void AddCreateCommand(CLI::App& app, int* exit_code);
void AddDetachCommand(CLI::App& app, int* exit_code);
void AddDirtyCommand(CLI::App& app, int* exit_code);
void AddEventsCommand(CLI::App& app, int* exit_code);
void AddGetCommand(CLI::App& app, int* exit_code);
void AddOfflineCommand(CLI::App& app, int* exit_code);
void AddOnlineCommand(CLI::App& app, int* exit_code);
void AddPromoteCommand(CLI::App& app, int* exit_code);
void AddReplaceCommand(CLI::App& app, int* exit_code);
void AddResolveCommand(CLI::App& app, int* exit_code);
void AddResyncCommand(CLI::App& app, int* exit_code);
void AddSetCommand(CLI::App& app, int* exit_code);
void AddStatusCommand(CLI::App& app, int* exit_code);
void AddUmountCommand(CLI::App& app, int* exit_code);
void AddVersionCommand(CLI::App& app, int* exit_code);
void AddWaitSyncCommand(CLI::App& app, int* exit_code);
void AddWhereCommand(CLI::App& app, int* exit_code);

}  // namespace mirrorfs
