// SPDX-License-Identifier: GPL-2.0-or-later
//
// Finding out from the labels which legs are here, which of them are up to
// date, and from which one recovery copies. Changes nothing.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "leg/label.h"
#include "leg/leg.h"
#include "leg/leg_targets.h"

namespace mirrorfs {

// A path that was given for a leg, and what was found there.
struct FoundLeg {
  std::string path;
  std::unique_ptr<Leg> leg;     // null when nothing usable is there
  absl::StatusOr<Label> label;  // why not, when it has none
};

// What the labels say together. Pure: the tests feed it labels.
struct LabelVerdict {
  size_t newest = 0;  // index of the label that the others follow
  LegSlot primary = -1;
  LegSet present;  // slots
  LegSet offline;  // here, too, but to be left alone
  LegSet in_sync;  // present and up to date
  // Present, but the dirty log does not reach back to where they left: they
  // are compared whole.
  LegSet unaccounted;
};

// `labels` are of one mirror. Fails when two legs were each changed without
// the other, when one leg is there twice, or when no leg is up to date.
absl::StatusOr<LabelVerdict> JudgeLabels(const std::vector<Label>& labels);

struct Assembly {
  Label label;                             // the newest
  std::vector<std::unique_ptr<Leg>> legs;  // by slot; null: missing
  std::vector<std::string> paths;          // by slot, also of the missing
  std::vector<std::string> reasons;        // by slot, of the missing
  std::vector<Label> labels;               // by slot, as they were judged
  LabelVerdict verdict;
  std::vector<std::string> notes;  // one line for each leg left out, and why
};

// What `status` says of the leg at `path`, for who knows which leg is meant.
std::string ReasonOf(const absl::Status& status, const std::string& path);

// Opens the legs at `paths` and judges them. A leg that was taken offline or
// detached is left out. Where labels speak of several
// mirrors, `name` says which is meant, or else most of them; it is an error
// when that leaves a choice. A leg that is absent, has no
// label, does not answer, or has the label of another mirror is missing, which
// is no error; a label
// of a newer format is, because what it says cannot be weighed. With `writable`
// a leg on a file system that is mounted read-only is missing, too: it would
// miss every change.
absl::StatusOr<Assembly> Assemble(const std::vector<std::string>& paths,
                                  absl::string_view name, bool writable,
                                  LegTargets& targets);

}  // namespace mirrorfs
