// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/request_loop.h"

#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <chrono>
#include <system_error>

#include "base/thread.h"

namespace mirrorfs {

// A call that was left behind may still read from it; see Pin.
struct RequestLoop::Buffer {
  fuse_buf request = {};
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { free(request.mem); }
};

RequestLoop::RequestLoop(fuse_session* session, Watchdog* watchdog,
                         int workers_max)
    : session_(session),
      watchdog_(watchdog),
      workers_max_(workers_max),
      over_(eventfd(0, EFD_CLOEXEC)) {}

Errno RequestLoop::Run(const std::function<void()>& before_end) {
  if (!over_.valid()) return Errno::Last();
  ServeFirst();
  StartWorker();
  WaitForEnd();
  before_end();
  fuse_session_exit(session_);
  EndWorkers();
  return Errno(error_);
}

void RequestLoop::ServeFirst() {
  Worker worker;
  worker.fiber = Fiber(watchdog_, "fuse", [&] {
    Buffer buffer;
    if (Receive(worker, buffer)) {
      fuse_session_process_buf(session_, &buffer.request);
    }
  });
  worker.fiber.Join();
}

void RequestLoop::StartWorker() {
  std::lock_guard lock(mutex_);
  if (ending_ || workers_.size() >= static_cast<size_t>(workers_max_)) return;
  Worker& worker = workers_.emplace_back();
  idle_.fetch_add(1);
  try {
    worker.fiber = Fiber(watchdog_, "fuse", [this, &worker] { Work(worker); });
  } catch (const std::system_error& error) {
    // Those that are there have to do.
    spdlog::warn("no more worker threads: {}", error.what());
    idle_.fetch_sub(1);
    workers_.pop_back();
  }
}

void RequestLoop::Work(Worker& worker) {
  auto buffer = std::make_shared<Buffer>();
  while (Receive(worker, *buffer)) {
    if (idle_.fetch_sub(1) == 1) StartWorker();
    {
      const Pin pin(buffer);
      fuse_session_process_buf(session_, &buffer->request);
    }
    if (buffer.use_count() > 1) buffer = std::make_shared<Buffer>();
    idle_.fetch_add(1);
  }
  const uint64_t one = 1;
  (void)!write(over_.get(), &one, sizeof(one));
  std::lock_guard lock(mutex_);
  worker.ended = true;
  ended_.notify_all();
}

bool RequestLoop::Receive(Worker& worker, Buffer& buffer) {
  worker.receives = true;
  int got;
  do {
    got = fuse_session_exited(session_)
              ? 0
              : fuse_session_receive_buf(session_, &buffer.request);
  } while (got == -EINTR);
  worker.receives = false;
  if (got < 0) {
    error_ = -got;
    fuse_session_exit(session_);
  }
  return got > 0;
}

void RequestLoop::WaitForEnd() {
  sigset_t ends;
  sigemptyset(&ends);
  for (const int number : {SIGHUP, SIGINT, SIGTERM}) sigaddset(&ends, number);
  const UniqueFd signals(signalfd(-1, &ends, SFD_CLOEXEC));
  pollfd events[] = {{over_.get(), POLLIN, 0}, {signals.get(), POLLIN, 0}};
  while (poll(events, 2, -1) < 0 && errno == EINTR) {
  }
}

// Those that wait for a request are told by a signal, which may come just
// before they begin to wait; so again and again.
void RequestLoop::EndWorkers() {
  constexpr auto kPeriod = std::chrono::milliseconds(2);
  std::unique_lock lock(mutex_);
  ending_ = true;
  for (Worker& worker : workers_) {
    while (!worker.ended) {
      if (worker.receives) worker.fiber.Interrupt();
      ended_.wait_for(lock, kPeriod);
    }
  }
  lock.unlock();
  workers_.clear();
}

}  // namespace mirrorfs
