// SPDX-License-Identifier: GPL-2.0-or-later
//
// get and set: the options of a mounted mirror.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/mirror_lookup.h"
#include "cli/output.h"
#include "cli/text.h"
#include "control/control_client.h"

namespace mirrorfs {
namespace {

struct GetArgs {
  std::string what;
  std::string option;
  bool json = false;
};

struct SetArgs {
  std::string what;
  std::vector<std::string> changes;
  bool dry_run = false;
  bool json = false;
};

int Fail(absl::string_view what, const absl::Status& status) {
  const bool gone = absl::IsUnavailable(status);
  PrintError(absl::StrCat(what, ": ",
                          gone ? "was unmounted meanwhile" : status.message()));
  return gone ? kExitNotMounted : kExitUsage;
}

// What one of them is called, in whatever way it is written.
std::string Name(std::string written) {
  std::replace(written.begin(), written.end(), '_', '-');
  return written;
}

// Those that are asked for: one, or all.
nlohmann::json Chosen(const nlohmann::json& options, const std::string& name) {
  nlohmann::json chosen = nlohmann::json::array();
  for (const nlohmann::json& option : options) {
    if (name.empty() || StringAt(option, "name") == Name(name)) {
      chosen.push_back(option);
    }
  }
  return chosen;
}

std::string OptionsText(const nlohmann::json& options) {
  std::vector<std::vector<std::string>> rows = {{"OPTION", "VALUE", ""}};
  for (const nlohmann::json& option : options) {
    rows.push_back({Printable(StringAt(option, "name")),
                    Printable(StringAt(option, "value")),
                    BoolAt(option, "live") ? "can be set" : ""});
  }
  return AlignColumns(rows, "lll", "");
}

int RunGet(const GetArgs& args) {
  const absl::StatusOr<MountedMirror> mirror = FindMirror(args.what);
  if (!mirror.ok()) {
    PrintError(mirror.status());
    return absl::IsNotFound(mirror.status()) ? kExitNotMounted : kExitUsage;
  }
  const absl::StatusOr<nlohmann::json> answer =
      ControlCall(mirror->socket, {{"command", "get"}}, kStatusTimeout);
  if (!answer.ok()) return Fail(args.what, answer.status());
  const nlohmann::json options =
      Chosen(ArrayAt(*answer, "options"), args.option);
  if (!args.option.empty() && options.empty()) {
    PrintError(absl::StrCat("option \"", args.option,
                            "\": unknown; `mirrorfs get` lists the options"));
    return kExitUsage;
  }
  if (args.json) {
    PrintJson({{"name", mirror->status.name},
               {"uuid", mirror->status.uuid},
               {"options", options}});
  } else if (!args.option.empty()) {
    std::cout << Printable(StringAt(options[0], "value")) << "\n";
  } else {
    std::cout << OptionsText(options);
  }
  return kExitHealthy;
}

int RunSet(const SetArgs& args) {
  nlohmann::json changes = nlohmann::json::object();
  for (const std::string& change : args.changes) {
    const size_t equals = change.find('=');
    if (equals == change.npos || equals == 0) {
      PrintError(absl::StrCat("\"", change, "\": write OPTION=VALUE"));
      return kExitUsage;
    }
    changes[change.substr(0, equals)] = change.substr(equals + 1);
  }
  const absl::StatusOr<MountedMirror> mirror = FindMirror(args.what);
  if (!mirror.ok()) {
    PrintError(mirror.status());
    return absl::IsNotFound(mirror.status()) ? kExitNotMounted : kExitUsage;
  }
  const absl::Status status =
      ControlCall(
          mirror->socket,
          {{"command", "set"}, {"options", changes}, {"dry_run", args.dry_run}},
          kStatusTimeout)
          .status();
  if (!status.ok()) return Fail(args.what, status);
  if (args.json) {
    PrintJson({{"name", mirror->status.name},
               {"uuid", mirror->status.uuid},
               {"set", changes},
               {"dry_run", args.dry_run}});
  }
  return kExitHealthy;
}

}  // namespace

void AddGetCommand(CLI::App& app, int* exit_code) {
  auto* command = app.add_subcommand("get", "The options of a mounted mirror");
  auto args = std::make_shared<GetArgs>();
  command->add_option("MIRROR", args->what, "mount point, name, uuid or a leg")
      ->required();
  command->add_option("OPTION", args->option, "only the value of this [all]");
  command->add_flag("--json", args->json, "print JSON");
  command->callback([args, exit_code] { *exit_code = RunGet(*args); });
}

void AddSetCommand(CLI::App& app, int* exit_code) {
  auto* command = app.add_subcommand(
      "set", "Change options of a mounted mirror, until it is unmounted");
  auto args = std::make_shared<SetArgs>();
  command->add_option("MIRROR", args->what, "mount point, name, uuid or a leg")
      ->required();
  command->add_option("SETTING", args->changes, "OPTION=VALUE, as for mount")
      ->required();
  command->add_flag("-n,--dry-run", args->dry_run, "check the values only");
  command->add_flag("--json", args->json, "print JSON");
  command->callback([args, exit_code] { *exit_code = RunSet(*args); });
}

}  // namespace mirrorfs
