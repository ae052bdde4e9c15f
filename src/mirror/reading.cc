// SPDX-License-Identifier: GPL-2.0-or-later
//
// Who answers a read, and what becomes of a leg that cannot.
#include <fcntl.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <bit>

#include "leg/content.h"
#include "leg/object.h"
#include "mirror/mirror.h"

namespace mirrorfs {
namespace {

class PendingRead {
 public:
  explicit PendingRead(std::atomic<int>& count) : count_(count) {
    count_.fetch_add(1, std::memory_order_relaxed);
  }
  ~PendingRead() { count_.fetch_sub(1, std::memory_order_relaxed); }
  PendingRead(const PendingRead&) = delete;
  PendingRead& operator=(const PendingRead&) = delete;

 private:
  std::atomic<int>& count_;
};

}  // namespace

// Legs that hold what the primary holds in these bytes.
LegSet Mirror::LegsInSync(const ObjectRef& object, uint64_t offset,
                          size_t size) {
  LegSet usable = legs_->up();
  if (object.linked) usable -= log_->LackingAnything();
  const RegionRange range = RegionsOf(offset, size, log_->GetRegionSize());
  for (uint64_t index = range.first; index < range.end; ++index) {
    usable -= log_->Lacking(RegionKey::Data(object.path, index));
  }
  return usable | LegSet::Of(legs_->primary());
}

LegSlot Mirror::ReadLeg(const ObjectRef& object, uint64_t offset, size_t size) {
  const ReadFrom read_from = read_from_;
  const LegSlot primary = legs_->primary();
  const LegSet mostly = write_mostly();
  if (read_from == ReadFrom::kPrimary && !mostly.has(primary)) return primary;
  const LegSet in_sync = LegsInSync(object, offset, size);
  const LegSet wanted = in_sync - mostly;
  const LegSet usable = wanted.empty() ? in_sync : wanted;
  // What it is when the policy has no choice.
  const LegSlot otherwise =
      usable.has(primary) ? primary : std::countr_zero(usable.bits());
  if (read_from == ReadFrom::kPrefer) {
    const LegSlot preferred = preferred_;
    return preferred >= 0 && usable.has(preferred) ? preferred : otherwise;
  }
  if (read_from == ReadFrom::kLeastPending) return LeastPending(usable);
  if (read_from == ReadFrom::kPrimary) return otherwise;
  // The same leg for the same region, so that its read-ahead is of use.
  const RegionRange range = RegionsOf(offset, size, log_->GetRegionSize());
  const LegSet in_turn = legs_->up() - mostly;
  LegSlot chosen = otherwise;
  if (in_turn.empty()) return chosen;
  auto skip = static_cast<int>(range.first % in_turn.size());
  in_turn.ForEach([&](LegSlot slot) {
    if (skip-- == 0 && usable.has(slot)) chosen = slot;
  });
  return chosen;
}

// The primary among those that have equally few.
LegSlot Mirror::LeastPending(LegSet legs) const {
  const LegSlot primary = legs_->primary();
  LegSlot least = legs.has(primary) ? primary : std::countr_zero(legs.bits());
  legs.ForEach([&](LegSlot slot) {
    if (legs_->pending_reads(slot) < legs_->pending_reads(least)) least = slot;
  });
  return least;
}

ErrnoOr<size_t> Mirror::ReadOn(Leg& leg, const ObjectRef& object,
                               OpenFile& file, uint64_t offset,
                               CallBuffer& buffer, size_t size) {
  const PendingRead pending(legs_->pending_reads(leg.slot()));
  const ErrnoOr<LegFd> fd = AnyFdOn(leg, object, file);
  if (!fd.ok()) return fd.error();
  ErrnoOr<size_t> got = ReadContent(*fd, buffer, size, offset);
  if (!got.ok() || *got == size) return got;
  // Fewer bytes than there are is an error that nobody has called one.
  const ErrnoOr<struct stat> st = StatObject(*fd);
  const bool at_end =
      st.ok() && static_cast<uint64_t>(st->st_size) <= offset + *got;
  return at_end ? got : Errno(EIO);
}

ErrnoOr<size_t> Mirror::Read(const ObjectRef& object, OpenFile& file,
                             uint64_t offset, CallBuffer& buffer, size_t size) {
  if (!object.named) {
    const LegSlot holder = HolderOf(object);
    ErrnoOr<size_t> got =
        ReadOrElsewhere(holder, object, file, offset, buffer, size);
    // Those that have it open, and all of it, are down.
    if (got.error() == Errno(ENOENT)) return Errno(EIO);
    return got;
  }
  const LegSlot slot = ReadLeg(object, offset, size);
  const LegSlot primary = legs_->primary();
  Leg* bad = nullptr;
  Errno error;
  if (slot != primary) {
    // No write may be in flight: one reader would see it on one leg and the
    // next would not on another (I10).
    const RangeLock::Hold hold(file.ranges, offset, offset + size);
    if (ReadLeg(object, offset, size) == slot) {
      Leg& asked = leg(slot);
      ErrnoOr<size_t> got = ReadOn(asked, object, file, offset, buffer, size);
      if (got.ok() && (*got == size || EndsAt(object, offset + *got))) {
        return got;
      }
      if (!got.ok() && IsLegFailure(got.error())) bad = &asked;
      if (!got.ok()) error = got.error();
    }
  }
  if (bad != nullptr) {
    return ReadElsewhere(object, file, offset, buffer, size, *bad, error);
  }
  return ReadOrElsewhere(primary, object, file, offset, buffer, size);
}

// Whether the file is no longer than that, by who decides it. Another leg's end
// is not always its end.
bool Mirror::EndsAt(const ObjectRef& object, uint64_t end) {
  const ErrnoOr<struct stat> st = Stat(object);
  return st.ok() && static_cast<uint64_t>(st->st_size) <= end;
}

ErrnoOr<size_t> Mirror::ReadOrElsewhere(LegSlot slot, const ObjectRef& object,
                                        OpenFile& file, uint64_t offset,
                                        CallBuffer& buffer, size_t size) {
  Leg& asked = leg(slot);
  ErrnoOr<size_t> got = ReadOn(asked, object, file, offset, buffer, size);
  if (got.ok() || !IsLegFailure(got.error())) return got;
  return ReadElsewhere(object, file, offset, buffer, size, asked, got.error());
}

// Leg `bad` could not read: another answers. What is bad in one place only is
// written anew from what the other has; a leg that is gone fails.
ErrnoOr<size_t> Mirror::ReadElsewhere(const ObjectRef& object, OpenFile& file,
                                      uint64_t offset, CallBuffer& buffer,
                                      size_t size, Leg& bad, Errno error) {
  ++legs_->errors(bad.slot()).read;
  if (read_only_) return error;
  // Mending writes, and nothing is written without a mark (I1).
  const bool in_place =
      error == Errno(EIO) || error == Errno(EBADMSG) || error == Errno(EUCLEAN);
  const ErrnoOr<RegionChange> mending =
      in_place ? Begin(DataRequest(
                     object, RegionsOf(offset, size, log_->GetRegionSize())))
               : ErrnoOr<RegionChange>(error);
  const RangeLock::Hold hold(file.ranges, offset, offset + size);
  ErrnoOr<size_t> got = error;
  const auto read_on = [&](LegSlot slot) {
    if (got.ok()) return;
    got = ReadOn(leg(slot), object, file, offset, buffer, size);
  };
  const LegSet others =
      LegsInSync(object, offset, size) - LegSet::Of(bad.slot());
  (others - write_mostly()).ForEach(read_on);
  (others & write_mostly()).ForEach(read_on);
  spdlog::warn("leg \"{}\": reading {}: {}{}", bad.name(), object.path,
               ErrnoText(error), got.ok() ? "; another leg answers" : "");
  if (!got.ok()) return error;
  const bool mended =
      mending.ok() && !mending->missing().has(bad.slot()) &&
      Rewrite(bad, object, file, offset, absl::string_view(buffer.data(), *got),
              buffer.shared());
  if (!mended) (void)FailLeg(bad, error);
  return got;
}

// Writes good data over bytes that a leg could not read. True when it reads
// them now.
bool Mirror::Rewrite(Leg& leg, const ObjectRef& object, OpenFile& file,
                     uint64_t offset, absl::string_view data,
                     std::shared_ptr<const void> keeper) {
  if (data.empty()) return false;
  const ErrnoOr<LegFd> fd = WriteFdOn(leg, object, file);
  if (!fd.ok()) return false;
  const ErrnoOr<size_t> written =
      WriteContent(*fd, data, offset, ContentWriter(), keeper);
  if (!written.ok() || *written != data.size()) return false;
  if (!SyncData(*fd).ok()) return false;
  // Not from the page cache, which holds what was just written.
  DropCache(*fd, offset, data.size());
  CallBuffer again(data.size());
  const ErrnoOr<size_t> got = ReadContent(*fd, again, data.size(), offset);
  file.times_unsettled = true;
  return got.ok() && absl::string_view(again.data(), *got) == data;
}

ErrnoOr<off_t> Mirror::Seek(const ObjectRef& object, OpenFile& file,
                            off_t offset, int whence) {
  constexpr off_t kNoMore = -1;
  const ErrnoOr<off_t> found =
      AskHolder(object, [&](Leg& leg) -> ErrnoOr<off_t> {
        const ErrnoOr<LegFd> fd = AnyFdOn(leg, object, file);
        if (!fd.ok()) return fd.error();
        const ErrnoOr<off_t> at = SeekContent(*fd, offset, whence);
        // Here an answer, elsewhere the sign of a device that is gone.
        return !at.ok() && at.error() == Errno(ENXIO) ? kNoMore : at;
      });
  return found.ok() && *found == kNoMore ? Errno(ENXIO) : found;
}

}  // namespace mirrorfs
