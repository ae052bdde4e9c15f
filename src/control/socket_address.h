// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <string>

#include "absl/status/statusor.h"
#include "base/fd.h"

namespace mirrorfs {

// The address of a UNIX socket by its path. A path too long for sockaddr_un is
// reached through a descriptor of its directory, so the object must live as
// long as the address is used.
class SocketAddress {
 public:
  static absl::StatusOr<SocketAddress> Of(const std::string& path);

  const sockaddr* address() const {
    return reinterpret_cast<const sockaddr*>(&address_);
  }
  socklen_t size() const { return sizeof(address_); }

 private:
  sockaddr_un address_ = {};
  UniqueFd directory_;
};

}  // namespace mirrorfs
