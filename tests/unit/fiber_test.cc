// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/fiber.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "base/handover_lock.h"

namespace mirrorfs {
namespace {

using std::chrono::steady_clock;

constexpr absl::Duration kTimeout = absl::Milliseconds(50);
constexpr auto kLongest = std::chrono::seconds(60);

// A call on it hangs until it is let go.
class Obstacle {
 public:
  Obstacle() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) abort();
    read_end_ = std::make_shared<UniqueFd>(ends[0]);
    write_end_ = UniqueFd(ends[1]);
  }
  void LetGo() { write_end_.Reset(); }

  // To be captured by a call.
  std::function<Errno()> Wait() const {
    return [fd = read_end_] {
      char byte;
      return FromSyscall(read(fd->get(), &byte, 1));
    };
  }

 private:
  std::shared_ptr<UniqueFd> read_end_;
  UniqueFd write_end_;
};

class FiberTest : public ::testing::Test {
 protected:
  void TearDown() override {
    watchdog_->Stop();
    WaitUntil([&] { return watchdog_->left_behind() == 0; });
  }

  void Run(std::function<void()> body) {
    Fiber(watchdog_.get(), "test", std::move(body)).Join();
  }

  static void WaitUntil(const std::function<bool()>& done) {
    const auto deadline = steady_clock::now() + kLongest;
    while (!done()) {
      ASSERT_LT(steady_clock::now(), deadline);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  std::shared_ptr<Watchdog> watchdog_ = Watchdog::Start(kTimeout);
  std::shared_ptr<CallTarget> target_ = std::make_shared<CallTarget>("leg");
};

TEST_F(FiberTest, RunsAndIsJoined) {
  bool ran = false;
  Run([&] { ran = OnFiber(); });
  EXPECT_TRUE(ran);
  EXPECT_FALSE(OnFiber());
}

TEST_F(FiberTest, OutsideOfFibersACallIsSimplyMade) {
  const auto here = std::this_thread::get_id();
  const Errno error = MakeCall(*target_, [&] {
    return here == std::this_thread::get_id() ? kOk : Errno(EINVAL);
  });
  EXPECT_TRUE(error.ok());
  EXPECT_EQ(CallTimeout(), absl::InfiniteDuration());
}

TEST_F(FiberTest, WithoutATimeoutItIsAThread) {
  const std::shared_ptr<Watchdog> never = Watchdog::Start(absl::ZeroDuration());
  bool on_fiber = true;
  Fiber(never.get(), "test", [&] { on_fiber = OnFiber(); }).Join();
  EXPECT_FALSE(on_fiber);
  Fiber(nullptr, "test", [&] { on_fiber = OnFiber(); }).Join();
  EXPECT_FALSE(on_fiber);
}

TEST_F(FiberTest, CallsAnswerAndStayInTheirThread) {
  Run([&] {
    const auto thread = std::this_thread::get_id();
    for (int i = 0; i < 1000; ++i) {
      const ErrnoOr<int> answer = MakeCall(*target_, [i, thread] {
        const bool same = thread == std::this_thread::get_id();
        return same ? ErrnoOr<int>(i) : ErrnoOr<int>(Errno(EINVAL));
      });
      ASSERT_TRUE(answer.ok());
      ASSERT_EQ(*answer, i);
    }
    EXPECT_EQ(MakeCall(*target_, [] { return Errno(ENOENT); }), Errno(ENOENT));
    EXPECT_FALSE(target_->hung());
  });
}

TEST_F(FiberTest, ACallWithinACallIsSimplyMade) {
  Run([&] {
    const Errno error = MakeCall(*target_, [target = target_] {
      return MakeCall(*target, [] { return Errno(ENOTTY); });
    });
    EXPECT_EQ(error, Errno(ENOTTY));
  });
}

TEST_F(FiberTest, AHangingCallIsLeftBehindAndItsAnswerDropped) {
  Obstacle obstacle;
  const auto answer = std::make_shared<int>(7);
  std::atomic<bool> went_on{false};
  Run([&] {
    const pid_t before = gettid();
    const ErrnoOr<std::shared_ptr<int>> result =
        MakeCall(*target_, [wait = obstacle.Wait(), answer]() {
          (void)wait();
          return ErrnoOr<std::shared_ptr<int>>(answer);
        });
    EXPECT_EQ(result.error(), Errno(ETIMEDOUT));
    // Not pthread_self, whose answer compilers keep.
    EXPECT_NE(before, gettid());
    went_on = true;
  });
  EXPECT_TRUE(went_on);
  EXPECT_EQ(target_->late_calls(), 1);
  EXPECT_EQ(watchdog_->left_behind(), 1);
  EXPECT_EQ(answer.use_count(), 2);  // the late call owns what it needs
  obstacle.LetGo();
  WaitUntil([&] { return !target_->hung(); });
  EXPECT_EQ(answer.use_count(), 1);
}

TEST_F(FiberTest, StatusesTimeOutToo) {
  Obstacle obstacle;
  Run([&] {
    EXPECT_TRUE(absl::IsDeadlineExceeded(
        MakeCall(*target_, [wait = obstacle.Wait()] {
          return ToStatus(wait(), "x");
        })));
    EXPECT_TRUE(absl::IsDeadlineExceeded(
        MakeCall(*target_, [] { return absl::StatusOr<int>(1); }).status()));
  });
  obstacle.LetGo();
}

TEST_F(FiberTest, WhileTheTargetHangsCallsFailAtOnceAndThenWorkAgain) {
  Obstacle obstacle;
  Run([&] {
    EXPECT_EQ(MakeCall(*target_, obstacle.Wait()), Errno(ETIMEDOUT));
    bool made = false;
    EXPECT_EQ(MakeCall(*target_, [&made] {
      made = true;
      return kOk;
    }), Errno(ETIMEDOUT));
    EXPECT_FALSE(made);
    CallTarget other("other leg");
    EXPECT_TRUE(MakeCall(other, [] { return kOk; }).ok());
    obstacle.LetGo();
    WaitUntil([&] { return !target_->hung(); });
    EXPECT_TRUE(MakeCall(*target_, [] { return kOk; }).ok());
  });
}

TEST_F(FiberTest, LocksAreReleasedByWhoGoesOn) {
  Obstacle obstacle;
  HandoverMutex mutex;
  HandoverSharedMutex shared;
  Run([&] {
    const std::lock_guard lock(mutex);
    const std::shared_lock read(shared);
    EXPECT_EQ(MakeCall(*target_, obstacle.Wait()), Errno(ETIMEDOUT));
  });
  const std::lock_guard lock(mutex);
  const std::lock_guard write(shared);
  obstacle.LetGo();
}

TEST_F(FiberTest, PinnedThingsLiveAsLongAsTheLateCall) {
  Obstacle obstacle;
  const auto thing = std::make_shared<int>(1);
  const auto other = std::make_shared<int>(2);
  Run([&] {
    const Pin pin(thing);
    { const Pin gone(other); }
    EXPECT_EQ(MakeCall(*target_, obstacle.Wait()), Errno(ETIMEDOUT));
  });
  EXPECT_EQ(thing.use_count(), 2);
  EXPECT_EQ(other.use_count(), 1);
  obstacle.LetGo();
  WaitUntil([&] { return thing.use_count() == 1; });
}

TEST_F(FiberTest, TheListenerIsToldOnceEachTime) {
  std::atomic<int> told{0};
  target_->SetListeners({.slow = nullptr, .hung = [&] { ++told; }});
  for (int round = 1; round <= 2; ++round) {
    Obstacle obstacle;
    std::vector<Fiber> fibers;
    for (int i = 0; i < 3; ++i) {
      fibers.emplace_back(watchdog_.get(), "test", [&] {
        EXPECT_EQ(MakeCall(*target_, obstacle.Wait()), Errno(ETIMEDOUT));
      });
    }
    fibers.clear();
    WaitUntil([&] { return told == round; });
    obstacle.LetGo();
    WaitUntil([&] { return !target_->hung(); });
  }
  target_->SetListeners({});
  EXPECT_EQ(told, 2);
}

TEST_F(FiberTest, TheListenerIsToldOfEachSlowCallOnce) {
  std::atomic<int> slow{0};
  std::atomic<int> hung{0};
  target_->SetListeners({.slow = [&] { ++slow; }, .hung = [&] { ++hung; }});
  Obstacle obstacle;
  Fiber fiber(watchdog_.get(), "test", [&] {
    EXPECT_EQ(MakeCall(*target_, obstacle.Wait()), Errno(ETIMEDOUT));
  });
  WaitUntil([&] { return slow > 0; });
  EXPECT_GT(target_->WaitedFor(), absl::ZeroDuration());
  fiber.Join();
  WaitUntil([&] { return hung > 0; });
  obstacle.LetGo();
  WaitUntil([&] { return !target_->hung(); });
  WaitUntil([&] { return target_->WaitedFor() == absl::ZeroDuration(); });
  target_->SetListeners({});
  EXPECT_EQ(slow, 1);
  EXPECT_EQ(hung, 1);
}

TEST_F(FiberTest, ABusyTargetGetsMoreTime) {
  std::atomic<uint64_t> done{0};
  const auto busy = std::make_shared<CallTarget>("busy leg");
  busy->SetProgress([&] { return done.load(); });
  std::atomic<bool> over{false};
  std::thread work([&] {
    while (!over) {
      ++done;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  Run([&] {
    EXPECT_TRUE(MakeCall(*busy, [] {
      std::this_thread::sleep_for(absl::ToChronoMilliseconds(kTimeout * 3));
      return kOk;
    }).ok());
    // But not without end.
    Obstacle obstacle;
    EXPECT_EQ(MakeCall(*busy, obstacle.Wait()), Errno(ETIMEDOUT));
    obstacle.LetGo();
  });
  WaitUntil([&] { return !busy->hung(); });
  over = true;
  work.join();
}

TEST_F(FiberTest, DescriptorsAreClosedWhenTheTargetIsBack) {
  Obstacle obstacle;
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const auto is_open = [&] {
    char byte;
    return read(read_end.get(), &byte, 1) < 0 && errno == EAGAIN;
  };
  Run([&] {
    EXPECT_EQ(MakeCall(*target_, obstacle.Wait()), Errno(ETIMEDOUT));
    CloseOn(*target_, std::move(write_end));
  });
  EXPECT_TRUE(is_open());
  obstacle.LetGo();
  WaitUntil([&] { return !target_->hung(); });
  EXPECT_FALSE(is_open());
}

TEST_F(FiberTest, DescriptorsAreClosed) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd read_end(ends[0]);
  Run([&] { CloseOn(*target_, UniqueFd(ends[1])); });
  char byte;
  EXPECT_EQ(read(read_end.get(), &byte, 1), 0);
}

// Deep calls in between, and an answer after a time-out.
int Depth(int levels) {
  volatile char frame[512];
  frame[0] = 1;
  return levels == 0 ? frame[0] : Depth(levels - 1) + frame[0];
}

TEST_F(FiberTest, TheStackIsAsDeepAsAThreadsAndMovesWithTheFiber) {
  Obstacle obstacle;
  Run([&] {
    EXPECT_EQ(Depth(2000), 2001);
    int local = 41;
    EXPECT_EQ(MakeCall(*target_, obstacle.Wait()), Errno(ETIMEDOUT));
    EXPECT_EQ(Depth(2000), 2001);
    EXPECT_EQ(++local, 42);
    try {
      throw 5;
    } catch (int value) {
      EXPECT_EQ(value, 5);
    }
  });
  obstacle.LetGo();
}

TEST_F(FiberTest, AThousandAtOnce) {
  constexpr int kFibers = 1000;
  Obstacle obstacle;
  std::atomic<int> timed_out{0};
  HandoverSharedMutex mutex;
  std::vector<Fiber> fibers;
  for (int i = 0; i < kFibers; ++i) {
    fibers.emplace_back(watchdog_.get(), "test", [&] {
      const std::shared_lock lock(mutex);
      timed_out += MakeCall(*target_, obstacle.Wait()) == Errno(ETIMEDOUT);
    });
  }
  fibers.clear();
  EXPECT_EQ(timed_out, kFibers);
  { const std::lock_guard lock(mutex); }
  obstacle.LetGo();
  WaitUntil([&] { return watchdog_->left_behind() == 0; });
  EXPECT_FALSE(target_->hung());
}

// Calls that return at about the time that they are given up: each is either
// answered or left behind, and all of them end.
TEST_F(FiberTest, RacesWithTheWatchdog) {
  std::atomic<int> answered{0};
  std::atomic<int> left{0};
  std::vector<Fiber> fibers;
  for (int i = 0; i < 8; ++i) {
    fibers.emplace_back(watchdog_.get(), "test", [&, i] {
      const auto own = std::make_shared<CallTarget>("own");
      for (int n = 0; n < 20; ++n) {
        const auto time = absl::ToChronoMicroseconds(
            kTimeout + absl::Milliseconds((n + i) % 10));
        const ErrnoOr<std::string> answer = MakeCall(*own, [time] {
          std::this_thread::sleep_for(time);
          return ErrnoOr<std::string>(std::string(100, 'x'));
        });
        ++(answer.ok() ? answered : left);
        if (answer.ok()) {
          EXPECT_EQ(answer->size(), 100u);
        }
        WaitUntil([&] { return !own->hung(); });
      }
    });
  }
  fibers.clear();
  EXPECT_EQ(answered + left, 160);
}

}  // namespace
}  // namespace mirrorfs
