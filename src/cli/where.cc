// SPDX-License-Identifier: GPL-2.0-or-later
#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/mirror_lookup.h"
#include "cli/output.h"
#include "cli/where_text.h"
#include "control/control_client.h"

namespace mirrorfs {
namespace {

// Legs are looked at, too.
constexpr absl::Duration kWhereTimeout = absl::Minutes(1);

struct WhereArgs {
  std::string file;
  bool json = false;
};

struct Place {
  const MountedMirror* mirror = nullptr;
  std::string path;  // relative to the mirror's root
};

// `path` relative to `directory`, when it lies there.
std::optional<std::string> Beneath(const std::string& path,
                                   const std::string& directory) {
  if (directory.empty()) return std::nullopt;
  if (path == directory) return "";
  const std::string prefix = absl::StrCat(directory, "/");
  if (!absl::StartsWith(path, prefix)) return std::nullopt;
  return path.substr(prefix.size());
}

// The mirror in whose mount or legs the file lies; of several the innermost.
std::optional<Place> FindPlace(const std::vector<MountedMirror>& mirrors,
                               const std::string& file) {
  std::optional<Place> best;
  const auto consider = [&](const MountedMirror& mirror,
                            const std::string& directory,
                            const std::string& path) {
    std::optional<std::string> below = Beneath(path, directory);
    if (!below) return;
    if (!best || below->size() < best->path.size()) {
      best = {&mirror, *std::move(below)};
    }
  };
  for (const auto& form : {AbsolutePath, PathWithRealParent}) {
    const std::string path = form(file);
    for (const MountedMirror& mirror : mirrors) {
      consider(mirror, mirror.status.mountpoint, path);
      for (const LegStatus& leg : mirror.status.legs) {
        consider(mirror, leg.path, path);
      }
    }
    if (best) return best;
  }
  return best;
}

int RunWhere(const WhereArgs& args) {
  const MountedMirrors all = AskAllDaemons();
  const std::optional<Place> place = FindPlace(all.mirrors, args.file);
  if (!place && all.denied) {
    PrintError(OnlyForRoot(args.file));
    return kExitUsage;
  }
  if (!place) {
    PrintError(absl::StrCat(args.file, ": does not lie in a mounted mirror"));
    for (const std::string& silent : all.silent) PrintError(silent);
    return kExitNotMounted;
  }
  const absl::StatusOr<nlohmann::json> answer = ControlCall(
      place->mirror->socket,
      {{"command", "where"}, {"path_hex", absl::BytesToHexString(place->path)}},
      kWhereTimeout);
  if (!answer.ok()) {
    PrintError(absl::StrCat(args.file, ": ", answer.status().message()));
    return absl::IsUnavailable(answer.status()) ? kExitNotMounted : kExitUsage;
  }
  if (args.json) {
    nlohmann::ordered_json document = {{"name", place->mirror->status.name},
                                       {"uuid", place->mirror->status.uuid}};
    document.update(nlohmann::ordered_json(*answer));
    PrintJson(std::move(document));
  } else {
    std::cout << WhereText(*answer);
  }
  return kExitHealthy;
}

}  // namespace

void AddWhereCommand(CLI::App& app, int* exit_code) {
  auto* command = app.add_subcommand(
      "where", "Which legs hold a file, and what of it they lack");
  auto args = std::make_shared<WhereArgs>();
  command->add_option("FILE", args->file, "in a mounted mirror, or in a leg")
      ->required();
  command->add_flag("--json", args->json, "print JSON");
  command->callback([args, exit_code] { *exit_code = RunWhere(*args); });
}

}  // namespace mirrorfs
