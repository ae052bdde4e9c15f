// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/output.h"

#include <iostream>
#include <utility>

#include "cli/text.h"

namespace mirrorfs {

void PrintError(absl::string_view message) {
  // What the command said before comes before it also on a terminal.
  std::cout.flush();
  std::cerr << "mirrorfs: " << Printable(message) << "\n";
}

void PrintError(const absl::Status& status) { PrintError(status.message()); }

namespace {

void Print(const nlohmann::ordered_json& document, int indent) {
  nlohmann::ordered_json all = {{"schema", kJsonSchema}};
  all.update(document);
  std::cout << all.dump(indent, ' ', false,
                        nlohmann::json::error_handler_t::replace)
            << "\n";
}

}  // namespace

void PrintJson(nlohmann::ordered_json document) { Print(document, 2); }

void PrintJsonLine(nlohmann::ordered_json document) { Print(document, -1); }

}  // namespace mirrorfs
