// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/errno.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace mirrorfs {
namespace {

TEST(Errno, DefaultIsSuccess) {
  EXPECT_TRUE(Errno().ok());
  EXPECT_EQ(kOk, Errno(0));
  EXPECT_FALSE(Errno(EIO).ok());
  EXPECT_EQ(Errno(EIO).value(), EIO);
}

TEST(Errno, FromSyscallTakesErrnoOnlyOnFailure) {
  errno = ENOTEMPTY;
  EXPECT_EQ(FromSyscall(0), kOk);
  EXPECT_EQ(FromSyscall(7), kOk);
  EXPECT_EQ(FromSyscall(-1), Errno(ENOTEMPTY));
}

TEST(Errno, TextIsTheSystems) {
  EXPECT_EQ(ErrnoText(Errno(EIO)), "Input/output error");
}

TEST(Errno, ToStatusNamesTheObjectAndTheError) {
  const absl::Status status = ToStatus(Errno(EACCES), "/mnt/a");
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(std::string(status.message()), "/mnt/a: Permission denied");
  EXPECT_TRUE(ToStatus(kOk, "/mnt/a").ok());
}

TEST(ErrnoOr, HoldsAValueOrAnError) {
  ErrnoOr<std::unique_ptr<int>> value(std::make_unique<int>(3));
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(**value, 3);
  const ErrnoOr<int> error = Errno(ENOENT);
  EXPECT_FALSE(error.ok());
  EXPECT_EQ(error.error(), Errno(ENOENT));
}

}  // namespace
}  // namespace mirrorfs
