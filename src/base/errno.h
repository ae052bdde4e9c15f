// SPDX-License-Identifier: GPL-2.0-or-later
//
// Results of the data path. absl::Status cannot carry an errno through (EIO,
// ENOTEMPTY and EISDIR all collapse), and a file system must answer exactly
// what the leg's file system answered; so the data path speaks Errno, and only
// set-up and control speak absl::Status.
#pragma once

#include <cerrno>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace mirrorfs {

// An errno value; 0 is success. Never negative.
class [[nodiscard]] Errno {
 public:
  constexpr Errno() = default;
  constexpr explicit Errno(int value) : value_(value) {}
  static Errno Last() { return Errno(errno); }

  constexpr bool ok() const { return value_ == 0; }
  constexpr int value() const { return value_; }
  friend constexpr bool operator==(Errno a, Errno b) = default;

 private:
  int value_ = 0;
};

inline constexpr Errno kOk{};

// The result of a system call that answers -1 and errno.
inline Errno FromSyscall(long result) {
  return result < 0 ? Errno::Last() : kOk;
}

// A value or the errno that kept us from having one.
template <typename T>
class [[nodiscard]] ErrnoOr {
 public:
  ErrnoOr(T value) : value_(std::move(value)) {}
  ErrnoOr(Errno error) : error_(error) {}

  bool ok() const { return error_.ok(); }
  Errno error() const { return error_; }
  T& operator*() { return *value_; }
  const T& operator*() const { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  std::optional<T> value_;
  Errno error_;
};

// No room, or no more of it for this user.
constexpr bool IsOutOfSpace(Errno error) {
  return error.value() == ENOSPC || error.value() == EDQUOT;
}

// Whether an error says that the leg is broken, gone or unwritable as a whole,
// rather than something about the request. Our own shortages (EMFILE, ENOMEM)
// and a leg's (ENOSPC) are none of it. So nothing of ours may answer one of
// these for another reason.
constexpr bool IsLegFailure(Errno error) {
  switch (error.value()) {
    case EIO:
    case ENODEV:
    case ENXIO:
    case EROFS:
    case ESTALE:
    case ENOTCONN:
    case ECONNABORTED:
    case ESHUTDOWN:
    case EUCLEAN:
    case EBADMSG:
    case ENOMEDIUM:
    case EREMOTEIO:
    case ETIMEDOUT:
      return true;
    default:
      return false;
  }
}

// Whether a change that a leg answers so may have been made all the same, or
// will be (ETIMEDOUT). One that cannot be written has made none.
constexpr bool MayBeMade(Errno error) {
  return IsLegFailure(error) && error.value() != EROFS;
}

// The leg is full, or its file system cannot hold what another's can: a file
// that large, so many links, a name or an attribute of that kind.
constexpr bool IsRefusal(Errno error) {
  switch (error.value()) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EMLINK:
    case EOPNOTSUPP:
    case ENAMETOOLONG:
    case EILSEQ:
    case E2BIG:
    case ERANGE:
      return true;
    default:
      return false;
  }
}

// No such object is there any more, or something else has taken its place or
// its directory's, rather than that it could not be reached.
constexpr bool IsGone(Errno error) {
  switch (error.value()) {
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case EISDIR:
    case ENXIO:
      return true;
    default:
      return false;
  }
}

// The same of an answer to stat(2), where ENXIO is a device's that is gone.
constexpr bool IsAbsent(Errno error) {
  return IsGone(error) && !IsLegFailure(error);
}

// "Input/output error" and the like, thread-safe.
std::string ErrnoText(Errno error);

// The only bridge from the data path to the control path: "OBJECT: TEXT".
absl::Status ToStatus(Errno error, absl::string_view object);

}  // namespace mirrorfs
