// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/fuse_session.h"

#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "mount/request_loop.h"

namespace mirrorfs {
namespace {

constexpr int kThreadsMin = 4;

// What df and findmnt show; a comma would end the option.
std::string SourceName(const MountCommand& command) {
  return absl::StrReplaceAll(FormatLegList(command.legs),
                             {{"\\", "\\\\"}, {",", "\\,"}});
}

int ThreadsFor(int wanted) {
  if (wanted > 0) return wanted;
  const long cores = sysconf(_SC_NPROCESSORS_ONLN);
  return std::max(kThreadsMin, 2 * static_cast<int>(cores));
}

}  // namespace

absl::Status FuseSession::Mount(const MountCommand& command, FileSystem* fs) {
  std::vector<std::string> words = FuseMountWords(command.options);
  words.push_back("default_permissions");
  words.push_back("subtype=mirrorfs");
  words.push_back(absl::StrCat("fsname=", SourceName(command)));
  fuse_args args = FUSE_ARGS_INIT(0, nullptr);
  fuse_opt_add_arg(&args, "mirrorfs");
  fuse_opt_add_arg(&args, "-o");
  fuse_opt_add_arg(&args, absl::StrJoin(words, ",").c_str());
  session_ = fuse_session_new(&args, &FileSystem::Operations(),
                              sizeof(fuse_lowlevel_ops), fs);
  fuse_opt_free_args(&args);
  if (session_ == nullptr) {
    return absl::InternalError("libfuse refused the mount options");
  }
  if (fuse_session_mount(session_, command.mount_point.c_str()) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("mount point ", command.mount_point,
                     ": the kernel refused the mount (is fuse there?)"));
  }
  mounted_ = true;
  doubts_ = &fs->doubts();
  doubts_->SetTellKernel([this](NodeId parent, const std::string& name) {
    fuse_lowlevel_notify_inval_entry(session_, parent, name.data(),
                                     name.size());
  });
  return AddInitFlags();
}

#ifdef FUSE_CAP_HANDLE_KILLPRIV_V2
// libfuse knows all that we ask for.
absl::Status FuseSession::AddInitFlags() { return absl::OkStatus(); }
#else
absl::Status FuseSession::AddInitFlags() {
  fuse_custom_io io = {};
  io.read = [](int fd, void* buffer, size_t size, void* fs) {
    return static_cast<FileSystem*>(fs)->init_flags().Read(fd, buffer, size);
  };
  io.writev = [](int fd, iovec* parts, int count, void* fs) {
    return static_cast<FileSystem*>(fs)->init_flags().Write(fd, parts, count);
  };
  const int result =
      fuse_session_custom_io(session_, &io, fuse_session_fd(session_));
  return ToStatus(Errno(-result), "the FUSE session");
}
#endif

absl::Status FuseSession::Serve(int threads, Watchdog* watchdog) {
  const Errno error =
      RequestLoop(session_, watchdog, ThreadsFor(threads)).Run([this] {
        // While whom it may have to wait for is still answered.
        doubts_->StopTelling();
      });
  // By signal, or the mount is gone: both are how it is meant to end.
  return ToStatus(error, "the FUSE session ended");
}

FuseSession::~FuseSession() {
  if (session_ == nullptr) return;
  if (mounted_) fuse_session_unmount(session_);
  fuse_session_destroy(session_);
}

}  // namespace mirrorfs
