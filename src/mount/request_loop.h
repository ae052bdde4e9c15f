// SPDX-License-Identifier: GPL-2.0-or-later
//
// Takes requests from the kernel and has them processed by libfuse, which calls
// the handlers. In place of libfuse's own loop, because each worker is a fiber:
// one whose leg hangs goes on in another thread, so that the number of workers
// stays what it is.
//
// As there, a worker is started when a request comes and no other is idle: few
// that are always warm are better than many that take turns.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>

#include "base/errno.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "fuse/fuse_api.h"

namespace mirrorfs {

class RequestLoop {
 public:
  // They outlive it.
  RequestLoop(fuse_session* session, Watchdog* watchdog, int workers_max);

  // Until the mount is gone or SIGHUP, SIGINT or SIGTERM comes; then until the
  // requests in work are answered. To be called by a thread in which those
  // signals are blocked, as in all others.
  // `before_end` is called when it is over and requests are still answered.
  Errno Run(const std::function<void()>& before_end);

 private:
  struct Worker {
    // It waits for a request, or is about to.
    std::atomic<bool> receives{false};
    bool ended = false;
    Fiber fiber;
  };
  struct Buffer;

  // The request that sets up the connection: sizes may be others after it.
  void ServeFirst();
  void StartWorker();
  void Work(Worker& worker);
  // True when a request came.
  bool Receive(Worker& worker, Buffer& buffer);
  void WaitForEnd();
  void EndWorkers();

  fuse_session* const session_;
  Watchdog* const watchdog_;
  const int workers_max_;
  std::atomic<int> idle_{0};
  std::atomic<int> error_{0};
  UniqueFd over_;  // an eventfd: some worker has seen the end
  std::mutex mutex_;
  std::condition_variable ended_;
  std::list<Worker> workers_;
  bool ending_ = false;
};

}  // namespace mirrorfs
