// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/control_commands.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "control/where.h"
#include "mount/leg_commands.h"
#include "mount/request_bytes.h"

namespace mirrorfs {
namespace {

using Json = nlohmann::json;

// As they are now: legs come and go.
MirrorFacts FactsOf(const ControlledMirror& on) {
  MirrorFacts facts = on.facts;
  for (LegSlot slot = 0; slot < kLegsMax; ++slot) {
    facts.leg_paths.push_back(on.probe->path(slot));
  }
  return facts;
}

ControlAnswer AnswerStatus(const ControlledMirror& on, const Json&) {
  return OkAnswer(DescribeMirror(*on.mirror, on.recovery->progress(),
                                 *on.dirty_bytes, FactsOf(on)));
}

ControlAnswer AnswerDirty(const ControlledMirror& on, const Json&) {
  return OkAnswer(DescribeDirtyRegions(*on.mirror));
}

ControlAnswer AnswerEvents(const ControlledMirror& on, const Json& request) {
  const uint64_t after = request.value("after", uint64_t{0});
  if (!request.value("follow", false)) {
    return OkAnswer(on.events->Describe(after));
  }
  std::unique_ptr<ControlStream> stream = on.events->Follow(after);
  if (stream == nullptr) return ErrorAnswer("no descriptor is left");
  return {OkAnswer(Json::object()), std::move(stream)};
}

ControlAnswer AnswerGet(const ControlledMirror& on, const Json&) {
  Json options = Json::array();
  for (const LiveOptions::Shown& option : on.options->Show()) {
    options.push_back({{"name", option.name},
                       {"value", option.value},
                       {"live", option.live}});
  }
  return OkAnswer({{"options", std::move(options)}});
}

ControlAnswer AnswerSet(const ControlledMirror& on, const Json& request) {
  const Json options = request.value("options", Json());
  if (!options.is_object()) {
    return ErrorAnswer("set: \"options\" must be an object");
  }
  std::vector<GivenOption> changes;
  for (const auto& [name, value] : options.items()) {
    if (!value.is_string()) {
      return ErrorAnswer(
          absl::StrCat("option \"", name, "\": its value must be a string"));
    }
    changes.push_back({name, value.get<std::string>()});
  }
  const absl::Status status =
      on.options->Set(changes, request.value("dry_run", false));
  return status.ok() ? OkAnswer() : ErrorAnswer(status.message());
}

// The path as text, or as bytes in hexadecimal, which any name can be.
ControlAnswer AnswerWhere(const ControlledMirror& on, const Json& request) {
  absl::StatusOr<std::string> path = BytesIn(request, "path_hex");
  if (!path.ok()) return ErrorAnswer(path.status().message());
  if (!request.contains("path_hex")) path = request.value("path", "");
  absl::StatusOr<Json> where = DescribeWhere(*on.mirror, FactsOf(on), *path);
  if (!where.ok()) return ErrorAnswer(where.status().message());
  return OkAnswer(*std::move(where));
}

struct Command {
  const char* name;
  ControlAnswer (*answer)(const ControlledMirror& on, const Json& request);
};

constexpr Command kCommands[] = {
    {"status", AnswerStatus}, {"dirty", AnswerDirty}, {"events", AnswerEvents},
    {"get", AnswerGet},       {"set", AnswerSet},     {"where", AnswerWhere},
};

}  // namespace

ControlAnswer AnswerControl(const ControlledMirror& on, const Json& request) {
  const std::string name = request.value("command", "");
  for (const Command& command : kCommands) {
    if (name == command.name) return command.answer(on, request);
  }
  if (const LegCommandAnswer answer = FindLegCommand(name)) {
    return answer(*on.legs, request);
  }
  return ErrorAnswer(absl::StrCat("unknown command \"", name, "\""));
}

}  // namespace mirrorfs
