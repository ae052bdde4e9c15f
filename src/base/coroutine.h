// SPDX-License-Identifier: GPL-2.0-or-later
//
// A function on a stack of its own, which can be left in the middle and gone
// on with later, by the same thread or by another. The only place that knows
// Boost.Context, and what the sanitizers want to be told at a switch.
//
// A thread's own things (thread_local, errno, fsuid, umask) stay with the
// thread: code that was left and goes on may find others. A C++ exception must
// not be on its way, or caught and in work, when the stack is left.
#pragma once

#include <functional>
#include <memory>

namespace mirrorfs {

class Coroutine {
 public:
  // Runs nothing yet.
  explicit Coroutine(std::function<void()> body);
  // REQUIRES: it never ran, or it has ended.
  ~Coroutine();
  Coroutine(const Coroutine&) = delete;
  Coroutine& operator=(const Coroutine&) = delete;

  // Runs the body on its stack until it calls Suspend or returns. False when
  // it has returned. One caller at a time; each sees all that was done before.
  bool Resume();

  // To be called by the body: back to who called Resume. Returns when Resume is
  // called again.
  void Suspend();

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace mirrorfs
