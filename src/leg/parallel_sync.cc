// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/parallel_sync.h"

#include <liburing.h>
#include <unistd.h>

#include "region/leg_set.h"

namespace mirrorfs {
namespace {

class Ring {
 public:
  Ring() : ready_(io_uring_queue_init(kLegsMax, &ring_, 0) == 0) {}
  ~Ring() {
    if (ready_) io_uring_queue_exit(&ring_);
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  bool ready() const { return ready_; }

  // False when the kernel refused them; nothing is under way then.
  bool Submit(const std::vector<int>& fds, bool data_only) {
    for (size_t i = 0; i < fds.size(); ++i) {
      io_uring_sqe* entry = io_uring_get_sqe(&ring_);
      io_uring_prep_fsync(entry, fds[i], data_only ? IORING_FSYNC_DATASYNC : 0);
      io_uring_sqe_set_data64(entry, i);
    }
    return io_uring_submit(&ring_) == static_cast<int>(fds.size());
  }

  void Collect(std::vector<Errno>& results) {
    for (size_t done = 0; done < results.size();) {
      io_uring_cqe* completion;
      if (io_uring_wait_cqe(&ring_, &completion) != 0) continue;
      results[io_uring_cqe_get_data64(completion)] = Errno(-completion->res);
      io_uring_cqe_seen(&ring_, completion);
      ++done;
    }
  }

 private:
  io_uring ring_;
  const bool ready_;
};

Errno SyncOne(int fd, bool data_only) {
  for (;;) {
    if ((data_only ? fdatasync(fd) : fsync(fd)) == 0) return kOk;
    if (errno != EINTR) return Errno::Last();
  }
}

}  // namespace

std::vector<Errno> SyncTogether(const std::vector<int>& fds, bool data_only) {
  std::vector<Errno> results(fds.size());
  thread_local Ring ring;
  if (fds.size() > 1 && ring.ready() && ring.Submit(fds, data_only)) {
    ring.Collect(results);
    return results;
  }
  for (size_t i = 0; i < fds.size(); ++i) {
    results[i] = SyncOne(fds[i], data_only);
  }
  return results;
}

}  // namespace mirrorfs
