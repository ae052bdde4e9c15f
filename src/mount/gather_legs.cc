// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/gather_legs.h"

#include <sys/stat.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errno.h"
#include "base/fiber.h"
#include "base/units.h"
#include "leg/label.h"
#include "leg/leg.h"
#include "leg/new_mirror.h"
#include "mount/leg_lock.h"
#include "mount/mount_point.h"

namespace mirrorfs {
namespace {

absl::Status CheckAgainstLabel(const Assembly& assembly,
                               const MountOptions& options) {
  const Label& label = assembly.label;
  if (options.region_bytes != 0 && options.region_bytes != label.region_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("region-size: the mirror was created with ",
                     FormatSize(label.region_bytes)));
  }
  if (!options.name.empty() && options.name != label.mirror_name) {
    return absl::InvalidArgumentError(absl::StrCat(
        "name: these are legs of mirror \"", label.mirror_name, "\""));
  }
  const int present = assembly.verdict.in_sync.size();
  if (present < options.min_legs) {
    return absl::FailedPreconditionError(absl::StrCat(
        "min-legs=", options.min_legs, ", but only ", present,
        present == 1 ? " leg is" : " legs are", " here and up to date"));
  }
  return absl::OkStatus();
}

bool AnyLabel(const std::vector<std::string>& legs, LegTargets& targets) {
  for (const std::string& path : legs) {
    const absl::StatusOr<std::unique_ptr<Leg>> leg =
        Leg::Open(path, targets.For(path));
    if (leg.ok() && !absl::IsNotFound(ReadLabel(**leg).status())) {
      return true;
    }
  }
  return false;
}

// Makes the legs' paths absolute and looks whether they, and the mount point,
// are what can be used. A leg that does not answer is left out of that.
absl::Status FindLegs(MountCommand& command, LegTargets& targets) {
  std::vector<std::string> answering;
  for (std::string& leg : command.legs) {
    const ErrnoOr<std::string> path =
        MakeCall(*targets.For(leg), [leg]() -> ErrnoOr<std::string> {
          struct stat st;
          (void)stat(leg.c_str(), &st);
          return AbsolutePath(leg);
        });
    if (!path.ok()) continue;
    leg = *path;
    answering.push_back(leg);
  }
  absl::Status status = PrepareMountPoint(command.mount_point, command.legs,
                                          command.options.log_dir);
  if (!status.ok()) return status;
  return MakeCall(*targets.For("the legs"),
                  [answering] { return CheckLegPaths(answering); });
}

absl::Status CreateIfWanted(const MountCommand& command, LegTargets& targets) {
  if (!command.options.create || AnyLabel(command.legs, targets)) {
    return absl::OkStatus();
  }
  NewMirrorOptions options;
  options.name = command.options.name;
  if (command.options.region_bytes != 0) {
    options.region_bytes = command.options.region_bytes;
  }
  return MakeCall(*targets.For("the legs"), [legs = command.legs, options] {
    return CreateMirror(legs, options).status();
  });
}

// Legs that come up late (a USB disk, a network mount) are waited for.
absl::StatusOr<Assembly> AssembleWhenThere(const MountCommand& command,
                                           LegTargets& targets) {
  const absl::Time deadline = absl::Now() + command.options.wait_legs;
  for (;;) {
    absl::StatusOr<Assembly> assembly =
        Assemble(command.legs, command.options.name, !command.options.read_only,
                 targets);
    const bool complete = assembly.ok() && assembly->notes.empty();
    if (complete || absl::Now() >= deadline) return assembly;
    absl::SleepFor(absl::Milliseconds(200));
  }
}

// Aborted: another daemon had the legs since their labels were judged.
absl::Status LockLegs(const Assembly& assembly) {
  for (const std::unique_ptr<Leg>& leg : assembly.legs) {
    if (leg == nullptr) continue;
    if (absl::Status status = LockLeg(*leg); !status.ok()) return status;
    const absl::StatusOr<Label> label = ReadLabel(*leg);
    if (!label.ok()) return label.status();
    if (*label != assembly.labels[leg->slot()]) {
      return absl::AbortedError(
          absl::StrCat("leg ", leg->path(), ": its label changes meanwhile"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Assembly> AssembleLocked(const MountCommand& command,
                                        LegTargets& targets) {
  constexpr int kTriesMax = 5;
  for (int tries = 1;; ++tries) {
    absl::StatusOr<Assembly> assembly = AssembleWhenThere(command, targets);
    if (!assembly.ok()) return assembly;
    absl::Status status = CheckAgainstLabel(*assembly, command.options);
    if (status.ok()) status = LockLegs(*assembly);
    if (status.ok()) return assembly;
    if (!absl::IsAborted(status) || tries == kTriesMax) return status;
  }
}

}  // namespace

absl::StatusOr<Assembly> GatherLegs(MountCommand& command,
                                    LegTargets& targets) {
  absl::Status status = FindLegs(command, targets);
  if (status.ok()) status = CreateIfWanted(command, targets);
  if (!status.ok()) return status;
  return AssembleLocked(command, targets);
}

}  // namespace mirrorfs
