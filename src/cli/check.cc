// SPDX-License-Identifier: GPL-2.0-or-later
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
#include "cli/offline_legs.h"
#include "cli/output.h"
#include "cli/text.h"
#include "leg/tree_compare.h"

namespace mirrorfs {
namespace {

using Json = nlohmann::ordered_json;

struct CheckArgs {
  std::vector<std::string> legs;
  bool json = false;
};

std::vector<TreeToCompare> TreesOf(const std::vector<std::string>& paths,
                                   const std::vector<Label>& labels) {
  std::vector<TreeToCompare> trees;
  for (size_t i = 0; i < paths.size(); ++i) {
    const LabelMember* member = labels[i].FindMember(labels[i].leg_uuid);
    trees.push_back({paths[i], member == nullptr ? paths[i] : member->name});
  }
  return trees;
}

// The root of the legs has the empty path.
std::string ShownPath(const TreeDifference& difference) {
  return difference.path.empty() ? "." : difference.path;
}

void PrintSummary(const std::vector<Label>& labels,
                  const TreeCompareCounts& counts) {
  const std::string seen =
      absl::StrCat(Count(counts.objects, "object", "objects"), ", ",
                   BinaryBytes(counts.bytes), " of content");
  if (counts.differences == 0) {
    std::cout << "identical: " << seen << "\n";
    return;
  }
  std::cout << Count(counts.differences, "difference", "differences") << " in "
            << seen << "\n";
  const bool all_clean =
      std::all_of(labels.begin(), labels.end(),
                  [](const Label& label) { return label.clean; });
  if (!all_clean) {
    std::cout << "  action: the mirror was not unmounted in order or still has "
                 "work; mount it and `mirrorfs wait-sync`, then check again\n";
  }
}

int RunCheck(const CheckArgs& args) {
  const absl::StatusOr<OfflineLegs> legs = OpenOffline(args.legs);
  if (!legs.ok()) {
    PrintError(legs.status());
    return OfflineExitCode(legs.status());
  }
  Json differences = Json::array();
  const auto report = [&](const TreeDifference& difference) {
    const std::string path = ShownPath(difference);
    if (args.json) {
      differences.push_back({{"path", path},
                             {"what", difference.what},
                             {"detail", difference.detail}});
    } else {
      std::cout << Printable(path) << ": " << difference.what << ": "
                << Printable(difference.detail) << "\n";
    }
  };
  const absl::StatusOr<TreeCompareCounts> counts =
      CompareTrees(TreesOf(args.legs, legs->labels), report);
  if (!counts.ok()) {
    PrintError(counts.status());
    return kExitNotMounted;
  }
  if (args.json) {
    PrintJson({{"identical", counts->differences == 0},
               {"objects", counts->objects},
               {"bytes", counts->bytes},
               {"differences", std::move(differences)}});
  } else {
    PrintSummary(legs->labels, *counts);
  }
  return counts->differences == 0 ? kExitHealthy : kExitConflict;
}

}  // namespace

void AddCheckCommand(CLI::App& app, int* exit_code) {
  auto* command = app.add_subcommand(
      "check", "Compare the legs of a mirror that is not mounted");
  auto args = std::make_shared<CheckArgs>();
  command->add_option("LEG", args->legs, "two legs or more")->required();
  command->add_flag("--json", args->json, "print JSON");
  command->callback([args, exit_code] { *exit_code = RunCheck(*args); });
}

}  // namespace mirrorfs
