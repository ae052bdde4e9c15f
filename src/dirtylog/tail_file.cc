// SPDX-License-Identifier: GPL-2.0-or-later
#include "dirtylog/tail_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errno.h"

namespace mirrorfs {
namespace {

constexpr size_t kTailBytes = 16;

void AppendLe64(uint64_t value, std::string& out) {
  for (int shift = 0; shift < 64; shift += 8) {
    out += static_cast<char>(value >> shift);
  }
}

uint64_t Le64(absl::string_view bytes) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) {
    value = value << 8 | static_cast<uint8_t>(bytes[i]);
  }
  return value;
}

// FNV-1a: finds any single damaged byte, and a file of another log.
uint64_t Checksum(absl::string_view bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : bytes) {
    hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  }
  return hash;
}

std::string Encode(uint64_t number, absl::string_view log_uuid) {
  std::string bytes;
  AppendLe64(number, bytes);
  AppendLe64(Checksum(absl::StrCat(bytes, log_uuid)), bytes);
  return bytes;
}

}  // namespace

absl::StatusOr<TailFile> TailFile::Create(const std::string& path,
                                          absl::string_view log_uuid) {
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd.valid()) return ToStatus(Errno::Last(), path);
  TailFile tail(std::move(fd), path, log_uuid);
  if (absl::Status status = tail.Write(0); !status.ok()) return status;
  if (fsync(tail.fd_.get()) != 0) return ToStatus(Errno::Last(), path);
  return tail;
}

absl::StatusOr<TailFile> TailFile::Open(const std::string& path,
                                        absl::string_view log_uuid) {
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd.valid() && errno == ENOENT) {
    return absl::DataLossError(absl::StrCat(path, " is missing"));
  }
  if (!fd.valid()) return ToStatus(Errno::Last(), path);
  TailFile tail(std::move(fd), path, log_uuid);
  if (absl::Status status = tail.Read(); !status.ok()) return status;
  return tail;
}

absl::Status TailFile::Read() {
  std::string bytes(kTailBytes, '\0');
  const ssize_t got = pread(fd_.get(), bytes.data(), bytes.size(), 0);
  if (got < 0) return ToStatus(Errno::Last(), path_);
  const uint64_t number = Le64(bytes);
  if (got != static_cast<ssize_t>(kTailBytes) ||
      bytes != Encode(number, log_uuid_)) {
    return absl::DataLossError(absl::StrCat(path_, " is damaged"));
  }
  number_ = number;
  return absl::OkStatus();
}

absl::Status TailFile::Write(uint64_t number) {
  const std::string bytes = Encode(number, log_uuid_);
  const ssize_t put = pwrite(fd_.get(), bytes.data(), bytes.size(), 0);
  if (put < 0) return ToStatus(Errno::Last(), path_);
  if (put != static_cast<ssize_t>(bytes.size())) {
    return ToStatus(Errno(ENOSPC), path_);
  }
  number_ = number;
  return absl::OkStatus();
}

}  // namespace mirrorfs
