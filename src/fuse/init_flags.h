// SPDX-License-Identifier: GPL-2.0-or-later
//
// Asks the kernel for what libfuse before 3.17 does not know how to ask for:
// HANDLE_KILLPRIV_V2, which spares a question about security.capability before
// each write, half the round trips of a small write. It reads and writes the
// device for libfuse, and adds the flag to the answer to INIT.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <atomic>
#include <cstdint>

namespace mirrorfs {

class InitFlags {
 public:
  // As read(2) and writev(2) of the device.
  ssize_t Read(int device, void* buffer, size_t size);
  ssize_t Write(int device, iovec* parts, int count);

  // Known once INIT has been read: whether the flag will be added.
  bool adds_killpriv_v2() const { return adds_killpriv_v2_; }

 private:
  void LookForInit(const char* request, size_t size);
  ssize_t AnswerInit(int device, iovec* parts, int count);

  bool adds_killpriv_v2_ = false;
  std::atomic<uint64_t> init_request_{0};  // not answered yet
};

}  // namespace mirrorfs
