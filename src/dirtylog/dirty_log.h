// SPDX-License-Identifier: GPL-2.0-or-later
//
// Remembers which regions may differ between legs. The interface and its
// contracts are those of Linux's dm_dirty_log_type; what a file-level mirror
// changes is that a region is named by a RegionKey, that only regions which
// are not clean are stored (cost follows dirt, never capacity), and that "in
// sync" is known for each leg.
//
// Contract (each number has a test in the conformance suite):
//   L1  When Flush returns OK every earlier MarkRegion is durable, as far as
//       the type promises durability at all (core does not).
//   L2  The caller flushes before the first byte reaches any leg.
//   L3  A clear may become durable late or never; a mark may not.
//   L4  After Resume every region that was dirty is not in sync on the
//       suspects given to it.
//   L5  GetResyncWork hands a region out once until SetRegionSync or
//       ReleaseResyncWork.
//   L6  A store that cannot be trusted makes Resume fail; the caller then
//       starts a fresh log in which everything is dirty (MarkAll).
//   L7  A failed Flush is sticky: every later Flush fails too, until Resume.
//   L8  ClearRegion never forgets what a leg lacks (I7).
//   L9  Unknown is answered on the safe side: not clean, not in sync.
//
// Threads: every call from any thread. No call but Resume, Flush, FlushLazily,
// FlushWhole, MoveStore, Presuspend and Postsuspend blocks on I/O.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/call_target.h"
#include "region/leg_set.h"
#include "region/region_key.h"
#include "region/region_range.h"
#include "region/region_record.h"

namespace mirrorfs {

// Where a store is: a directory, whose parent must exist, and what calls to it
// hang on. Null: on nothing but that. A store that lies on a leg hangs with it,
// and is not waited for a second time.
struct StorePlace {
  std::string dir;
  std::shared_ptr<CallTarget> target;
};

class DirtyLog {
 public:
  enum class InSyncAnswer { kYes, kNo, kWouldBlock, kError };
  enum class StatusKind { kInfo, kTable };

  struct Work {
    RegionKey key;
    RegionRecord record;
  };

  // How far a tail is healed, see AdvanceTail.
  struct HealedTail {
    RegionKey key;
    uint64_t end = 0;
    uint64_t healing = 0;  // which one, of all of this log
    bool dirty = false;    // cannot be settled before it is clear
  };

  struct SyncCount {
    uint64_t regions = 0;      // regions some leg lacks
    uint64_t files = 0;        // objects with such attribute or data regions
    uint64_t directories = 0;  // directories with such entries
    uint64_t dirty = 0;        // regions with a change not yet known durable
  };

  // What is said of objects that get other names.
  struct Moving {
    // A region at a place that is left.
    struct Left {
      RegionKey key;
      // Legs that lacked it there and do not lack what comes there.
      LegSet missing;
      // The directory that left with it; empty where something comes there.
      std::optional<std::string> beneath;
    };
    struct Change {
      RegionKey key;
      RegionRecord before;
      RegionRecord after;
    };
    bool unflushed = false;
    uint64_t suspicions = 0;  // how often legs had come under suspicion
    std::vector<RegionKey> copies;
    std::vector<Left> left;
    // What was changed for it, in that order.
    std::vector<Change> changes;
  };

  virtual ~DirtyLog() = default;

  // Loads the state. Regions found dirty become missing on `suspects` (every
  // leg but the primary). Fails with DataLoss when the store cannot be
  // trusted (L6); nothing has been changed then.
  virtual absl::Status Resume(LegSet suspects) = 0;
  // No resync work is handed out from here on.
  virtual absl::Status Presuspend() = 0;
  // Last chance to write; after it the store is not touched until Resume.
  virtual absl::Status Postsuspend() = 0;

  // Bytes of content that one data region stands for.
  virtual uint64_t GetRegionSize() const = 0;

  // No record at all. Informational.
  virtual bool IsClean(const RegionKey& key) = 0;
  // Whether every leg of `legs` holds what the primary holds in this region,
  // counting what wider records say of it (see Lacking).
  virtual InSyncAnswer InSync(const RegionKey& key, LegSet legs,
                              bool can_block) = 0;
  // Legs that lack the region: by its own record, by a tail record of its
  // file, or because the names on the way to it are not in sync there.
  virtual LegSet Lacking(const RegionKey& key) = 0;

  // Legs that lack anything of the object at `path`, or of what lies beneath
  // it, or the names on the way to it.
  virtual LegSet LackingAnyOf(absl::string_view path) = 0;

  // Legs that lack anything at all. Zero cost.
  virtual LegSet LackingAnything() = 0;

  // Legs that lack the names of any directory.
  virtual LegSet LackingNames() = 0;

  // Merges `add` into the region's record, in memory. True when the result is
  // not durable yet, so that the caller has to Flush before touching a leg.
  virtual bool MarkRegion(const RegionKey& key, const RegionRecord& add) = 0;
  // Forgets that the region is dirty; what legs lack stays (L8).
  virtual void ClearRegion(const RegionKey& key) = 0;
  // Makes all marks durable; marks that wait in several threads share one
  // write. On failure nothing that waited may be written to any leg.
  virtual absl::Status Flush() = 0;
  // Hands the clears that wait to the store, without waiting for them to be
  // durable (L3). Clears that this never reaches ride along with a Flush.
  virtual absl::Status FlushLazily() = 0;
  // Makes all durable that has been said so far, clears too.
  virtual absl::Status FlushWhole() = 0;

  // Adds what is said of the object `from` to what is said of `to`: another
  // name of it. The old records stay until they are cleared in their turn; what
  // is said of where legs have it goes along and is not copied. Not durable
  // until Flush.
  virtual Moving CopyObject(absl::string_view from, absl::string_view to) = 0;
  // What has the name `from` is about to be called `to`; with `exchange`, and
  // what is there `from`. What is said of each is added to its new place, of a
  // `tree` with all beneath. Not durable until Flush.
  virtual Moving BeginMove(absl::string_view from, absl::string_view to,
                           bool tree, bool exchange) = 0;
  // A leg that does not take the move lacks what `add` says, and has it where
  // `add.moved_from` says, in place of what was said of that.
  virtual void MarkMissed(const RegionKey& key, const RegionRecord& add,
                          Moving* moving) = 0;
  // It moved, on the legs `took`, too: what they lack at its old place they
  // lack only if a crash undoes the move; if legs have come under suspicion
  // meanwhile, all stays as it is. Of what lies beneath a directory nothing is
  // said any more, if its entries, dirty_deep, say it; directories moved into
  // each other would multiply their records without that.
  virtual void FinishMove(const Moving& moving, LegSet took) = 0;
  // It moved on no leg. Takes back what has been said for it, as far as nothing
  // has been said since. Only where nobody can have said the same meanwhile:
  // with all paths held, as for a directory.
  virtual void UndoMove(const Moving& moving) = 0;

  // Where `leg` has what has the name `path` now: the path itself, unless it or
  // a directory on the way was moved while the leg was away.
  virtual std::string OriginOf(absl::string_view path, LegSlot leg) = 0;
  // The leg, which lacks the attributes of `path`, has the object at `origin`.
  // Like all that is said of origins it is a hint: never waited for.
  virtual void SetOrigin(const std::string& path, LegSlot leg,
                         absl::string_view origin) = 0;
  // Paths of the objects that `leg` has at `origin`.
  virtual std::vector<std::string> MovedTo(absl::string_view origin,
                                           LegSlot leg) = 0;
  // What `leg` had at `from`, with all beneath it, it has at `to` now.
  virtual void MoveOrigins(absl::string_view from, absl::string_view to,
                           LegSlot leg) = 0;

  // Regions that a leg of `reachable` lacks and that nobody works on, at most
  // `count_max`, in the order they have to be healed: entries before what
  // lies in a directory, directory attributes last (see WorkRank). Marks them
  // as handed out (L5).
  virtual std::vector<Work> GetResyncWork(LegSet reachable,
                                          size_t count_max) = 0;
  // The outcome: in sync removes `legs` from what lacks the region and leaves
  // it dirty until it is cleared (what was copied is not durable yet); not in
  // sync adds them. Ends the hand-out.
  virtual void SetRegionSync(const RegionKey& key, LegSet legs,
                             bool in_sync) = 0;
  // `legs` are what the others are compared with now: they lack nothing of it,
  // whatever was said. Ends no hand-out.
  virtual void Pardon(const RegionKey& key, LegSet legs) = 0;
  // Ends the hand-out without an outcome; the region will be offered again.
  virtual void ReleaseResyncWork(const RegionKey& key) = 0;
  // The region was handed out, and changes of it are held off until its copy is
  // made: that will see what was marked missing since then, so only what is
  // marked missing from now on outlasts SetRegionSync.
  virtual void StartCopy(const RegionKey& key) = 0;
  // Attributes records only: `legs`, which lack the region, hold the data
  // regions of `range` again, and with it all before it, if they hold those
  // before it; nothing happens if they do not (any more). Not those that came
  // under suspicion since StartCopy of this key. Counts for Lacking
  // until they lack the tail anew. Not stored: what was copied is not durable
  // yet, and after a crash all of it is suspect that was never settled.
  virtual void AdvanceTail(const RegionKey& key, RegionRange range,
                           LegSet legs) = 0;
  // Tails that are healed further than their records say, by so many regions or
  // more, on all legs that lack them.
  virtual std::vector<HealedTail> HealedTails(uint64_t regions_min) = 0;
  // What had been healed of them when they were asked for is durable on every
  // leg that is up: their records say it from now on, so that a restart goes on
  // there. Not of those that are lacked anew since, or by more legs, nor while
  // the record is dirty, because that is said of the tail, too.
  virtual void SettleTails(const std::vector<HealedTail>& tails) = 0;
  // The first data region of the tail that not all of `legs` hold again;
  // kNoTail if the record has no tail, or none of them lacks it.
  virtual uint64_t TailToHeal(const RegionKey& key, LegSet legs) = 0;
  // Entries records only: what was created before `since_ns` is durable on
  // every leg. Ignored while a leg lacks the region.
  virtual void AdvanceSince(const RegionKey& key, int64_t since_ns) = 0;

  // Every dirty region is missing on `legs` from now on: what was not known to
  // be durable there is not trusted. Not durable until Flush.
  virtual void SuspectDirty(LegSet legs) = 0;
  // Nothing is missing on `legs` any more: they are no members.
  virtual void ForgetLegs(LegSet legs) = 0;

  // The store, for types that have one, is a new one at `place` from now on and
  // holds all that is known; a failure (L7) is over. `note` is told the new
  // store's session and has to note it durably; until it has, no Flush
  // succeeds. After an error the log stays failed.
  virtual absl::Status MoveStore(
      const StorePlace& place, const std::string& log_uuid,
      const std::function<absl::Status(const std::string& session)>& note) = 0;

  virtual SyncCount GetSyncCount(LegSet legs) = 0;
  // dm's status lines: "1 core", "3 disk LOCATION A|D|F".
  virtual std::string Status(StatusKind kind) = 0;
  // A region under recovery by another host; always false for one-host types.
  virtual bool IsRemoteRecovering(const RegionKey& key) = 0;

  virtual std::optional<RegionRecord> Find(const RegionKey& key) = 0;
  // Whether there is a record of `path` or of anything beneath it.
  virtual bool HasRecords(absl::string_view path) = 0;
  // Visits a snapshot of all records in key order.
  virtual void ForEach(
      const std::function<void(const RegionKey&, const RegionRecord&)>&
          visit) = 0;
};

}  // namespace mirrorfs
