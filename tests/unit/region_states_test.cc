// SPDX-License-Identifier: GPL-2.0-or-later
//
// RegionStates against a model small enough to be seen to be right: every
// sequence of operations on two regions up to a depth, all answers compared
// after each step. Ticks are left out of the sequences and have tests of their
// own.
#include "region/region_states.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace mirrorfs {
namespace {

const std::array<std::string, 2> kKeys = {"a", "b"};

// One region as the model knows it.
struct ModelRegion {
  bool known = false;
  int pending = 0;
  bool recovering = false;
  // The region was seen idle and nothing happened to it since.
  bool seen_idle = false;
};

// The real thing and the model, side by side.
struct World {
  RegionStates real;
  std::array<ModelRegion, 2> model;
  // What Idle answered last for each region.
  std::array<std::optional<RegionStates::IdleRegion>, 2> seen;
};

// An operation: changes both sides and compares what they answer. False when
// it makes no sense in this state (a caller would never do it).
struct Operation {
  std::string name;
  std::function<bool(World&)> apply;
};

bool Begin(World& world, const std::vector<int>& regions) {
  std::vector<std::string> keys;
  bool expected = true;
  for (const int region : regions) {
    keys.push_back(kKeys[region]);
    expected = expected && !world.model[region].recovering;
  }
  EXPECT_EQ(world.real.TryBegin(keys), expected);
  if (!expected) return true;
  for (const int region : regions) {
    ModelRegion& model = world.model[region];
    model.known = true;
    ++model.pending;
    model.seen_idle = false;
  }
  return true;
}

bool End(World& world, int region) {
  if (world.model[region].pending == 0) return false;
  const std::vector<std::string> keys = {kKeys[region]};
  world.real.End(keys, 0);
  --world.model[region].pending;
  return true;
}

bool Start(World& world, int region) {
  ModelRegion& model = world.model[region];
  EXPECT_EQ(world.real.StartRecovery(kKeys[region]), !model.recovering);
  if (model.recovering) return true;
  model.known = true;
  model.recovering = true;
  model.seen_idle = false;
  return true;
}

bool Finish(World& world, int region) {
  if (!world.model[region].recovering) return false;
  world.real.FinishRecovery(kKeys[region], 0);
  world.model[region].recovering = false;
  return true;
}

bool Adopt(World& world, int region) {
  world.real.Adopt(kKeys[region], 0);
  world.model[region].known = true;
  return true;
}

bool See(World& world) {
  std::array<bool, 2> found = {};
  for (const RegionStates::IdleRegion& idle : world.real.Idle(0)) {
    const int region = idle.key == kKeys[0] ? 0 : 1;
    found[region] = true;
    world.seen[region] = idle;
  }
  for (int region = 0; region < 2; ++region) {
    ModelRegion& model = world.model[region];
    const bool idle = model.known && model.pending == 0 && !model.recovering;
    EXPECT_EQ(found[region], idle);
    if (idle) model.seen_idle = true;
  }
  return true;
}

bool Clear(World& world, int region) {
  if (!world.seen[region]) return false;
  ModelRegion& model = world.model[region];
  const bool expected = model.known && model.seen_idle;
  EXPECT_EQ(world.real.ClearIfUnchanged(*world.seen[region]), expected);
  if (expected) model = ModelRegion();
  return true;
}

std::vector<Operation> Operations() {
  return {
      {"begin a", [](World& world) { return Begin(world, {0}); }},
      {"begin b", [](World& world) { return Begin(world, {1}); }},
      {"begin ab",
       [](World& world) {
         return Begin(world, {0, 1});
       }},
      {"end a", [](World& world) { return End(world, 0); }},
      {"end b", [](World& world) { return End(world, 1); }},
      {"start a", [](World& world) { return Start(world, 0); }},
      {"finish a", [](World& world) { return Finish(world, 0); }},
      {"adopt b", [](World& world) { return Adopt(world, 1); }},
      {"see", [](World& world) { return See(world); }},
      {"clear a", [](World& world) { return Clear(world, 0); }},
      {"clear b", [](World& world) { return Clear(world, 1); }},
  };
}

void Compare(const World& world) {
  size_t known = 0;
  for (int region = 0; region < 2; ++region) {
    const ModelRegion& model = world.model[region];
    known += model.known;
    EXPECT_EQ(world.real.PendingCount(kKeys[region]), model.pending);
    EXPECT_EQ(world.real.IsRecovering(kKeys[region]), model.recovering);
    EXPECT_EQ(world.real.IsQuiesced(kKeys[region]), model.pending == 0);
  }
  EXPECT_EQ(world.real.size(), known);
}

class Exhaustive : public testing::Test {
 protected:
  void Explore(const World& world, int depth) {
    if (depth == 0 || HasFailure()) return;
    for (const Operation& operation : operations_) {
      World next = world;
      trace_.push_back(operation.name);
      if (operation.apply(next)) {
        Compare(next);
        ++steps_;
        if (HasFailure()) return;
        Explore(next, depth - 1);
      }
      if (HasFailure()) return;  // the trace shows how it came to it
      trace_.pop_back();
    }
  }

  void TearDown() override {
    if (!HasFailure()) return;
    for (const std::string& name : trace_) std::printf("  %s\n", name.c_str());
  }

  const std::vector<Operation> operations_ = Operations();
  std::vector<std::string> trace_;
  long steps_ = 0;
};

TEST_F(Exhaustive, EverySequenceAnswersAsTheModel) {
  Explore(World(), 7);
  EXPECT_GT(steps_, 500000);
}

// The same, deeper, from a state from which the interesting mistakes (a clear
// that overtakes a newer write or a recovery) are few steps away.
TEST_F(Exhaustive, EverySequenceAfterAnIdleRegionWasSeen) {
  World world;
  Begin(world, {0, 1});
  End(world, 0);
  See(world);
  Explore(world, 6);
}

TEST(RegionStates, IdleHonoursTheTick) {
  RegionStates states;
  const std::vector<std::string> keys = {"a"};
  ASSERT_TRUE(states.TryBegin(keys));
  states.End(keys, 5);
  EXPECT_TRUE(states.Idle(4).empty());
  EXPECT_EQ(states.Idle(5).size(), 1u);
  ASSERT_TRUE(states.TryBegin(keys));
  states.End(keys, 9);
  EXPECT_TRUE(states.Idle(8).empty());
}

TEST(RegionStates, ARecoveredRegionCoolsFromItsEnd) {
  RegionStates states;
  ASSERT_TRUE(states.StartRecovery("a"));
  states.FinishRecovery("a", 3);
  EXPECT_TRUE(states.Idle(2).empty());
  EXPECT_EQ(states.Idle(3).size(), 1u);
}

TEST(RegionStates, AnAdoptedRegionCools) {
  RegionStates states;
  states.Adopt("a", 3);
  EXPECT_TRUE(states.Idle(2).empty());
  ASSERT_EQ(states.Idle(3).size(), 1u);
  EXPECT_TRUE(states.ClearIfUnchanged(states.Idle(3)[0]));
  EXPECT_EQ(states.size(), 0u);
}

TEST(RegionStates, AKeyMayStandMoreThanOnce) {
  RegionStates states;
  const std::vector<std::string> keys = {"a", "a"};
  ASSERT_TRUE(states.TryBegin(keys));
  EXPECT_EQ(states.PendingCount("a"), 2);
  states.End(keys, 0);
  EXPECT_EQ(states.PendingCount("a"), 0);
}

// I6 across a region that was forgotten and came back: epochs are never used
// twice.
TEST(RegionStates, AStaleIdleRegionDoesNotClearItsSuccessor) {
  RegionStates states;
  const std::vector<std::string> keys = {"a"};
  ASSERT_TRUE(states.TryBegin(keys));
  states.End(keys, 0);
  const RegionStates::IdleRegion stale = states.Idle(0)[0];
  ASSERT_TRUE(states.ClearIfUnchanged(stale));
  ASSERT_TRUE(states.TryBegin(keys));
  states.End(keys, 0);
  EXPECT_FALSE(states.ClearIfUnchanged(stale));
}

}  // namespace
}  // namespace mirrorfs
