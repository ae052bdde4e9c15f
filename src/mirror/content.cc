// SPDX-License-Identifier: GPL-2.0-or-later
//
// Opening files, and changing their content.
#include "leg/content.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "base/kill_point.h"
#include "leg/object.h"
#include "mirror/mirror.h"

namespace mirrorfs {
namespace {

// A change of what lies at `begin` and after it, which can be taken back if it
// did no more than make the file longer.
class Growth {
 public:
  explicit Growth(uint64_t begin) : begin_(begin) {}

  // Before the change on each leg, with all of the file held from its end on,
  // whatever the kernel is writing back.
  void Note(const LegFd& fd) {
    if (size_before_) return;
    const ErrnoOr<struct stat> st = StatObject(fd);
    if (st.ok()) size_before_ = static_cast<uint64_t>(st->st_size);
  }

  Errno TakeBack(const LegFd& fd) const {
    const bool only_longer = size_before_ && *size_before_ <= begin_;
    return only_longer ? TruncateContent(fd, *size_before_) : Errno(EEXIST);
  }

 private:
  const uint64_t begin_;
  std::optional<uint64_t> size_before_;
};

// Ranges of two files, always taken in the same order: two copies in opposite
// directions must not wait for each other.
class TwoRanges {
 public:
  struct Range {
    RangeLock* lock;
    uint64_t begin;
    uint64_t end;
  };
  TwoRanges(Range a, Range b) {
    if (std::less<RangeLock*>()(b.lock, a.lock)) std::swap(a, b);
    holds_[0] = std::make_unique<RangeLock::Hold>(*a.lock, a.begin, a.end);
    holds_[1] = std::make_unique<RangeLock::Hold>(*b.lock, b.begin, b.end);
  }

 private:
  std::unique_ptr<RangeLock::Hold> holds_[2];
};

}  // namespace

Errno Mirror::OpenForRead(const ObjectRef& object, OpenFile& file) {
  return AskPrimary([&](Leg& leg) { return AnyFdOn(leg, object, file); })
      .error();
}

Errno Mirror::OpenForWrite(const ObjectRef& object, OpenFile& file) {
  // Now, not at the first write: by then the name may be gone.
  const Errno error = AskPrimary([&](Leg& leg) {
                        return WriteFdOn(leg, object, file);
                      }).error();
  if (!error.ok()) return error;
  secondaries().ForEach([&](LegSlot slot) {
    // One that fails is noticed by the first write, which is accounted for.
    (void)WriteFdOn(leg(slot), object, file);
  });
  return kOk;
}

void Mirror::OpenEverywhere(const ObjectRef& object, OpenFile& file) {
  const bool written = !file.writable_legs().empty();
  legs_->up().ForEach([&](LegSlot slot) {
    if (written) {
      (void)WriteFdOn(leg(slot), object, file);
    } else {
      (void)AnyFdOn(leg(slot), object, file);
    }
  });
}

LegFd Mirror::FdForWriting(LegSlot slot, const ObjectRef& object,
                           const OpenFile& file) const {
  return file.write_fd(slot, EpochOf(leg(slot), object, file));
}

// A descriptor for writing. One of a file that recovery has since replaced on
// that leg is opened anew.
ErrnoOr<LegFd> Mirror::WriteFdOn(Leg& leg, const ObjectRef& object,
                                 OpenFile& file) {
  const LegSlot slot = leg.slot();
  const uint64_t epoch = EpochOf(leg, object, file);
  if (LegFd fd = file.write_fd(slot, epoch); fd.valid()) return fd;
  std::lock_guard lock(file.opening);
  if (LegFd fd = file.write_fd(slot, epoch); fd.valid()) return fd;
  if (!object.named) return Errno(ENOENT);
  ErrnoOr<LegFd> opened = leg.OpenObject(object.path, O_RDWR);
  if (opened.ok()) file.SetWriteFd(slot, *opened, epoch);
  return opened;
}

ErrnoOr<size_t> Mirror::Write(const ObjectRef& object, OpenFile& file,
                              uint64_t offset, absl::string_view data,
                              bool data_sync) {
  if (data.empty()) return size_t{0};
  const ErrnoOr<size_t> taken = WriteLegs(object, file, offset, data);
  // Only now that the change has ended: what fails to become durable begins
  // another, and one thread must not have two.
  if (taken.ok() && data_sync) {
    if (const Errno error = Fsync(object, file, true); !error.ok()) {
      return error;
    }
  }
  return taken;
}

ErrnoOr<size_t> Mirror::WriteOn(Leg& leg, const ObjectRef& object,
                                OpenFile& file, uint64_t offset,
                                absl::string_view data) {
  const ErrnoOr<LegFd> fd = WriteFdOn(leg, object, file);
  if (!fd.ok()) return fd.error();
  return WriteContent(*fd, data, offset, object.writer);
}

ErrnoOr<size_t> Mirror::WriteLegs(const ObjectRef& object, OpenFile& file,
                                  uint64_t offset, absl::string_view data) {
  ErrnoOr<RegionChange> change = Begin(DataRequest(
      object, RegionsOf(offset, data.size(), log_->GetRegionSize())));
  if (!change.ok()) return change.error();
  const RangeLock::Hold hold(file.ranges, offset, offset + data.size());
  size_t taken = 0;
  LegSlot decided = -1;
  Errno error = OnPrimary(
      TakersOf(*change),
      [&](Leg& leg) {
        const ErrnoOr<size_t> written =
            WriteOn(leg, object, file, offset, data);
        if (written.ok()) taken = *written;
        return written.error();
      },
      &decided);
  if (error.ok()) {
    error = WriteOthers(*change, decided, object, file, offset,
                        data.substr(0, taken), taken);
  } else {
    // Fewer bytes than were to be written are no error.
    error = Undecided(*change, decided, Atomic::kYes, error);
  }
  // Not before the last leg is written: whoever settles times in between would
  // settle too little, and nobody would again.
  file.times_unsettled.store(true, std::memory_order_relaxed);
  if (!error.ok()) return error;
  return taken;
}

// The same bytes to the other legs. `taken` becomes what all of them hold.
Errno Mirror::WriteOthers(RegionChange& change, LegSlot decided,
                          const ObjectRef& object, OpenFile& file,
                          uint64_t offset, absl::string_view data,
                          size_t& taken) {
  KillPoint("primary-written");
  Misses misses;
  std::vector<ShortWrite> short_writes;
  (TakersOf(change) - LegSet::Of(decided)).ForEach([&](LegSlot slot) {
    const bool up = legs_->up().has(slot);
    if (!object.named && !(up && FdForWriting(slot, object, file).valid())) {
      return file.NoteBehind(LegSet::Of(slot));
    }
    if (!up) return MissedByOneDown(slot, &misses);
    Leg& taker = leg(slot);
    const ErrnoOr<size_t> written = WriteOn(taker, object, file, offset, data);
    if (written.ok() && *written == data.size()) return;
    Missed(taker, written.ok() ? Errno(ENOSPC) : written.error(), "writing",
           &misses);
    short_writes.push_back({slot, offset + (written.ok() ? *written : 0)});
  });
  if (misses.legs.empty()) return kOk;
  if (!misses.refused.ok()) {
    LegSet uncut;
    const size_t kept = TakeBackTail(change, object, file, short_writes,
                                     decided, offset, taken, &uncut);
    if (kept < taken) {
      taken = kept;
      // Those that went down meanwhile have none of it.
      for (const ShortWrite& write : short_writes) {
        misses.legs -= LegSet::Of(write.slot);
      }
      uncut |= misses.legs;
      const Errno answer = kept == 0 ? misses.refused : kOk;
      return uncut.empty() ? answer : RecordFailures(change, uncut, answer);
    }
  }
  return RecordFailures(change, misses.legs, misses.refused);
}

// When a write made the file longer and did not fit on a leg, all legs can be
// cut back to what that leg holds, and nothing differs; but not when it did not
// take what lay before the old end. Returns how many of the `taken` bytes stay;
// `taken` when it cannot be done so. `uncut`: legs that have more after all.
size_t Mirror::TakeBackTail(const RegionChange& change, const ObjectRef& object,
                            OpenFile& file,
                            const std::vector<ShortWrite>& short_writes,
                            LegSlot decided, uint64_t offset, size_t taken,
                            LegSet* uncut) {
  const auto size_on = [&](LegSlot slot) {
    const ErrnoOr<struct stat> st =
        StatObject(FdForWriting(slot, object, file));
    return st.ok() ? static_cast<uint64_t>(st->st_size) : UINT64_MAX;
  };
  // Nobody may make it longer meanwhile.
  const RangeLock::Hold beyond(file.ranges, offset + taken, UINT64_MAX,
                               RangeLock::Hold::Try());
  // And nothing that another writer has just been told is written may go.
  const RangeLock::Hold before(file.ranges, 0, offset, RangeLock::Hold::Try());
  if (!beyond.held() || !before.held() || size_on(decided) != offset + taken) {
    return taken;
  }
  uint64_t shortest = UINT64_MAX;
  for (const ShortWrite& write : short_writes) {
    if (!legs_->up().has(write.slot)) continue;
    const uint64_t size = size_on(write.slot);
    if (size > write.end) return taken;
    shortest = std::min(shortest, size);
  }
  const auto cut = [&](LegSlot slot) {
    return TruncateContent(FdForWriting(slot, object, file), shortest).ok();
  };
  if (shortest >= offset + taken || !cut(decided)) return taken;
  ((TakersOf(change) & legs_->up()) - LegSet::Of(decided))
      .ForEach([&](LegSlot slot) {
        if (!cut(slot)) *uncut |= LegSet::Of(slot);
      });
  return std::max(shortest, offset) - offset;
}

Errno Mirror::OnContentOfAllLegs(RegionGate::Request request,
                                 const ObjectRef& object, OpenFile& file,
                                 uint64_t begin, uint64_t end,
                                 const OnObject& change, const OnObject& undo) {
  const auto on_leg = [&](Leg& leg, const OnObject& what) {
    const ErrnoOr<LegFd> fd = WriteFdOn(leg, object, file);
    return fd.ok() ? what(leg, *fd) : fd.error();
  };
  return OnAllLegs(
      std::move(request), Atomic::kNo,
      [&, hold = std::shared_ptr<RangeLock::Hold>()](Leg& leg) mutable {
        // Taken once the marks stand, kept until the last leg is done.
        if (!hold) {
          hold = std::make_shared<RangeLock::Hold>(file.ranges, begin, end);
        }
        return on_leg(leg, change);
      },
      undo ? [&](Leg& leg) { return on_leg(leg, undo); } : OnLeg());
}

Errno Mirror::Truncate(const ObjectRef& object, uint64_t size) {
  OpenFile unshared;
  OpenFile& file = object.open != nullptr ? *object.open : unshared;
  const ErrnoOr<struct stat> before = Stat(object);
  if (!before.ok()) return before.error();
  const uint64_t old_size = static_cast<uint64_t>(before->st_size);
  const uint64_t from = std::min(size, old_size);
  Growth growth(size);
  const auto set = [&](Leg&, const LegFd& fd) {
    growth.Note(fd);
    return TruncateContent(fd, size, object.writer);
  };
  const Errno error = OnContentOfAllLegs(
      SizeRequest(object, from / log_->GetRegionSize()), object, file, from,
      UINT64_MAX, set,
      [&](Leg&, const LegFd& fd) { return growth.TakeBack(fd); });
  file.times_unsettled = true;
  // Not left to who has it open: that may have been closed meanwhile.
  SettleTimes(object, file);
  return error;
}

Errno Mirror::Fallocate(const ObjectRef& object, OpenFile& file, int mode,
                        uint64_t offset, uint64_t length) {
  // Blocks that are only allocated change nothing but the length.
  const bool allocates = (mode & ~FALLOC_FL_KEEP_SIZE) == 0;
  Growth growth(allocates ? UINT64_MAX : 0);
  const auto allocate = [&](Leg&, const LegFd& fd) {
    growth.Note(fd);
    return AllocateContent(fd, mode, offset, length, object.writer);
  };
  const Errno error = OnContentOfAllLegs(
      DataRequest(object, RegionsOf(offset, length, log_->GetRegionSize())),
      object, file, 0, UINT64_MAX, allocate,
      [&](Leg&, const LegFd& fd) { return growth.TakeBack(fd); });
  file.times_unsettled = true;
  return error;
}

ErrnoOr<size_t> Mirror::CopyRange(const ObjectRef& from_object, OpenFile& from,
                                  uint64_t from_offset,
                                  const ObjectRef& to_object, OpenFile& to,
                                  uint64_t to_offset, size_t length) {
  const uint64_t region_bytes = log_->GetRegionSize();
  // Each leg copies its own source, so that it can share blocks; a source that
  // is not the same everywhere has to go through the kernel's plain copy.
  const RegionRange source = RegionsOf(from_offset, length, region_bytes);
  if (source.size() > 4096) return Errno(EOPNOTSUPP);
  if (!from_object.named || &from == &to) return Errno(EOPNOTSUPP);
  const auto is_source = [&](LegSlot slot) {
    return LegsInSync(from_object, from_offset, length).has(slot);
  };
  bool everywhere = true;
  legs_->up().ForEach([&](LegSlot slot) { everywhere &= is_source(slot); });
  if (!everywhere) return Errno(EOPNOTSUPP);
  size_t copied = length;
  Growth growth(to_offset);
  const Errno error = OnAllLegs(
      DataRequest(to_object, RegionsOf(to_offset, length, region_bytes)),
      Atomic::kNo,
      [&, first = true,
       holds = std::shared_ptr<TwoRanges>()](Leg& leg) mutable {
        if (!holds) {
          holds = std::make_shared<TwoRanges>(
              TwoRanges::Range{&from.ranges, from_offset, from_offset + length},
              TwoRanges::Range{&to.ranges, 0, UINT64_MAX});
        }
        // It may have come back since, without the source.
        if (!is_source(leg.slot())) return Errno(EAGAIN);
        const ErrnoOr<LegFd> source = AnyFdOn(leg, from_object, from);
        if (!source.ok()) return source.error();
        const ErrnoOr<LegFd> target = WriteFdOn(leg, to_object, to);
        if (!target.ok()) return target.error();
        growth.Note(*target);
        const ErrnoOr<size_t> now = CopyWithin(
            *source, from_offset, *target, to_offset, copied, to_object.writer);
        if (!now.ok()) return now.error();
        if (!first && *now != copied) return Errno(ENOSPC);
        first = false;
        copied = *now;
        return kOk;
      },
      [&](Leg& leg) {
        const ErrnoOr<LegFd> target = WriteFdOn(leg, to_object, to);
        return target.ok() ? growth.TakeBack(*target) : target.error();
      });
  to.times_unsettled = true;
  if (!error.ok()) return error;
  return copied;
}

// A descriptor of either kind, opened for reading if there is none.
ErrnoOr<LegFd> Mirror::AnyFdOn(Leg& leg, const ObjectRef& object,
                               OpenFile& file) {
  const LegSlot slot = leg.slot();
  const uint64_t epoch = EpochOf(leg, object, file);
  if (LegFd fd = file.read_fd(slot, epoch); fd.valid()) return fd;
  std::lock_guard lock(file.opening);
  if (LegFd fd = file.read_fd(slot, epoch); fd.valid()) return fd;
  if (!object.named) return Errno(ENOENT);
  ErrnoOr<LegFd> opened = leg.OpenObject(object.path, O_RDONLY);
  if (opened.ok()) file.SetReadFd(slot, *opened, epoch);
  return opened;
}

}  // namespace mirrorfs
