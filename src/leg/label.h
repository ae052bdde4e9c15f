// SPDX-License-Identifier: GPL-2.0-or-later
//
// A leg is known by its label, never by its path: the empty mount point of a
// missing disk has no label and is a missing leg, not an empty one.
//
// The label is the file .mirrorfs/label at the leg's root: one line
// "mirrorfs label 1 XXH", where XXH is the XXH3 64-bit checksum (16 hex
// digits) of everything after that line, then a JSON object a person can read.
// It is replaced atomically (temporary file, fsync, rename, fsync of the
// directory). Labels are made by `mirrorfs create` or -o create only.
//
// Generations. A generation is a number for people and a random id for the
// program; a new one begins whenever the set of up-to-date legs changes, and
// is durable on every leg of the new set before the first change that only
// they see (I8, I28). A leg keeps the ids it went through in `history`, so two
// labels compare as in DRBD: same id = same state; one id in the other's
// history = older; neither = changed apart (a conflict, I28).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "leg/away_times.h"
#include "region/leg_set.h"

namespace mirrorfs {

class Leg;

inline constexpr char kPrivateDir[] = ".mirrorfs";
inline constexpr int kLabelFormat = 1;
inline constexpr size_t kHistoryMax = 256;

struct Generation {
  uint64_t number = 0;
  std::string id;
  friend bool operator==(const Generation&, const Generation&) = default;
};

// One leg of the mirror, as of the label's generation.
struct LabelMember {
  std::string uuid;
  std::string name;
  LegSlot slot = 0;
  // In the set of up-to-date legs of this generation.
  bool in_sync = false;
  // For one that is not: the generation id it had when it left the set; what
  // it missed since is in the dirty log. Empty: it never was in the set.
  std::string left_at;
  // Label::uses of its own label then.
  uint64_t left_uses = 0;
  // The administrator took it out; it stays out until he takes it in.
  bool offline = false;
  // The uuid of the leg whose place it takes once it is up to date, or empty.
  std::string replaces;
  // It may not have a label yet. If it has none at the next start, it never
  // became a leg.
  bool joining = false;
  // We have written nothing to it since then, by our clock, ns since 1970; 0:
  // it is in use, or was when the daemon was killed.
  int64_t away_since_ns = 0;
  AwayTimes away;  // earlier ones, the newest last
  friend bool operator==(const LabelMember&, const LabelMember&) = default;
};

// Which dirty log belongs to this generation.
struct LabelLog {
  std::string type;      // "core" or "disk"
  std::string uuid;      // of the store; a store with another is foreign
  std::string leg_uuid;  // the leg that holds it, or empty and then:
  std::string dir;       // log-dir= it lies in
  std::string session;   // last session that the store must know about
  friend bool operator==(const LabelLog&, const LabelLog&) = default;
};

struct Label {
  std::string mirror_uuid;
  std::string mirror_name;
  std::string leg_uuid;  // of the leg this label lies on
  uint64_t region_bytes = 0;
  Generation generation;
  std::vector<std::string> history;  // earlier generation ids, newest first
  std::vector<LabelMember> members;
  std::string primary_uuid;  // the leg recovery copies from
  // An orderly end: the log holds nothing that is needed.
  bool clean = true;
  // How many mounts have changed something. Of two labels of one generation the
  // one that has seen fewer is an old copy.
  uint64_t uses = 0;
  LabelLog log;
  // No leg had this slot or one above it yet, where the members do not say so.
  LegSlot next_slot = 0;

  // Null when there is none.
  const LabelMember* FindMember(absl::string_view uuid) const;
  LabelMember* FindMember(absl::string_view uuid);
  // The first slot that no leg ever had, or, when all had one, that no member
  // has; -1: there is none.
  LegSlot FreeSlot() const;
  friend bool operator==(const Label&, const Label&) = default;
};

// Text form, and back. Parse fails with DataLoss when the text is damaged and
// Unimplemented when its format is newer than ours. What is shorter than
// `bytes_min` is padded to that.
std::string FormatLabel(const Label& label, size_t bytes_min = 0);
absl::StatusOr<Label> ParseLabel(absl::string_view text);

// Reads the label of the leg whose root is `root_fd`. NotFound when there is
// none.
absl::StatusOr<Label> ReadLabel(int root_fd);

// Replaces it; returns after it is durable. Makes .mirrorfs (0700) if needed.
absl::Status WriteLabelDurable(int root_fd, const Label& label);

// The same, as calls to the leg.
absl::StatusOr<Label> ReadLabel(const Leg& leg);
// False when there is none, whatever it may say; cheap.
bool HasLabel(const Leg& leg);
absl::Status WriteLabelDurable(const Leg& leg, const Label& label);

// Renames it to label.detached, so that the directory is no leg any more.
absl::Status RetireLabel(int root_fd);
absl::Status RetireLabel(const Leg& leg);

enum class LabelOrder { kSame, kOlder, kNewer, kConflict };

// How `a` stands to `b`. REQUIRES: same mirror_uuid.
LabelOrder CompareLabels(const Label& a, const Label& b);

}  // namespace mirrorfs
