// SPDX-License-Identifier: GPL-2.0-or-later
//
// Hooks, run for real.
#include "control/hook_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>
#include <string>

#include "absl/time/clock.h"
#include "temp_dir.h"

namespace mirrorfs {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class HookRunnerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    before_ = spdlog::default_logger();
    spdlog::set_default_logger(std::make_shared<spdlog::logger>(
        "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(said_)));
    settings_.directory = dir_.path();
    settings_.mirror_uuid = "u-1";
    settings_.mount_point = "/srv/keep";
  }
  void TearDown() override { spdlog::set_default_logger(before_); }

  std::string Path(const std::string& name) { return dir_.path() + "/" + name; }

  void WriteHook(const std::string& name, const std::string& body,
                 mode_t mode = 0755) {
    std::ofstream(Path(name)) << "#!/bin/sh\n" << body << "\n";
    ASSERT_EQ(chmod(Path(name).c_str(), mode), 0);
  }

  std::string Contents(const std::string& name) {
    std::ifstream file(Path(name));
    return {std::istreambuf_iterator<char>(file), {}};
  }

  void Start() { runner_ = std::make_unique<HookRunner>(&events_, settings_); }

  // Runs the hooks of one event to their end.
  std::string RunOnce() {
    events_.Post(EventName::kLegFailed, "b", "detail; $(touch x)");
    Start();
    runner_->Stop();
    return said_.str();
  }

  SystemClock clock_;
  EventLog events_{"keep", &clock_};
  HookSettings settings_;
  TempDir dir_;
  std::unique_ptr<HookRunner> runner_;
  std::ostringstream said_;
  std::shared_ptr<spdlog::logger> before_;
};

TEST_F(HookRunnerTest, WhichFilesAreHooks) {
  for (const char* name :
       {"20-b", "10-a", ".hidden", "x~", "x.bak", "x.dpkg-old"}) {
    WriteHook(name, "");
  }
  WriteHook("not-executable", "", 0644);
  WriteHook("everybodys", "", 0777);
  std::filesystem::create_directory(Path("directory"));
  EXPECT_THAT(FindHooks(dir_.path()), ElementsAre("10-a", "20-b"));
  EXPECT_THAT(said_.str(), HasSubstr("everybody may write it"));
  EXPECT_THAT(FindHooks(Path("none")), IsEmpty());
}

TEST_F(HookRunnerTest, AHookIsToldWhatHappened) {
  WriteHook("a", "env | grep MIRRORFS_ | sort > " + Path("env") +
                     "; umask >> " + Path("env") + "; pwd >> " + Path("env"));
  EXPECT_THAT(RunOnce(), IsEmpty());
  const std::string env = Contents("env");
  EXPECT_THAT(env, HasSubstr("MIRRORFS_DETAIL=detail; $(touch x)\n"
                             "MIRRORFS_EVENT=leg-failed\n"
                             "MIRRORFS_LEG=b\n"
                             "MIRRORFS_MIRROR=keep\n"
                             "MIRRORFS_MOUNTPOINT=/srv/keep\n"
                             "MIRRORFS_NUMBER=1\n"));
  EXPECT_THAT(env, HasSubstr("MIRRORFS_UUID=u-1\n"));
  EXPECT_THAT(env, HasSubstr("\n0022\n/\n"));
}

TEST_F(HookRunnerTest, AHookHasNoDescriptorsAndSignalsOfOurs) {
  signal(SIGPIPE, SIG_IGN);
  WriteHook("a", "ls /proc/self/fd; grep -E 'Sig(Ign|Blk)' /proc/self/status");
  const std::string said = RunOnce();
  signal(SIGPIPE, SIG_DFL);
  // 3 is that of ls itself.
  EXPECT_THAT(said, Not(HasSubstr("hook a: 4")));
  EXPECT_THAT(said, HasSubstr("SigBlk:\t0000000000000000"));
  // 32 and 33 are the C library's own.
  EXPECT_THAT(said, ::testing::ContainsRegex("SigIgn:\t0000000[01][08]0000000"));
}

TEST_F(HookRunnerTest, EventsAndHooksInOrder) {
  WriteHook("2", "echo 2 $MIRRORFS_DETAIL >> " + Path("out"));
  WriteHook("1", "echo 1 $MIRRORFS_DETAIL >> " + Path("out"));
  events_.Post(EventName::kEnospc, "", "x");
  events_.Post(EventName::kEnospc, "", "y");
  Start();
  runner_->Stop();
  EXPECT_EQ(Contents("out"), "1 x\n2 x\n1 y\n2 y\n");
}

TEST_F(HookRunnerTest, WhatAHookSaysAndHowItEndsIsKnown) {
  WriteHook("1", "echo hello; echo trouble >&2; printf unended; exit 3");
  WriteHook("2", "kill -9 $$");
  std::ofstream(Path("3")) << "#!/no/such/interpreter\n";
  chmod(Path("3").c_str(), 0755);
  WriteHook("4", "echo and on");
  const std::string said = RunOnce();
  EXPECT_THAT(said, HasSubstr("hook 1: hello"));
  EXPECT_THAT(said, HasSubstr("hook 1: trouble"));
  EXPECT_THAT(said, HasSubstr("hook 1: unended"));
  EXPECT_THAT(said, HasSubstr("hook 1: ended with exit status 3"));
  EXPECT_THAT(said, HasSubstr("hook 2: ended by signal 9"));
  EXPECT_THAT(said, HasSubstr("hook 3: cannot be run"));
  EXPECT_THAT(said, HasSubstr("hook 4: and on"));
}

TEST_F(HookRunnerTest, AHookThatTalksWithoutEndIsCutShort) {
  settings_.time_limit = absl::Seconds(1);
  settings_.end_limit = absl::Seconds(20);
  WriteHook("a", "yes");
  const std::string said = RunOnce();
  EXPECT_THAT(said, HasSubstr("says more, which is left out"));
  EXPECT_THAT(said, HasSubstr("took too long"));
  EXPECT_LT(said.size(), 50'000u);
}

TEST_F(HookRunnerTest, AHookThatHangsIsKilledWithWhatItStarted) {
  settings_.time_limit = absl::Milliseconds(300);
  settings_.end_limit = absl::Seconds(20);
  WriteHook("a", "echo $$ > " + Path("group") + "; sleep 1000 & sleep 1000");
  WriteHook("b", "echo next");
  const absl::Time before = absl::Now();
  const std::string said = RunOnce();
  EXPECT_LT(absl::Now() - before, absl::Seconds(10));
  EXPECT_THAT(said, HasSubstr("hook a: took too long for leg-failed"));
  EXPECT_THAT(said, HasSubstr("hook b: next"));
  // All of the group are gone, or about to be.
  const pid_t group = std::stoi(Contents("group"));
  for (int i = 0; i < 500 && kill(-group, 0) == 0; ++i) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_NE(kill(-group, 0), 0);
}

TEST_F(HookRunnerTest, TheEndIsBounded) {
  settings_.end_limit = absl::Milliseconds(300);
  WriteHook("a", "echo started; exec sleep 1000");
  WriteHook("b", "echo never");
  events_.Post(EventName::kEnospc, "", "x");
  Start();
  const absl::Time before = absl::Now();
  runner_->Stop();
  EXPECT_LT(absl::Now() - before, absl::Seconds(10));
  EXPECT_THAT(said_.str(), HasSubstr("hook b: not run"));
}

TEST_F(HookRunnerTest, WhatAHookLeavesBehindHoldsNobodyUp) {
  WriteHook("a", "sleep 30 & echo $! > " + Path("pid"));
  settings_.end_limit = absl::Seconds(20);
  const absl::Time before = absl::Now();
  EXPECT_THAT(RunOnce(), IsEmpty());
  EXPECT_LT(absl::Now() - before, absl::Seconds(15));
  kill(std::stoi(Contents("pid")), SIGKILL);
}

TEST_F(HookRunnerTest, TooManyEventsAreLostToSlowHooksOnly) {
  EventLog few("keep", &clock_, 2);
  WriteHook("a", "echo $MIRRORFS_NUMBER");
  for (int i = 0; i < 5; ++i) few.Post(EventName::kEnospc, "", "");
  HookRunner runner(&few, settings_);
  runner.Stop();
  EXPECT_THAT(said_.str(), HasSubstr("3 events came while hooks ran"));
  EXPECT_THAT(said_.str(), HasSubstr("hook a: 5"));
}

TEST_F(HookRunnerTest, WithoutHooksNothingIsSaid) {
  settings_.directory = Path("none");
  EXPECT_THAT(RunOnce(), IsEmpty());
}

}  // namespace
}  // namespace mirrorfs
