// SPDX-License-Identifier: GPL-2.0-or-later
#include "fuse/name_doubts.h"

#include <chrono>
#include <system_error>
#include <utility>

#include "base/thread.h"

namespace mirrorfs {
namespace {

void NoteRemoved(InodeTable& nodes, const NamePlace& place) {
  nodes.RemoveName(place.id, place.parent, place.name);
  if (!nodes.PathOf(place.id)) nodes.Detach(place.id);
}

}  // namespace

void NoteRenamed(InodeTable& nodes, const NamePlace& from, const NamePlace& to,
                 bool exchange) {
  if (!exchange && to.id != 0 && from.id != to.id) {
    nodes.RemoveName(to.id, to.parent, to.name);
  }
  nodes.MoveName(from.id, from.parent, from.name, to.parent, to.name);
  if (exchange) {
    nodes.MoveName(to.id, to.parent, to.name, from.parent, from.name);
  }
}

void NameDoubts::Add(NameDoubt doubt) {
  doubt.primary_epoch = mirror_->legs().primary_epoch();
  std::lock_guard lock(mutex_);
  doubts_.push_back(std::move(doubt));
  any_.store(true, std::memory_order_release);
}

bool NameDoubts::Settle() {
  const std::unique_lock names(mirror_->names_lock());
  for (;;) {
    NameDoubt doubt;
    {
      std::lock_guard lock(mutex_);
      any_.store(!doubts_.empty(), std::memory_order_release);
      if (doubts_.empty()) return true;
      doubt = doubts_.front();
    }
    const std::optional<bool> made = IsMade(doubt);
    if (!made) return false;
    if (*made) {
      NoteMade(doubt);
      Tell(doubt);
    }
    std::lock_guard lock(mutex_);
    doubts_.erase(doubts_.begin());
  }
}

// A leg that has become the primary since has other numbers; it has caught up
// with the change if that was made.
std::optional<bool> NameDoubts::IsMade(const NameDoubt& doubt) {
  const auto path = nodes_->PathOf(doubt.from.parent, doubt.from.name);
  if (!path) return false;
  const ErrnoOr<struct stat> now = mirror_->StatPath(*path);
  if (!now.ok()) {
    return IsGone(now.error()) ? std::optional(true) : std::nullopt;
  }
  const bool same_primary =
      mirror_->legs().primary_epoch() == doubt.primary_epoch;
  return same_primary && now->st_ino != doubt.ino;
}

void NameDoubts::Tell(const NameDoubt& doubt) {
  if (!tell_kernel_) return;
  std::lock_guard lock(mutex_);
  try {
    ++telling_;
    tellers_.push_back(StartThread("names", [this, doubt] {
      tell_kernel_(doubt.from.parent, doubt.from.name);
      if (doubt.to) tell_kernel_(doubt.to->parent, doubt.to->name);
      std::lock_guard lock(mutex_);
      --telling_;
      told_.notify_all();
    }));
  } catch (const std::system_error&) {
    --telling_;  // it will see when what it knows is too old
  }
}

void NameDoubts::WaitUntilTold() {
  std::unique_lock lock(mutex_);
  told_.wait_for(lock, std::chrono::seconds(1),
                 [this] { return telling_ == 0; });
}

void NameDoubts::StopTelling() {
  std::vector<std::thread> tellers;
  {
    std::lock_guard lock(mutex_);
    tellers.swap(tellers_);
  }
  for (std::thread& teller : tellers) teller.join();
}

void NameDoubts::NoteMade(const NameDoubt& doubt) {
  if (!doubt.to) return NoteRemoved(*nodes_, doubt.from);
  const auto from = nodes_->PathOf(doubt.from.parent, doubt.from.name);
  const auto to = nodes_->PathOf(doubt.to->parent, doubt.to->name);
  NoteRenamed(*nodes_, doubt.from, *doubt.to, doubt.exchange);
  if (!nodes_->PathOf(doubt.to->id)) nodes_->Detach(doubt.to->id);
  if (from && to) mirror_->NoteRenamed(*from, *to, doubt.exchange);
}

}  // namespace mirrorfs
