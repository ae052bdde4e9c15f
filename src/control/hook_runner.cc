// SPDX-License-Identifier: GPL-2.0-or-later
#include "control/hook_runner.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <spdlog/spdlog.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errno.h"
#include "control/hook_output.h"

namespace mirrorfs {
namespace {

// A hook that was killed is waited for that long; one that hangs in the kernel
// stays behind.
constexpr absl::Duration kKillWait = absl::Seconds(1);

// A thread of this daemon shares its umask (0) and its directory with the
// others, and takes signals that are meant for the session. A hook shall have
// none of that.
void LeaveTheOthers() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  pthread_setname_np(pthread_self(), "hooks");
  if (unshare(CLONE_FS) == 0) {
    umask(022);
    (void)!chdir("/");
  }
}

bool IsLeftOver(absl::string_view name) {
  return absl::StartsWith(name, ".") || absl::EndsWith(name, "~") ||
         absl::EndsWith(name, ".bak") || absl::StrContains(name, ".dpkg-");
}

bool MayBeRun(const std::string& path) {
  struct stat st;
  if (stat(path.c_str(), &st) != 0 || !S_ISREG(st.st_mode)) return false;
  if ((st.st_mode & 0111) == 0) return false;
  const bool ours = st.st_uid == 0 || st.st_uid == geteuid();
  if (ours && (st.st_mode & S_IWOTH) == 0) return true;
  spdlog::warn("hook {}: not run, because {}", path,
               ours ? "everybody may write it" : "it is not root's");
  return false;
}

std::vector<std::string> Environment(const HookSettings& settings,
                                     const NumberedEvent& numbered) {
  const Event& event = numbered.event;
  const absl::Time time = absl::FromUnixNanos(event.time_ns);
  std::vector<std::string> environment = {
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      absl::StrCat("MIRRORFS_EVENT=", EventText(event.name)),
      absl::StrCat("MIRRORFS_NUMBER=", numbered.number),
      absl::StrCat("MIRRORFS_TIME=",
                   absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", time,
                                    absl::UTCTimeZone())),
      absl::StrCat("MIRRORFS_MIRROR=", event.mirror),
      absl::StrCat("MIRRORFS_UUID=", settings.mirror_uuid),
      absl::StrCat("MIRRORFS_MOUNTPOINT=", settings.mount_point),
      absl::StrCat("MIRRORFS_LEG=", event.leg),
      absl::StrCat("MIRRORFS_DETAIL=", event.detail)};
  if (const char* run_dir = getenv("MIRRORFS_RUN_DIR")) {
    environment.push_back(absl::StrCat("MIRRORFS_RUN_DIR=", run_dir));
  }
  return environment;
}

// posix_spawn(3) and what it needs, with a process group of the child's own,
// so that what it starts can be killed with it, and no signal blocked or
// ignored.
class Spawn {
 public:
  explicit Spawn(int output) {
    posix_spawn_file_actions_init(&actions_);
    posix_spawn_file_actions_addopen(&actions_, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions_, output, 1);
    posix_spawn_file_actions_adddup2(&actions_, output, 2);
    // Ours are closed by exec, those of a library may not be.
    posix_spawn_file_actions_addclosefrom_np(&actions_, 3);
    posix_spawnattr_init(&attributes_);
    sigset_t signals;
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&attributes_, &signals);
    sigfillset(&signals);
    posix_spawnattr_setsigdefault(&attributes_, &signals);
    posix_spawnattr_setpgroup(&attributes_, 0);
    posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK |
                                               POSIX_SPAWN_SETSIGDEF |
                                               POSIX_SPAWN_SETPGROUP);
  }
  ~Spawn() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  Spawn(const Spawn&) = delete;
  Spawn& operator=(const Spawn&) = delete;

  ErrnoOr<pid_t> Start(std::string path, std::vector<std::string> environment) {
    char* argv[] = {path.data(), nullptr};
    std::vector<char*> variables;
    for (std::string& variable : environment) {
      variables.push_back(variable.data());
    }
    variables.push_back(nullptr);
    pid_t child = 0;
    const int error = posix_spawn(&child, path.c_str(), &actions_, &attributes_,
                                  argv, variables.data());
    if (error != 0) return Errno(error);
    return child;
  }

 private:
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

// False when it has not ended by `deadline`.
bool WaitForEnd(int process, absl::Time deadline) {
  const absl::Duration left =
      std::max(deadline - absl::Now(), absl::ZeroDuration());
  pollfd wait = {process, POLLIN, 0};
  return poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(left))) > 0;
}

}  // namespace

std::string HooksDirectory() {
  const char* directory = getenv("MIRRORFS_HOOKS_DIR");
  return directory != nullptr && *directory != '\0' ? directory
                                                    : "/etc/mirrorfs/hooks.d";
}

std::vector<std::string> FindHooks(const std::string& directory) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(directory.c_str()),
                                                closedir);
  if (dir == nullptr) return names;
  while (const dirent* entry = readdir(dir.get())) {
    if (!IsLeftOver(entry->d_name) &&
        MayBeRun(absl::StrCat(directory, "/", entry->d_name))) {
      names.push_back(entry->d_name);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

HookRunner::HookRunner(EventLog* events, HookSettings settings)
    : settings_(std::move(settings)),
      reader_(events, 0),
      stop_event_(eventfd(0, EFD_CLOEXEC)),
      thread_([this] { Run(); }) {}

HookRunner::~HookRunner() { Stop(); }

void HookRunner::Stop() {
  if (!thread_.joinable()) return;
  end_by_ns_ = absl::ToUnixNanos(absl::Now() + settings_.end_limit);
  stopping_ = true;
  const uint64_t one = 1;
  (void)!write(stop_event_.get(), &one, sizeof(one));
  thread_.join();
}

absl::Time HookRunner::Deadline(absl::Time start) const {
  const absl::Time deadline = start + settings_.time_limit;
  if (!stopping_) return deadline;
  return std::min(deadline, absl::FromUnixNanos(end_by_ns_));
}

bool HookRunner::OutOfTime() const {
  return stopping_ && absl::Now() >= absl::FromUnixNanos(end_by_ns_);
}

void HookRunner::Run() {
  LeaveTheOthers();
  for (bool last = false; !last;) {
    last = !WaitForEvents();
    const EventLog::Batch batch = reader_.Take();
    if (batch.lost > 0) {
      spdlog::warn("hooks: {} events came while hooks ran and are lost to them",
                   batch.lost);
    }
    for (const NumberedEvent& event : batch.events) RunHooks(event);
  }
}

// False when no more will come.
bool HookRunner::WaitForEvents() {
  pollfd fds[] = {{reader_.ready_fd(), POLLIN, 0},
                  {stop_event_.get(), POLLIN, 0}};
  while (poll(fds, 2, -1) < 0 && errno == EINTR) {
  }
  return !stopping_;
}

void HookRunner::RunHooks(const NumberedEvent& event) {
  for (const std::string& name : FindHooks(settings_.directory)) {
    if (OutOfTime()) {
      spdlog::warn("hook {}: not run for {}: no time is left", name,
                   EventText(event.event.name));
      return;
    }
    RunHook(name, event);
  }
}

void HookRunner::RunHook(const std::string& name, const NumberedEvent& event) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    spdlog::warn("hook {}: {}", name, ErrnoText(Errno::Last()));
    return;
  }
  const UniqueFd output(ends[0]);
  UniqueFd input(ends[1]);
  const ErrnoOr<pid_t> child =
      Spawn(input.get())
          .Start(absl::StrCat(settings_.directory, "/", name),
                 Environment(settings_, event));
  input.Reset();
  if (!child.ok()) {
    spdlog::warn("hook {}: cannot be run: {}", name, ErrnoText(child.error()));
    return;
  }
  const int status = Attend(*child, output, name);
  if (status == -1) {
    spdlog::warn("hook {}: took too long for {} and was killed", name,
                 EventText(event.event.name));
  } else if (WIFSIGNALED(status)) {
    spdlog::warn("hook {}: ended by signal {}", name, WTERMSIG(status));
  } else if (WEXITSTATUS(status) != 0) {
    spdlog::warn("hook {}: ended with exit status {}", name,
                 WEXITSTATUS(status));
  }
}

int HookRunner::Attend(pid_t child, const UniqueFd& output,
                       const std::string& name) {
  const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
  const absl::Time start = absl::Now();
  HookOutput lines(name);
  bool open = true;
  bool ended = false;
  while (!ended && absl::Now() < Deadline(start)) {
    // Once it is told that the end is near, the deadline is what counts.
    const bool told = stopping_;
    pollfd fds[] = {{process.get(), POLLIN, 0},
                    {open ? output.get() : -1, POLLIN, 0},
                    {told ? -1 : stop_event_.get(), POLLIN, 0}};
    const absl::Duration left =
        std::max(Deadline(start) - absl::Now(), absl::ZeroDuration());
    const int ready =
        poll(fds, 3, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1);
    if (ready <= 0) continue;
    if (fds[1].revents != 0) open = lines.ReadSome(output.get());
    ended = fds[0].revents != 0;
  }
  if (!ended) kill(-child, SIGKILL);
  if (!WaitForEnd(process.get(), absl::Now() + kKillWait)) return -1;
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  // What it left in the pipe; what it started may hold it open.
  lines.ReadRest(output.get());
  return ended ? status : -1;
}

}  // namespace mirrorfs
