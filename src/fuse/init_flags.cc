// SPDX-License-Identifier: GPL-2.0-or-later
#include "fuse/init_flags.h"

#include <linux/fuse.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>

namespace mirrorfs {

ssize_t InitFlags::Read(int device, void* buffer, size_t size) {
  const ssize_t got = read(device, buffer, size);
  if (got > 0) {
    LookForInit(static_cast<const char*>(buffer), static_cast<size_t>(got));
  }
  return got;
}

void InitFlags::LookForInit(const char* request, size_t size) {
  fuse_in_header header;
  uint32_t offered;
  constexpr size_t kOffered = sizeof(header) + offsetof(fuse_init_in, flags);
  if (size < sizeof(header)) return;
  memcpy(&header, request, sizeof(header));
  if (header.opcode != FUSE_INIT || size < kOffered + sizeof(offered)) return;
  memcpy(&offered, request + kOffered, sizeof(offered));
  if ((offered & FUSE_HANDLE_KILLPRIV_V2) == 0) return;
  adds_killpriv_v2_ = true;
  init_request_ = header.unique;
}

ssize_t InitFlags::Write(int device, iovec* parts, int count) {
  if (init_request_.load(std::memory_order_relaxed) != 0) {
    return AnswerInit(device, parts, count);
  }
  return writev(device, parts, count);
}

ssize_t InitFlags::AnswerInit(int device, iovec* parts, int count) {
  fuse_out_header header;
  fuse_init_out init = {};
  const bool fits = count == 2 && parts[0].iov_len == sizeof(header) &&
                    parts[1].iov_len <= sizeof(init);
  if (!fits) return writev(device, parts, count);
  memcpy(&header, parts[0].iov_base, sizeof(header));
  if (header.unique != init_request_ || header.error != 0) {
    return writev(device, parts, count);
  }
  init_request_ = 0;
  memcpy(&init, parts[1].iov_base, parts[1].iov_len);
  init.flags |= FUSE_HANDLE_KILLPRIV_V2;
  iovec changed[2] = {parts[0], {&init, parts[1].iov_len}};
  return writev(device, changed, 2);
}

}  // namespace mirrorfs
