// SPDX-License-Identifier: GPL-2.0-or-later
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/event_text.h"
#include "cli/exit_code.h"
#include "cli/mirror_lookup.h"
#include "cli/output.h"
#include "cli/text.h"
#include "control/control_client.h"

namespace mirrorfs {
namespace {

struct EventsArgs {
  std::string what;
  bool follow = false;
  bool json = false;
};

void PrintLost(uint64_t lost) {
  if (lost > 0) {
    PrintError(absl::StrCat(Count(lost, "older event is", "older events are"),
                            " not remembered any more"));
  }
}

void PrintEvent(const EventsArgs& args, const nlohmann::json& event) {
  if (args.json) {
    PrintJsonLine(event);
  } else {
    std::cout << EventLine(event, absl::LocalTimeZone());
  }
}

int PrintAll(const EventsArgs& args, const MirrorStatus& mirror,
             const nlohmann::json& answer) {
  const nlohmann::json& events = ArrayAt(answer, "events");
  if (args.json) {
    PrintJson({{"name", mirror.name},
               {"uuid", mirror.uuid},
               {"events", events},
               {"lost", NumberAt(answer, "lost")}});
    return kExitHealthy;
  }
  PrintLost(NumberAt(answer, "lost"));
  for (const nlohmann::json& event : events) PrintEvent(args, event);
  if (events.empty()) {
    std::cout << Printable(mirror.name) << ": no events since the mount\n";
  }
  return kExitHealthy;
}

// What the daemon says: first {}, then {"event":...} or {"lost":N}.
bool PrintFollowed(const EventsArgs& args, const nlohmann::json& line) {
  PrintLost(NumberAt(line, "lost"));
  const nlohmann::json& event = ObjectAt(line, "event");
  if (!event.empty()) PrintEvent(args, event);
  return std::cout.flush().good();
}

int RunEvents(const EventsArgs& args) {
  const absl::StatusOr<MountedMirror> mirror = FindMirror(args.what);
  if (!mirror.ok()) {
    PrintError(mirror.status());
    return absl::IsNotFound(mirror.status()) ? kExitNotMounted : kExitUsage;
  }
  const nlohmann::json request = {{"command", "events"},
                                  {"follow", args.follow}};
  absl::Status status;
  if (args.follow) {
    status = ControlFollow(
        mirror->socket, request, kStatusTimeout,
        [&](const nlohmann::json& line) { return PrintFollowed(args, line); });
    if (status.ok()) return kExitUsage;  // what it said nobody reads any more
  } else {
    const absl::StatusOr<nlohmann::json> answer =
        ControlCall(mirror->socket, request, kStatusTimeout);
    if (answer.ok()) return PrintAll(args, mirror->status, *answer);
    status = answer.status();
  }
  if (absl::IsUnavailable(status)) {
    PrintError(absl::StrCat(args.what, ": was unmounted"));
    return kExitNotMounted;
  }
  PrintError(absl::StrCat(args.what, ": ", status.message()));
  return kExitUsage;
}

}  // namespace

void AddEventsCommand(CLI::App& app, int* exit_code) {
  auto* command =
      app.add_subcommand("events", "What happened to a mirror since its mount");
  auto args = std::make_shared<EventsArgs>();
  command->add_option("MIRROR", args->what, "mount point, name, uuid or a leg")
      ->required();
  command->add_flag("-f,--follow", args->follow,
                    "go on, until the mirror is unmounted");
  command->add_flag("--json", args->json,
                    "print JSON; with -f one object a line");
  command->callback([args, exit_code] { *exit_code = RunEvents(*args); });
}

}  // namespace mirrorfs
