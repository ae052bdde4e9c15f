// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/status_text.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/errno.h"
#include "base/units.h"
#include "cli/resync_text.h"
#include "cli/text.h"

namespace mirrorfs {
namespace {

// `leg "b"` or `legs "b", "c"` of the legs in `state`, and which verb fits.
struct LegsInState {
  std::string subject;
  bool several = false;
};

LegsInState InState(const MirrorStatus& mirror, absl::string_view state) {
  std::vector<std::string> names;
  for (const LegStatus& leg : mirror.legs) {
    if (leg.state == state) {
      names.push_back(absl::StrCat("\"", Printable(leg.name), "\""));
    }
  }
  if (names.empty()) return {};
  return {absl::StrCat(names.size() > 1 ? "legs " : "leg ",
                       absl::StrJoin(names, ", ")),
          names.size() > 1};
}

struct StateAdvice {
  const char* state;
  const char* is;   // after the name of one leg
  const char* are;  // after the names of several
  const char* action;
};

// The worst first: only one is given.
constexpr StateAdvice kStateAdvice[] = {
    {"failed", "failed", "failed",
     "see to the disk, or `mirrorfs replace` it; it is taken in again when it "
     "answers, and gets what it missed"},
    {"missing", "is missing", "are missing",
     "bring it back; it is taken in again and gets what it missed"},
    {"offline", "is offline", "are offline",
     "`mirrorfs online` takes it in; what was missed is copied then"},
    {"stale", "is out of date", "are out of date", "none needed"},
    {"resync", "is catching up", "are catching up", "none needed"},
};

// A disk that spins up, or is busy, may take that long.
constexpr uint64_t kSlowSeconds = 5;

bool IsSlow(const LegStatus& leg) {
  return leg.unanswered_seconds >= kSlowSeconds;
}

std::string SafeOn(const MirrorStatus& mirror) {
  return absl::StrCat("writes are safe on ",
                      Count(mirror.InSyncLegs(), "leg", "legs"));
}

// Of a leg whose recovery does not get on.
std::string FailingText(const LegStatus& leg) {
  return absl::StrCat("\"", Printable(leg.failing_path),
                      "\": ", Printable(leg.failing_error));
}

// A leg that has so much space, and none for something, has none of another
// kind.
constexpr uint64_t kMuchSpaceBytes = uint64_t{64} << 20;

const char* FailingAction(const LegStatus& leg) {
  if (leg.failing_error != ErrnoText(Errno(ENOSPC)) &&
      leg.failing_error != ErrnoText(Errno(EDQUOT))) {
    return "see to that object and its disk, or `mirrorfs replace` the leg; it "
           "is tried again by itself.";
  }
  if (leg.free_known && leg.free_bytes >= kMuchSpaceBytes) {
    return "that leg has space, but no inodes, no quota, or no place for so "
           "large attributes; it is tried again by itself.";
  }
  return "make space on that leg; it is tried again by itself.";
}

Advice FailingAdvice(const LegStatus& leg) {
  return {absl::StrCat("leg \"", Printable(leg.name),
                       "\" cannot be healed: ", FailingText(leg), "."),
          FailingAction(leg)};
}

// Null when there is none.
const LegStatus* FailingLeg(const MirrorStatus& mirror) {
  for (const LegStatus& leg : mirror.legs) {
    if (leg.state == "resync" && !leg.failing_error.empty()) return &leg;
  }
  return nullptr;
}

std::string LogText(const MirrorStatus& mirror) {
  const LogStatus& log = mirror.log;
  std::string text = Printable(log.type);
  if (!log.location.empty()) {
    // A leg's name, or a directory.
    absl::StrAppend(&text, log.location[0] == '/' ? " in " : " on leg ",
                    Printable(log.location));
  }
  absl::StrAppend(&text, ", region ", ShortSize(mirror.region_bytes), ", ",
                  Count(log.dirty_regions, "dirty region", "dirty regions"));
  if (log.dirty_files > 0) {
    absl::StrAppend(&text, " in ", Count(log.dirty_files, "file", "files"));
  }
  if (log.dirty_directories > 0) {
    absl::StrAppend(
        &text, ", ",
        Count(log.dirty_directories, "dirty directory", "dirty directories"));
  }
  if (!log.state.empty() && log.state != "ok") {
    absl::StrAppend(&text, "; state: ", Printable(log.state));
  }
  return text;
}

// What does not fit a column: progress and peculiarities.
std::string Remark(const LegStatus& leg) {
  std::vector<std::string> parts;
  if (!leg.reason.empty()) parts.push_back(Printable(leg.reason));
  if (IsSlow(leg)) {
    parts.push_back(
        absl::StrCat("no answer for ", leg.unanswered_seconds, " s"));
  }
  if (leg.write_mostly) parts.push_back("write-mostly");
  if (leg.state == "resync") {
    const std::string speed = ResyncSpeed(ResyncOf(leg));
    if (!speed.empty()) parts.push_back(speed);
  }
  return absl::StrJoin(parts, "  ");
}

std::string LegTable(const MirrorStatus& mirror) {
  std::vector<std::vector<std::string>> rows = {
      {"LEG", "PATH", "STATE", "FREE", "READ", "WRITE", "CKSUM", "DIRTY", ""}};
  for (const LegStatus& leg : mirror.legs) {
    rows.push_back({absl::StrCat(Printable(leg.name), leg.primary ? " *" : ""),
                    Printable(leg.path), Printable(leg.state),
                    leg.free_known ? FormatSize(leg.free_bytes) : "-",
                    absl::StrCat(leg.read_errors),
                    absl::StrCat(leg.write_errors),
                    absl::StrCat(leg.checksum_errors),
                    FormatSize(leg.dirty_bytes), Remark(leg)});
  }
  return AlignColumns(rows, "llllrrrrl", "  ");
}

// What a leg lacks, and how much of it is done.
std::string ResyncText(const MirrorStatus& mirror) {
  std::string text;
  for (const LegStatus& leg : mirror.legs) {
    if (leg.dirty_regions == 0) continue;
    absl::StrAppend(&text, "  leg ", Printable(leg.name), " lacks ",
                    BinaryBytes(leg.dirty_bytes), ": ",
                    Count(leg.dirty_regions, "region", "regions"), " in ",
                    Count(leg.dirty_files, "file", "files"), " and ",
                    Count(leg.dirty_directories, "directory", "directories"),
                    "\n");
    if (!leg.failing_error.empty()) {
      absl::StrAppend(&text, "    cannot be healed: ", FailingText(leg), "\n");
    }
    if (leg.state != "resync" || leg.done_bytes == 0) continue;
    absl::StrAppend(&text, "    ", BinaryBytes(leg.done_bytes), " of ",
                    BinaryBytes(leg.total_bytes), " done, ",
                    BinaryBytes(leg.copied_bytes), " of them copied\n");
  }
  return text;
}

// Versions of others, which nobody but the administrator removes.
std::string ConflictsText(const MirrorStatus& mirror) {
  std::string text;
  for (const LegStatus& leg : mirror.legs) {
    if (leg.conflicts_kept > 0) {
      absl::StrAppend(&text, "  leg ", Printable(leg.name), " keeps ",
                      Count(leg.conflicts_kept, "version", "versions"),
                      " made there while it was away in ",
                      Printable(leg.conflicts_path),
                      "; remove them when they are not needed\n");
    }
    if (leg.conflict_waits) {
      absl::StrAppend(&text, "  leg ", Printable(leg.name),
                      " has no room to keep a version made there while it was "
                      "away, which stays as it is until there is\n");
    }
  }
  return text;
}

std::string ScrubText(const ScrubStatus& scrub) {
  return absl::StrCat("  scrub: ", Printable(scrub.state), ", ", scrub.repaired,
                      " repaired, ",
                      Count(scrub.mismatches, "mismatch", "mismatches"), "\n");
}

std::string ErrorsText(const MirrorStatus& mirror) {
  std::vector<std::string> parts;
  for (const LegStatus& leg : mirror.legs) {
    const uint64_t errors =
        leg.read_errors + leg.write_errors + leg.checksum_errors;
    if (errors == 0) continue;
    parts.push_back(
        absl::StrCat(errors, " on leg \"", Printable(leg.name), "\""));
  }
  return parts.empty() ? "no known data errors" : absl::StrJoin(parts, ", ");
}

}  // namespace

Advice AdviceFor(const MirrorStatus& mirror) {
  if (mirror.state == "conflict") {
    return {"legs were changed without each other.",
            "`mirrorfs resolve --keep LEG MIRROR` keeps what a leg that is up "
            "has; to keep another's, unmount and name all legs."};
  }
  if (mirror.log.state == "failed") {
    return {absl::StrCat("the dirty log on ", Printable(mirror.log.location),
                         " cannot be written; nothing can be changed."),
            "make space there, or repair it; the log is tried again at each "
            "change."};
  }
  for (const StateAdvice& advice : kStateAdvice) {
    const LegsInState legs = InState(mirror, advice.state);
    if (legs.subject.empty()) continue;
    const LegStatus* failing = FailingLeg(mirror);
    if (failing != nullptr && failing->state == advice.state) {
      return FailingAdvice(*failing);
    }
    return {absl::StrCat(legs.subject, " ",
                         legs.several ? advice.are : advice.is, "."),
            absl::StrCat(advice.action, "; ", SafeOn(mirror), ".")};
  }
  if (mirror.HasErrors()) {
    return {
        "errors were recorded.",
        "none needed; another leg answered. Watch the disk; `mirrorfs clear` "
        "sets the counts back."};
  }
  return {};
}

std::string StatusText(const MirrorStatus& mirror) {
  const Advice advice = AdviceFor(mirror);
  std::string text = absl::StrCat(
      Printable(mirror.name), "   ", Printable(mirror.mountpoint), "   ",
      absl::AsciiStrToUpper(Printable(mirror.state)), "  ", mirror.InSyncLegs(),
      " of ", Count(mirror.legs.size(), "leg", "legs"), " in sync\n");
  if (!advice.status.empty()) {
    absl::StrAppend(&text, "  status: ", advice.status, "\n");
    absl::StrAppend(&text, "  action: ", advice.action, "\n");
  }
  absl::StrAppend(&text, "  log:    ", LogText(mirror), "\n\n",
                  LegTable(mirror), "  (* primary)\n", ResyncText(mirror),
                  ConflictsText(mirror));
  if (!mirror.scrub.state.empty() && mirror.scrub.state != "idle") {
    absl::StrAppend(&text, ScrubText(mirror.scrub));
  }
  absl::StrAppend(&text, "errors: ", ErrorsText(mirror), "\n");
  return text;
}

}  // namespace mirrorfs
