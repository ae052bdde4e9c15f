// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/service_notifier.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace mirrorfs {

ServiceNotifier::ServiceNotifier(std::string socket)
    : socket_(std::move(socket)) {
  if (socket_.empty()) return;
  fd_ =
      UniqueFd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

void ServiceNotifier::Ready() { Send("READY=1"); }

void ServiceNotifier::Status(absl::string_view text) {
  std::string line(text);
  std::replace(line.begin(), line.end(), '\n', ' ');
  std::lock_guard lock(mutex_);
  if (line == last_status_) return;
  Send(absl::StrCat("STATUS=", line));
  last_status_ = std::move(line);
}

void ServiceNotifier::Stopping() { Send("STOPPING=1"); }

void ServiceNotifier::Send(absl::string_view message) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (!fd_.valid() || socket_.size() >= sizeof(address.sun_path)) return;
  std::memcpy(address.sun_path, socket_.data(), socket_.size());
  // An abstract name begins with a zero byte and has no end but its length.
  if (socket_[0] == '@') address.sun_path[0] = '\0';
  const size_t size = offsetof(sockaddr_un, sun_path) + socket_.size();
  (void)sendto(fd_.get(), message.data(), message.size(), MSG_NOSIGNAL,
               reinterpret_cast<const sockaddr*>(&address),
               static_cast<socklen_t>(size));
}

}  // namespace mirrorfs
