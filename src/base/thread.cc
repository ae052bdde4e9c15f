// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/thread.h"

#include <pthread.h>
#include <signal.h>

#include <utility>

namespace mirrorfs {
namespace {

constexpr size_t kNameMax = 15;

// Threads inherit the mask of the thread that starts them.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    sigdelset(&all, kWakeSignal);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

// Once is enough; and without SA_RESTART, or it would be of no use.
void HandleWakeSignal() {
  static const int done = [] {
    struct sigaction action = {};
    action.sa_handler = [](int) {};
    return sigaction(kWakeSignal, &action, nullptr);
  }();
  (void)done;
}

}  // namespace

std::thread StartThread(const std::string& name, std::function<void()> body) {
  HandleWakeSignal();
  const SignalsBlocked signals_blocked;
  return std::thread(
      [name = name.substr(0, kNameMax), body = std::move(body)]() mutable {
        pthread_setname_np(pthread_self(), name.c_str());
        body();
      });
}

}  // namespace mirrorfs
