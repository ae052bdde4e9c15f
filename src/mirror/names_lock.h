// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <mutex>
#include <shared_mutex>

namespace mirrorfs {

// What paths mean: shared while a path is used, exclusive while a directory
// moves. Unlike a bare std::shared_mutex it lets no stream of readers starve
// the writer. Not to be taken twice by one thread, shared or not.
class NamesLock {
 public:
  void lock() {
    turnstile_.lock();
    names_.lock();
  }
  void unlock() {
    names_.unlock();
    turnstile_.unlock();
  }
  void lock_shared() {
    { std::lock_guard pass(turnstile_); }
    names_.lock_shared();
  }
  void unlock_shared() { names_.unlock_shared(); }

 private:
  std::mutex turnstile_;  // held by a writer that waits or writes
  std::shared_mutex names_;
};

}  // namespace mirrorfs
