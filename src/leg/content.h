// SPDX-License-Identifier: GPL-2.0-or-later
//
// The content of an open file of a leg. All are calls to the leg.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>

#include "absl/strings/string_view.h"
#include "base/errno.h"
#include "leg/call_buffer.h"
#include "leg/caller.h"
#include "leg/leg_fd.h"

namespace mirrorfs {

// Fills `buffer` from its beginning with `size` bytes; fewer only at the end of
// the file. After ETIMEDOUT the buffer is a new one.
ErrnoOr<size_t> ReadContent(const LegFd& file, CallBuffer& buffer, size_t size,
                            uint64_t offset);

// All of it, unless an error comes first; then what was written before it.
// `data` is pinned by the caller (see Pin), or `keeper` keeps it.
ErrnoOr<size_t> WriteContent(const LegFd& file, absl::string_view data,
                             uint64_t offset, ContentWriter writer,
                             std::shared_ptr<const void> keeper = nullptr);

Errno TruncateContent(const LegFd& file, uint64_t size,
                      ContentWriter writer = {});
// `mode` as for fallocate(2).
Errno AllocateContent(const LegFd& file, int mode, uint64_t offset,
                      uint64_t length, ContentWriter writer = {});
// As copy_file_range(2): all of it, unless an error comes first.
ErrnoOr<size_t> CopyWithin(const LegFd& from, uint64_t from_offset,
                           const LegFd& to, uint64_t to_offset, size_t length,
                           ContentWriter writer);
// As lseek(2), but for the place in the file, which nobody uses.
ErrnoOr<off_t> SeekContent(const LegFd& file, off_t offset, int whence);
Errno SyncData(const LegFd& file);
// What was written there goes on its way to the disk. Nothing is durable by it.
void StartWriteback(const LegFd& file, uint64_t offset, uint64_t length);
// What is in the page cache of it is read anew.
void DropCache(const LegFd& file, uint64_t offset, size_t length);

}  // namespace mirrorfs
