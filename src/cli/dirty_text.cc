// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/dirty_text.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/mirror_status.h"
#include "cli/text.h"

namespace mirrorfs {
namespace {

using nlohmann::json;

struct Range {
  uint64_t begin = 0;
  uint64_t end = 0;
};

struct DirtyObject {
  std::vector<Range> ranges;
  bool attributes = false;
  std::optional<uint64_t> tail;  // where content begins that goes with them
  bool entries = false;
  bool deep = false;
};

// Neighbours become one.
std::vector<Range> Merged(std::vector<Range> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const Range& a, const Range& b) { return a.begin < b.begin; });
  std::vector<Range> merged;
  for (const Range& range : ranges) {
    if (!merged.empty() && range.begin <= merged.back().end) {
      merged.back().end = std::max(merged.back().end, range.end);
    } else {
      merged.push_back(range);
    }
  }
  return merged;
}

std::map<std::string, DirtyObject> ByPath(const json& regions) {
  std::map<std::string, DirtyObject> objects;
  for (const json& region : regions) {
    if (!region.is_object()) continue;
    DirtyObject& object = objects[StringAt(region, "path")];
    const std::string kind = StringAt(region, "kind");
    object.deep |= BoolAt(region, "deep");
    if (kind == "attributes") {
      object.attributes = true;
      if (region.contains("offset")) object.tail = NumberAt(region, "offset");
    }
    object.entries |= kind == "entries";
    if (kind == "data") {
      const uint64_t begin = NumberAt(region, "offset");
      const uint64_t bytes = NumberAt(region, "bytes");
      const uint64_t end = begin + std::min(bytes, UINT64_MAX - begin);
      object.ranges.push_back({begin, end});
    }
  }
  return objects;
}

using Row = std::vector<std::string>;

void AppendRows(const std::string& path, const DirtyObject& object,
                std::vector<Row>* rows) {
  const std::string shown = path.empty() ? "." : Printable(path);
  if (object.deep) {
    rows->push_back({"", "all in", shown, ""});
  } else if (object.entries) {
    rows->push_back({"", "names in", shown, ""});
  }
  if (object.attributes) {
    rows->push_back({"", "attributes", shown,
                     object.tail ? absl::StrCat("and all from ",
                                                ShortSize(*object.tail), " on")
                                 : ""});
  }
  if (object.ranges.empty()) return;
  const std::vector<Range> ranges = Merged(object.ranges);
  uint64_t bytes = 0;
  for (const Range& range : ranges) bytes += range.end - range.begin;
  const std::string where =
      ranges.size() > 1 ? ""
                        : absl::StrCat("[", ShortSize(ranges[0].begin), "..",
                                       ShortSize(ranges[0].end), ")");
  rows->push_back({BinaryBytes(bytes), Count(ranges.size(), "range", "ranges"),
                   shown, where});
}

}  // namespace

std::string DirtyText(const json& regions) {
  std::vector<Row> rows;
  for (const auto& [path, object] : ByPath(regions)) {
    AppendRows(path, object, &rows);
  }
  return AlignColumns(rows, "rlll", "  ");
}

json RegionsLackingOn(const json& regions, const std::string& leg) {
  json lacking = json::array();
  for (const json& region : regions) {
    if (!region.is_object()) continue;
    const json& missing = ArrayAt(region, "missing");
    if (std::find(missing.begin(), missing.end(), json(leg)) != missing.end()) {
      lacking.push_back(region);
    }
  }
  return lacking;
}

}  // namespace mirrorfs
