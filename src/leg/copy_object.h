// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <sys/stat.h>

#include <cstdint>

#include "base/errno.h"
#include "leg/call_buffer.h"
#include "leg/leg_fd.h"

namespace mirrorfs {

// Makes the attributes of the object behind `to` those of `from`: owner,
// xattrs and ACLs, mode, a regular file's size, times. What is equal already
// is not touched. `from` and `to` may be O_PATH.
Errno CopyAttributes(int from, int to);
Errno CopyAttributes(const LegFd& from, const LegFd& to);

struct CopyCount {
  uint64_t compared_bytes = 0;
  uint64_t copied_bytes = 0;
};

// Makes the bytes [begin, end) of `to` those of `from`, as far as `from`
// reaches; holes of `from` become holes. Only blocks that differ are written.
// `buffers` are scratch space, kept between calls, of kCopyBufferBytes each.
inline constexpr size_t kCopyBufferBytes = 1 << 20;
Errno CopyContent(const LegFd& from, const LegFd& to, uint64_t begin,
                  uint64_t end, CallBuffer buffers[2], CopyCount* count);

}  // namespace mirrorfs
