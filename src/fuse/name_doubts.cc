// SPDX-License-Identifier: GPL-2.0-or-later
#include "fuse/name_doubts.h"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <utility>

#include "base/thread.h"

namespace mirrorfs {
namespace {

// A leg that is gone as a whole, and answers no request.
bool DoesNotAnswer(Errno error) {
  return error == Errno(ETIMEDOUT) || error == Errno(ENOTCONN) ||
         error == Errno(ECONNABORTED);
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
    switch (Ask(doubt)) {
      case Answer::kLater:
        return false;
      case Answer::kNotMade:
        break;
      case Answer::kMade:
        NoteMade(doubt);
        Tell(doubt);
        break;
      case Answer::kNobodyKnows:
        nodes_->Disown(doubt.from.id);
        if (doubt.to) nodes_->Disown(doubt.to->id);
        Tell(doubt);
        break;
    }
    std::lock_guard lock(mutex_);
    doubts_.erase(doubts_.begin());
  }
}

// A leg that has become the primary since has other numbers; it has caught up
// with the change if that was made.
NameDoubts::Answer NameDoubts::Ask(const NameDoubt& doubt) {
  const auto path = nodes_->PathOf(doubt.from.parent, doubt.from.name);
  if (!path) return Answer::kNotMade;
  const ErrnoOr<struct stat> now = mirror_->StatPath(*path);
  if (!now.ok() && IsAbsent(now.error())) return Answer::kMade;
  if (!now.ok()) {
    return DoesNotAnswer(now.error()) ? Answer::kLater : Answer::kNobodyKnows;
  }
  if (mirror_->legs().primary_epoch() != doubt.primary_epoch) {
    return doubt.exchange ? Answer::kNobodyKnows : Answer::kNotMade;
  }
  return now->st_ino == doubt.ino ? Answer::kNotMade : Answer::kMade;
}

// The kernel may be about to answer others who wait for the directory, so it is
// told by nobody whom they may wait for.
void NameDoubts::Tell(const NameDoubt& doubt) {
  if (!is_telling()) JoinTellers();
  std::lock_guard lock(mutex_);
  if (!tell_kernel_ || tells_no_more_) return;
  try {
    ++telling_;
    told_of_.push_back(doubt.from.id);
    if (doubt.to) told_of_.push_back(doubt.to->id);
    tellers_.push_back(StartThread("names", [this, doubt] {
      tell_kernel_(doubt.from.parent, doubt.from.name);
      if (doubt.to) tell_kernel_(doubt.to->parent, doubt.to->name);
      std::lock_guard lock(mutex_);
      if (--telling_ == 0) told_of_.clear();
      told_.notify_all();
    }));
  } catch (const std::system_error&) {
    --telling_;  // it will see when what it knows is too old
  }
}

bool NameDoubts::IsTellingOf(NodeId id) {
  std::lock_guard lock(mutex_);
  return telling_ > 0 &&
         std::any_of(told_of_.begin(), told_of_.end(),
                     [&](NodeId one) { return nodes_->LiesIn(id, one); });
}

void NameDoubts::WaitUntilTold() {
  std::unique_lock lock(mutex_);
  told_.wait_for(lock, std::chrono::seconds(1),
                 [this] { return telling_ == 0; });
}

void NameDoubts::StopTelling() {
  {
    std::lock_guard lock(mutex_);
    tells_no_more_ = true;
  }
  JoinTellers();
}

void NameDoubts::JoinTellers() {
  std::vector<std::thread> tellers;
  {
    std::lock_guard lock(mutex_);
    tellers.swap(tellers_);
  }
  for (std::thread& teller : tellers) teller.join();
}

void NameDoubts::NoteMade(const NameDoubt& doubt) {
  const NodeId loses = doubt.to ? doubt.to->id : doubt.from.id;
  if (doubt.last) nodes_->Detach(loses);
  if (!doubt.to) {
    nodes_->RemoveName(doubt.from.id, doubt.from.parent, doubt.from.name);
    return;
  }
  const auto from = nodes_->PathOf(doubt.from.parent, doubt.from.name);
  const auto to = nodes_->PathOf(doubt.to->parent, doubt.to->name);
  NoteRenamed(*nodes_, doubt.from, *doubt.to, doubt.exchange);
  if (from && to) mirror_->NoteRenamed(*from, *to, doubt.exchange);
}

}  // namespace mirrorfs
