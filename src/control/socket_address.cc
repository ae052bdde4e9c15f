// SPDX-License-Identifier: GPL-2.0-or-later
#include "control/socket_address.h"

#include <fcntl.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errno.h"

namespace mirrorfs {

absl::StatusOr<SocketAddress> SocketAddress::Of(const std::string& path) {
  SocketAddress result;
  result.address_.sun_family = AF_UNIX;
  std::string reachable = path;
  if (path.size() >= sizeof(result.address_.sun_path)) {
    const size_t slash = path.rfind('/');
    const std::string directory =
        slash == path.npos ? "." : path.substr(0, slash + 1);
    result.directory_ =
        UniqueFd(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!result.directory_.valid()) {
      return ToStatus(Errno::Last(), directory);
    }
    reachable = absl::StrCat("/proc/self/fd/", result.directory_.get(), "/",
                             path.substr(slash + 1));
  }
  if (reachable.size() >= sizeof(result.address_.sun_path)) {
    return ToStatus(Errno(ENAMETOOLONG), path);
  }
  std::memcpy(result.address_.sun_path, reachable.c_str(),
              reachable.size() + 1);
  return result;
}

}  // namespace mirrorfs
