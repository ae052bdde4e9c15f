// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/event_text.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/mirror_status.h"
#include "cli/text.h"

namespace mirrorfs {

std::string EventLine(const nlohmann::json& event, absl::TimeZone zone) {
  const std::string given = StringAt(event, "time");
  absl::Time time;
  const std::string when =
      absl::ParseTime(absl::RFC3339_full, given, &time, nullptr)
          ? absl::FormatTime("%Y-%m-%d %H:%M:%S", time, zone)
          : Printable(given);
  const std::string line = absl::StrFormat(
      "%s  %-15s  %-8s  %s", when, Printable(StringAt(event, "name")),
      Printable(StringAt(event, "leg")), Printable(StringAt(event, "detail")));
  return absl::StrCat(absl::StripTrailingAsciiWhitespace(line), "\n");
}

}  // namespace mirrorfs
