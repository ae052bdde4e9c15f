// SPDX-License-Identifier: GPL-2.0-or-later
//
// What a test says to the leg while it is in use.
#include "absl/strings/str_cat.h"
#include "control/control_server.h"
#include "faulty_leg.h"

namespace mirrorfs::faulty {
namespace {

using Json = nlohmann::json;

absl::StatusOr<Rule> ParseRule(const Json& json) {
  Rule rule;
  for (const Json& name : json.at("ops")) {
    const std::optional<Op> op = OpByName(name.get<std::string>());
    if (!op) {
      return absl::InvalidArgumentError(
          absl::StrCat("no operation ", name.get<std::string>()));
    }
    rule.ops.set(static_cast<size_t>(*op));
  }
  rule.path = json.value("path", "");
  rule.spare_private = json.value("spare_private", false);
  rule.error = Errno(json.value("errno", 0));
  rule.after = json.value("after", false);
  rule.hang = json.value("hang", false);
  rule.delay_ms = json.value("delay_ms", int64_t{0});
  rule.limit = json.value("limit", int64_t{-1});
  rule.lose = json.value("lose", false);
  rule.rate = json.value("rate", 1.0);
  rule.skip = json.value("skip", int64_t{0});
  rule.count = json.value("count", int64_t{-1});
  return rule;
}

Json Obey(FaultyLeg& leg, const Json& request) {
  const std::string command = request.at("command");
  if (command == "add") {
    const absl::StatusOr<Rule> rule = ParseRule(request.at("rule"));
    if (!rule.ok()) return ErrorAnswer(rule.status().message());
    return OkAnswer(leg.faults().Add(*rule));
  }
  if (command == "remove") {
    leg.faults().Remove(request.at("id"));
  } else if (command == "clear") {
    leg.faults().Clear();
  } else if (command == "space") {
    leg.space().Set(request.at("bytes"));
  } else if (command == "track") {
    leg.unsynced().Track(request.at("on"));
  } else if (command == "split-names") {
    leg.SplitNames();
  } else if (command == "synced") {
    leg.unsynced().AllSynced();
  } else if (command == "lose") {
    return OkAnswer(leg.unsynced().LoseAll(request.at("younger_ms")));
  } else if (command == "stats") {
    return OkAnswer(leg.faults().Describe());
  } else {
    return ErrorAnswer(absl::StrCat("no command ", command));
  }
  return OkAnswer();
}

}  // namespace

Json Command(FaultyLeg& leg, const Json& request) {
  try {
    return Obey(leg, request);
  } catch (const Json::exception& error) {
    return ErrorAnswer(error.what());
  }
}

}  // namespace mirrorfs::faulty
