// SPDX-License-Identifier: GPL-2.0-or-later
//
// Server and client of the control socket, over real sockets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "base/fd.h"
#include "control/control_client.h"
#include "control/control_server.h"
#include "control/socket_address.h"

namespace mirrorfs {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Says 1, 2, 3, ... without end; up to `last`, when that is not 0.
class Counting final : public ControlStream {
 public:
  explicit Counting(int last)
      : last_(last), ready_(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  int ready_fd() const override { return ready_.get(); }
  std::vector<json> Take() override {
    if (last_ != 0 && said_ == last_) {
      uint64_t count;
      (void)!read(ready_.get(), &count, sizeof(count));  // quiet from now on
      return {};
    }
    return {{{"n", ++said_}, {"x", std::string(1000, 'x')}}};
  }

 private:
  const int last_;
  UniqueFd ready_;
  int said_ = 0;
};

ControlAnswer Handle(const json& request) {
  const std::string command = request.value("command", "");
  if (command == "echo") return OkAnswer(request);
  if (command == "throw") throw std::runtime_error("boom");
  if (command == "bytes") return OkAnswer("a\xff");
  if (command == "slow") {
    std::this_thread::sleep_for(std::chrono::seconds(1));
    return OkAnswer();
  }
  if (command == "count") {
    return {OkAnswer(json::object()),
            std::make_unique<Counting>(request.value("last", 0))};
  }
  if (command == "big") return OkAnswer(std::string(8 << 20, 'x'));
  return ErrorAnswer("unknown command");
}

class ControlTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char directory[] = "/tmp/mirrorfs_control_XXXXXX";
    ASSERT_NE(mkdtemp(directory), nullptr);
    directory_ = directory;
    path_ = directory_ + "/run/x.sock";
  }
  void TearDown() override {
    server_.reset();
    std::filesystem::remove_all(directory_);
  }

  void Start(ControlLimits limits = {}) {
    auto server = ControlServer::Start(path_, Handle, limits);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = std::move(*server);
  }

  absl::StatusOr<json> Call(const json& request,
                            absl::Duration timeout = absl::Seconds(10)) {
    return ControlCall(path_, request, timeout);
  }

  // When all places are taken until a client is sent away or noticed gone.
  bool AnswersInTheEnd() {
    for (int i = 0; i < 400; ++i) {
      if (Call({{"command", "echo"}}).ok()) return true;
      absl::SleepFor(absl::Milliseconds(50));
    }
    return false;
  }

  UniqueFd RawConnect() {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM, 0));
    const auto address = SocketAddress::Of(path_);
    EXPECT_EQ(connect(fd.get(), address->address(), address->size()), 0);
    const timeval timeout = {10, 0};
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    return fd;
  }

  static void RawSend(const UniqueFd& fd, const std::string& bytes) {
    size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t n = send(fd.get(), bytes.data() + sent, bytes.size() - sent,
                             MSG_NOSIGNAL);
      if (n <= 0) return;
      sent += n;
    }
  }

  // One byte at a time, so that nothing of the next line is taken.
  static std::string RawLine(const UniqueFd& fd) {
    std::string line;
    char c;
    while (recv(fd.get(), &c, 1, 0) == 1 && c != '\n') line += c;
    return line;
  }

  static bool AtEnd(const UniqueFd& fd) {
    char c;
    return recv(fd.get(), &c, 1, 0) <= 0;
  }

  std::string directory_;
  std::string path_;
  std::unique_ptr<ControlServer> server_;
};

TEST_F(ControlTest, AnswersARequest) {
  Start();
  const auto answer = Call({{"command", "echo"}, {"x", 7}});
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->at("x"), 7);
}

TEST_F(ControlTest, SocketIsForItsOwnerOnly) {
  Start();
  struct stat st;
  ASSERT_EQ(stat(path_.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0600u);
}

TEST_F(ControlTest, RefusalCarriesTheDaemonsWords) {
  Start();
  const auto answer = Call({{"command", "dance"}});
  EXPECT_TRUE(absl::IsFailedPrecondition(answer.status()));
  EXPECT_EQ(answer.status().message(), "unknown command");
}

TEST_F(ControlTest, SurvivesAHandlerThatThrows) {
  Start();
  EXPECT_THAT(std::string(Call({{"command", "throw"}}).status().message()),
              HasSubstr("boom"));
  EXPECT_TRUE(Call({{"command", "echo"}}).ok());
}

TEST_F(ControlTest, BytesThatAreNotUtf8AreReplaced) {
  Start();
  EXPECT_EQ(*Call({{"command", "bytes"}}), "a\xef\xbf\xbd");
}

TEST_F(ControlTest, SeveralRequestsOnOneConnection) {
  Start();
  const UniqueFd fd = RawConnect();
  RawSend(fd,
          "{\"command\":\"echo\",\"n\":1}\n{\"command\":\"echo\",\"n\":2}\n");
  EXPECT_EQ(json::parse(RawLine(fd))["result"]["n"], 1);
  EXPECT_EQ(json::parse(RawLine(fd))["result"]["n"], 2);
  RawSend(fd, "{\"command\":\"ec");
  RawSend(fd, "ho\",\"n\":3}\n");
  EXPECT_EQ(json::parse(RawLine(fd))["result"]["n"], 3);
}

TEST_F(ControlTest, SurvivesGarbage) {
  Start();
  const UniqueFd fd = RawConnect();
  for (const std::string& line :
       {std::string("hello"), std::string(), std::string("\0\xff\x80", 3),
        std::string("[1]"), std::string("{\"command\":"), std::string("null"),
        std::string(100'000, '['), std::string("{\"a\":1}{\"b\":2}")}) {
    RawSend(fd, line + "\n");
    EXPECT_EQ(json::parse(RawLine(fd))["ok"], false) << line.substr(0, 20);
  }
  RawSend(fd, "{\"command\":\"echo\"}\n");
  EXPECT_EQ(json::parse(RawLine(fd))["ok"], true);
}

TEST_F(ControlTest, WrongTypesInARequestAreAnAnswer) {
  Start();
  EXPECT_FALSE(Call({{"command", 7}}).ok());
  EXPECT_TRUE(Call({{"command", "echo"}}).ok());
}

TEST_F(ControlTest, HugeLineIsRefusedAndTheConnectionEnds) {
  Start();
  const UniqueFd fd = RawConnect();
  RawSend(fd, std::string((1 << 20) + 20'000, 'a'));
  EXPECT_THAT(RawLine(fd), HasSubstr("too long"));
  EXPECT_TRUE(AtEnd(fd));
  EXPECT_TRUE(Call({{"command", "echo"}}).ok());
}

TEST_F(ControlTest, LineJustUnderTheLimitIsTaken) {
  Start();
  const auto answer =
      Call({{"command", "echo"}, {"x", std::string((1 << 20) - 100, 'a')}});
  EXPECT_TRUE(answer.ok()) << answer.status();
}

TEST_F(ControlTest, HalfClosedClientStillGetsItsAnswer) {
  Start();
  const UniqueFd fd = RawConnect();
  RawSend(fd, "{\"command\":\"echo\",\"n\":1}");  // and no newline
  shutdown(fd.get(), SHUT_WR);
  EXPECT_EQ(json::parse(RawLine(fd))["result"]["n"], 1);
  EXPECT_TRUE(AtEnd(fd));
}

TEST_F(ControlTest, ClientThatLeavesAtOnceHurtsNobody) {
  Start();
  for (int i = 0; i < 100; ++i) {
    const UniqueFd fd = RawConnect();
    RawSend(fd, "{\"command\":\"big\"}\n");
  }
  // Some may still hold their places for a moment.
  EXPECT_TRUE(AnswersInTheEnd());
}

TEST_F(ControlTest, SilentClientsDoNotKeepOthersWaiting) {
  Start();
  const UniqueFd idle = RawConnect();
  const UniqueFd slow = RawConnect();
  RawSend(slow, "{");
  EXPECT_TRUE(Call({{"command", "echo"}}, absl::Seconds(2)).ok());
}

TEST_F(ControlTest, IdleAndDribblingClientsAreSentAway) {
  Start({.idle_ms = 200, .transfer_ms = 200});
  const UniqueFd idle = RawConnect();
  const UniqueFd slow = RawConnect();
  RawSend(slow, "{");
  EXPECT_TRUE(AtEnd(idle));
  EXPECT_TRUE(AtEnd(slow));
}

TEST_F(ControlTest, ClientThatDoesNotReadIsSentAway) {
  Start({.connections_max = 1, .transfer_ms = 200});
  const UniqueFd stuck = RawConnect();
  RawSend(stuck, "{\"command\":\"big\"}\n");
  EXPECT_TRUE(AnswersInTheEnd());
}

TEST_F(ControlTest, TooManyConnectionsAreToldSo) {
  Start({.connections_max = 2});
  UniqueFd first = RawConnect();
  const UniqueFd second = RawConnect();
  const UniqueFd third = RawConnect();
  EXPECT_THAT(RawLine(third), HasSubstr("too many"));
  first.Reset();
  EXPECT_TRUE(AnswersInTheEnd());
}

TEST_F(ControlTest, FollowsAStream) {
  Start();
  std::vector<int> seen;
  const absl::Status status = ControlFollow(
      path_, {{"command", "count"}}, absl::Seconds(10), [&](const json& line) {
        if (line.contains("n")) seen.push_back(line["n"]);
        return seen.size() < 3;
      });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(seen, ElementsAre(1, 2, 3));
}

TEST_F(ControlTest, ARefusalToStreamCarriesTheDaemonsWords) {
  Start({.streams_max = 0});
  const absl::Status status =
      ControlFollow(path_, {{"command", "count"}}, absl::Seconds(10),
                    [](const json&) { return true; });
  EXPECT_THAT(std::string(status.message()), HasSubstr("too many"));
}

TEST_F(ControlTest, WhoFollowsAndDoesNotReadIsSentAway) {
  Start({.connections_max = 1, .transfer_ms = 200});
  const UniqueFd stuck = RawConnect();
  RawSend(stuck, "{\"command\":\"count\"}\n");
  EXPECT_TRUE(AnswersInTheEnd());
}

TEST_F(ControlTest, WhoLeavesAStreamMakesRoom) {
  Start({.connections_max = 1});
  {
    const UniqueFd fd = RawConnect();
    RawSend(fd, "{\"command\":\"count\",\"last\":1}\n");
    RawLine(fd);
    RawLine(fd);
  }
  EXPECT_TRUE(AnswersInTheEnd());
}

TEST_F(ControlTest, StopEndsStreamsAndTheirLastLinesArrive) {
  Start();
  const UniqueFd fd = RawConnect();
  RawSend(fd, "{\"command\":\"count\",\"last\":2}\n");
  RawLine(fd);
  const absl::Time before = absl::Now();
  server_->Stop();
  EXPECT_LT(absl::Now() - before, absl::Seconds(5));
  EXPECT_EQ(json::parse(RawLine(fd))["n"], 1);
}

TEST_F(ControlTest, ManyClientsAtOnce) {
  Start();
  std::vector<std::thread> threads;
  for (int t = 0; t < 16; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        const auto answer = Call({{"command", "echo"}, {"n", t * 100 + i}});
        ASSERT_TRUE(answer.ok()) << answer.status();
        ASSERT_EQ(answer->at("n"), t * 100 + i);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(ControlTest, CallEndsByItsTimeout) {
  Start();
  const absl::Time before = absl::Now();
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      Call({{"command", "slow"}}, absl::Milliseconds(100)).status()));
  EXPECT_LT(absl::Now() - before, absl::Milliseconds(900));
}

TEST_F(ControlTest, CallToAStoppedProcessEndsByItsTimeout) {
  // A listener that nobody serves, as that of a daemon under SIGSTOP.
  std::filesystem::create_directory(directory_ + "/run");
  const auto address = SocketAddress::Of(path_);
  const UniqueFd listener(socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_EQ(bind(listener.get(), address->address(), address->size()), 0);
  ASSERT_EQ(listen(listener.get(), 0), 0);
  const UniqueFd fills_the_queue = RawConnect();
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      Call({{"command", "echo"}}, absl::Milliseconds(100)).status()));
}

TEST_F(ControlTest, StopIsQuickAndRemovesTheFile) {
  Start();
  const UniqueFd idle = RawConnect();
  const absl::Time before = absl::Now();
  server_->Stop();
  EXPECT_LT(absl::Now() - before, absl::Seconds(5));
  EXPECT_TRUE(AtEnd(idle));
  EXPECT_FALSE(std::filesystem::exists(path_));
  EXPECT_TRUE(absl::IsUnavailable(Call({{"command", "echo"}}).status()));
  server_->Stop();
}

TEST_F(ControlTest, StopWaitsForTheHandler) {
  Start();
  const UniqueFd fd = RawConnect();
  RawSend(fd, "{\"command\":\"slow\"}\n");
  absl::SleepFor(absl::Milliseconds(100));
  server_->Stop();
}

TEST_F(ControlTest, StaleSocketIsReplaced) {
  std::filesystem::create_directory(directory_ + "/run");
  {
    const auto address = SocketAddress::Of(path_);
    const UniqueFd dead(socket(AF_UNIX, SOCK_STREAM, 0));
    ASSERT_EQ(bind(dead.get(), address->address(), address->size()), 0);
  }
  EXPECT_TRUE(absl::IsUnavailable(Call({{"command", "echo"}}).status()));
  Start();
  EXPECT_TRUE(Call({{"command", "echo"}}).ok());
}

TEST_F(ControlTest, LivingSocketIsNot) {
  Start();
  const auto second = ControlServer::Start(path_, Handle);
  EXPECT_TRUE(absl::IsAlreadyExists(second.status())) << second.status();
  EXPECT_TRUE(Call({{"command", "echo"}}).ok());
}

TEST_F(ControlTest, AFileThatIsNoSocketIsNotRemoved) {
  std::filesystem::create_directories(path_);
  EXPECT_FALSE(ControlServer::Start(path_, Handle).ok());
  EXPECT_TRUE(std::filesystem::exists(path_));
}

TEST_F(ControlTest, PathsLongerThanASocketAddress) {
  path_ = directory_ + "/" + std::string(120, 'd') + "/x.sock";
  Start();
  EXPECT_TRUE(Call({{"command", "echo"}}).ok());
  struct stat st;
  ASSERT_EQ(stat(path_.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0600u);
}

TEST_F(ControlTest, RunDirectory) {
  ASSERT_EQ(setenv("MIRRORFS_RUN_DIR", "/some/where", 1), 0);
  EXPECT_EQ(ControlRunDir(), "/some/where");
  EXPECT_EQ(ControlSocketPath("u-1"), "/some/where/u-1.sock");
  unsetenv("MIRRORFS_RUN_DIR");
  EXPECT_EQ(ControlRunDir(), "/run/mirrorfs");
}

TEST_F(ControlTest, ListsSockets) {
  EXPECT_TRUE(ListControlSockets(directory_ + "/none").empty());
  Start();
  EXPECT_THAT(ListControlSockets(directory_ + "/run"), ElementsAre(path_));
}

}  // namespace
}  // namespace mirrorfs
