// SPDX-License-Identifier: GPL-2.0-or-later
//
// The one table of mount options.
#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/given_name.h"
#include "base/units.h"
#include "mount/options.h"
#include "region/leg_set.h"
#include "region/region_range.h"

namespace mirrorfs {
namespace {

using Kind = MountOptionInfo::Kind;

constexpr int kThreadsMax = 256;

absl::Status Bad(absl::string_view why) {
  return absl::InvalidArgumentError(why);
}

template <auto Field, auto Value>
absl::Status Set(absl::string_view, MountOptions* options) {
  options->*Field = Value;
  return absl::OkStatus();
}

template <auto Field, int kMin, int kMax>
absl::Status SetInt(absl::string_view value, MountOptions* options) {
  int number = 0;
  if (!absl::SimpleAtoi(value, &number) || number < kMin || number > kMax) {
    return Bad(absl::StrCat("must be a number from ", kMin, " to ", kMax));
  }
  options->*Field = number;
  return absl::OkStatus();
}

template <auto Field>
absl::Status SetDuration(absl::string_view value, MountOptions* options) {
  absl::StatusOr<absl::Duration> duration = ParseDuration(value);
  if (!duration.ok()) return Bad("must be a duration like 500ms, 15s or 5m");
  options->*Field = *duration;
  return absl::OkStatus();
}

absl::Status SetWaitLegs(absl::string_view value, MountOptions* options) {
  absl::Status status = SetDuration<&MountOptions::wait_legs>(value, options);
  if (status.ok() && options->wait_legs == absl::InfiniteDuration()) {
    return Bad("must have an end, or a missing disk stops the boot");
  }
  return status;
}

absl::Status SetLog(absl::string_view value, MountOptions* options) {
  if (value != "core" && value != "disk") return Bad("must be core or disk");
  options->log = std::string(value);
  return absl::OkStatus();
}

absl::Status SetLogDir(absl::string_view value, MountOptions* options) {
  if (value.empty() || value.front() != '/') {
    return Bad("must be an absolute path");
  }
  options->log_dir = std::string(value);
  return absl::OkStatus();
}

template <auto Field>
absl::Status SetRate(absl::string_view value, MountOptions* options) {
  const absl::StatusOr<uint64_t> bytes = ParseSize(value);
  if (!bytes.ok()) return Bad("must be bytes a second like 500K or 20M");
  options->*Field = *bytes;
  return absl::OkStatus();
}

absl::Status SetRegionSize(absl::string_view value, MountOptions* options) {
  absl::StatusOr<uint64_t> bytes = ParseSize(value);
  if (!bytes.ok() || (*bytes != 0 && !IsValidRegionSize(*bytes))) {
    return Bad(absl::StrCat("must be a power of two from ",
                            FormatSize(kRegionBytesMin), " to ",
                            FormatSize(kRegionBytesMax)));
  }
  options->region_bytes = *bytes;
  return absl::OkStatus();
}

absl::Status SetName(absl::string_view value, MountOptions* options) {
  if (!IsNameToGive(value)) return Bad(kNameRule);
  options->name = std::string(value);
  return absl::OkStatus();
}

absl::Status SetReadPolicy(absl::string_view value, MountOptions* options) {
  constexpr absl::string_view kPrefer = "prefer=";
  ReadPolicy policy;
  if (value == "primary") {
    policy.kind = ReadPolicy::Kind::kPrimary;
  } else if (value == "round-robin" || value == "round_robin") {
    policy.kind = ReadPolicy::Kind::kRoundRobin;
  } else if (value == "least-pending" || value == "least_pending") {
    policy.kind = ReadPolicy::Kind::kLeastPending;
  } else if (value.substr(0, kPrefer.size()) == kPrefer &&
             value.size() > kPrefer.size()) {
    policy.kind = ReadPolicy::Kind::kPreferLeg;
    policy.leg = std::string(value.substr(kPrefer.size()));
  } else {
    return Bad("must be primary, round-robin, least-pending or prefer=LEG");
  }
  options->read_policy = policy;
  return absl::OkStatus();
}

absl::Status SetWriteMostly(absl::string_view value, MountOptions* options) {
  std::vector<std::string> legs = SplitLegList(value);
  if (std::find(legs.begin(), legs.end(), "") != legs.end()) {
    return Bad("must be names of legs like a:b, or nothing");
  }
  options->write_mostly = std::move(legs);
  return absl::OkStatus();
}

absl::Status SetOnEnospc(absl::string_view value, MountOptions* options) {
  if (value != "fail" && value != "degrade") {
    return Bad("must be fail or degrade");
  }
  options->on_enospc_degrade = value == "degrade";
  return absl::OkStatus();
}

absl::Status SetProbeInterval(absl::string_view value, MountOptions* options) {
  const absl::StatusOr<absl::Duration> interval = ParseDuration(value);
  if (!interval.ok()) return interval.status();
  options->probe_interval = *interval;
  return absl::OkStatus();
}

absl::Status SetCache(absl::string_view value, MountOptions* options) {
  if (value == "writethrough") {
    options->cache = CacheMode::kWriteThrough;
  } else if (value == "writeback") {
    options->cache = CacheMode::kWriteBack;
  } else if (value == "none") {
    options->cache = CacheMode::kNone;
  } else {
    return Bad("must be writethrough, writeback or none");
  }
  return absl::OkStatus();
}

// The inverse of ParseSize, without loss.
std::string ExactSize(uint64_t bytes) {
  constexpr char kUnits[] = "KMGT";
  int unit = -1;
  while (bytes != 0 && bytes % 1024 == 0 && unit < 3) {
    bytes /= 1024;
    ++unit;
  }
  return unit < 0 ? absl::StrCat(bytes)
                  : absl::StrCat(bytes, std::string(1, kUnits[unit]));
}

template <auto Field>
std::string Show(const MountOptions& options) {
  return absl::StrCat(options.*Field);
}

template <auto Field>
std::string ShowDuration(const MountOptions& options) {
  return absl::FormatDuration(options.*Field);
}

template <auto Field>
std::string ShowSize(const MountOptions& options) {
  return ExactSize(options.*Field);
}

std::string ShowThreads(const MountOptions& options) {
  return options.threads == 0 ? "auto" : absl::StrCat(options.threads);
}

std::string ShowReadPolicy(const MountOptions& options) {
  switch (options.read_policy.kind) {
    case ReadPolicy::Kind::kPrimary:
      return "primary";
    case ReadPolicy::Kind::kRoundRobin:
      return "round-robin";
    case ReadPolicy::Kind::kLeastPending:
      return "least-pending";
    case ReadPolicy::Kind::kPreferLeg:
      break;
  }
  return absl::StrCat("prefer=", options.read_policy.leg);
}

std::string ShowWriteMostly(const MountOptions& options) {
  return FormatLegList(options.write_mostly);
}

std::string ShowOnEnospc(const MountOptions& options) {
  return options.on_enospc_degrade ? "degrade" : "fail";
}

std::string ShowCache(const MountOptions& options) {
  switch (options.cache) {
    case CacheMode::kNone:
      return "none";
    case CacheMode::kWriteThrough:
      return "writethrough";
    case CacheMode::kWriteBack:
      break;
  }
  return "writeback";
}

using O = MountOptions;

constexpr bool kLive = true;

constexpr char kOurs[] = "mirrorfs decides it by itself";

constexpr MountOptionInfo kTable[] = {
    {"log", Kind::kValue, "core|disk", "where the dirty log is kept [disk]",
     SetLog, Show<&O::log>},
    {"log-dir", Kind::kValue, "DIR",
     "keep the log of log=disk here [on the primary leg]", SetLogDir,
     Show<&O::log_dir>},
    {"region-size", Kind::kValue, "SIZE",
     "unit of the dirty log, with create [1M, else from the label]",
     SetRegionSize, ShowSize<&O::region_bytes>},
    {"name", Kind::kValue, "NAME",
     "the mirror's name, with create; else it must be this one", SetName,
     Show<&O::name>},
    {"min-legs", Kind::kValue, "N", "refuse to start with fewer legs [1]",
     SetInt<&O::min_legs, 1, kLegsMax>, Show<&O::min_legs>},
    {"wait-legs", Kind::kValue, "DURATION",
     "wait that long for missing legs before starting degraded [0]",
     SetWaitLegs, ShowDuration<&O::wait_legs>},
    {"leg-timeout", Kind::kValue, "DURATION",
     "go on without a leg that takes longer to answer; 0: never [30s]",
     SetDuration<&O::leg_timeout>, ShowDuration<&O::leg_timeout>},
    {"probe-interval", Kind::kValue, "DURATION",
     "how often legs are looked after: one that is gone fails, one that is "
     "back is taken in; 0 is never [10s]",
     SetProbeInterval, ShowDuration<&O::probe_interval>},
    {"on-enospc", Kind::kValue, "fail|degrade",
     "when a leg has no space for a change: the change fails, or the leg "
     "[fail]",
     SetOnEnospc, ShowOnEnospc, kLive},
    {"create", Kind::kFlag, "",
     "label the legs first if they are empty and have no label",
     Set<&O::create, true>},
    {"read-policy", Kind::kValue,
     "primary|round-robin|least-pending|prefer=LEG",
     "which leg in sync is read [primary]", SetReadPolicy, ShowReadPolicy,
     kLive},
    {"write-mostly", Kind::kValue, "LEG[:LEG...]",
     "read these legs only where no other one can be [none]", SetWriteMostly,
     ShowWriteMostly, kLive},
    {"resync-rate-max", Kind::kValue, "SIZE",
     "recovery compares and copies no more than that a second [0: no "
     "limit]",
     SetRate<&O::resync_rate_max>, ShowSize<&O::resync_rate_max>, kLive},
    {"resync-rate-min", Kind::kValue, "SIZE",
     "while applications are active, recovery slows down to that [0: it does "
     "not]",
     SetRate<&O::resync_rate_min>, ShowSize<&O::resync_rate_min>, kLive},
    {"threads", Kind::kValue, "N", "worker threads [chosen by the daemon]",
     SetInt<&O::threads, 1, kThreadsMax>, ShowThreads},
    {"cache", Kind::kValue, "writethrough|writeback|none",
     "how the kernel caches file contents [writethrough]", SetCache, ShowCache},
    {"attr-timeout", Kind::kValue, "DURATION",
     "how long the kernel trusts attributes [60s]",
     SetDuration<&O::attr_timeout>, ShowDuration<&O::attr_timeout>},
    {"entry-timeout", Kind::kValue, "DURATION",
     "how long the kernel trusts names [60s]", SetDuration<&O::entry_timeout>,
     ShowDuration<&O::entry_timeout>},
    {"negative-timeout", Kind::kValue, "DURATION",
     "how long the kernel trusts that a name is absent [60s]",
     SetDuration<&O::negative_timeout>, ShowDuration<&O::negative_timeout>},
    {"foreground", Kind::kFlag, "", "do not detach; for service managers",
     Set<&O::foreground, true>},
    {"allow-other", Kind::kFlag, "", "let every user in [on for root]",
     Set<&O::allow_other, true>},
    {"no-allow-other", Kind::kFlag, "", "only the user who mounts gets in",
     Set<&O::allow_other, false>},
    {"user-only", Kind::kFlag, "", "the same as no-allow-other",
     Set<&O::allow_other, false>},
    {"remount", Kind::kFlag, "", "change the options of a running mount",
     Set<&O::remount, true>},

    {"ro", Kind::kFlag, "", "read-only", Set<&O::read_only, true>},
    {"rw", Kind::kFlag, "", "read and write [default]",
     Set<&O::read_only, false>},
    // mount(8) keeps "suid" and "dev" to itself, because they are its defaults;
    // these get through.
    {"allow-suid", Kind::kFlag, "", "the same as suid, for fstab",
     Set<&O::suid, true>},
    {"allow-dev", Kind::kFlag, "", "the same as dev, for fstab",
     Set<&O::dev, true>},
    {"suid", Kind::kFlag, "", "honour set-user-ID bits", Set<&O::suid, true>},
    {"nosuid", Kind::kFlag, "", "ignore set-user-ID bits [default]",
     Set<&O::suid, false>},
    {"dev", Kind::kFlag, "", "device nodes work", Set<&O::dev, true>},
    {"nodev", Kind::kFlag, "", "device nodes do not work [default]",
     Set<&O::dev, false>},
    {"exec", Kind::kFlag, "", "programs can be run [default]",
     Set<&O::exec, true>},
    {"noexec", Kind::kFlag, "", "programs cannot be run", Set<&O::exec, false>},
    {"sync", Kind::kFlag, "", "every write is synchronous",
     Set<&O::sync, true>},
    {"async", Kind::kFlag, "", "writes are cached [default]",
     Set<&O::sync, false>},
    {"dirsync", Kind::kFlag, "", "taken, and without effect",
     Set<&O::dirsync, true>},
    {"relatime", Kind::kFlag, "",
     "access times as the legs' file systems keep them [default]",
     Set<&O::atime, AtimeMode::kRelatime>},
    {"atime", Kind::kFlag, "", "the same as relatime",
     Set<&O::atime, AtimeMode::kRelatime>},
    {"strictatime", Kind::kFlag, "", "taken, and without effect",
     Set<&O::atime, AtimeMode::kStrictatime>},
    {"norelatime", Kind::kFlag, "", "taken, and without effect",
     Set<&O::atime, AtimeMode::kStrictatime>},
    {"noatime", Kind::kFlag, "", "taken, and without effect",
     Set<&O::atime, AtimeMode::kNoatime>},
    {"default-permissions", Kind::kIgnored, "", "always on", nullptr},

    {"defaults", Kind::kIgnored, "", "", nullptr},
    {"auto", Kind::kIgnored, "", "", nullptr},
    {"noauto", Kind::kIgnored, "", "", nullptr},
    {"nofail", Kind::kIgnored, "", "", nullptr},
    {"_netdev", Kind::kIgnored, "", "", nullptr},
    // From the mount table, at a remount.
    {"user-id", Kind::kIgnored, "", "", nullptr},
    {"group-id", Kind::kIgnored, "", "", nullptr},
    {"user", Kind::kIgnored, "", "", nullptr},
    {"nouser", Kind::kIgnored, "", "", nullptr},
    {"users", Kind::kIgnored, "", "", nullptr},
    {"owner", Kind::kIgnored, "", "", nullptr},
    {"group", Kind::kIgnored, "", "", nullptr},
    {"comment", Kind::kIgnored, "", "", nullptr},
    {"diratime", Kind::kIgnored, "", "", nullptr},
    {"nodiratime", Kind::kIgnored, "", "", nullptr},
    {"lazytime", Kind::kIgnored, "", "", nullptr},
    {"nolazytime", Kind::kIgnored, "", "", nullptr},

    {"auto-cache", Kind::kRejected, "", "use cache=", nullptr},
    {"auto-unmount", Kind::kRejected, "", "it is unreliable", nullptr},
    {"allow-root", Kind::kRejected, "", "use no-allow-other", nullptr},
    {"big-writes", Kind::kRejected, "", kOurs, nullptr},
    {"blksize", Kind::kRejected, "", kOurs, nullptr},
    {"clone-fd", Kind::kRejected, "", kOurs, nullptr},
    {"direct-io", Kind::kRejected, "", "use cache=none", nullptr},
    {"fd", Kind::kRejected, "", kOurs, nullptr},
    {"fsname", Kind::kRejected, "", "use name=", nullptr},
    {"kernel-cache", Kind::kRejected, "", "use cache=", nullptr},
    {"max-read", Kind::kRejected, "", kOurs, nullptr},
    {"max-write", Kind::kRejected, "", kOurs, nullptr},
    {"nonempty", Kind::kRejected, "", kOurs, nullptr},
    {"rootmode", Kind::kRejected, "", kOurs, nullptr},
    {"subtype", Kind::kRejected, "", kOurs, nullptr},
    {"use-ino", Kind::kRejected, "", kOurs, nullptr},
    {"writeback-cache", Kind::kRejected, "", "use cache=writeback", nullptr},
};

}  // namespace

absl::Span<const MountOptionInfo> MountOptionTable() { return kTable; }

}  // namespace mirrorfs
