// SPDX-License-Identifier: GPL-2.0-or-later
//
// Operations on attributes.
#include <fcntl.h>
#include <sys/stat.h>

#include <cstdint>

#include "absl/strings/match.h"
#include "leg/object.h"
#include "mirror/mirror.h"

namespace mirrorfs {
namespace {

// Whether a time is what any file system can hold, and not one to be resolved.
bool IsForEveryLeg(const timespec& time) {
  if (time.tv_nsec == UTIME_OMIT) return true;
  return time.tv_nsec != UTIME_NOW && time.tv_sec >= 0 &&
         time.tv_sec <= INT32_MAX;
}

}  // namespace

RegionGate::Request Mirror::AttributesRequest(const ObjectRef& object) {
  if (!object.named) return UnnamedRequest(object);
  RegionGate::Request request;
  request.cover = CoveringMark(object, kNoTail);
  (request.cover ? request.covered : request.marks)
      .push_back(AttributesMark(object));
  CoverOtherNames(object, request);
  return request;
}

Errno Mirror::Chmod(const ObjectRef& object, mode_t mode) {
  return OnObjectOfAllLegs(
      object, [&](Leg&, const LegFd& fd) { return mirrorfs::Chmod(fd, mode); });
}

Errno Mirror::Chown(const ObjectRef& object, uid_t uid, gid_t gid) {
  return OnObjectOfAllLegs(object, [&](Leg&, const LegFd& fd) {
    return mirrorfs::Chown(fd, uid, gid);
  });
}

Errno Mirror::SetTimes(const ObjectRef& object, timespec atime,
                       timespec mtime) {
  timespec times[2] = {atime, mtime};
  const auto for_every_leg = [&times] {
    return IsForEveryLeg(times[0]) && IsForEveryLeg(times[1]);
  };
  // The primary's clock says what "now" is, and each leg what it can hold; the
  // others get what it said.
  const auto set = [&](Leg&, const LegFd& fd) {
    const Errno error = mirrorfs::SetTimes(fd, times);
    if (!error.ok() || for_every_leg()) return error;
    const ErrnoOr<struct stat> st = StatObject(fd);
    if (!st.ok()) return st.error();
    if (times[0].tv_nsec != UTIME_OMIT) times[0] = st->st_atim;
    if (times[1].tv_nsec != UTIME_OMIT) times[1] = st->st_mtim;
    return kOk;
  };
  Errno error = OnObjectOfAllLegs(object, set);
  // Now for those that were asked before the last one said what it can hold.
  if (error.ok() && !for_every_leg()) error = OnObjectOfAllLegs(object, set);
  // A settling that is under way may have seen the time before.
  if (object.is_dir && object.named) unsettled_dirs_.Add(object.path);
  return error;
}

Errno Mirror::SetXattr(const ObjectRef& object, const std::string& name,
                       absl::string_view value, int flags) {
  bool decided = false;
  const ErrnoOr<std::string> before = GetXattr(object, name);
  const ErrnoOr<struct stat> mode_before = Stat(object);
  return OnObjectOfAllLegs(
      object,
      [&](Leg&, const LegFd& fd) {
        // Whether it may or must exist has been decided by the primary.
        const Errno error =
            mirrorfs::SetXattr(fd, name, value, decided ? 0 : flags);
        decided |= error.ok();
        return error;
      },
      [&](Leg&, const LegFd& fd) {
        const Errno undone = before.ok()
                                 ? mirrorfs::SetXattr(fd, name, *before, 0)
                                 : mirrorfs::RemoveXattr(fd, name);
        // An ACL changes the mode, too.
        if (!undone.ok() || !absl::StartsWith(name, "system.")) return undone;
        return mode_before.ok()
                   ? mirrorfs::Chmod(fd, mode_before->st_mode & 07777)
                   : mode_before.error();
      });
}

Errno Mirror::RemoveXattr(const ObjectRef& object, const std::string& name) {
  bool decided = false;
  return OnObjectOfAllLegs(object, [&](Leg&, const LegFd& fd) {
    const Errno error = mirrorfs::RemoveXattr(fd, name);
    const bool already_gone = decided && error == Errno(ENODATA);
    decided |= error.ok();
    return already_gone ? kOk : error;
  });
}

}  // namespace mirrorfs
