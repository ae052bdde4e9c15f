// SPDX-License-Identifier: GPL-2.0-or-later
//
// A store on a disk that fails. What RocksDB's own end would take for
// impossible is an error here, and not the end of the process.
#include "dirtylog/store_files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <rocksdb/env.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/fd.h"
#include "dirtylog/disk_log.h"
#include "temp_dir.h"

namespace mirrorfs {
namespace {

// A directory whose file system answers everything with ENOTCONN: nobody
// serves it any more.
class DeadDir {
 public:
  DeadDir() {
    UniqueFd device(open("/dev/fuse", O_RDWR | O_CLOEXEC));
    const std::string options = absl::StrCat(
        "fd=", device.get(), ",rootmode=40000,user_id=0,", "group_id=0");
    mounted_ = device.valid() &&
               mount("dead", path().c_str(), "fuse", 0, options.c_str()) == 0;
  }
  ~DeadDir() {
    if (mounted_) umount2(path().c_str(), MNT_DETACH);
  }

  bool mounted() const { return mounted_; }
  const std::string& path() const { return temp_.path(); }

 private:
  TempDir temp_;
  bool mounted_ = false;
};

TEST(StoreFilesTest, AFileThatIsNotThere) {
  const TempDir temp;
  const std::unique_ptr<rocksdb::Env> env = NewStoreEnv();
  EXPECT_TRUE(env->FileExists(temp.path()).ok());
  EXPECT_TRUE(env->FileExists(temp / "none").IsNotFound());
}

TEST(StoreFilesTest, AFileOfADeadDisk) {
  const DeadDir dead;
  if (!dead.mounted()) GTEST_SKIP() << "needs root and /dev/fuse";
  const std::unique_ptr<rocksdb::Env> env = NewStoreEnv();
  EXPECT_TRUE(env->FileExists(dead.path() + "/file").IsIOError());
  std::unique_ptr<rocksdb::WritableFile> file;
  EXPECT_TRUE(
      env->NewWritableFile(dead.path() + "/file", &file, {}).IsIOError());
}

TEST(StoreFilesTest, WhatIsWrittenIsThere) {
  const TempDir temp;
  const std::unique_ptr<rocksdb::Env> env = NewStoreEnv();
  std::unique_ptr<rocksdb::WritableFile> file;
  ASSERT_TRUE(env->NewWritableFile(temp / "file", &file, {}).ok());
  file->SetPreallocationBlockSize(1 << 20);
  file->PrepareWrite(0, 10);
  ASSERT_TRUE(file->Append("0123456789").ok());
  ASSERT_TRUE(file->Append("abc").ok());
  EXPECT_EQ(file->GetFileSize(), 13u);
  ASSERT_TRUE(file->Sync().ok());
  ASSERT_TRUE(file->Close().ok());

  std::string read;
  ASSERT_TRUE(rocksdb::ReadFileToString(env.get(), temp / "file", &read).ok());
  EXPECT_EQ(read, "0123456789abc");
  struct stat st = {};
  ASSERT_EQ(stat((temp / "file").c_str(), &st), 0);
  EXPECT_LE(st.st_blocks, 64) << "what was allocated ahead is let go of";
}

TEST(StoreFilesTest, AFileIsGoneOnWith) {
  const TempDir temp;
  const std::unique_ptr<rocksdb::Env> env = NewStoreEnv();
  std::unique_ptr<rocksdb::WritableFile> file;
  ASSERT_TRUE(env->NewWritableFile(temp / "file", &file, {}).ok());
  ASSERT_TRUE(file->Append("begun").ok());
  ASSERT_TRUE(file->Close().ok());
  ASSERT_TRUE(env->ReopenWritableFile(temp / "file", &file, {}).ok());
  EXPECT_EQ(file->GetFileSize(), 5u);
  ASSERT_TRUE(file->Append(", ended").ok());
  file.reset();

  std::string read;
  ASSERT_TRUE(rocksdb::ReadFileToString(env.get(), temp / "file", &read).ok());
  EXPECT_EQ(read, "begun, ended");
  EXPECT_FALSE(env->ReopenWritableFile(temp / "none", &file, {}).ok());
}

TEST(StoreFilesTest, AFullDisk) {
  const std::unique_ptr<rocksdb::Env> env = NewStoreEnv();
  std::unique_ptr<rocksdb::WritableFile> file;
  ASSERT_TRUE(env->NewWritableFile("/dev/full", &file, {}).ok());
  EXPECT_TRUE(file->Append("too much").IsNoSpace());
}

TEST(StoreFilesTest, ALogOnADeadDisk) {
  const DeadDir dead;
  if (!dead.mounted()) GTEST_SKIP() << "needs root and /dev/fuse";
  DiskLogOptions options{.place = {dead.path() + "/log", nullptr},
                         .mirror_uuid = "mirror-uuid",
                         .log_uuid = "log-uuid",
                         .region_bytes = 1 << 20};
  EXPECT_FALSE(OpenDiskLog(options).ok());
  // Nothing is known of the marks in it, and so not that they are lost.
  options.expected_session = "session";
  EXPECT_FALSE(OpenDiskLog(options).ok());
  EXPECT_FALSE(absl::IsDataLoss(OpenDiskLog(options).status()));
}

}  // namespace
}  // namespace mirrorfs
