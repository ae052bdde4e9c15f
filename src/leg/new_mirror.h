// SPDX-License-Identifier: GPL-2.0-or-later
//
// Making a mirror: labels on directories. No file of a leg is touched.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "leg/label.h"
#include "region/region_range.h"

namespace mirrorfs {

struct NewMirrorOptions {
  std::string name;  // empty: the base name of the first leg
  uint64_t region_bytes = kRegionBytesDefault;
  // A leg of the list whose files become the mirror's; the others must be
  // empty and are filled when it is mounted. Empty: all must be empty.
  std::string adopt;
};

// Labels `paths` as the legs of a new mirror and returns the label of the
// first. Leg names are the base names of their directories, made unique. Fails
// without having labelled anything when a path is not a usable, unlabelled
// directory, when two are the same or nested, or when one that must be empty
// is not.
absl::StatusOr<Label> CreateMirror(const std::vector<std::string>& paths,
                                   const NewMirrorOptions& options);

// A directory that shall join the mirror that `label` is of.
struct NewLegOptions {
  std::string path;
  std::string name;      // empty: the base name of the directory, made unique
  std::string replaces;  // the uuid of a member, see LabelMember
};

// The member that it would be. Fails when it cannot be a leg: it has to be an
// empty directory that is neither one of `leg_paths` nor inside one.
absl::StatusOr<LabelMember> CheckNewLeg(
    const NewLegOptions& options, const std::vector<std::string>& leg_paths,
    const Label& label);

// Adds `member`, which lacks everything, to `label`, and returns the label that
// its own directory gets. Writes nothing: the others' labels must name it,
// durably, before it has one.
Label AddMember(const LabelMember& member, Label& label);

// Ends a conflict of an unmounted mirror: `keep` (one of `paths`) stays as it
// is, the others become stale and are made equal to it, whole, at the next
// mount.
absl::Status ResolveConflict(const std::vector<std::string>& paths,
                             const std::string& keep);

// What mount and create refuse: not directories, the same directory twice,
// one inside the other, or a mount point inside a leg. One line that names the
// culprits.
absl::Status CheckLegPaths(const std::vector<std::string>& paths);

}  // namespace mirrorfs
