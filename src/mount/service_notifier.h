// SPDX-License-Identifier: GPL-2.0-or-later
//
// Tells a service manager how the daemon is: the protocol of sd_notify(3), one
// datagram each time. Thread-safe.
#pragma once

#include <mutex>
#include <string>

#include "absl/strings/string_view.h"
#include "base/fd.h"

namespace mirrorfs {

class ServiceNotifier {
 public:
  // `socket` as $NOTIFY_SOCKET has it: a path, or with '@' in front an abstract
  // name; empty: nobody listens.
  explicit ServiceNotifier(std::string socket);

  void Ready();
  // One line for people. Sent when it is another than the last.
  void Status(absl::string_view text);
  void Stopping();

 private:
  // Does not wait, and does not mind: a service manager that does not listen
  // must not hold up the mirror.
  void Send(absl::string_view message);

  const std::string socket_;
  UniqueFd fd_;
  std::mutex mutex_;
  std::string last_status_;
};

}  // namespace mirrorfs
