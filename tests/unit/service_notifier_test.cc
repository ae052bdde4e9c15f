// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/service_notifier.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <string>

#include "temp_dir.h"

namespace mirrorfs {
namespace {

class Listener {
 public:
  explicit Listener(const std::string& name)
      : fd_(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    if (name[0] == '@') address.sun_path[0] = '\0';
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&address),
                   offsetof(sockaddr_un, sun_path) + name.size()),
              0);
  }

  // "" when nothing came.
  std::string Next() {
    char buffer[4096];
    const ssize_t got = recv(fd_.get(), buffer, sizeof(buffer), 0);
    return got < 0 ? "" : std::string(buffer, got);
  }

 private:
  UniqueFd fd_;
};

void ExpectAll(const std::string& name) {
  Listener listener(name);
  ServiceNotifier notifier(name);
  notifier.Ready();
  EXPECT_EQ(listener.Next(), "READY=1");
  notifier.Status("healthy\nREADY=1");
  EXPECT_EQ(listener.Next(), "STATUS=healthy READY=1");
  notifier.Status("healthy\nREADY=1");
  EXPECT_EQ(listener.Next(), "") << "said twice";
  notifier.Status("degraded");
  EXPECT_EQ(listener.Next(), "STATUS=degraded");
  notifier.Stopping();
  EXPECT_EQ(listener.Next(), "STOPPING=1");
}

TEST(ServiceNotifier, ASocketInTheFileSystem) {
  TempDir dir;
  ExpectAll(dir.path() + "/notify");
}

TEST(ServiceNotifier, AnAbstractSocket) {
  ExpectAll("@mirrorfs-test-" + std::to_string(getpid()));
}

TEST(ServiceNotifier, NobodyThereIsNoTrouble) {
  for (const std::string& name :
       {std::string(), std::string("/nonexistent/notify"), std::string("@none"),
        std::string(200, 'x')}) {
    ServiceNotifier notifier(name);
    notifier.Ready();
    notifier.Status("x");
    notifier.Stopping();
  }
}

TEST(ServiceNotifier, NobodyListeningHoldsNothingUp) {
  const std::string name = "@mirrorfs-test-full-" + std::to_string(getpid());
  Listener listener(name);
  ServiceNotifier notifier(name);
  for (int i = 0; i < 10'000; ++i) notifier.Status(std::to_string(i));
}

}  // namespace
}  // namespace mirrorfs
