// SPDX-License-Identifier: GPL-2.0-or-later
//
// Heals one region on the legs that lack it. Compares before it copies, keeps
// holes, and never writes through a name that could be another file's: where a
// file of the target is not certain to be the primary's, it is replaced by a
// new one (made in .mirrorfs, then renamed), not overwritten.
//
//   entries     names and types are made right; what was moved is moved on the
//               leg, too, if the log knows from where; what is new there is
//               made as an empty placeholder; the attributes and content of
//               both become regions of their own
//   attributes  mode, owner, xattrs, size, times; then, where the record has a
//               tail, the file's content region by region; then again the
//               attributes, which the copying changed
//   data        one region of content
//
// Threads: one healer for each; they share the rest.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"
#include "dirtylog/dirty_log.h"
#include "leg/copy_object.h"
#include "leg/leg.h"
#include "mirror/mirror.h"
#include "recovery/foreign_keeper.h"
#include "recovery/link_index.h"
#include "recovery/pacer.h"
#include "recovery/progress.h"

namespace mirrorfs {

class Healer {
 public:
  Healer(Mirror* mirror, LinkIndex* links, HealProgress* progress, Pacer* pacer,
         ForeignKeeper* keeper, const std::atomic<bool>* stopping);

  // False when it could not be healed (now); the region stays as it was.
  bool Heal(const DirtyLog::Work& work);

 private:
  bool HealOn(const DirtyLog::Work& work, LegSet targets);
  bool MayBeGone(const std::string& path);
  bool IsLackedByAll(const RegionKey& key, LegSet targets) const;

  // --- heal_directory.cc ---
  // What is to be done of a directory's names on one leg.
  struct NamesToDo;
  bool HealEntries(const DirtyLog::Work& work, LegSet targets);
  std::vector<NamesToDo> BeginNames(const DirtyLog::Work& work, LegSet targets);
  Errno ListNamesToDo(const std::string& dir, NamesToDo* todo);
  void AddChanged(const std::string& dir, const std::vector<std::string>& names,
                  NamesToDo* todo);
  bool GoesOn(const Leg& leg, const std::string& path, Errno error,
              Errno* first) const;
  size_t HealNames(const DirtyLog::Work& work, absl::Duration time,
                   NamesToDo* todo);
  LegSet FinishNames(const DirtyLog::Work& work,
                     const std::vector<NamesToDo>& todo);

  // --- heal_entries.cc ---
  static bool IsOneOfSeveral(const ErrnoOr<struct stat>& st);
  bool IsHealed(const Leg& leg, absl::string_view path) const;
  // What the primary does not have.
  Errno RemoveGone(Leg& leg, const std::string& path);
  Errno HealName(const DirtyLog::Work& work, Leg& leg, const std::string& path);
  bool IsSettled(const DirtyLog::Work& work, const Leg& leg,
                 const std::string& path, const std::string& other);
  bool IsStillToCome(const DirtyLog::Work& work, const Leg& leg,
                     const std::string& path) const;
  Errno Follow(const DirtyLog::Work& work, Leg& leg, const std::string& path,
               const std::string& other, const struct stat& truth,
               bool* followed);
  Errno HealLinks(const DirtyLog::Work& work, Leg& leg, const std::string& path,
                  const struct stat& truth, bool* made);
  void LookAgain(const DirtyLog::Work& work, const Leg& leg,
                 const std::vector<std::string>& names);
  Errno LookAtThoseApart(const DirtyLog::Work& work, Leg& leg,
                         const std::string& path, const struct stat& truth,
                         const std::vector<std::string>& names);
  Errno MakeAnew(Leg& leg, const std::string& path, const struct stat& truth,
                 const std::string& at);
  Errno PutInPlace(Leg& leg, const std::string& temporary,
                   const std::string& path);
  Errno ReplaceByNew(Leg& leg, const std::string& path,
                     const struct stat& truth);
  void LacksWhole(const std::string& path, const struct stat& truth, Leg& leg,
                  bool tree);

  // --- heal_moved.cc ---
  Errno RemoveNames(Leg& leg, const std::string& path);
  ErrnoOr<bool> PutAside(Leg& leg, const std::string& path,
                         const struct stat& st);
  void NoteMove(Leg& leg, const std::string& from, const std::string& to,
                const struct stat& st);
  std::string FindMoved(Leg& leg, const std::string& path);
  Errno BringMoved(const DirtyLog::Work& work, Leg& leg,
                   const std::string& path, bool* brought);

  // What has the name on the leg, if anything, is about to be replaced.
  Errno KeepForeign(Leg& leg, const std::string& path);

  // --- heal_file.cc ---
  // Before a file is written in place. Answers whether all of it may have to
  // be.
  ErrnoOr<bool> KeepForeign(const std::string& path, LegSet targets);
  // kMore: more came to be lacked meanwhile.
  enum class Outcome { kHealed, kGone, kLater, kMore };
  bool HealAttributes(const DirtyLog::Work& work, LegSet targets);
  bool HealData(const DirtyLog::Work& work, LegSet targets);
  Outcome EqualizeAttributes(const RegionKey& key, LegSet targets, bool last);
  LegSet LegsWithoutName(const std::string& path);
  // Attributes only, while changes are held off.
  bool EqualizeBy(const std::string& path, LegSet targets);
  bool EqualizeOn(Leg& leg, const std::string& path, const LegFd& from);
  bool TailIsHealed(const RegionKey& key, const LegFd& file, LegSet targets);
  Outcome HealTail(const RegionKey& key, LegSet targets);
  uint64_t SkipHoles(const RegionKey& key, uint64_t index, LegSet targets);
  uint64_t RegionWithData(const Leg& leg, const std::string& path,
                          uint64_t index) const;
  // `size`: the file's, bytes, for the pace. `healed` is called while changes
  // of the region are still held off.
  Outcome HealRegions(const std::string& path, RegionRange range, uint64_t size,
                      LegSet targets, const std::function<void()>& healed);
  Outcome CopyRegions(const std::string& path, RegionRange range,
                      LegSet targets);
  bool AreUp(LegSet targets) const;
  // The primary's answer. If it cannot give one, and no other leg can, that is
  // no failure of the leg that is to be healed.
  template <typename T>
  ErrnoOr<T> FromPrimary(ErrnoOr<T> answer) {
    if (!answer.ok() && IsLegFailure(answer.error())) {
      primary_error_ = answer.error();
    }
    return answer;
  }
  ErrnoOr<struct stat> Truth(const std::string& path) {
    return FromPrimary(mirror_->StatPath(path));
  }
  // Whether an error that came of healing a leg can only be its own.
  bool IsItsFailure(Errno error) const {
    return IsLegFailure(error) && error != primary_error_;
  }
  // That came of healing the leg; it may be one that takes it out.
  void Blame(const Leg& leg, Errno error);
  // The name is not on the leg although the log thought so.
  void NameIsMissing(const std::string& path, LegSlot slot);

  Mirror* const mirror_;
  LinkIndex* const links_;
  HealProgress* const progress_;
  Pacer* const pacer_;
  ForeignKeeper* const keeper_;
  const std::atomic<bool>* const stopping_;
  CallBuffer buffers_[2] = {CallBuffer(kCopyBufferBytes),
                            CallBuffer(kCopyBufferBytes)};
  Errno primary_error_;  // the last, since the region was begun
  // Paths of the directory in work that are right, by leg.
  absl::flat_hash_map<LegSlot, absl::flat_hash_set<std::string>> names_healed_;
};

}  // namespace mirrorfs
