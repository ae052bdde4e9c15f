// SPDX-License-Identifier: GPL-2.0-or-later
//
// Goal: the protocol (mark, flush, write, acknowledge; sync; clear what stayed
// idle; note a failed leg; recover) keeps its two promises through every
// crash, and each of nine known mistakes breaks one of them. The promises:
//   equal    after recovery all legs hold the same;
//   durable  what was acknowledged by fsync is there after a power cut, and
//            what was acknowledged at all is there after a death of the
//            process.
//
// Method: two legs, one region, one writer, one cleaner. The real RegionStates
// and the real CoreLog run over fake legs and a fake store, which remember
// what was written but not synced. Every run is a list of choices: who takes
// the next step, does the world end here, and how, which unsynced write
// survives on each leg, which unsynced batches survive in the log, does a leg
// fail at this access. All lists are tried, by replaying a run from its start
// with one choice changed. A mistake is the same protocol with one line
// changed (M1 to M9); the model must find a violation for each of them, which
// shows that the model sees something.
//
// The legs' labels are modelled as far as needed: a generation, who is in
// sync, who is primary, where the log lies; each replaced durably and at once.
//
// Not covered: more than two legs or one region; regions wider than a write;
// entries, attributes, renames; writes while recovery runs; two legs that fail;
// a start without the leg of the newest generation (nobody could know); a store
// that lies (disk_log_test); threads inside the log (core_log_test).
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "dirtylog/core_log.h"
#include "dirtylog/log_factory.h"
#include "region/region_states.h"

namespace mirrorfs {
namespace {

enum class Mistake {
  kNone,
  kM1WriteBeforeTheMarkIsDurable,
  kM2ClearWithoutSyncingLegs,
  kM3ClearAfterSyncingOneLeg,
  kM4FsyncOfTheLegThatIsNotTheSource,
  kM5AssumeCleanAfterACrash,
  kM6FailureOfALegNotRecorded,
  kM7FailureOfALegRecordedAfterTheAck,
  kM8ClearWhatALegLacks,
  kM9ClearNotBoundToTheEpoch,
};

constexpr LegSlot kA = 0;
constexpr LegSlot kB = 1;
constexpr LegSet kBoth(3);

LegSlot Other(LegSlot leg) { return 1 - leg; }

// The world ends here.
struct Crash {};

// One run's choices. Replays those it is given, then takes the first of each.
class Choices {
 public:
  int Choose(int options) {
    if (options <= 1) return 0;
    if (at_ == taken_.size()) taken_.push_back({0, options});
    return taken_[at_++].choice;
  }

  // Moves on to the next run; false when all were tried.
  bool Next() {
    at_ = 0;
    while (!taken_.empty() && taken_.back().choice + 1 == taken_.back().of) {
      taken_.pop_back();
    }
    if (taken_.empty()) return false;
    ++taken_.back().choice;
    return true;
  }

 private:
  struct Taken {
    int choice;
    int of;
  };
  std::vector<Taken> taken_;
  size_t at_ = 0;
};

struct Batch {
  std::map<std::string, std::optional<RegionRecord>> changes;
};

// What a log left on a leg.
struct FakeStore {
  std::map<std::string, RegionRecord> durable;
  std::vector<Batch> unsynced;

  void Apply(const Batch& batch) {
    for (const auto& [key, record] : batch.changes) {
      if (record) {
        durable[key] = *record;
      } else {
        durable.erase(key);
      }
    }
  }
  void Sync() {
    for (const Batch& batch : unsynced) Apply(batch);
    unsynced.clear();
  }
};

struct FakeLabel {
  int generation = 1;
  LegSet in_sync = kBoth;
  LegSlot primary = kA;
  LegSlot log_leg = kA;
};

struct FakeLeg {
  bool dead = false;
  int durable = 0;
  std::vector<int> unsynced;  // values, oldest first
  FakeLabel label;
  FakeStore store;

  int Visible() const { return unsynced.empty() ? durable : unsynced.back(); }
};

struct Scenario {
  std::string writer;     // w: write, f: fsync
  int cleaner_turns = 0;  // of the cleaner, interleaved with the writer
  int leg_failures = 0;
  int crashes = 1;
};

class World;

class ModelLog : public CoreLog {
 public:
  ModelLog(World& world, LegSlot leg)
      : CoreLog(4096), world_(world), leg_(leg) {}

 protected:
  absl::Status Load(std::vector<Loaded>& loaded) override;
  absl::Status Store(const std::vector<Change>& batch, bool durable) override;

 private:
  World& world_;
  const LegSlot leg_;
};

// One run.
class World {
 public:
  World(Choices& choices, const Scenario& scenario, Mistake mistake)
      : choices_(choices),
        scenario_(scenario),
        mistake_(mistake),
        failures_left_(scenario.leg_failures),
        crashes_left_(scenario.crashes) {}

  // What went wrong, or nothing.
  std::string Run() {
    try {
      StartLog(LegSet());
      Serve();
    } catch (const Crash&) {
    }
    while (true) {
      LoseWhatIsVolatile();
      try {
        Recover();
        return Verdict();
      } catch (const Crash&) {
      }
    }
  }

  FakeLeg& leg(LegSlot slot) { return legs_[slot]; }

  void CrashPoint() {
    if (crashes_left_ > 0 && choices_.Choose(2) == 1) EndOfTheWorld();
  }

  // Access to a leg; false when it is dead or dies now.
  bool Reach(LegSlot slot) {
    FakeLeg& leg = legs_[slot];
    const bool may_fail = failures_left_ > 0 && label_.in_sync == kBoth;
    if (!leg.dead && may_fail && choices_.Choose(2) == 1) {
      leg.dead = true;
      --failures_left_;
    }
    return !leg.dead;
  }

 private:
  using Steps = std::vector<std::function<void()>>;

  [[noreturn]] void EndOfTheWorld() {
    --crashes_left_;
    throw Crash();
  }

  void StartLog(LegSet suspects) {
    log_ = std::make_unique<ModelLog>(*this, label_.log_leg);
    EXPECT_TRUE(log_->Resume(suspects).ok());
  }

  // ---- The protocol

  void Serve() {
    Steps writer;
    for (const char op : scenario_.writer) {
      Steps steps = op == 'w' ? WriteSteps() : FsyncSteps();
      writer.insert(writer.end(), steps.begin(), steps.end());
    }
    const Steps cleaner = CleanSteps();
    size_t writer_at = 0;
    size_t cleaner_at = 0;
    int turns = scenario_.cleaner_turns;
    while (true) {
      std::vector<std::function<void()>> options;
      if (writer_at < writer.size()) {
        options.push_back([&] { writer[writer_at++](); });
      }
      if (turns > 0 && (cleaner_at > 0 || !states_.Idle(0).empty())) {
        options.push_back([&] {
          cleaner[cleaner_at++]();
          if (cleaner_at < cleaner.size()) return;
          cleaner_at = 0;
          --turns;
        });
      }
      if (options.empty()) EndOfTheWorld();
      const size_t choice = choices_.Choose(options.size() + 1);
      if (choice == options.size()) EndOfTheWorld();
      options[choice]();
    }
  }

  Steps WriteSteps() {
    return {
        [this] {
          EXPECT_TRUE(states_.TryBegin(keys_));
          Mark();
        },
        [this] {
          if (mistake_ != Mistake::kM1WriteBeforeTheMarkIsDurable) FlushLog();
        },
        [this] {
          ++issued_;
          WriteLeg(kA);
        },
        [this] { WriteLeg(kB); },
        [this] {
          states_.End(keys_, 0);
          acked_ = issued_;
          RecordLateFailure();
        },
    };
  }

  Steps FsyncSteps() {
    return {
        [this] {
          if (mistake_ != Mistake::kM4FsyncOfTheLegThatIsNotTheSource) {
            SyncLeg(kA);
          }
        },
        [this] {
          SyncLeg(kB);
          fsynced_ = acked_;
          RecordLateFailure();
        },
    };
  }

  Steps CleanSteps() {
    return {
        [this] { idle_ = states_.Idle(0); },
        [this] {
          if (mistake_ != Mistake::kM2ClearWithoutSyncingLegs) SyncLeg(kA);
        },
        [this] {
          if (mistake_ != Mistake::kM2ClearWithoutSyncingLegs &&
              mistake_ != Mistake::kM3ClearAfterSyncingOneLeg) {
            SyncLeg(kB);
          }
        },
        [this] {
          for (const RegionStates::IdleRegion& region : idle_) {
            const bool unchanged = states_.ClearIfUnchanged(region);
            if (unchanged || mistake_ == Mistake::kM9ClearNotBoundToTheEpoch) {
              Clear();
            }
          }
        },
        [this] { log_->FlushLazily().IgnoreError(); },
    };
  }

  LegSet Away() const { return kBoth - label_.in_sync; }

  void Mark() { log_->MarkRegion(key_, {.dirty = true, .missing = Away()}); }

  void Clear() {
    log_->ClearRegion(key_);
    if (mistake_ == Mistake::kM8ClearWhatALegLacks) {
      log_->SetRegionSync(key_, kBoth, true);
      log_->ClearRegion(key_);
    }
  }

  void FlushLog() {
    if (log_->Flush().ok()) return;
    FailLeg(label_.log_leg);
    EXPECT_TRUE(log_->Flush().ok());
  }

  void WriteLeg(LegSlot slot) {
    if (!label_.in_sync.has(slot)) return;
    if (!Reach(slot)) return FailLeg(slot);
    legs_[slot].unsynced.push_back(issued_);
  }

  void SyncLeg(LegSlot slot) {
    if (!label_.in_sync.has(slot)) return;
    if (!Reach(slot)) return FailLeg(slot);
    MakeDurable(slot);
  }

  void MakeDurable(LegSlot slot) {
    legs_[slot].durable = legs_[slot].Visible();
    legs_[slot].unsynced.clear();
  }

  // I8: what the leg may lack, then that it left, durable on the other leg
  // before anything is acknowledged. All that is dirty may not be durable on
  // the leg that failed.
  void FailLeg(LegSlot failed) {
    const LegSlot left = Other(failed);
    label_.in_sync = LegSet::Of(left);
    label_.primary = left;
    std::unique_ptr<ModelLog> moved;
    if (label_.log_leg == failed) {
      legs_[left].store = FakeStore();
      moved = std::make_unique<ModelLog>(*this, left);
      EXPECT_TRUE(moved->Resume(LegSet()).ok());
    }
    log_->ForEach([&](const RegionKey& key, const RegionRecord& record) {
      if (record.dirty) log_->MarkRegion(key, {.missing = LegSet::Of(failed)});
    });
    if (moved) {
      EXPECT_TRUE(CopyAll(*log_, *moved).ok());
      log_ = std::move(moved);
      label_.log_leg = left;
    }
    EXPECT_TRUE(log_->Flush().ok());
    if (mistake_ == Mistake::kM6FailureOfALegNotRecorded) return;
    late_failure_ = true;
    if (mistake_ != Mistake::kM7FailureOfALegRecordedAfterTheAck) {
      RecordLateFailure();
    }
  }

  void RecordLateFailure() {
    if (!late_failure_) return;
    late_failure_ = false;
    ++label_.generation;
    CrashPoint();
    label_.in_sync.ForEach([&](LegSlot slot) { legs_[slot].label = label_; });
    CrashPoint();
  }

  // ---- The crash

  const FakeLabel& NewestLabel() const {
    const FakeLabel& a = legs_[kA].label;
    const FakeLabel& b = legs_[kB].label;
    return a.generation >= b.generation ? a : b;
  }

  void LoseWhatIsVolatile() {
    const bool power = choices_.Choose(2) == 0;
    const LegSet in_sync = NewestLabel().in_sync;
    for (const LegSlot slot : {kA, kB}) {
      FakeLeg& leg = legs_[slot];
      // A leg that died before anybody noticed took its cache with it, which is
      // a power cut for what it alone was to keep.
      if (power || (leg.dead && in_sync.has(slot))) power_lost_ = true;
      if (power || leg.dead) Lose(leg);
      // Opening a store makes durable what it found.
      leg.store.Sync();
      leg.dead = false;
    }
    log_.reset();
    states_ = RegionStates();
    failures_left_ = 0;
  }

  // Any one of the values that the cache held may be what is there; of the
  // log's batches, any set.
  void Lose(FakeLeg& leg) {
    std::set<int> values(leg.unsynced.begin(), leg.unsynced.end());
    values.insert(leg.durable);
    leg.durable = *std::next(values.begin(), choices_.Choose(values.size()));
    leg.unsynced.clear();
    std::vector<Batch> survivors;
    for (const Batch& batch : leg.store.unsynced) {
      if (choices_.Choose(2) == 1) survivors.push_back(batch);
    }
    leg.store.unsynced = survivors;
  }

  void Recover() {
    label_ = NewestLabel();
    const bool believe = mistake_ == Mistake::kM5AssumeCleanAfterACrash;
    StartLog(believe ? LegSet() : label_.in_sync - LegSet::Of(label_.primary));
    EXPECT_TRUE(log_->Flush().ok());
    for (const DirtyLog::Work& work : log_->GetResyncWork(kBoth, 8)) {
      work.record.missing.ForEach([&](LegSlot target) {
        CrashPoint();
        legs_[target].unsynced.push_back(legs_[label_.primary].Visible());
      });
      log_->SetRegionSync(work.key, work.record.missing, true);
    }
    CrashPoint();
    MakeDurable(kA);
    CrashPoint();
    MakeDurable(kB);
    log_->ClearRegion(key_);
    EXPECT_TRUE(log_->FlushLazily().ok());
    ++label_.generation;
    label_.in_sync = kBoth;
    for (FakeLeg& leg : legs_) {
      CrashPoint();
      leg.label = label_;
    }
    EXPECT_EQ(log_->GetSyncCount(kBoth).regions, 0u);
  }

  std::string Verdict() const {
    const int a = legs_[kA].Visible();
    const int b = legs_[kB].Visible();
    if (a != b) return absl::StrCat("legs differ: ", a, " and ", b);
    if (a < fsynced_) return absl::StrCat(a, " after fsync of ", fsynced_);
    if (!power_lost_ && a < acked_) {
      return absl::StrCat(a, " after ack of ", acked_);
    }
    if (a > issued_) return absl::StrCat(a, " was never written");
    return "";
  }

  Choices& choices_;
  const Scenario& scenario_;
  const Mistake mistake_;
  int failures_left_;
  int crashes_left_;
  bool power_lost_ = false;

  std::array<FakeLeg, 2> legs_;

  // What the process knows.
  const RegionKey key_ = RegionKey::Data("f", 0);
  const std::vector<std::string> keys_ = {EncodeRegionKey(key_)};
  RegionStates states_;
  std::unique_ptr<ModelLog> log_;
  FakeLabel label_;
  std::vector<RegionStates::IdleRegion> idle_;
  bool late_failure_ = false;

  // What the application knows: values are 1, 2, ... in the order written.
  int issued_ = 0;
  int acked_ = 0;
  int fsynced_ = 0;
};

absl::Status ModelLog::Load(std::vector<Loaded>& loaded) {
  for (const auto& [encoded, record] : world_.leg(leg_).store.durable) {
    loaded.push_back({*DecodeRegionKey(encoded), record});
  }
  return absl::OkStatus();
}

absl::Status ModelLog::Store(const std::vector<Change>& batch, bool durable) {
  if (!world_.Reach(leg_)) return absl::UnavailableError("the leg is dead");
  FakeStore& store = world_.leg(leg_).store;
  Batch written;
  for (const Change& change : batch) {
    written.changes[change.key] = change.record;
  }
  store.unsynced.push_back(std::move(written));
  if (!durable) return absl::OkStatus();
  world_.CrashPoint();  // it may be there, but nobody was told
  store.Sync();
  return absl::OkStatus();
}

// ---------------------------------------------------------------------------

struct Result {
  long runs = 0;
  std::string violation;  // the first one
};

Result TryAll(const Scenario& scenario, Mistake mistake) {
  Result result;
  Choices choices;
  do {
    ++result.runs;
    result.violation = World(choices, scenario, mistake).Run();
  } while (result.violation.empty() && !testing::Test::HasFailure() &&
           choices.Next());
  return result;
}

const Scenario kScenarios[] = {
    // The cleaner between any two steps of the writer.
    {.writer = "wwf", .cleaner_turns = 1},
    {.writer = "wfw", .cleaner_turns = 2},
    // A leg fails at any access.
    {.writer = "wfw", .cleaner_turns = 1, .leg_failures = 1},
    {.writer = "wwf", .leg_failures = 1, .crashes = 2},
    // Recovery that is itself cut short.
    {.writer = "wfw", .cleaner_turns = 1, .crashes = 2},
};

TEST(CrashModel, TheProtocolKeepsItsPromises) {
  for (const Scenario& scenario : kScenarios) {
    const Result result = TryAll(scenario, Mistake::kNone);
    EXPECT_EQ(result.violation, "") << scenario.writer;
    std::printf("%s: %ld runs\n", scenario.writer.c_str(), result.runs);
  }
}

class Mistakes : public testing::TestWithParam<int> {};

INSTANTIATE_TEST_SUITE_P(M, Mistakes, testing::Range(1, 10));

TEST_P(Mistakes, AreFound) {
  std::string found;
  for (const Scenario& scenario : kScenarios) {
    const Result result = TryAll(scenario, static_cast<Mistake>(GetParam()));
    if (result.violation.empty()) continue;
    found = absl::StrCat(scenario.writer, ", run ", result.runs, ": ",
                         result.violation);
    break;
  }
  EXPECT_NE(found, "");
  std::printf("M%d: %s\n", GetParam(), found.c_str());
}

}  // namespace
}  // namespace mirrorfs
