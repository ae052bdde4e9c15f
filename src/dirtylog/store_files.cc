// SPDX-License-Identifier: GPL-2.0-or-later
#include "dirtylog/store_files.h"

#include <fcntl.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <utility>

#include "base/errno.h"
#include "base/fd.h"

namespace mirrorfs {
namespace {

using rocksdb::FileOptions;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;

IOStatus ToIoStatus(Errno error, const std::string& path) {
  if (error.ok()) return IOStatus::OK();
  if (error == Errno(ENOSPC)) {
    IOStatus full = IOStatus::NoSpace(path, ErrnoText(error));
    full.SetRetryable(true);
    return full;
  }
  if (error == Errno(ENOENT)) {
    return IOStatus::PathNotFound(path, ErrnoText(error));
  }
  return IOStatus::IOError(path, ErrnoText(error));
}

// A file that is only written at its end.
class StoreFile final : public rocksdb::FSWritableFile {
 public:
  StoreFile(UniqueFd fd, std::string path, uint64_t bytes,
            const FileOptions& options)
      : FSWritableFile(options),
        fd_(std::move(fd)),
        path_(std::move(path)),
        bytes_(bytes) {}
  ~StoreFile() override { CutToSize(); }

  using FSWritableFile::Append;
  IOStatus Append(const rocksdb::Slice& data, const IOOptions&,
                  IODebugContext*) override {
    for (size_t done = 0; done < data.size();) {
      const ssize_t put =
          write(fd_.get(), data.data() + done, data.size() - done);
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return ToIoStatus(Errno::Last(), path_);
      done += put;
      bytes_ += put;
    }
    return IOStatus::OK();
  }

  IOStatus Truncate(uint64_t bytes, const IOOptions&,
                    IODebugContext*) override {
    const Errno error = FromSyscall(ftruncate(fd_.get(), bytes));
    if (error.ok()) bytes_ = bytes;
    return ToIoStatus(error, path_);
  }

  IOStatus Flush(const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();
  }
  IOStatus Sync(const IOOptions&, IODebugContext*) override {
    return ToIoStatus(FromSyscall(fdatasync(fd_.get())), path_);
  }
  IOStatus Fsync(const IOOptions&, IODebugContext*) override {
    return ToIoStatus(FromSyscall(fsync(fd_.get())), path_);
  }
  bool IsSyncThreadSafe() const override { return true; }

  IOStatus Close(const IOOptions&, IODebugContext*) override {
    CutToSize();
    return ToIoStatus(FromSyscall(close(fd_.Release())), path_);
  }

  uint64_t GetFileSize(const IOOptions&, IODebugContext*) override {
    return bytes_;
  }

  // Ahead of what is written, so that a full disk is met before, and not in the
  // middle of, a batch.
  IOStatus Allocate(uint64_t offset, uint64_t bytes, const IOOptions&,
                    IODebugContext*) override {
    allocated_ = true;
    return ToIoStatus(
        FromSyscall(fallocate(fd_.get(), FALLOC_FL_KEEP_SIZE, offset, bytes)),
        path_);
  }

 private:
  // Lets go of what was allocated beyond the end; if that fails, it is only
  // space.
  void CutToSize() {
    if (fd_.valid() && allocated_) (void)!ftruncate(fd_.get(), bytes_);
  }

  UniqueFd fd_;
  const std::string path_;
  uint64_t bytes_;  // its size
  bool allocated_ = false;
};

class StoreFiles final : public rocksdb::FileSystemWrapper {
 public:
  StoreFiles() : FileSystemWrapper(FileSystem::Default()) {}

  const char* Name() const override { return "mirrorfs-store"; }

  IOStatus FileExists(const std::string& path, const IOOptions&,
                      IODebugContext*) override {
    const Errno error = FromSyscall(access(path.c_str(), F_OK));
    if (error == Errno(ENOENT) || error == Errno(ENOTDIR)) {
      return IOStatus::NotFound();
    }
    return ToIoStatus(error, path);
  }

  IOStatus NewWritableFile(const std::string& path, const FileOptions& options,
                           std::unique_ptr<rocksdb::FSWritableFile>* file,
                           IODebugContext*) override {
    return Open(path, O_CREAT | O_TRUNC, options, file);
  }

  // A journal, of which only what was allocated beyond its end is cut off.
  IOStatus ReopenWritableFile(const std::string& path,
                              const FileOptions& options,
                              std::unique_ptr<rocksdb::FSWritableFile>* file,
                              IODebugContext*) override {
    return Open(path, O_APPEND, options, file);
  }

 private:
  static IOStatus Open(const std::string& path, int flags,
                       const FileOptions& options,
                       std::unique_ptr<rocksdb::FSWritableFile>* file) {
    file->reset();
    UniqueFd fd;
    do {
      fd = UniqueFd(open(path.c_str(), flags | O_WRONLY | O_CLOEXEC, 0600));
    } while (!fd.valid() && errno == EINTR);
    if (!fd.valid()) return ToIoStatus(Errno::Last(), path);
    struct stat st = {};
    const Errno error = FromSyscall(fstat(fd.get(), &st));
    if (!error.ok()) return ToIoStatus(error, path);
    *file =
        std::make_unique<StoreFile>(std::move(fd), path, st.st_size, options);
    return IOStatus::OK();
  }
};

}  // namespace

std::unique_ptr<rocksdb::Env> NewStoreEnv() {
  return rocksdb::NewCompositeEnv(std::make_shared<StoreFiles>());
}

}  // namespace mirrorfs
