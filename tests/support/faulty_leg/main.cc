// SPDX-License-Identifier: GPL-2.0-or-later
//
// faulty_leg SOURCE MOUNT_POINT SOCKET: stays in the foreground until it is
// unmounted or gets a signal.
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "control/control_server.h"
#include "faulty_leg.h"

namespace mirrorfs::faulty {
namespace {

// Each request that hangs has a thread of its own.
constexpr unsigned kThreadsMax = 256;

int Fail(const std::string& what) {
  fprintf(stderr, "faulty_leg: %s\n", what.c_str());
  return 1;
}

void PrepareProcess() {
  umask(0);
  signal(SIGXFSZ, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  // A descriptor for each object that the kernel knows.
  rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  // The limit of those who ask is not that of a disk.
  const rlimit size = {RLIM_INFINITY, RLIM_INFINITY};
  setrlimit(RLIMIT_FSIZE, &size);
}

int Loop(fuse_session* session) {
  fuse_set_signal_handlers(session);
  fuse_loop_config* config = fuse_loop_cfg_create();
  fuse_loop_cfg_set_max_threads(config, kThreadsMax);
  fuse_loop_cfg_set_idle_threads(config, 8);
  fuse_loop_cfg_set_clone_fd(config, 0);
  const int result = fuse_session_loop_mt(session, config);
  fuse_loop_cfg_destroy(config);
  fuse_remove_signal_handlers(session);
  return result < 0 ? Fail("the session ended with an error") : 0;
}

int Main(int argc, char** argv) {
  if (argc != 4) return Fail("usage: faulty_leg SOURCE MOUNT_POINT SOCKET");
  PrepareProcess();
  char source[PATH_MAX];
  if (realpath(argv[1], source) == nullptr) return Fail("no such source");
  FaultyLeg leg(source);

  fuse_args args = FUSE_ARGS_INIT(0, nullptr);
  for (const char* word : {"faulty_leg", "-o",
                           "allow_other,dev,suid,fsname=faulty_leg,"
                           "subtype=faulty_leg"}) {
    fuse_opt_add_arg(&args, word);
  }
  fuse_session* session = fuse_session_new(&args, &FaultyLeg::Operations(),
                                           sizeof(fuse_lowlevel_ops), &leg);
  fuse_opt_free_args(&args);
  if (session == nullptr) return Fail("libfuse refused the options");
  if (fuse_session_mount(session, argv[2]) != 0) return Fail("no mount");
  int code = 1;
  {
    const absl::StatusOr<std::unique_ptr<ControlServer>> control =
        ControlServer::Start(argv[3], [&leg](const nlohmann::json& request) {
          return Command(leg, request);
        });
    code = control.ok() ? Loop(session)
                        : Fail(std::string(control.status().message()));
  }
  fuse_session_unmount(session);
  fuse_session_destroy(session);
  return code;
}

}  // namespace
}  // namespace mirrorfs::faulty

int main(int argc, char** argv) { return mirrorfs::faulty::Main(argc, argv); }
