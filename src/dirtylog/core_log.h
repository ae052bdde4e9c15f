// SPDX-License-Identifier: GPL-2.0-or-later
//
// The log in memory. It is a type of its own ("core": a crash forgets it, the
// caller then marks everything) and what the types with a store are built on:
// memory is what answers, the store is a journal of it that only Resume reads.
//
// What is durable. Every change that makes a record say more gets the next
// change number. Flush needs the numbers up to the last one given out so far
// to be in the store. One thread, the leader, takes all keys that changed,
// writes them as one batch without holding the lock and wakes the others; who
// comes meanwhile waits and finds the work done, or leads the next batch. Keys
// are queued, not records: a batch takes the records as they are then, so a
// region that was cleared and marked again in between costs one write.
//
// A change that makes a record say less is queued too but has no number:
// nobody waits for it (L3).
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "dirtylog/dirty_log.h"
#include "dirtylog/record_table.h"

namespace mirrorfs {

class CoreLog : public DirtyLog {
 public:
  explicit CoreLog(uint64_t region_bytes);

  absl::Status Resume(LegSet suspects) override;
  absl::Status Presuspend() override;
  absl::Status Postsuspend() override;
  uint64_t GetRegionSize() const override { return region_bytes_; }
  bool IsClean(const RegionKey& key) override;
  InSyncAnswer InSync(const RegionKey& key, LegSet legs,
                      bool can_block) override;
  LegSet Lacking(const RegionKey& key) override;
  LegSet LackingAnyOf(absl::string_view path) override;
  LegSet LackingAnything() override { return LegSet(lacking_legs_); }
  LegSet LackingNames() override;
  bool MarkRegion(const RegionKey& key, const RegionRecord& add) override;
  void ClearRegion(const RegionKey& key) override;
  absl::Status Flush() override;
  absl::Status FlushLazily() override;
  absl::Status FlushWhole() override;
  Moving CopyObject(absl::string_view from, absl::string_view to) override;
  Moving BeginMove(absl::string_view from, absl::string_view to, bool tree,
                   bool exchange) override;
  void MarkMissed(const RegionKey& key, const RegionRecord& add,
                  Moving* moving) override;
  void FinishMove(const Moving& moving, LegSet took) override;
  void UndoMove(const Moving& moving) override;
  std::string OriginOf(absl::string_view path, LegSlot leg) override;
  void SetOrigin(const std::string& path, LegSlot leg,
                 absl::string_view origin) override;
  std::vector<std::string> MovedTo(absl::string_view origin,
                                   LegSlot leg) override;
  void MoveOrigins(absl::string_view from, absl::string_view to,
                   LegSlot leg) override;
  std::vector<Work> GetResyncWork(LegSet reachable, size_t count_max) override;
  void SetRegionSync(const RegionKey& key, LegSet legs, bool in_sync) override;
  void Pardon(const RegionKey& key, LegSet legs) override;
  void ReleaseResyncWork(const RegionKey& key) override;
  void StartCopy(const RegionKey& key) override;
  void AdvanceTail(const RegionKey& key, RegionRange range,
                   LegSet legs) override;
  std::vector<HealedTail> HealedTails(uint64_t regions_min) override;
  void SettleTails(const std::vector<HealedTail>& tails) override;
  uint64_t TailToHeal(const RegionKey& key, LegSet legs) override;
  void AdvanceSince(const RegionKey& key, int64_t since_ns) override;
  void SuspectDirty(LegSet legs) override;
  void ForgetLegs(LegSet legs) override;
  absl::Status MoveStore(
      const StorePlace& place, const std::string& log_uuid,
      const std::function<absl::Status(const std::string& session)>& note)
      override;
  SyncCount GetSyncCount(LegSet legs) override;
  std::string Status(StatusKind kind) override;
  bool IsRemoteRecovering(const RegionKey& key) override { return false; }
  std::optional<RegionRecord> Find(const RegionKey& key) override;
  bool HasRecords(absl::string_view path) override;
  void ForEach(const std::function<void(const RegionKey&, const RegionRecord&)>&
                   visit) override;

 protected:
  // One key of a batch: what the store has to hold for it from now on.
  struct Change {
    std::string key;                     // encoded
    std::optional<RegionRecord> record;  // none: delete it
  };
  struct Loaded {
    RegionKey key;
    RegionRecord record;
  };

  // What a type with a store adds. Calls never overlap.
  //
  // Reads the whole store. May be called again after a Store that failed.
  virtual absl::Status Load(std::vector<Loaded>& loaded);
  // Writes the batch as one; when `durable`, it and all earlier ones are
  // durable on return.
  virtual absl::Status Store(const std::vector<Change>& batch, bool durable);
  // Makes an empty store there and uses that from now on. Its session.
  virtual absl::StatusOr<std::string> Rebind(const StorePlace& place,
                                             const std::string& log_uuid);

  // Health letter of dm's status line: A alive, D failed.
  char Health();

 private:
  // Why the store must not be touched.
  enum class Phase { kNew, kRunning, kSuspended };
  // Which of the queued keys go into a batch.
  enum class Take { kAll, kClears };

  using Lock = std::unique_lock<std::mutex>;

  bool MarkLocked(const RegionKey& key, const RegionRecord& add);
  RecordTable::Entry* ReplaceLocked(const RegionKey& key,
                                    const std::string& encoded,
                                    const RegionRecord& record);
  std::vector<Loaded> LoadedIn(const EncodedRange& range) const;
  RegionRecord RecordLocked(const RegionKey& key);
  void SetOriginLocked(const RegionKey& key, LegSlot leg,
                       absl::string_view origin);
  void TakeOriginsLocked(const std::vector<Loaded>& objects, Moving* moving);
  void NoteChange(const Loaded& before, Moving* moving);
  void CopyLocked(std::vector<Loaded> copies, absl::string_view from,
                  absl::string_view to, Moving* moving);
  static void NoteLeft(const std::vector<Loaded>& goes, absl::string_view place,
                       const std::vector<Loaded>& comes,
                       absl::string_view other, Moving* moving);
  static uint64_t TailToHealLocked(const RecordTable::Entry& entry,
                                   LegSet legs);
  bool CoversLocked(absl::string_view path, LegSet legs);
  void MergeLoadedLocked(const std::vector<Loaded>& loaded);
  void SuspectDirtyLocked(LegSet suspects);
  absl::Status UsableLocked() const;
  void WaitForWriter(Lock& lock);
  std::vector<Change> TakeBatchLocked(Take take);
  absl::Status WriteBatch(Lock& lock, Take take);
  void QueueAllLocked();

  const uint64_t region_bytes_;

  std::mutex mutex_;
  RecordTable table_;
  // Bits of the legs that lack anything; lets Lacking answer without the lock
  // as long as nothing is missing anywhere.
  std::atomic<uint64_t> lacking_legs_{0};
  std::atomic<Phase> phase_{Phase::kNew};
  bool handing_out_ = false;

  absl::flat_hash_set<std::string> queue_;    // keys that the store knows wrong
  absl::flat_hash_set<std::string> healing_;  // keys whose tails are advanced
  uint64_t healings_ = 0;                     // tails that began to be, or anew
  uint64_t suspicions_ = 0;                   // SuspectDirty
  uint64_t last_change_ = 0;
  uint64_t durable_change_ = 0;
  bool lazily_stored_ = false;  // clears that may not be durable
  bool writing_ = false;
  std::condition_variable written_;
  absl::Status failure_;
};

}  // namespace mirrorfs
