// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/event.h"

namespace mirrorfs {

const char* EventText(EventName name) {
  switch (name) {
    case EventName::kLegFailed:
      return "leg-failed";
    case EventName::kLegOffline:
      return "leg-offline";
    case EventName::kLegMissing:
      return "leg-missing";
    case EventName::kLegBack:
      return "leg-back";
    case EventName::kLegAttached:
      return "leg-attached";
    case EventName::kLegInSync:
      return "leg-in-sync";
    case EventName::kDegraded:
      return "degraded";
    case EventName::kResyncStarted:
      return "resync-started";
    case EventName::kResyncFinished:
      return "resync-finished";
    case EventName::kResyncFailed:
      return "resync-failed";
    case EventName::kScrubStarted:
      return "scrub-started";
    case EventName::kScrubFinished:
      return "scrub-finished";
    case EventName::kMismatch:
      return "mismatch";
    case EventName::kConflict:
      return "conflict";
    case EventName::kConflictKept:
      return "conflict-kept";
    case EventName::kEnospc:
      return "enospc";
    case EventName::kLogFailed:
      return "log-failed";
    case EventName::kPrimaryChanged:
      return "primary-changed";
  }
  return "unknown";
}

}  // namespace mirrorfs
