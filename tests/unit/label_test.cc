// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/label.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "leg/new_mirror.h"
#include "mirror/assembly.h"
#include "mirror/leg_probe.h"

namespace mirrorfs {
namespace {

// Two legs, both in sync.
Label Two() {
  Label label;
  label.mirror_uuid = "m";
  label.mirror_name = "keep";
  label.leg_uuid = "a";
  label.region_bytes = 1 << 20;
  label.generation = {3, "g3"};
  label.history = {"g2", "g1"};
  label.members = {{"a", "a", 0, true, ""}, {"b", "b", 1, true, ""}};
  label.primary_uuid = "a";
  return label;
}

Label Of(Label label, const std::string& leg) {
  label.leg_uuid = leg;
  return label;
}

// The label that the others write when `leg` has left.
Label Without(Label label, const std::string& leg) {
  LabelMember* member = label.FindMember(leg);
  member->in_sync = false;
  member->left_at = label.generation.id;
  label.history.insert(label.history.begin(), label.generation.id);
  label.generation = {label.generation.number + 1, "next"};
  return label;
}

std::string WithChecksum(const std::string& body) {
  return absl::StrCat(
      "mirrorfs label 1 ",
      absl::StrFormat("%016x", XXH3_64bits(body.data(), body.size())), "\n",
      body);
}

TEST(LabelTest, KeepsWhatTheAdministratorDid) {
  Label label = Two();
  label.members[0].replaces = "b";
  label.members[1].offline = true;
  label.members[1].away_since_ns = 1'900'000'000'000'000'001;
  label.members[1].away = {{1, 2}, {-3, 1'900'000'000'000'000'000}};
  label.next_slot = 5;
  const absl::StatusOr<Label> parsed = ParseLabel(FormatLabel(label));
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(*parsed, label);
}

TEST(LabelTest, LabelsOfEarlierVersionsAreRead) {
  const Label label = Two();
  const std::string text = FormatLabel(label);
  std::string body = text.substr(text.find('\n') + 1);
  ASSERT_EQ(absl::StrReplaceAll({{"  \"next_slot\": 0,\n", ""}}, &body), 1);
  ASSERT_EQ(body.find("offline"), std::string::npos);
  ASSERT_EQ(body.find("replaces"), std::string::npos);
  const absl::StatusOr<Label> parsed = ParseLabel(WithChecksum(body));
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(*parsed, label);
}

TEST(LabelTest, ASlotIsNotGivenAgain) {
  Label label = Two();
  EXPECT_EQ(label.FreeSlot(), 2);
  label.next_slot = 7;
  EXPECT_EQ(label.FreeSlot(), 7);
  label.next_slot = kLegsMax;
  EXPECT_EQ(label.FreeSlot(), 2) << "all were given";
  label.members[0].slot = 2;
  EXPECT_EQ(label.FreeSlot(), 0);
  while (label.members.size() < kLegsMax) {
    LabelMember member;
    member.slot = label.FreeSlot();
    label.members.push_back(member);
  }
  EXPECT_EQ(label.FreeSlot(), -1);
}

TEST(LabelTest, ANewLegIsOlderAndLacksEverything) {
  Label label = Two();
  const Label own = AddMember({"c", "c", 2, false, ""}, label);
  EXPECT_EQ(label.next_slot, 3);
  EXPECT_EQ(CompareLabels(own, label), LabelOrder::kOlder);
  EXPECT_EQ(JudgeReturn(label, own), Returning::kUnaccounted);
  const absl::StatusOr<LabelVerdict> verdict =
      JudgeLabels({label, Of(label, "b"), own});
  ASSERT_TRUE(verdict.ok()) << verdict.status();
  EXPECT_EQ(verdict->unaccounted, LegSet::Of(2));
  EXPECT_EQ(verdict->in_sync, LegSet::Of(0) | LegSet::Of(1));
}

// Put back from a copy that was made before the last mount.
TEST(LabelTest, AnOldCopyOfThisGenerationIsComparedWhole) {
  Label label = Two();
  label.uses = 3;
  Label copy = Of(label, "b");
  copy.uses = 2;
  EXPECT_EQ(CompareLabels(copy, label), LabelOrder::kOlder);
  EXPECT_EQ(JudgeReturn(label, copy), Returning::kUnaccounted);
  EXPECT_EQ(JudgeReturn(copy, label), Returning::kConflict);
  for (const auto& labels : {std::vector<Label>{label, copy}, {copy, label}}) {
    const absl::StatusOr<LabelVerdict> verdict = JudgeLabels(labels);
    ASSERT_TRUE(verdict.ok()) << verdict.status();
    EXPECT_EQ(verdict->in_sync, LegSet::Of(0));
    EXPECT_EQ(verdict->unaccounted, LegSet::Of(1));
  }
  Label without = Without(label, "b");
  without.FindMember("b")->left_uses = 3;
  EXPECT_EQ(JudgeReturn(without, Of(label, "b")), Returning::kAccounted);
  EXPECT_EQ(JudgeReturn(without, copy), Returning::kUnaccounted);
}

// It was late, and nothing has been changed without it.
TEST(LabelTest, ALegOfThisGenerationLacksWhatTheLogSays) {
  Label label = Two();
  label.clean = false;
  EXPECT_EQ(JudgeReturn(label, Of(Two(), "b")), Returning::kAccounted);
  label.clean = true;
  EXPECT_EQ(JudgeReturn(label, Of(Two(), "b")), Returning::kAccounted)
      << "both ended in order";
  Label crashed = Of(Two(), "b");
  crashed.clean = false;
  EXPECT_EQ(JudgeReturn(label, crashed), Returning::kUnaccounted);
}

TEST(LabelTest, ALegThatIsOfflineIsLeftAlone) {
  Label label = Without(Two(), "b");
  label.FindMember("b")->offline = true;
  const absl::StatusOr<LabelVerdict> verdict =
      JudgeLabels({Of(Two(), "b"), label});
  ASSERT_TRUE(verdict.ok()) << verdict.status();
  EXPECT_EQ(verdict->present, LegSet::Of(0));
  EXPECT_EQ(verdict->offline, LegSet::Of(1));
  EXPECT_TRUE(verdict->unaccounted.empty());
}

TEST(LabelTest, ALegThatIsOfflineIsNotServedAlone) {
  Label own = Of(Two(), "b");
  own.FindMember("b")->offline = true;
  EXPECT_FALSE(JudgeLabels({own}).ok());
}

TEST(LabelTest, ADetachedLegIsLeftOut) {
  Label label = Without(Two(), "b");
  label.members.pop_back();
  for (const bool first : {false, true}) {
    std::vector<Label> labels = {label, Of(Two(), "b")};
    if (first) std::swap(labels[0], labels[1]);
    const absl::StatusOr<LabelVerdict> verdict = JudgeLabels(labels);
    ASSERT_TRUE(verdict.ok()) << verdict.status();
    EXPECT_EQ(verdict->present, LegSet::Of(0));
    EXPECT_EQ(labels[verdict->newest].leg_uuid, "a");
  }
}

}  // namespace
}  // namespace mirrorfs
