// SPDX-License-Identifier: GPL-2.0-or-later
#include "dirtylog/store_check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <spdlog/spdlog.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"

namespace mirrorfs {
namespace {

// 0 when there is no such process.
pid_t Run(const char* word, const std::string& dir) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  for (int fd : {0, 1, 2}) {
    posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_RDWR, 0);
  }
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  std::string words[] = {"mount.mirrorfs", word, dir};
  char* argv[] = {words[0].data(), words[1].data(), words[2].data(), nullptr};
  pid_t child = 0;
  const int error =
      posix_spawn(&child, "/proc/self/exe", &files, &attributes, argv, environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  return error == 0 ? child : 0;
}

}  // namespace

absl::Status CheckStoreApart(const std::string& dir) {
  const pid_t child = Run(kCheckStoreWord, dir);
  if (child == 0) {
    spdlog::warn("{}: cannot be checked in a process of its own", dir);
    return absl::OkStatus();
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return absl::OkStatus();
  }
  if (!WIFSIGNALED(status)) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      dir, ": RocksDB dies of opening it (signal ", WTERMSIG(status), ")"));
}

}  // namespace mirrorfs
