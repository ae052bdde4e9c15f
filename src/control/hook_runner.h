// SPDX-License-Identifier: GPL-2.0-or-later
//
// Runs an administrator's programs for each event: the executables in one
// directory, by name, one after the other. From a thread of its own, so that
// what a hook does, however long it takes, is nobody else's business; events
// that come faster than their hooks end are at last lost to them.
//
// mirrorfs(7) says what a hook is given.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "base/fd.h"
#include "control/event_log.h"

namespace mirrorfs {

struct HookSettings {
  std::string directory;
  std::string mirror_uuid;
  std::string mount_point;
  // A hook that runs for longer is killed.
  absl::Duration time_limit = absl::Seconds(60);
  // What is left to do at the end has that long.
  absl::Duration end_limit = absl::Seconds(5);
};

// Where hooks are: $MIRRORFS_HOOKS_DIR or /etc/mirrorfs/hooks.d.
std::string HooksDirectory();

// The hooks in `directory`, in the order in which they are run: files that are
// executable, belong to root or to us, and that not everybody may write. Names
// that begin with a dot or look like an editor's or a package manager's left
// over are none.
std::vector<std::string> FindHooks(const std::string& directory);

class HookRunner {
 public:
  // Begins with the oldest event that is remembered. The log outlives it.
  HookRunner(EventLog* events, HookSettings settings);
  ~HookRunner();
  HookRunner(const HookRunner&) = delete;
  HookRunner& operator=(const HookRunner&) = delete;

  // Runs the hooks of the events that are there, as far as end_limit allows.
  void Stop();

 private:
  void Run();
  bool WaitForEvents();
  void RunHooks(const NumberedEvent& event);
  void RunHook(const std::string& name, const NumberedEvent& event);
  // Until when a hook that was started at `start` may run.
  absl::Time Deadline(absl::Time start) const;
  bool OutOfTime() const;
  // The exit status as waitpid(2) gives it; -1 when it had to be killed.
  int Attend(pid_t child, const UniqueFd& output, const std::string& name);

  const HookSettings settings_;
  EventLog::Reader reader_;
  UniqueFd stop_event_;
  std::atomic<bool> stopping_{false};
  std::atomic<int64_t> end_by_ns_{0};
  std::thread thread_;
};

}  // namespace mirrorfs
