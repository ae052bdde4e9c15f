// SPDX-License-Identifier: GPL-2.0-or-later
#include "control/event_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <string>
#include <thread>
#include <vector>

namespace mirrorfs {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class FixedClock final : public Clock {
 public:
  int64_t RealtimeNs() const override { return 1'900'000'000'123'456'789; }
};

class EventLogTest : public ::testing::Test {
 protected:
  static std::vector<std::string> Details(const EventLog::Batch& batch) {
    std::vector<std::string> details;
    for (const NumberedEvent& event : batch.events) {
      details.push_back(event.event.detail);
    }
    return details;
  }

  static bool IsReady(const EventLog::Reader& reader) {
    pollfd wait = {reader.ready_fd(), POLLIN, 0};
    return poll(&wait, 1, 0) == 1;
  }

  void Post(const std::string& detail) {
    log_.Post(EventName::kDegraded, "", detail);
  }

  FixedClock clock_;
  EventLog log_{"keep", &clock_, /*count_max=*/3};
};

TEST_F(EventLogTest, EventsAreNumberedFromOne) {
  log_.Post(EventName::kLegMissing, "usb", "/media/usb");
  const EventLog::Batch batch = log_.After(0);
  ASSERT_EQ(batch.events.size(), 1u);
  EXPECT_EQ(DescribeEvent(batch.events[0]),
            nlohmann::json({{"number", 1},
                            {"time", "2030-03-17T17:46:40.123Z"},
                            {"name", "leg-missing"},
                            {"mirror", "keep"},
                            {"leg", "usb"},
                            {"detail", "/media/usb"}}));
}

TEST_F(EventLogTest, OldOnesGoAndAreCounted) {
  for (const char* detail : {"1", "2", "3", "4", "5"}) Post(detail);
  EXPECT_THAT(Details(log_.After(0)), ElementsAre("3", "4", "5"));
  EXPECT_EQ(log_.After(0).lost, 2u);
  EXPECT_EQ(log_.After(1).lost, 1u);
  EXPECT_THAT(Details(log_.After(3)), ElementsAre("4", "5"));
  EXPECT_EQ(log_.After(3).lost, 0u);
  EXPECT_THAT(Details(log_.After(5)), IsEmpty());
}

TEST_F(EventLogTest, ANumberOfAnotherDaemonIsNoReasonToBeSilent) {
  Post("1");
  EXPECT_THAT(Details(log_.After(1000)), ElementsAre("1"));
}

TEST_F(EventLogTest, LongDetailsAreCut) {
  Post(std::string(1 << 20, 'x'));
  EXPECT_EQ(log_.After(0).events[0].event.detail.size(),
            EventLog::kDetailBytesMax);
}

TEST_F(EventLogTest, AReaderIsToldAndReadsOn) {
  Post("before");
  EventLog::Reader reader(&log_, 0);
  EXPECT_TRUE(IsReady(reader));
  EXPECT_THAT(Details(reader.Take()), ElementsAre("before"));
  EXPECT_FALSE(IsReady(reader));
  Post("a");
  Post("b");
  EXPECT_TRUE(IsReady(reader));
  EXPECT_THAT(Details(reader.Take()), ElementsAre("a", "b"));
  EXPECT_THAT(Details(reader.Take()), IsEmpty());
}

TEST_F(EventLogTest, ASlowReaderMissesSomeAndHoldsNobodyUp) {
  EventLog::Reader reader(&log_, 0);
  for (int i = 0; i < 100; ++i) Post(std::to_string(i));
  const EventLog::Batch batch = reader.Take();
  EXPECT_EQ(batch.lost, 97u);
  EXPECT_THAT(Details(batch), ElementsAre("97", "98", "99"));
  Post("on");
  EXPECT_EQ(reader.Take().lost, 0u);
}

TEST_F(EventLogTest, FromManyThreads) {
  EventLog log("keep", &clock_, 100'000);
  EventLog::Reader reader(&log, 0);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&log] {
      for (int i = 0; i < 1000; ++i) {
        log.Post(EventName::kEnospc, "b", "x");
        EventLog::Reader short_lived(&log, 0);
      }
    });
  }
  uint64_t seen = 0;
  while (seen < 4000) {
    for (const NumberedEvent& event : reader.Take().events) {
      ASSERT_EQ(event.number, ++seen);
    }
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace mirrorfs
