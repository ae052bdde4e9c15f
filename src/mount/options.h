// SPDX-License-Identifier: GPL-2.0-or-later
//
// What mount.mirrorfs is told: its command line, its leg list and the option
// lists that mount(8), fstab and people write. Pure text to struct; nothing
// here looks at a file system.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace mirrorfs {

enum class CacheMode { kNone, kWriteThrough, kWriteBack };
enum class AtimeMode { kRelatime, kNoatime, kStrictatime };

struct ReadPolicy {
  enum class Kind { kPrimary, kRoundRobin, kPreferLeg, kLeastPending };
  Kind kind = Kind::kPrimary;
  std::string leg;  // kPreferLeg: its name
  bool operator==(const ReadPolicy&) const = default;
};

// One option as it was written, name in kebab-case, quotes removed. Value is
// empty for a word without '='.
struct GivenOption {
  std::string name;
  std::string value;
  bool operator==(const GivenOption&) const = default;
};

struct MountOptions {
  std::string log = "disk";   // "core" or "disk"
  std::string log_dir;        // absolute, or empty: on the primary leg
  uint64_t region_bytes = 0;  // 0: from the label
  std::string name;           // of the mirror; empty: from the label
  int min_legs = 1;
  absl::Duration probe_interval = absl::Seconds(10);  // 0: never
  bool on_enospc_degrade = false;
  bool create = false;
  ReadPolicy read_policy;
  std::vector<std::string> write_mostly;  // names of legs
  int threads = 0;                        // 0: the daemon chooses

  // Bytes a second of recovery; see Pacer.
  uint64_t resync_rate_max = 0;
  uint64_t resync_rate_min = 0;

  // Timeouts of the kernel's caches; may be infinite.
  absl::Duration attr_timeout = absl::Seconds(60);
  absl::Duration entry_timeout = absl::Seconds(60);
  absl::Duration negative_timeout = absl::Seconds(60);
  CacheMode cache = CacheMode::kWriteThrough;

  bool foreground = false;
  absl::Duration wait_legs = absl::ZeroDuration();  // always finite
  // How long a leg may take to answer; zero or infinite: for ever.
  absl::Duration leg_timeout = absl::Seconds(30);

  // Everyone may use the mount. Permissions are always checked by the kernel.
  bool allow_other = false;

  // The generic options. FUSE mounts are nosuid and nodev unless told.
  bool read_only = false;
  bool suid = false;
  bool dev = false;
  bool exec = true;
  bool sync = false;
  bool dirsync = false;
  AtimeMode atime = AtimeMode::kRelatime;

  // Change a running mount instead of making one; `given` says what changes.
  bool remount = false;

  // Everything that was written and is not ignored, in order: the last of a
  // name wins.
  std::vector<GivenOption> given;

  bool operator==(const MountOptions&) const = default;
};

// Parses the values of all -o, in order. An unknown option is an error that
// names it, or is skipped when `sloppy` (mount -s).
absl::StatusOr<MountOptions> ParseMountOptions(
    const std::vector<std::string>& o_lists, bool sloppy);

// "/a:/b:/c" to its paths. "\:" is a colon inside a path and "\\" a backslash;
// any other backslash stands for itself. At least two.
absl::StatusOr<std::vector<std::string>> ParseLegList(absl::string_view spec);

// The same without a minimum; nothing for an empty text, and an empty string
// for a leg that is.
std::vector<std::string> SplitLegList(absl::string_view text);

// The inverse: what to write so that ParseLegList gives `legs`.
std::string FormatLegList(const std::vector<std::string>& legs);

struct MountCommand {
  // kFake: mount(8) -f; check the words, do nothing, exit 0.
  enum class Action { kMount, kFake, kHelp, kVersion };
  Action action = Action::kMount;
  std::string spec;
  // Empty for a remount, where mount(8) hands us whatever the mount table
  // calls the source.
  std::vector<std::string> legs;
  std::string mount_point;
  bool verbose = false;
  MountOptions options;
};

// The words of argv, in any order, except that -f says where it comes from.
// mount(8) puts its fake flag after SPEC and DIR; people and service managers
// put the foreground flag of every FUSE program first. So -f before SPEC is
// foreground and -f after DIR is fake.
absl::StatusOr<MountCommand> ParseMountCommandLine(int argc,
                                                   const char* const* argv);

// What --help prints.
std::string MountUsage();

// The words for libfuse's own -o that follow from `options`: ro, nosuid, ...
// Times are not among them: FUSE leaves atime to us.
std::vector<std::string> FuseMountWords(const MountOptions& options);

// One line of the table that drives parsing, --help and the manual.
struct MountOptionInfo {
  enum class Kind {
    kFlag,      // NAME
    kValue,     // NAME=VALUE
    kIgnored,   // for others (fstab, systemd); with or without a value
    kRejected,  // known, and not for users; `help` says why
  };
  const char* name;
  Kind kind;
  const char* value_name;  // kValue: what --help shows after '='
  const char* help;
  absl::Status (*apply)(absl::string_view value, MountOptions* options);
  // kValue: the value as one would write it.
  std::string (*show)(const MountOptions& options) = nullptr;
  // May change while mounted; see live_options.h.
  bool live = false;
};
absl::Span<const MountOptionInfo> MountOptionTable();
// Null when there is none. `name` is in kebab-case.
const MountOptionInfo* FindMountOption(absl::string_view name);

// A name as it may be written, underscores for hyphens, in kebab-case.
std::string OptionName(absl::string_view written);

}  // namespace mirrorfs
