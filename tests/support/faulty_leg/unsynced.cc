// SPDX-License-Identifier: GPL-2.0-or-later
#include "unsynced.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "leg/object.h"

namespace mirrorfs::faulty {

void Unsynced::Track(bool on) {
  const Lock lock(mutex_);
  on_ = on;
  if (!on) files_.clear();
}

Unsynced::Lock Unsynced::Before(int fd, uint64_t offset, uint64_t length) {
  Lock lock(mutex_);
  if (!on_) return Lock();
  const ErrnoOr<struct stat> st = StatObject(fd);
  if (!st.ok()) return lock;
  File& file = files_[st->st_ino];
  if (!file.fd.valid()) {
    const std::string path = "/proc/self/fd/" + std::to_string(fd);
    file.fd = UniqueFd(open(path.c_str(), O_RDWR | O_CLOEXEC));
  }
  const auto size = static_cast<uint64_t>(st->st_size);
  const uint64_t end = std::min(size, offset + std::min(length, size));
  Change change = {std::chrono::steady_clock::now(), *st, offset, ""};
  if (offset < end) {
    change.bytes.resize(end - offset);
    const ssize_t got = pread(file.fd.get(), change.bytes.data(),
                              change.bytes.size(), static_cast<off_t>(offset));
    change.bytes.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
  }
  file.changes.push_back(std::move(change));
  return lock;
}

void Unsynced::Synced(int fd) {
  const Lock lock(mutex_);
  if (files_.empty()) return;
  const ErrnoOr<struct stat> st = StatObject(fd);
  if (st.ok()) files_.erase(st->st_ino);
}

void Unsynced::AllSynced() {
  const Lock lock(mutex_);
  files_.clear();
}

size_t Unsynced::Lose(int fd, int64_t younger_ms) {
  const Lock lock(mutex_);
  const ErrnoOr<struct stat> st = StatObject(fd);
  const auto found = st.ok() ? files_.find(st->st_ino) : files_.end();
  if (found == files_.end()) return 0;
  const size_t lost = Undo(found->second, younger_ms);
  files_.erase(found);
  return lost;
}

size_t Unsynced::LoseAll(int64_t younger_ms) {
  const Lock lock(mutex_);
  size_t lost = 0;
  for (auto& [ino, file] : files_) lost += Undo(file, younger_ms);
  files_.clear();
  return lost;
}

size_t Unsynced::Undo(File& file, int64_t younger_ms) {
  const Time oldest =
      std::chrono::steady_clock::now() - std::chrono::milliseconds(younger_ms);
  size_t lost = 0;
  for (auto change = file.changes.rbegin(); change != file.changes.rend();
       ++change) {
    if (change->when < oldest) break;
    const bool undone =
        pwrite(file.fd.get(), change->bytes.data(), change->bytes.size(),
               static_cast<off_t>(change->offset)) >= 0 &&
        ftruncate(file.fd.get(), change->before.st_size) == 0;
    const timespec times[2] = {change->before.st_atim, change->before.st_mtim};
    if (undone && futimens(file.fd.get(), times) == 0) ++lost;
  }
  return lost;
}

}  // namespace mirrorfs::faulty
