// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/parallel_sync.h"

#include <liburing.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <system_error>

#include "base/patience.h"
#include "base/thread.h"

namespace mirrorfs {
namespace {

// How often it is looked whether a leg is to be waited for still.
constexpr int64_t kLookNs = 100'000'000;

class Ring {
 public:
  Ring() : ready_(io_uring_queue_init(kSyncedTogetherMax, &ring_, 0) == 0) {}
  ~Ring() {
    if (ready_) io_uring_queue_exit(&ring_);
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  bool ready() const { return ready_; }

  // All but the first. False when the kernel refused them; nothing is under way
  // then.
  bool Submit(const std::vector<LegFd>& fds, bool data_only) {
    for (size_t i = 1; i < fds.size(); ++i) {
      io_uring_sqe* entry = io_uring_get_sqe(&ring_);
      io_uring_prep_fsync(entry, fds[i].number(),
                          data_only ? IORING_FSYNC_DATASYNC : 0);
      io_uring_sqe_set_data64(entry, i);
    }
    return io_uring_submit(&ring_) == static_cast<int>(fds.size() - 1);
  }

  struct Done {
    size_t index;
    Errno result;
  };
  // The next that is done; none within that time.
  std::optional<Done> Next(int64_t wait_ns) {
    __kernel_timespec wait = {wait_ns / 1'000'000'000, wait_ns % 1'000'000'000};
    io_uring_cqe* completion;
    if (io_uring_wait_cqe_timeout(&ring_, &completion, &wait) != 0) {
      return std::nullopt;
    }
    const Done done = {io_uring_cqe_get_data64(completion),
                       Errno(-completion->res)};
    io_uring_cqe_seen(&ring_, completion);
    return done;
  }

 private:
  io_uring ring_;
  const bool ready_;
};

// What has been asked of a ring and is not done yet.
class Round {
 public:
  Round(std::unique_ptr<Ring> ring, const std::vector<LegFd>& fds)
      : ring_(std::move(ring)), fds_(fds), pending_(fds.size(), true) {
    for (const LegFd& fd : fds)
      patience_.push_back(std::make_unique<Patience>(fd.leg()));
    Ended(0);  // was not asked of the ring
  }

  // Until all are done, or none of those left is to be waited for.
  void Wait(absl::Duration timeout, std::vector<Errno>& results) {
    while (left() > 0) {
      if (const std::optional<Ring::Done> done = ring_->Next(kLookNs)) {
        results[done->index] = done->result;
        Ended(done->index);
        continue;
      }
      for (size_t i = 0; i < fds_.size(); ++i) {
        if (pending_[i] && patience_[i]->BecomesSlow(timeout)) {
          fds_[i].leg()->TellSlow();
        }
      }
      bool hopeless = timeout != absl::InfiniteDuration();
      for (size_t i = 0; hopeless && i < fds_.size(); ++i) {
        hopeless = !pending_[i] || patience_[i]->IsOver(timeout);
      }
      if (!hopeless) continue;
      for (size_t i = 0; i < fds_.size(); ++i) {
        if (pending_[i]) results[i] = Errno(ETIMEDOUT);
      }
      return;
    }
  }

  size_t left() const {
    return std::count(pending_.begin(), pending_.end(), true);
  }
  std::unique_ptr<Ring> TakeRing() { return std::move(ring_); }

  void BeginLate() {
    for (size_t i = 0; i < fds_.size(); ++i) {
      if (pending_[i]) fds_[i].leg()->BeginLateCall();
    }
  }
  // Waits for the late ones, whose answers nobody wants.
  void Outlast() {
    while (left() > 0) {
      const std::optional<Ring::Done> done = ring_->Next(kLookNs);
      if (!done) continue;
      Ended(done->index);
      const std::shared_ptr<CallTarget> leg = fds_[done->index].leg();
      fds_[done->index] = LegFd();
      leg->EndLateCall();
    }
  }

 private:
  void Ended(size_t index) {
    pending_[index] = false;
    patience_[index].reset();
  }

  std::unique_ptr<Ring> ring_;
  std::vector<LegFd> fds_;
  std::vector<bool> pending_;
  std::vector<std::unique_ptr<Patience>> patience_;
};

void GiveUp(std::shared_ptr<Round> round) {
  round->BeginLate();
  try {
    StartThread("late-sync", [round] { round->Outlast(); }).detach();
  } catch (const std::system_error&) {
    // Then its legs count as hanging from now on, and what it holds is lost.
    new std::shared_ptr<Round>(std::move(round));
  }
}

Errno SyncOne(const LegFd& fd, bool data_only) {
  return fd.Call([data_only](int fd) {
    for (;;) {
      if ((data_only ? fdatasync(fd) : fsync(fd)) == 0) return kOk;
      if (errno != EINTR) return Errno::Last();
    }
  });
}

// A ring for each thread, made when it is needed. Never inlined, and both are
// asked for anew: a fiber may be in another thread after a call.
[[gnu::noinline]] std::unique_ptr<Ring>& SpareRing() {
  thread_local std::unique_ptr<Ring> spare;
  std::unique_ptr<Ring>* place = &spare;
  asm volatile("" : "+r"(place));
  return *place;
}

std::unique_ptr<Ring> TakeRing() {
  std::unique_ptr<Ring> ring = std::move(SpareRing());
  return ring ? std::move(ring) : std::make_unique<Ring>();
}

}  // namespace

std::vector<Errno> SyncTogether(const std::vector<LegFd>& fds, bool data_only) {
  std::vector<Errno> results(fds.size());
  if (fds.size() > 1) {
    std::unique_ptr<Ring> ring = TakeRing();
    if (ring->ready() && ring->Submit(fds, data_only)) {
      const auto round = std::make_shared<Round>(std::move(ring), fds);
      // By this thread, which has nothing else to do: the kernel hands each of
      // the others to one more thread.
      results[0] = SyncOne(fds[0], data_only);
      round->Wait(CallTimeout(), results);
      if (round->left() > 0) {
        GiveUp(round);
      } else {
        SpareRing() = round->TakeRing();
      }
      return results;
    }
  }
  for (size_t i = 0; i < fds.size(); ++i) {
    results[i] = SyncOne(fds[i], data_only);
  }
  return results;
}

}  // namespace mirrorfs
