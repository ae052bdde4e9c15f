// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/leg_commands.h"

#include <optional>
#include <string>
#include <utility>

#include "mount/request_bytes.h"

namespace mirrorfs {
namespace {

using Json = nlohmann::json;

ControlAnswer Answer(const absl::Status& status) {
  return status.ok() ? OkAnswer() : ErrorAnswer(status.message());
}

std::string LegOf(const Json& request) { return request.value("leg", ""); }

bool IsDryRun(const Json& request) { return request.value("dry_run", false); }

// Attaches the leg that the request names; `replaces`: in place of which.
ControlAnswer AttachBy(LegAdmin& admin, const Json& request,
                       std::string replaces) {
  const absl::StatusOr<std::string> path = BytesIn(request, "path_hex");
  if (!path.ok()) return Answer(path.status());
  NewLegOptions options;
  options.path = *path;
  options.name = request.value("name", "");
  options.replaces = std::move(replaces);
  return Answer(admin.Attach(options, IsDryRun(request)));
}

ControlAnswer AnswerOffline(LegAdmin& admin, const Json& request) {
  return Answer(admin.Offline(LegOf(request), IsDryRun(request)));
}

ControlAnswer AnswerOnline(LegAdmin& admin, const Json& request) {
  return Answer(admin.Online(LegOf(request), IsDryRun(request)));
}

ControlAnswer AnswerPromote(LegAdmin& admin, const Json& request) {
  return Answer(admin.Promote(LegOf(request), IsDryRun(request)));
}

ControlAnswer AnswerClear(LegAdmin& admin, const Json& request) {
  return Answer(admin.ClearErrors(LegOf(request)));
}

ControlAnswer AnswerResync(LegAdmin& admin, const Json& request) {
  std::optional<std::string> first;
  if (request.contains("first_hex")) {
    absl::StatusOr<std::string> path = BytesIn(request, "first_hex");
    if (!path.ok()) return Answer(path.status());
    first = *std::move(path);
  }
  return Answer(admin.Resync(LegOf(request), first, IsDryRun(request)));
}

ControlAnswer AnswerAttach(LegAdmin& admin, const Json& request) {
  return AttachBy(admin, request, "");
}

ControlAnswer AnswerDetach(LegAdmin& admin, const Json& request) {
  return Answer(admin.Detach(LegOf(request), IsDryRun(request)));
}

ControlAnswer AnswerReplace(LegAdmin& admin, const Json& request) {
  const std::string replaces = LegOf(request);
  if (replaces.empty()) return ErrorAnswer("replace: no leg is named");
  return AttachBy(admin, request, replaces);
}

ControlAnswer AnswerResolve(LegAdmin& admin, const Json& request) {
  return Answer(admin.Resolve(request.value("keep", ""), IsDryRun(request)));
}

struct Command {
  const char* name;
  LegCommandAnswer answer;
};

constexpr Command kCommands[] = {
    {"offline", AnswerOffline}, {"online", AnswerOnline},
    {"promote", AnswerPromote}, {"clear", AnswerClear},
    {"resync", AnswerResync},   {"attach", AnswerAttach},
    {"detach", AnswerDetach},   {"replace", AnswerReplace},
    {"resolve", AnswerResolve},
};

}  // namespace

LegCommandAnswer FindLegCommand(const std::string& name) {
  for (const Command& command : kCommands) {
    if (name == command.name) return command.answer;
  }
  return nullptr;
}

}  // namespace mirrorfs
