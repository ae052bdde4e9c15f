// SPDX-License-Identifier: GPL-2.0-or-later
//
// mount.mirrorfs: the helper that mount(8) runs, and the daemon it leaves
// behind. It forks before anything has a thread, and the parent waits until
// the mount is usable or has failed; either way the caller gets one answer.
#include <fcntl.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "base/fd.h"
#include "dirtylog/disk_log.h"
#include "dirtylog/store_check.h"
#include "mount/daemon.h"
#include "mount/diagnostics.h"
#include "mount/mount_point.h"
#include "mount/options.h"
#include "mount/remount.h"

namespace mirrorfs {
namespace {

// As mount(8) has them.
enum ExitCode { kExitOk = 0, kExitUsage = 1, kExitSystem = 2, kExitMount = 32 };

int Fail(ExitCode code, absl::string_view what) {
  fprintf(stderr, "mount.mirrorfs: %s\n", std::string(what).c_str());
  return code;
}

// Leaves threads where they are that hang in a call to a leg.
[[noreturn]] void LeaveAtOnce(ExitCode code) {
  spdlog::shutdown();
  fflush(nullptr);
  _exit(code);
}

int RunForeground(const MountCommand& command) {
  SetUpDiagnostics(true);
  bool leg_hangs = false;
  const absl::Status status = RunDaemon(
      command, [] {}, &leg_hangs);
  if (!status.ok()) Fail(kExitMount, status.message());
  const ExitCode code = status.ok() ? kExitOk : kExitMount;
  if (leg_hangs) LeaveAtOnce(code);
  return code;
}

// The child's end of the pipe: "+" says usable, anything else is the error.
void Report(UniqueFd& pipe, absl::string_view text) {
  if (pipe.valid()) (void)!write(pipe.get(), text.data(), text.size());
  pipe.Reset();
}

void LeaveTerminal() {
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  for (int fd : {0, 1, 2}) dup2(null.get(), fd);
}

int RunChild(const MountCommand& command, UniqueFd pipe) {
  setsid();
  SetUpDiagnostics(false);
  bool leg_hangs = false;
  const absl::Status status = RunDaemon(
      command,
      [&] {
        LeaveTerminal();
        (void)!chdir("/");
        Report(pipe, "+");
      },
      &leg_hangs);
  if (!status.ok() && pipe.valid()) {
    Report(pipe, status.message());
  } else if (!status.ok()) {
    spdlog::error("{}", status.ToString());
  }
  const ExitCode code = status.ok() ? kExitOk : kExitMount;
  if (leg_hangs) LeaveAtOnce(code);
  return code;
}

int RunParent(pid_t child, const UniqueFd& pipe) {
  std::string answer;
  char buffer[512];
  ssize_t got;
  while ((got = read(pipe.get(), buffer, sizeof(buffer))) > 0) {
    answer.append(buffer, static_cast<size_t>(got));
    if (answer[0] == '+') return kExitOk;
  }
  waitpid(child, nullptr, 0);
  if (answer.empty()) answer = "the daemon died before the mount was usable";
  return Fail(kExitMount, answer);
}

int RunBackground(const MountCommand& command) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Fail(kExitSystem, "no pipe");
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const pid_t child = fork();
  if (child < 0) return Fail(kExitSystem, "cannot fork");
  if (child == 0) {
    read_end.Reset();
    return RunChild(command, std::move(write_end));
  }
  write_end.Reset();
  return RunParent(child, read_end);
}

// A core dump of it would tell nobody anything.
int RunStoreCheck(const char* dir) {
  const rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  return CheckStore(dir) ? 0 : 1;
}

int Main(int argc, char** argv) {
  absl::StatusOr<MountCommand> command = ParseMountCommandLine(argc, argv);
  if (!command.ok()) return Fail(kExitUsage, command.status().message());
  switch (command->action) {
    case MountCommand::Action::kHelp:
      fputs(MountUsage().c_str(), stdout);
      return kExitOk;
    case MountCommand::Action::kVersion:
      puts("mount.mirrorfs " MIRRORFS_VERSION);
      return kExitOk;
    case MountCommand::Action::kFake:
      return kExitOk;
    case MountCommand::Action::kMount:
      break;
  }
  command->mount_point = AbsolutePath(command->mount_point);
  if (command->options.remount) {
    const absl::Status status = Remount(*command);
    return status.ok() ? kExitOk : Fail(kExitMount, status.message());
  }
  return command->options.foreground ? RunForeground(*command)
                                     : RunBackground(*command);
}

}  // namespace
}  // namespace mirrorfs

int main(int argc, char** argv) {
  if (argc == 3 && argv[1] == std::string(mirrorfs::kCheckStoreWord)) {
    return mirrorfs::RunStoreCheck(argv[2]);
  }
  return mirrorfs::Main(argc, argv);
}
