// SPDX-License-Identifier: GPL-2.0-or-later
//
// Keeps what recovery is about to take from a leg and somebody else has put
// there while the leg was away (IsForeign), beneath .mirrorfs/conflicts.
//
// What is removed or replaced is moved there. What is written in place is
// copied first, and then touched: its change time says from then on that it has
// been dealt with, also after a crash, and so do the times of all that recovery
// itself has made or changed. It may be renamed through the mount while it is
// being copied; so that the leg lacks all of it is on record before that, and
// goes along, and until it has been dealt with it is noted (ForeignNotes).
//
// Where it cannot be kept (no space), the answer is an error: it must be left
// as it is then, so that nothing is lost, and be tried again later.
//
// Threads: all calls from any thread.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "base/errno.h"
#include "leg/foreign.h"
#include "leg/leg.h"
#include "leg/leg_fd.h"
#include "leg/remove_tree.h"
#include "mirror/mirror.h"
#include "recovery/pacer.h"
#include "recovery/progress.h"

namespace mirrorfs {

class ForeignKeeper {
 public:
  // They outlive it. `stopping` ends a long copy, with EINTR.
  ForeignKeeper(Mirror* mirror, HealProgress* progress, Pacer* pacer,
                const std::atomic<bool>* stopping);

  // Whether that is to be kept still which writing can destroy.
  static bool HasForeignContent(const Leg& leg, absl::string_view path,
                                const struct stat& st) {
    return S_ISREG(st.st_mode) && IsForeign(leg, path, st);
  }

  // Before the file at `path` is written in place. When its content is foreign,
  // the leg lacks all of it, durably on record, since any of it may be wrong,
  // and it is kept, durably, unless it is the primary's. Answers whether that
  // is so. Takes time for a large file: to be called with no lock and no region
  // held. EAGAIN: another is at it, or it has another name by now.
  ErrnoOr<bool> BeforeWriting(Leg& leg, const std::string& path);

  // Before what is at `path`, and no directory, is removed or replaced. Durable
  // with the leg.
  Errno BeforeRemoving(Leg& leg, const std::string& path,
                       const struct stat& st);

  // For RemoveTree. A directory that was moved into the leg is kept with all
  // that is in it, although that has old times.
  TakeInstead Taker(Leg& leg);

 private:
  // Whose content is being kept.
  using Object = std::pair<LegSlot, ino_t>;

  struct Taken {
    Object object;
    LegFd file;
    LegFd truth;  // the primary's; none if it cannot be had
  };

  ErrnoOr<std::optional<Taken>> TakeUp(Leg& leg, const std::string& path);
  ErrnoOr<std::optional<Taken>> TakeUpHeld(Leg& leg, const std::string& path);
  Errno KeepContent(Leg& leg, const std::string& path, const Taken& taken);
  ErrnoOr<bool> IsPrimarys(const LegFd& truth, const LegFd& file,
                           const struct stat& st);
  ErrnoOr<std::string> KeepCopy(Leg& leg, const std::string& path,
                                const LegFd& file, const struct stat& st);
  Errno CopyContentTo(const LegFd& file, const LegFd& copy, uint64_t size);
  // Whether it was kept, and, if not, why not.
  Errno Tell(const Leg& leg, const std::string& path,
             const ErrnoOr<std::string>& kept);

  Mirror* const mirror_;
  HealProgress* const progress_;
  Pacer* const pacer_;
  const std::atomic<bool>* const stopping_;

  std::mutex mutex_;
  absl::flat_hash_set<Object> in_work_;
};

}  // namespace mirrorfs
