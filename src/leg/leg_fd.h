// SPDX-License-Identifier: GPL-2.0-or-later
//
// A descriptor of an object on a leg. It is shared with the calls that use it,
// so it is not closed, and its number not given to another file, while one that
// hangs still may. Closing is a call to the leg, too.
#pragma once

#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "base/call_target.h"
#include "base/errno.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "leg/object.h"

namespace mirrorfs {

class LegFd {
 public:
  LegFd() = default;  // none; calls answer EBADF
  LegFd(std::shared_ptr<CallTarget> leg, UniqueFd fd)
      : held_(std::make_shared<Held>(std::move(leg), std::move(fd))) {}

  bool valid() const { return held_ != nullptr; }

  // f(fd), as a call to the leg, see MakeCall. What f refers to it owns.
  template <typename F>
  std::invoke_result_t<F&, int> Call(F f) const {
    using R = std::invoke_result_t<F&, int>;
    if (held_ == nullptr) return R(Errno(EBADF));
    return MakeCall(*held_->leg, [held = held_, f = std::move(f)]() mutable {
      return f(held->fd.get());
    });
  }

  // A call that concerns another descriptor as well, maybe of another leg; the
  // time-out counts for this one's.
  template <typename F>
  std::invoke_result_t<F&, int, int> CallWith(const LegFd& other, F f) const {
    using R = std::invoke_result_t<F&, int, int>;
    if (other.held_ == nullptr) return R(Errno(EBADF));
    return Call([other = other.held_, f = std::move(f)](int fd) mutable {
      return f(fd, other->fd.get());
    });
  }

  // For calls that are made elsewhere (io_uring): what they have to keep.
  const std::shared_ptr<CallTarget>& leg() const { return held_->leg; }
  int number() const { return held_->fd.get(); }

 private:
  struct Held {
    Held(std::shared_ptr<CallTarget> target, UniqueFd descriptor)
        : leg(std::move(target)), fd(std::move(descriptor)) {}
    ~Held() { CloseOn(*leg, std::move(fd)); }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;

    const std::shared_ptr<CallTarget> leg;
    UniqueFd fd;
  };

  std::shared_ptr<const Held> held_;
};

// As those of object.h.
inline ErrnoOr<struct stat> StatObject(const LegFd& fd) {
  return fd.Call([](int fd) { return StatObject(fd); });
}
inline ErrnoOr<mode_t> ModeOf(const LegFd& fd) {
  return fd.Call([](int fd) { return ModeOf(fd); });
}
inline Errno Chmod(const LegFd& fd, mode_t mode) {
  return fd.Call([mode](int fd) { return Chmod(fd, mode); });
}
inline Errno Chown(const LegFd& fd, uid_t uid, gid_t gid) {
  return fd.Call([uid, gid](int fd) { return Chown(fd, uid, gid); });
}
inline Errno SetTimes(const LegFd& fd, const timespec times[2]) {
  return fd.Call([atime = times[0], mtime = times[1]](int fd) {
    const timespec both[2] = {atime, mtime};
    return SetTimes(fd, both);
  });
}
inline Errno SetXattr(const LegFd& fd, const std::string& name,
                      absl::string_view value, int flags) {
  return fd.Call([name, value = std::string(value), flags](int fd) {
    return SetXattr(fd, name, value, flags);
  });
}
inline ErrnoOr<std::string> GetXattr(const LegFd& fd, const std::string& name) {
  return fd.Call([name](int fd) { return GetXattr(fd, name); });
}
inline Errno RemoveXattr(const LegFd& fd, const std::string& name) {
  return fd.Call([name](int fd) { return RemoveXattr(fd, name); });
}
inline ErrnoOr<std::vector<std::string>> ListXattrs(const LegFd& fd) {
  return fd.Call([](int fd) { return ListXattrs(fd); });
}

}  // namespace mirrorfs
