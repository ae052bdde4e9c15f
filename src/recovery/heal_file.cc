// SPDX-License-Identifier: GPL-2.0-or-later
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <shared_mutex>

#include "base/kill_point.h"
#include "leg/content.h"
#include "leg/copy_object.h"
#include "leg/label.h"
#include "leg/object.h"
#include "recovery/healer.h"

namespace mirrorfs {
namespace {

// O_NONBLOCK: by now the name may be a fifo's.
constexpr int kSourceFlags = O_RDONLY | O_NOATIME | O_NONBLOCK;
constexpr int kTargetFlags = O_RDWR | O_NONBLOCK;

// What is compared while changes are held off, at least one region. Each time
// waits for the changes under way in the file's directory.
constexpr uint64_t kPieceBytes = 1 << 20;

// Somebody makes the file longer all the time.
constexpr int kTailTriesMax = 16;

bool IsRegular(const LegFd& fd) {
  const ErrnoOr<mode_t> mode = ModeOf(fd);
  return mode.ok() && S_ISREG(*mode);
}

// By the error of opening it. ENXIO may be that of a socket, which has its name
// now, or of a disk that is no more.
bool IsFileGone(const Leg& source, const std::string& path, Errno error) {
  if (error != Errno(ENXIO)) return IsGone(error);
  const ErrnoOr<struct stat> st = source.Stat(path);
  return st.ok() && !S_ISREG(st->st_mode);
}

RegionKey ParentEntries(const std::string& path) {
  return RegionKey::Entries(std::string(ParentPath(path)));
}

RegionKey SizeGuardOf(const std::string& path) {
  return RegionKey::Data(path, kSizeGuardIndex);
}

// How much of a file of `size` bytes lies in these regions.
uint64_t BytesIn(RegionRange range, uint64_t region_bytes, uint64_t size) {
  const uint64_t end = std::min(range.end * region_bytes, size);
  return end - std::min(range.first * region_bytes, end);
}

}  // namespace

Healer::Healer(Mirror* mirror, LinkIndex* links, HealProgress* progress,
               Pacer* pacer, ForeignKeeper* keeper,
               const std::atomic<bool>* stopping)
    : mirror_(mirror),
      links_(links),
      progress_(progress),
      pacer_(pacer),
      keeper_(keeper),
      stopping_(stopping) {}

bool Healer::Heal(const DirtyLog::Work& work) {
  primary_error_ = kOk;
  if (!pacer_->WaitForTurn(Pacer::kObjectBytes, *stopping_)) return false;
  DirtyLog::Work now = work;
  const std::optional<RegionRecord> record = mirror_->log().Find(work.key);
  if (!record) return true;
  now.record = *record;
  const LegSet targets = record->missing & mirror_->secondaries();
  if (targets.empty()) {
    // Who lacked it is down now, and will lack it when it is back.
    mirror_->log().ReleaseResyncWork(work.key);
    return true;
  }
  bool healed = HealOn(now, targets);
  if (!healed && targets.size() > 1 && IsLackedByAll(work.key, targets)) {
    // One that cannot have it must not keep it from the others. One at a time:
    // with its end the log no longer watches what the rest miss meanwhile.
    bool one = false;
    targets.ForEach(
        [&](LegSlot slot) { one = one || HealOn(now, LegSet::Of(slot)); });
  }
  return healed;
}

// Else some have been healed, and the region is not ours any more: what the
// rest miss meanwhile would be forgotten.
bool Healer::IsLackedByAll(const RegionKey& key, LegSet targets) const {
  const std::optional<RegionRecord> record = mirror_->log().Find(key);
  return record && record->missing.contains(targets);
}

// Whether the primary is to be believed that it does not have the name any
// more, changes of which are held off: not while somebody is emptying it.
bool Healer::MayBeGone(const std::string& path) {
  if (HasLabel(mirror_->primary())) return !mirror_->FailIfOthersHave(path);
  if (!mirror_->FailIfLabelIsGone()) {
    spdlog::error("leg \"{}\" has no label: nothing is removed elsewhere",
                  mirror_->primary().name());
  }
  return false;
}

bool Healer::HealOn(const DirtyLog::Work& work, LegSet targets) {
  if (*stopping_) return false;
  bool healed = false;
  switch (work.key.kind) {
    case RegionKind::kEntries:
      healed = HealEntries(work, targets);
      // The names of some file were not known.
      if (!healed && links_->WalkIfWanted(*stopping_) &&
          IsLackedByAll(work.key, targets)) {
        healed = HealEntries(work, targets);
      }
      if (healed) mirror_->backlog().Healed();
      break;
    case RegionKind::kAttributes:
      healed = HealAttributes(work, targets);
      break;
    case RegionKind::kData:
      healed = HealData(work, targets);
      break;
  }
  if (healed) {
    progress_->RegionDone(targets);
    progress_->unannounced = true;
  }
  return healed;
}

// Asked after StartCopy: who went before that may have lost what it was given,
// and who goes after it is told to the log.
bool Healer::AreUp(LegSet targets) const {
  return mirror_->secondaries().contains(targets);
}

void Healer::Blame(const Leg& leg, Errno error) {
  progress_->setbacks.NoteError(leg.slot(), error);
  if (IsItsFailure(error)) (void)mirror_->FailLeg(leg, error);
}

ErrnoOr<bool> Healer::KeepForeign(const std::string& path, LegSet targets) {
  bool foreign = false;
  Errno result;
  targets.ForEach([&](LegSlot slot) {
    const ErrnoOr<bool> kept = keeper_->BeforeWriting(mirror_->leg(slot), path);
    foreign |= kept.ok() && *kept;
    if (kept.ok()) return;
    Blame(mirror_->leg(slot), kept.error());
    result = kept.error();
  });
  if (!result.ok()) return result;
  return foreign;
}

void Healer::NameIsMissing(const std::string& path, LegSlot slot) {
  RegionRecord record;
  record.missing = LegSet::Of(slot);
  mirror_->log().MarkRegion(ParentEntries(path), record);
}

// Legs on which that name may lead to another file by now.
LegSet Healer::LegsWithoutName(const std::string& path) {
  return mirror_->log().Lacking(ParentEntries(path));
}

// Attributes on all targets; `last`: the region is in sync with that.
Healer::Outcome Healer::EqualizeAttributes(const RegionKey& key, LegSet targets,
                                           bool last) {
  std::shared_lock names(mirror_->names_lock());
  const std::vector<RegionKey> held = {key, SizeGuardOf(key.path)};
  mirror_->gate().StartRecovery(held);
  Outcome outcome = Outcome::kHealed;
  const Leg& source = mirror_->primary();
  const ErrnoOr<LegFd> from = source.OpenObject(key.path, O_PATH);
  if (!from.ok()) {
    const bool gone = IsAbsent(from.error()) && MayBeGone(key.path);
    outcome = gone ? Outcome::kGone : Outcome::kLater;
    Blame(source, from.error());
  } else {
    if (last && !TailIsHealed(key, *from, targets)) outcome = Outcome::kMore;
    if (last) mirror_->log().StartCopy(key);
    if (!AreUp(targets)) outcome = Outcome::kLater;
    const LegSet lost = LegsWithoutName(key.path);
    targets.ForEach([&](LegSlot slot) {
      if (lost.has(slot) || !EqualizeOn(mirror_->leg(slot), key.path, *from)) {
        outcome = Outcome::kLater;
      }
    });
  }
  if (outcome == Outcome::kGone || (last && outcome == Outcome::kHealed)) {
    mirror_->log().SetRegionSync(key, targets, true);
  }
  mirror_->gate().FinishRecovery(held);
  return outcome;
}

bool Healer::EqualizeOn(Leg& leg, const std::string& path, const LegFd& from) {
  const ErrnoOr<LegFd> to = leg.OpenObject(path, O_PATH);
  const ErrnoOr<struct stat> truth = StatObject(from);
  const ErrnoOr<struct stat> copy =
      to.ok() ? StatObject(*to) : ErrnoOr<struct stat>(to.error());
  const bool there = truth.ok() && copy.ok() &&
                     (truth->st_mode & S_IFMT) == (copy->st_mode & S_IFMT);
  // Since it was looked at last, it came to have this name.
  if (there && ForeignKeeper::HasForeignContent(leg, path, *copy)) return false;
  if (!there) {
    if (copy.ok() || IsGone(copy.error())) NameIsMissing(path, leg.slot());
    if (!copy.ok()) Blame(leg, copy.error());
    return false;
  }
  const Errno error = CopyAttributes(from, *to);
  if (!error.ok()) {
    (void)FromPrimary(StatObject(from));
    (void)FromPrimary(ListXattrs(from));
    spdlog::warn("leg \"{}\": attributes of \"{}\": {}", leg.name(), path,
                 ErrnoText(error));
    Blame(leg, error);
  }
  return error.ok();
}

bool Healer::EqualizeBy(const std::string& path, LegSet targets) {
  const ErrnoOr<LegFd> from = mirror_->primary().OpenObject(path, O_PATH);
  bool equal = from.ok();
  targets.ForEach([&](LegSlot slot) {
    equal = equal && EqualizeOn(mirror_->leg(slot), path, *from);
  });
  return equal;
}

bool Healer::HealAttributes(const DirtyLog::Work& work, LegSet targets) {
  const ErrnoOr<bool> foreign = KeepForeign(work.key.path, targets);
  if (!foreign.ok()) return false;
  Outcome outcome = Outcome::kHealed;
  // First, so that nobody sees the content under the placeholder's mode.
  if (*foreign || work.record.tail_from != kNoTail) {
    outcome = EqualizeAttributes(work.key, targets, /*last=*/false);
  }
  for (int tries = 0; outcome != Outcome::kLater && tries < kTailTriesMax;
       ++tries) {
    outcome = HealTail(work.key, targets);
    if (outcome == Outcome::kLater) break;
    // If it is gone, that is seen here.
    outcome = EqualizeAttributes(work.key, targets, /*last=*/true);
    if (outcome != Outcome::kMore) break;
  }
  return outcome == Outcome::kHealed || outcome == Outcome::kGone;
}

// `file`: the primary's, whose size nobody changes meanwhile.
bool Healer::TailIsHealed(const RegionKey& key, const LegFd& file,
                          LegSet targets) {
  const ErrnoOr<struct stat> st = StatObject(file);
  if (!st.ok() || !S_ISREG(st->st_mode)) return true;
  const uint64_t next = mirror_->log().TailToHeal(key, targets);
  const uint64_t size = static_cast<uint64_t>(st->st_size);
  return next == kNoTail || next * mirror_->log().GetRegionSize() >= size;
}

Healer::Outcome Healer::HealTail(const RegionKey& key, LegSet targets) {
  const uint64_t region_bytes = mirror_->log().GetRegionSize();
  int returns = 0;
  for (uint64_t last = 0;;) {
    // Asked each time: it may be lacked from an earlier region on by now.
    const uint64_t index = mirror_->log().TailToHeal(key, targets);
    if (index == kNoTail) return Outcome::kHealed;
    if (index < last) ++returns;
    last = index;
    if (*stopping_ || returns > kTailTriesMax) return Outcome::kLater;
    const ErrnoOr<struct stat> st = mirror_->primary().Stat(key.path);
    if (!st.ok()) {
      return IsAbsent(st.error()) ? Outcome::kGone : Outcome::kLater;
    }
    if (!S_ISREG(st->st_mode)) return Outcome::kHealed;
    const uint64_t size = static_cast<uint64_t>(st->st_size);
    if (index * region_bytes >= size) return Outcome::kHealed;
    if (const uint64_t next = SkipHoles(key, index, targets); next > index) {
      progress_->Skipped(
          targets, std::min(next * region_bytes, size) - index * region_bytes);
      continue;
    }
    const uint64_t regions = (size + region_bytes - 1) / region_bytes;
    const uint64_t piece = std::max(kPieceBytes / region_bytes, uint64_t{1});
    const RegionRange range = {index, std::min(index + piece, regions)};
    const Outcome outcome = HealRegions(key.path, range, size, targets, [&] {
      mirror_->log().AdvanceTail(key, range, targets);
    });
    if (outcome != Outcome::kHealed) return outcome;
  }
}

// Goes on to the first region at or after `index` in which any of the legs has
// data, with changes held off: what is written into a hole is not skipped.
uint64_t Healer::SkipHoles(const RegionKey& key, uint64_t index,
                           LegSet targets) {
  std::shared_lock names(mirror_->names_lock());
  const std::vector<RegionKey> held = {key, SizeGuardOf(key.path)};
  mirror_->gate().StartRecovery(held);
  // What happened to these legs before is over, and nothing is copied yet.
  mirror_->log().StartCopy(key);
  uint64_t next = RegionWithData(mirror_->primary(), key.path, index);
  targets.ForEach([&](LegSlot slot) {
    next = std::min(next, RegionWithData(mirror_->leg(slot), key.path, index));
  });
  if (!AreUp(targets)) next = index;
  if (next > index) mirror_->log().AdvanceTail(key, {index, next}, targets);
  mirror_->gate().FinishRecovery(held);
  return next;
}

// The first region of the leg's file at or after `index` that has data, or the
// end of the file; `index` if that cannot be told.
uint64_t Healer::RegionWithData(const Leg& leg, const std::string& path,
                                uint64_t index) const {
  const uint64_t region_bytes = mirror_->log().GetRegionSize();
  const ErrnoOr<LegFd> fd = leg.OpenObject(path, kSourceFlags);
  const ErrnoOr<struct stat> st =
      fd.ok() ? StatObject(*fd) : ErrnoOr<struct stat>(fd.error());
  if (!st.ok()) return index;
  const ErrnoOr<off_t> data =
      SeekContent(*fd, static_cast<off_t>(index * region_bytes), SEEK_DATA);
  if (data.ok()) return *data / region_bytes;
  if (data.error() != Errno(ENXIO)) return index;
  const uint64_t size = static_cast<uint64_t>(st->st_size);
  return std::max((size + region_bytes - 1) / region_bytes, index);
}

bool Healer::HealData(const DirtyLog::Work& work, LegSet targets) {
  const RegionKey& key = work.key;
  RegionRecord attributes;
  attributes.missing = targets;
  if (key.index == kSizeGuardIndex) {
    // Stands for the file's size, which is among its attributes. Not while a
    // directory moves: see DirtyLog::UndoMove.
    std::shared_lock names(mirror_->names_lock());
    // So that no clear of this one is on its way to the store while that mark
    // waits.
    mirror_->gate().StartRecovery({key});
    mirror_->log().MarkRegion(RegionKey::Attributes(key.path), attributes);
    mirror_->log().SetRegionSync(key, targets, true);
    mirror_->gate().FinishRecovery({key});
    return true;
  }
  if (!KeepForeign(key.path, targets).ok()) return false;
  const RegionRange range = {key.index, key.index + 1};
  const ErrnoOr<struct stat> st = mirror_->primary().Stat(key.path);
  const uint64_t size = st.ok() ? static_cast<uint64_t>(st->st_size) : 0;
  const Outcome outcome = HealRegions(key.path, range, size, targets, [&] {
    // Writing changed its times, and it may have dropped a capability. At once:
    // as long as a leg lacks the attributes, it takes no write.
    if (!EqualizeBy(key.path, targets)) {
      mirror_->log().MarkRegion(RegionKey::Attributes(key.path), attributes);
    }
    mirror_->log().SetRegionSync(key, targets, true);
  });
  if (outcome == Outcome::kGone) {
    mirror_->log().SetRegionSync(key, targets, true);
  }
  return outcome != Outcome::kLater;
}

Healer::Outcome Healer::HealRegions(const std::string& path, RegionRange range,
                                    uint64_t size, LegSet targets,
                                    const std::function<void()>& healed) {
  const uint64_t region_bytes = mirror_->log().GetRegionSize();
  if (!pacer_->WaitForTurn(BytesIn(range, region_bytes, size), *stopping_)) {
    return Outcome::kLater;
  }
  std::shared_lock names(mirror_->names_lock());
  // Its attributes, so that it keeps its name.
  std::vector<RegionKey> held = {RegionKey::Attributes(path),
                                 SizeGuardOf(path)};
  for (uint64_t index = range.first; index < range.end; ++index) {
    held.push_back(RegionKey::Data(path, index));
  }
  mirror_->gate().StartRecovery(held);
  for (const RegionKey& key : held) mirror_->log().StartCopy(key);
  const Outcome outcome =
      AreUp(targets) ? CopyRegions(path, range, targets) : Outcome::kLater;
  if (outcome == Outcome::kHealed) healed();
  mirror_->gate().FinishRecovery(held);
  return outcome;
}

Healer::Outcome Healer::CopyRegions(const std::string& path, RegionRange range,
                                    LegSet targets) {
  const ErrnoOr<LegFd> from = mirror_->primary().OpenObject(path, kSourceFlags);
  if (!from.ok()) {
    const bool gone =
        IsFileGone(mirror_->primary(), path, from.error()) && MayBeGone(path);
    return gone ? Outcome::kGone : Outcome::kLater;
  }
  const ErrnoOr<struct stat> truth = StatObject(*from);
  if (!truth.ok() && !IsAbsent(truth.error())) return Outcome::kLater;
  if (!truth.ok() || !S_ISREG(truth->st_mode)) return Outcome::kGone;
  const uint64_t region_bytes = mirror_->log().GetRegionSize();
  const uint64_t begin = range.first * region_bytes;
  const uint64_t limit = range.end * region_bytes;
  const uint64_t bytes = BytesIn(range, region_bytes, truth->st_size);
  Outcome outcome = Outcome::kHealed;
  const LegSet lost = LegsWithoutName(path);
  targets.ForEach([&](LegSlot slot) {
    Leg& leg = mirror_->leg(slot);
    if (lost.has(slot)) {
      outcome = Outcome::kLater;
      return;
    }
    const ErrnoOr<LegFd> to = leg.OpenObject(path, kTargetFlags);
    if (!to.ok() || !IsRegular(*to)) {
      if (to.ok() || IsGone(to.error())) NameIsMissing(path, slot);
      if (!to.ok()) Blame(leg, to.error());
      outcome = Outcome::kLater;
      return;
    }
    const ErrnoOr<struct stat> copy = StatObject(*to);
    if (copy.ok() && ForeignKeeper::HasForeignContent(leg, path, *copy)) {
      outcome = Outcome::kLater;
      return;
    }
    KillPoint("recovery-copy");
    CopyCount count;
    Errno error = copy.error();
    if (error.ok()) {
      error = CopyContent(*from, *to, begin, limit, buffers_, &count);
    }
    // The region counts as healed whole. What the leg has beyond the end would
    // be there again when the file grows past it.
    const bool ends_here = begin + bytes < limit;
    if (error.ok() && ends_here && copy->st_size > truth->st_size) {
      error = TruncateContent(*to, static_cast<uint64_t>(truth->st_size));
    }
    if (error.ok()) {
      // So that the disk works while more is copied, and little is left for the
      // sync at the end. Not for small files: they are better laid out at once.
      if (count.copied_bytes >= kPieceBytes) StartWriteback(*to, begin, bytes);
      progress_->Compared(slot, bytes, count.copied_bytes);
      return;
    }
    spdlog::warn("leg \"{}\": content of \"{}\": {}", leg.name(), path,
                 ErrnoText(error));
    progress_->setbacks.NoteError(slot, error);
    outcome = Outcome::kLater;
  });
  return outcome;
}

}  // namespace mirrorfs
