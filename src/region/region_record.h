// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the log knows of one region that is not clean.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "region/leg_set.h"
#include "region/origins.h"

namespace mirrorfs {

inline constexpr int64_t kNever = INT64_MAX;
inline constexpr uint64_t kNoTail = UINT64_MAX;

struct RegionRecord {
  // A change may be in flight, or done but not yet durable on every leg: after
  // a crash every leg but the primary is suspect.
  bool dirty = false;

  // Entries only, with `dirty`: a directory moved to or from here, so that the
  // same goes for everything beneath it, contents and attributes included.
  bool dirty_deep = false;

  // Legs that lack this region (dm's "not in sync", for each leg).
  LegSet missing;

  // Entries only, some of `missing`: legs that lack everything beneath this
  // directory, too, contents and attributes included. How a new leg, or a leg
  // about which the log knows nothing, is one record and not one for each file.
  LegSet deep;

  // Attributes only: the object is a directory, to be healed after what lies
  // in it, because healing what lies in it changes its times.
  bool directory = false;

  // Entries only: objects created in this directory at or after this time (ns
  // since 1970, by ctime) are covered by this record whole, content included;
  // kNever when none is.
  int64_t since_ns = kNever;

  // Attributes only: data regions from this index to the end of the file are
  // covered by this record (a truncation, a large fallocate); kNoTail if none.
  uint64_t tail_from = kNoTail;

  // Attributes only: where legs of `missing` have the object, if it was moved
  // while they were away.
  Origins moved_from;

  bool clean() const { return !dirty && missing.empty(); }
  friend bool operator==(const RegionRecord&, const RegionRecord&) = default;
};

// The weakest statement that implies both: nothing either of them says may
// differ is forgotten.
RegionRecord Merge(const RegionRecord& a, const RegionRecord& b);

// Without what says nothing: `deep` of legs that lack nothing here, dirty_deep
// of what is not dirty.
RegionRecord Tidied(RegionRecord record);

// Disk format of a record, little endian: version (1), flags (1: dirty=1,
// dirty_deep=2, directory=4), missing (8), deep (8), since_ns (8), tail_from
// (8); where the version is 4, moved_from after that (see origins.h). Version 3
// is what a record without it has; 1 and 2 had another form.
std::string EncodeRegionRecord(const RegionRecord& record);
std::optional<RegionRecord> DecodeRegionRecord(absl::string_view bytes);

}  // namespace mirrorfs
