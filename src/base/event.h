// SPDX-License-Identifier: GPL-2.0-or-later
//
// Things that happen to a mirror and that people or programs want to hear of.
// Whoever notices one posts it; who listens is decided elsewhere.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace mirrorfs {

enum class EventName {
  kLegFailed,    // a leg does not take part any more
  kLegOffline,   // a leg was taken out, or detached, by the administrator
  kLegMissing,   // a leg is not here
  kLegBack,      // a leg that was failed or missing is here again
  kLegAttached,  // a new leg is here, and is filled
  kLegInSync,    // a leg lacks nothing, durably, and its label says so
  kDegraded,     // fewer legs are up to date than the mirror has
  kResyncStarted,
  kResyncFinished,
  kResyncFailed,  // a leg cannot be healed; it is tried again
  kScrubStarted,
  kScrubFinished,
  kMismatch,      // legs were found to differ where they should not
  kConflict,      // legs were changed without each other
  kConflictKept,  // what was changed by hand on a leg that was away is kept
  kEnospc,        // a leg has no space or quota
  kLogFailed,
  kPrimaryChanged,
};

// "leg-failed" and so on: what users and hooks see.
const char* EventText(EventName name);

struct Event {
  int64_t time_ns = 0;  // since 1970
  EventName name = EventName::kDegraded;
  std::string mirror;
  std::string leg;     // its name; empty: the mirror as a whole
  std::string detail;  // one line for people
};

// Where events go. Thread-safe, and quick: it may be called with locks held
// and from the path of an application's request.
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void Post(EventName name, absl::string_view leg,
                    absl::string_view detail) = 0;
};

}  // namespace mirrorfs
