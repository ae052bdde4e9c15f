// SPDX-License-Identifier: GPL-2.0-or-later
#include "fuse/init_flags.h"

#include <gtest/gtest.h>
#include <linux/fuse.h>
#include <unistd.h>

#include <string>

namespace mirrorfs {
namespace {

// The device: what the kernel sends and what it is answered.
class InitFlagsTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(pipe(requests_), 0);
    ASSERT_EQ(pipe(answers_), 0);
  }
  ~InitFlagsTest() override {
    for (const int fd : {requests_[0], requests_[1], answers_[0], answers_[1]})
      close(fd);
  }

  void Ask(uint32_t opcode, uint64_t unique, uint32_t offered) {
    struct {
      fuse_in_header header;
      fuse_init_in init;
    } request = {};
    request.header = {.len = sizeof(request), .opcode = opcode};
    request.header.unique = unique;
    request.init.flags = offered;
    ASSERT_EQ(write(requests_[1], &request, sizeof(request)),
              ssize_t{sizeof(request)});
    char buffer[1024];
    ASSERT_EQ(flags_.Read(requests_[0], buffer, sizeof(buffer)),
              ssize_t{sizeof(request)});
  }

  // The flags that the kernel gets to see.
  uint32_t Answer(uint64_t unique, uint32_t wanted, size_t size) {
    fuse_out_header header = {.unique = unique};
    fuse_init_out init = {};
    init.flags = wanted;
    iovec parts[2] = {{&header, sizeof(header)}, {&init, size}};
    EXPECT_EQ(flags_.Write(answers_[1], parts, 2),
              static_cast<ssize_t>(sizeof(header) + size));
    struct {
      fuse_out_header header;
      fuse_init_out init;
    } got = {};
    EXPECT_EQ(read(answers_[0], &got, sizeof(got)),
              static_cast<ssize_t>(sizeof(header) + size));
    EXPECT_EQ(got.header.unique, unique);
    return got.init.flags;
  }

  InitFlags flags_;
  int requests_[2];
  int answers_[2];
};

TEST_F(InitFlagsTest, AddsWhatTheKernelOffers) {
  Ask(FUSE_INIT, 7, FUSE_BIG_WRITES | FUSE_HANDLE_KILLPRIV_V2);
  EXPECT_TRUE(flags_.adds_killpriv_v2());
  EXPECT_EQ(Answer(7, FUSE_BIG_WRITES, sizeof(fuse_init_out)),
            uint32_t{FUSE_BIG_WRITES | FUSE_HANDLE_KILLPRIV_V2});
}

TEST_F(InitFlagsTest, AddsToAShortAnswer) {
  Ask(FUSE_INIT, 7, FUSE_HANDLE_KILLPRIV_V2);
  EXPECT_EQ(Answer(7, 0, 24), uint32_t{FUSE_HANDLE_KILLPRIV_V2});
}

TEST_F(InitFlagsTest, LeavesAloneWhatIsNotOffered) {
  Ask(FUSE_INIT, 7, FUSE_BIG_WRITES);
  EXPECT_FALSE(flags_.adds_killpriv_v2());
  EXPECT_EQ(Answer(7, FUSE_BIG_WRITES, sizeof(fuse_init_out)),
            uint32_t{FUSE_BIG_WRITES});
}

TEST_F(InitFlagsTest, LeavesOtherAnswersAlone) {
  Ask(FUSE_INIT, 7, FUSE_HANDLE_KILLPRIV_V2);
  EXPECT_EQ(Answer(8, 0, 24), 0u);
  Answer(7, 0, 24);
  EXPECT_EQ(Answer(7, 0, 24), 0u);
}

TEST_F(InitFlagsTest, LooksAtInitOnly) {
  Ask(FUSE_GETATTR, 7, FUSE_HANDLE_KILLPRIV_V2);
  EXPECT_FALSE(flags_.adds_killpriv_v2());
  EXPECT_EQ(Answer(7, 0, 24), 0u);
}

}  // namespace
}  // namespace mirrorfs
