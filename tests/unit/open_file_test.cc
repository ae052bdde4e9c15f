// SPDX-License-Identifier: GPL-2.0-or-later
#include "mirror/open_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace mirrorfs {
namespace {

bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }

class OpenFileTest : public ::testing::Test {
 protected:
  LegFd Open(const char* path) {
    return LegFd(leg_, UniqueFd(open(path, O_RDWR | O_CLOEXEC)));
  }

  const std::shared_ptr<CallTarget> leg_ = std::make_shared<CallTarget>("leg");
  OpenFile file_;
};

TEST_F(OpenFileTest, WhatIsNewerThanAskedForIsGood) {
  file_.SetReadFd(3, Open("/dev/null"), 7);
  EXPECT_TRUE(file_.read_fd(3).valid());
  EXPECT_TRUE(file_.read_fd(3, 7).valid());
  EXPECT_FALSE(file_.read_fd(3, 8).valid());
  EXPECT_FALSE(file_.read_fd(2).valid());
  EXPECT_FALSE(file_.write_fd(3).valid());
  EXPECT_TRUE(file_.writable_legs().empty());
  file_.SetWriteFd(3, Open("/dev/zero"), 9);
  EXPECT_EQ(file_.writable_legs(), LegSet::Of(3));
  EXPECT_EQ(file_.read_fd(3, 8).number(), file_.write_fd(3).number());
}

TEST_F(OpenFileTest, TheSameObjectOpenedAgainIsOfTheNewEpoch) {
  file_.SetReadFd(0, Open("/dev/null"), 1);
  const int number = file_.read_fd(0).number();
  file_.SetReadFd(0, Open("/dev/null"), 2);
  EXPECT_EQ(file_.read_fd(0, 2).number(), number);
}

TEST_F(OpenFileTest, WhatIsReplacedIsClosedWhenNobodyUsesIt) {
  file_.SetWriteFd(0, Open("/dev/null"), 1);
  LegFd used = file_.write_fd(0);
  const int number = used.number();
  file_.SetWriteFd(0, Open("/dev/zero"), 2);
  EXPECT_TRUE(IsOpen(number));
  used = LegFd();
  EXPECT_FALSE(IsOpen(number));
}

TEST_F(OpenFileTest, ALegThatIsGoneIsLetGo) {
  file_.SetReadFd(0, Open("/dev/null"), 1);
  file_.SetWriteFd(0, Open("/dev/zero"), 2);
  file_.SetWriteFd(1, Open("/dev/zero"), 2);
  LegFd used = file_.read_fd(0);
  const int idle = used.number();
  file_.LetGo(0, 3);
  EXPECT_FALSE(file_.read_fd(0).valid());
  EXPECT_FALSE(file_.write_fd(0).valid());
  EXPECT_EQ(file_.writable_legs(), LegSet::Of(1));
  EXPECT_TRUE(IsOpen(idle)) << "in use";
  used = LegFd();
  EXPECT_FALSE(IsOpen(idle));
}

TEST_F(OpenFileTest, AnOpeningThatIsLateIsNotKept) {
  file_.LetGo(0, 3);
  file_.SetWriteFd(0, Open("/dev/zero"), 2);
  EXPECT_FALSE(file_.write_fd(0).valid());
  file_.SetWriteFd(0, Open("/dev/null"), 3);
  ASSERT_TRUE(file_.write_fd(0).valid()) << "the leg is back";
  const int number = file_.write_fd(0).number();
  file_.SetWriteFd(0, Open("/dev/zero"), 2);
  EXPECT_EQ(file_.write_fd(0).number(), number);
}

}  // namespace
}  // namespace mirrorfs
