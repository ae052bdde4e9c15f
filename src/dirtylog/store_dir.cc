// SPDX-License-Identifier: GPL-2.0-or-later
#include "dirtylog/store_dir.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "base/errno.h"
#include "base/fd.h"

namespace mirrorfs {
namespace {

constexpr char kDbName[] = "db";
constexpr char kTailName[] = "tail";
constexpr char kRoomName[] = "room";
constexpr off_t kRoomBytes = 2 << 20;
constexpr uint64_t kAmpleBytes = 8 * uint64_t{kRoomBytes};

std::string RoomPath(absl::string_view dir) {
  return absl::StrCat(dir, "/", kRoomName);
}

absl::Status ToStatus(const std::error_code& error, absl::string_view object) {
  return mirrorfs::ToStatus(Errno(error.value()), object);
}

// Removes what an earlier MakeStoreDir put aside.
absl::Status RemoveAside(const std::string& aside) {
  std::error_code error;
  for (std::filesystem::directory_iterator at(aside, error), end;
       !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (name != kDbName && name != kTailName && name != kRoomName) {
      return absl::FailedPreconditionError(
          absl::StrCat(aside, " holds something else than an old dirty log"));
    }
  }
  if (error == std::errc::no_such_file_or_directory) return absl::OkStatus();
  if (error) return ToStatus(error, aside);
  std::filesystem::remove_all(aside, error);
  return ToStatus(error, aside);
}

absl::Status SyncDir(const std::string& dir) {
  const UniqueFd fd(open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return mirrorfs::ToStatus(Errno::Last(), dir);
  return mirrorfs::ToStatus(FromSyscall(fsync(fd.get())), dir);
}

}  // namespace

std::string StoreDbPath(absl::string_view dir) {
  return absl::StrCat(dir, "/", kDbName);
}

std::string StoreTailPath(absl::string_view dir) {
  return absl::StrCat(dir, "/", kTailName);
}

absl::Status CheckStoreDir(const std::string& dir) {
  const std::string db = StoreDbPath(dir);
  if (access(db.c_str(), R_OK | W_OK | X_OK) == 0) return absl::OkStatus();
  const Errno error = Errno::Last();
  if (error == Errno(ENOENT) || error == Errno(ENOTDIR)) {
    return absl::DataLossError(absl::StrCat(dir, ": no dirty log is there"));
  }
  return mirrorfs::ToStatus(error, dir);
}

absl::Status MakeStoreDir(const std::string& dir) {
  const std::string aside = dir + ".old";
  struct stat there;
  if (lstat(dir.c_str(), &there) == 0) {
    if (absl::Status status = RemoveAside(aside); !status.ok()) return status;
    (void)unlink(RoomPath(dir).c_str());
    if (rename(dir.c_str(), aside.c_str()) != 0) {
      return mirrorfs::ToStatus(Errno::Last(), dir);
    }
  }
  return mirrorfs::ToStatus(FromSyscall(mkdir(dir.c_str(), 0700)), dir);
}

void RemoveStoreDir(const std::string& dir) {
  std::error_code ignored;
  std::filesystem::remove_all(dir, ignored);
}

absl::Status SyncStoreDir(const std::string& dir) {
  if (absl::Status status = SyncDir(dir); !status.ok()) return status;
  return SyncDir(absl::StrCat(dir, "/.."));
}

StoreRoom::StoreRoom(const std::string& dir) : path_(RoomPath(dir)) {
  (void)unlink(path_.c_str());
}

StoreRoom::~StoreRoom() { Take(); }

void StoreRoom::TakeIfAmple() const {
  struct statvfs st = {};
  const std::string dir = path_.substr(0, path_.rfind('/'));
  const bool known = statvfs(dir.c_str(), &st) == 0;
  if (known && st.f_bavail * st.f_frsize >= kAmpleBytes) Take();
}

void StoreRoom::Take() const {
  const UniqueFd file(
      open(path_.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  // Where the file system cannot allocate, glibc writes zeros.
  if (file.valid()) (void)posix_fallocate(file.get(), 0, kRoomBytes);
}

}  // namespace mirrorfs
