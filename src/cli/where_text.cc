// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/where_text.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cli/mirror_status.h"
#include "cli/text.h"

namespace mirrorfs {
namespace {

using nlohmann::json;

// More than these are only counted.
constexpr size_t kRangesShown = 4;

std::string RangesText(const json& leg) {
  const json& ranges = ArrayAt(leg, "stale");
  if (ranges.empty()) return "";
  std::vector<std::string> shown;
  for (const json& range : ranges) {
    if (shown.size() == kRangesShown) break;
    const uint64_t begin = NumberAt(range, "offset");
    const uint64_t end = begin + NumberAt(range, "bytes");
    shown.push_back(absl::StrCat("[", begin, "..", end, ")"));
  }
  if (ranges.size() > kRangesShown) shown.push_back("...");
  return absl::StrCat(BinaryBytes(NumberAt(leg, "stale_bytes")), " in ",
                      Count(ranges.size(), "range", "ranges"), " ",
                      absl::StrJoin(shown, " "));
}

std::string LacksText(const json& leg) {
  std::vector<std::string> parts;
  if (BoolAt(leg, "name_stale")) parts.push_back("its name");
  if (BoolAt(leg, "attributes_stale")) parts.push_back("attributes");
  if (BoolAt(leg, "entries_stale")) parts.push_back("names in it");
  const std::string ranges = RangesText(leg);
  if (!ranges.empty()) parts.push_back(ranges);
  if (parts.empty()) return "";
  return absl::StrCat("lacks ", absl::StrJoin(parts, ", "));
}

}  // namespace

std::string WhereText(const json& answer) {
  const std::string path = StringAt(answer, "path");
  const std::string kind = StringAt(answer, "kind");
  std::string text = absl::StrCat(path.empty() ? "." : Printable(path), "   ",
                                  Printable(kind));
  if (kind == "file") {
    absl::StrAppend(&text, ", ", BinaryBytes(NumberAt(answer, "bytes")));
  }
  std::vector<std::vector<std::string>> rows = {{"LEG", "PATH", "STATE", ""}};
  for (const json& leg : ArrayAt(answer, "legs")) {
    const std::string root = StringAt(leg, "path");
    const std::string where =
        path.empty() ? root : absl::StrCat(root, "/", path);
    rows.push_back({absl::StrCat(Printable(StringAt(leg, "name")),
                                 BoolAt(leg, "primary") ? " *" : ""),
                    root.empty() ? "-" : Printable(where),
                    Printable(StringAt(leg, "state")), LacksText(leg)});
  }
  return absl::StrCat(text, "\n\n", AlignColumns(rows, "llll", "  "),
                      "  (* primary)\n");
}

}  // namespace mirrorfs
