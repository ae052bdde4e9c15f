// SPDX-License-Identifier: GPL-2.0-or-later
//
// Which names of a directory are healed, in which order and when. Applications
// are held off from a directory while names of it are healed; there may be many
// of them and the leg may be slow, so that is done in parts. What applications
// change between two parts the gate remembers: on legs that lack the names they
// change nothing, so it is healed with the rest.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <shared_mutex>

#include "absl/container/flat_hash_set.h"
#include "absl/time/clock.h"
#include "base/kill_point.h"
#include "leg/walk.h"
#include "recovery/healer.h"

namespace mirrorfs {
namespace {

// How long applications are held off at a time, at first, and how long they are
// let in between.
constexpr absl::Duration kPart = absl::Milliseconds(20);
constexpr absl::Duration kBetweenParts = absl::Milliseconds(1);

}  // namespace

struct Healer::NamesToDo {
  Leg* leg;
  std::deque<std::string> names;
  // Files with several names, after the rest: which of the others can be
  // followed depends on the directories that lie in this one.
  std::deque<std::string> linked;
  // The first. What cannot be done for one name, such as to keep what somebody
  // else put there, is no reason not to do the rest.
  Errno error;
  bool given_up = false;
  bool no_directory = false;  // on the primary

  bool done() const { return given_up || (names.empty() && linked.empty()); }
  void GiveUp(Errno why) {
    if (error.ok()) error = why;
    given_up = true;
  }
};

bool Healer::HealEntries(const DirtyLog::Work& work, LegSet targets) {
  RegionGate& gate = mirror_->gate();
  const std::vector<RegionKey> held = {work.key};
  const uint64_t epoch = mirror_->legs().primary_epoch();
  absl::Duration part = kPart;
  std::vector<NamesToDo> todo;
  size_t healed_names = 0;
  LegSet healed;
  gate.StartTrail(work.key.path, targets);
  for (bool first = true, over = false; !over && !*stopping_; first = false) {
    std::shared_lock names(mirror_->names_lock());
    gate.StartRecovery(held);
    if (first) todo = BeginNames(work, targets);
    const RegionGate::NamesTrail trail = gate.TakeTrail();
    // Or they would never be done.
    if (trail.names.size() > healed_names) part *= 2;
    healed_names = 0;
    for (NamesToDo& one : todo) {
      if (trail.moved || !AreUp(targets)) one.GiveUp(Errno(EAGAIN));
      AddChanged(work.key.path, trail.names, &one);
      healed_names += HealNames(work, part, &one);
      // Inodes of two primaries were compared.
      if (mirror_->legs().primary_epoch() != epoch) one.GiveUp(Errno(EAGAIN));
    }
    over = std::all_of(todo.begin(), todo.end(), std::mem_fn(&NamesToDo::done));
    if (over) healed = FinishNames(work, todo);
    // Before anybody changes a name that a leg is not known to lack any more.
    if (over) gate.EndTrail();
    gate.FinishRecovery(held);
    names.unlock();
    if (!over) absl::SleepFor(kBetweenParts);
  }
  gate.EndTrail();  // also when it was stopped
  return healed == targets;
}

// With the directory held, once: from here on the log watches what legs miss
// that the trail does not tell of.
std::vector<Healer::NamesToDo> Healer::BeginNames(const DirtyLog::Work& work,
                                                  LegSet targets) {
  mirror_->log().StartCopy(work.key);
  KillPoint("recovery-names");
  names_healed_.clear();
  std::vector<NamesToDo> todo;
  if (!AreUp(targets)) return todo;
  targets.ForEach([&](LegSlot slot) {
    todo.push_back({.leg = &mirror_->leg(slot)});
    const Errno error = ListNamesToDo(work.key.path, &todo.back());
    if (!error.ok()) todo.back().GiveUp(error);
  });
  return todo;
}

Errno Healer::ListNamesToDo(const std::string& dir, NamesToDo* todo) {
  Leg& leg = *todo->leg;
  const ErrnoOr<struct stat> truth = Truth(dir);
  if (!truth.ok() || !S_ISDIR(truth->st_mode)) {
    // Gone, and that its parent's entries say.
    todo->no_directory = true;
    if (!truth.ok() && !IsAbsent(truth.error())) return truth.error();
    return mirror_->FailIfNameIsGone(dir) ? Errno(EAGAIN) : kOk;
  }
  const ErrnoOr<struct stat> copy = leg.Stat(dir);
  if (!copy.ok() || !S_ISDIR(copy->st_mode)) {
    NameIsMissing(dir, leg.slot());
    return Errno(ENOENT);
  }
  // The first name that changes hides that it was moved to there.
  NoteIfForeign(leg, dir, *copy);
  const auto entries = FromPrimary(mirror_->ListDir(dir));
  if (!entries.ok()) return entries.error();
  std::vector<std::string> wanted;
  for (const DirEntry& entry : *entries) wanted.push_back(entry.name);
  const ErrnoOr<std::vector<std::string>> present = ListNames(leg, dir);
  if (!present.ok()) return present.error();
  // What has to go goes first: it may be in the way, or another name of what
  // stays.
  const absl::flat_hash_set<std::string> keep(wanted.begin(), wanted.end());
  for (const std::string& name : *present) {
    if (!keep.contains(name)) todo->names.push_back(name);
  }
  std::sort(wanted.begin(), wanted.end());
  todo->names.insert(todo->names.end(), wanted.begin(), wanted.end());
  return kOk;
}

// Names that applications have changed, maybe, since the last part.
void Healer::AddChanged(const std::string& dir,
                        const std::vector<std::string>& names,
                        NamesToDo* todo) {
  for (const std::string& name : names) {
    const std::string path = JoinPath(dir, name);
    names_healed_[todo->leg->slot()].erase(path);
    if (Truth(path).ok()) {
      todo->names.push_back(name);
    } else {
      todo->names.push_front(name);
    }
  }
}

// Whether the next name is to be healed after that; `first` is the first error.
// No more names when it is another name's, too, and to be tried again.
bool Healer::GoesOn(const Leg& leg, const std::string& path, Errno error,
                    Errno* first) const {
  if (error.ok()) return true;
  if (first->ok()) *first = error;
  if (error == Errno(EAGAIN)) return false;
  spdlog::warn("leg \"{}\": healing \"{}\": {}", leg.name(), path,
               ErrnoText(error));
  return !IsItsFailure(error);
}

// As many as can be done in `time`, but one at least. Answers how many.
size_t Healer::HealNames(const DirtyLog::Work& work, absl::Duration time,
                         NamesToDo* todo) {
  Leg& leg = *todo->leg;
  const absl::Time end = absl::Now() + time;
  size_t count = 0;
  for (; !todo->done() && (count == 0 || absl::Now() < end); ++count) {
    const bool only_linked = todo->names.empty();
    std::deque<std::string>& from = only_linked ? todo->linked : todo->names;
    const std::string name = std::move(from.front());
    from.pop_front();
    const std::string path = JoinPath(work.key.path, name);
    const ErrnoOr<struct stat> truth = Truth(path);
    const bool gone = !truth.ok() && IsAbsent(truth.error());
    if (!only_linked && !gone &&
        (IsOneOfSeveral(truth) || IsOneOfSeveral(leg.Stat(path)))) {
      todo->linked.push_back(name);
      continue;
    }
    const Errno error =
        gone ? RemoveGone(leg, path) : HealName(work, leg, path);
    todo->given_up = !GoesOn(leg, path, error, &todo->error);
    if (error.ok()) names_healed_[leg.slot()].insert(path);
  }
  // What has a name there may be another file by now, also where it kept its
  // place and got other content.
  if (count > 0) leg.NamesReplaced();
  return count;
}

// When all are done. Answers the legs that have the names now.
LegSet Healer::FinishNames(const DirtyLog::Work& work,
                           const std::vector<NamesToDo>& todo) {
  LegSet healed;
  for (const NamesToDo& one : todo) {
    const LegSet leg = LegSet::Of(one.leg->slot());
    if (one.error.ok()) {
      healed |= leg;
      // Its own times changed with its names.
      RegionRecord attributes;
      attributes.directory = true;
      attributes.missing = one.no_directory ? LegSet() : leg;
      mirror_->log().MarkRegion(RegionKey::Attributes(work.key.path),
                                attributes);
      continue;
    }
    Blame(*one.leg, one.error);
    if (one.error == Errno(EAGAIN)) continue;
    spdlog::warn("leg \"{}\": healing directory \"{}\": {}", one.leg->name(),
                 work.key.path, ErrnoText(one.error));
  }
  if (!healed.empty()) mirror_->log().SetRegionSync(work.key, healed, true);
  return healed;
}

}  // namespace mirrorfs
