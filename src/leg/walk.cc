// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/walk.h"

#include <dirent.h>
#include <fcntl.h>

#include <memory>

#include "leg/label.h"
#include "region/region_key.h"

namespace mirrorfs {
namespace {

ErrnoOr<std::vector<DirEntry>> ReadEntries(int fd, bool is_root) {
  UniqueFd own(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!own.valid()) return Errno::Last();
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(own.get()),
                                                   &closedir);
  if (!stream) return Errno::Last();
  own.Release();
  std::vector<DirEntry> entries;
  for (;;) {
    errno = 0;
    const dirent* entry = readdir(stream.get());
    if (entry == nullptr) break;
    const absl::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (is_root && name == kPrivateDir) continue;
    entries.push_back({std::string(name), entry->d_ino, DTTOIF(entry->d_type)});
  }
  if (errno != 0) return Errno::Last();
  return entries;
}

}  // namespace

ErrnoOr<std::vector<DirEntry>> ListEntries(const Leg& leg,
                                           absl::string_view dir) {
  ErrnoOr<LegFd> fd = leg.OpenObject(dir, O_RDONLY | O_DIRECTORY);
  if (!fd.ok()) return fd.error();
  return fd->Call(
      [is_root = dir.empty()](int fd) { return ReadEntries(fd, is_root); });
}

ErrnoOr<std::vector<std::string>> ListNames(const Leg& leg,
                                            absl::string_view dir) {
  ErrnoOr<std::vector<DirEntry>> entries = ListEntries(leg, dir);
  if (!entries.ok()) return entries.error();
  std::vector<std::string> names;
  names.reserve(entries->size());
  for (DirEntry& entry : *entries) names.push_back(std::move(entry.name));
  return names;
}

Errno WalkLeg(const Leg& leg,
              const std::function<void(const std::string& path,
                                       const struct stat& st)>& visit,
              const std::string& from) {
  Errno failure;
  const auto note = [&](Errno error) {
    const bool gone = IsAbsent(error);
    // EXDEV: another file system, mounted there.
    if (!gone && error != Errno(EXDEV)) failure = error;
  };
  std::vector<std::string> dirs = {from};
  while (!dirs.empty()) {
    const std::string dir = std::move(dirs.back());
    dirs.pop_back();
    const ErrnoOr<std::vector<std::string>> names = ListNames(leg, dir);
    if (!names.ok()) note(names.error());
    if (!names.ok()) continue;
    for (const std::string& name : *names) {
      std::string path = JoinPath(dir, name);
      const ErrnoOr<struct stat> st = leg.Stat(path);
      if (!st.ok()) note(st.error());
      if (!st.ok()) continue;
      visit(path, *st);
      if (S_ISDIR(st->st_mode)) dirs.push_back(std::move(path));
    }
  }
  return failure;
}

}  // namespace mirrorfs
