// SPDX-License-Identifier: GPL-2.0-or-later
#include "fuse/inode_table.h"

#include <algorithm>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "region/region_key.h"

namespace mirrorfs {
namespace {

// Where in an inode number stands how often all were given anew before.
constexpr int kShownShift = 56;

}  // namespace

InodeTable::InodeTable(ino_t root_ino) {
  Node* root = new Node;
  root->id = kRootNode;
  root->ino = root_ino;
  root->shown_ino = root_ino;
  root->lookups = 1;
  root->is_dir = true;
  by_id_.insert(root);
  by_ino_.insert(root);
}

InodeTable::~InodeTable() {
  for (Node* node : by_id_) delete node;
}

InodeTable::Node* InodeTable::Get(NodeId id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : *found;
}

InodeTable::Node* InodeTable::GetByIno(ino_t ino) const {
  const auto found = by_ino_.find(ino);
  return found == by_ino_.end() ? nullptr : *found;
}

InodeTable::Node* InodeTable::GetByName(const Node* parent,
                                        absl::string_view name) const {
  const auto found = by_name_.find(ByName::Key(parent, name));
  return found == by_name_.end() ? nullptr : *found;
}

// By its number; by its name, as long as its number on this primary is not
// known, which it is from now on, and when it is about to go: it may stay.
InodeTable::Node* InodeTable::FindNode(const Node* parent,
                                       absl::string_view name,
                                       const struct stat& st) {
  if (Node* node = GetByIno(st.st_ino)) return node;
  Node* node = parent == nullptr ? nullptr : GetByName(parent, name);
  if (node == nullptr || node->is_dir != S_ISDIR(st.st_mode)) return nullptr;
  if (node->ino == 0) return node;
  if (node->primary == primary_) return nullptr;
  AttachNode(node, st.st_ino);
  return node;
}

InodeTable::Node* InodeTable::NewNode(const struct stat& st,
                                      int64_t created_ns) {
  Node* node = new Node;
  node->id = next_id_++;
  node->shown_ino = ShownBy(nullptr, st.st_ino);
  node->is_dir = S_ISDIR(st.st_mode);
  node->created_ns = created_ns;
  by_id_.insert(node);
  AttachNode(node, st.st_ino);
  return node;
}

void InodeTable::AttachNode(Node* node, ino_t ino) {
  node->ino = ino;
  node->primary = primary_;
  by_ino_.insert(node);
}

void InodeTable::DetachNode(Node* node) {
  if (node->ino == 0) return;
  if (node->primary == primary_) by_ino_.erase(by_ino_.find(node->ino));
  node->ino = 0;
}

// What had it is gone from the primary. If it has a name still, that was not
// our doing, and the next primary may have it.
void InodeTable::LoseNumber(Node* node) {
  const ino_t ino = node->ino;
  DetachNode(node);
  if (node->name.parent == nullptr) return;
  node->ino = ino;
  node->primary = kNoPrimary;
  ++renumbered_;
}

NodeId InodeTable::Remember(NodeId parent, absl::string_view name,
                            const struct stat& st, int64_t created_ns) {
  std::lock_guard lock(mutex_);
  return RememberLocked(Get(parent), name, st, created_ns);
}

NodeId InodeTable::RememberFound(NodeId parent, absl::string_view name,
                                 const struct stat& st, uint64_t losses) {
  std::lock_guard lock(mutex_);
  if (times_lost_[LossCounterOf(parent, name)] != losses) return 0;
  return RememberLocked(Get(parent), name, st, 0);
}

uint64_t InodeTable::TimesLost(NodeId parent, absl::string_view name) const {
  std::lock_guard lock(mutex_);
  return times_lost_[LossCounterOf(parent, name)];
}

// In by_name_, too. Of two nodes the later one is what has the name.
void InodeTable::SetFirstName(Node* node, Name name) {
  if (node->name.parent != nullptr) {
    const auto found = by_name_.find(ByName::Of(node));
    if (found != by_name_.end() && *found == node) by_name_.erase(found);
  }
  node->name = std::move(name);
  if (node->name.parent == nullptr) return;
  const auto [at, added] = by_name_.insert(node);
  if (added) return;
  by_name_.erase(at);
  by_name_.insert(node);
}

NodeId InodeTable::RememberLocked(Node* parent, absl::string_view name,
                                  const struct stat& st, int64_t created_ns) {
  Node* node = FindNode(parent, name, st);
  if (node != nullptr && created_ns != 0) {
    LoseNumber(node);
    node = nullptr;
  }
  if (node == nullptr) node = NewNode(st, created_ns);
  ++node->lookups;
  node->linked |= !node->is_dir && st.st_nlink > 1;
  if (parent != nullptr) AddNameTo(node, parent, name);
  return node->id;
}

NodeId InodeTable::RememberUnnamed(const struct stat& st, int64_t created_ns) {
  std::lock_guard lock(mutex_);
  if (Node* stale = GetByIno(st.st_ino)) LoseNumber(stale);
  Node* node = NewNode(st, created_ns);
  ++node->lookups;
  return node->id;
}

void InodeTable::Forget(NodeId id, uint64_t lookups) {
  std::lock_guard lock(mutex_);
  Node* node = Get(id);
  if (node == nullptr || id == kRootNode) return;
  node->lookups -= std::min(lookups, node->lookups);
  Release(node);
}

void InodeTable::Release(Node* node) {
  // By number: the names of a file may lie in one directory, or one beneath
  // another, which is gone then when its turn comes again.
  absl::InlinedVector<NodeId, 4> pending = {node->id};
  const auto drop = [&](const Name& name) {
    --name.parent->children;
    pending.push_back(name.parent->id);
  };
  while (!pending.empty()) {
    node = Get(pending.back());
    pending.pop_back();
    if (node == nullptr || node->id == kRootNode || node->lookups > 0 ||
        node->children > 0 || node->openings > 0) {
      continue;
    }
    DetachNode(node);
    by_id_.erase(node);
    if (node->name.parent != nullptr) drop(node->name);
    SetFirstName(node, {});
    if (node->more_names) {
      for (const Name& name : *node->more_names) {
        more_names_.erase({name.parent, name.text});
        drop(name);
      }
    }
    delete node;
  }
}

void InodeTable::AddNameTo(Node* node, Node* parent, absl::string_view name) {
  const auto same = [&](const Name& one) {
    return one.parent == parent && one.text == name;
  };
  if (node->name.parent == nullptr) {
    SetFirstName(node, {parent, std::string(name)});
  } else if (node->is_dir) {
    // A directory has one name; an older one is of a move behind our back.
    if (same(node->name)) return;
    Node* old = node->name.parent;
    SetFirstName(node, {parent, std::string(name)});
    ++parent->children;
    --old->children;
    Release(old);
    return;
  } else {
    if (same(node->name)) return;
    if (!node->more_names) {
      node->more_names = std::make_unique<std::vector<Name>>();
    }
    if (std::any_of(node->more_names->begin(), node->more_names->end(), same)) {
      return;
    }
    node->more_names->push_back({parent, std::string(name)});
    more_names_.insert({parent, std::string(name)});
  }
  ++parent->children;
}

bool InodeTable::DropNameOf(Node* node, const Node* parent,
                            absl::string_view name) {
  const auto same = [&](const Name& one) {
    return one.parent == parent && one.text == name;
  };
  if (same(node->name)) {
    Name next;
    if (node->more_names) {
      next = std::move(node->more_names->back());
      node->more_names->pop_back();
      more_names_.erase({next.parent, next.text});
    }
    SetFirstName(node, std::move(next));
  } else if (node->more_names) {
    const auto found =
        std::find_if(node->more_names->begin(), node->more_names->end(), same);
    if (found == node->more_names->end()) return false;
    more_names_.erase({parent, found->text});
    node->more_names->erase(found);
  } else {
    return false;
  }
  if (node->more_names && node->more_names->empty()) node->more_names.reset();
  return true;
}

std::optional<std::string> InodeTable::PathOfNode(const Node* node) const {
  size_t length = 0;
  for (const Node* at = node; at->id != kRootNode; at = at->name.parent) {
    if (at->name.parent == nullptr) return std::nullopt;
    length += at->name.text.size() + 1;
  }
  if (length == 0) return std::string();
  std::string path(length - 1, '/');
  for (const Node* at = node; at->id != kRootNode; at = at->name.parent) {
    length -= at->name.text.size() + 1;
    path.replace(length, at->name.text.size(), at->name.text);
  }
  return path;
}

std::optional<std::string> InodeTable::PathOf(NodeId id) const {
  std::lock_guard lock(mutex_);
  const Node* node = Get(id);
  if (node == nullptr) return std::nullopt;
  return PathOfNode(node);
}

std::optional<std::string> InodeTable::PathOf(NodeId parent,
                                              absl::string_view name) const {
  std::optional<std::string> path = PathOf(parent);
  if (path) *path = JoinPath(*path, name);
  return path;
}

std::vector<std::string> InodeTable::OtherPathsOf(const Node* node) const {
  std::vector<std::string> paths;
  if (!node->more_names) return paths;
  for (const Name& name : *node->more_names) {
    const std::optional<std::string> dir = PathOfNode(name.parent);
    if (dir) paths.push_back(JoinPath(*dir, name.text));
  }
  return paths;
}

std::optional<ObjectRef> InodeTable::Ref(NodeId id) const {
  std::lock_guard lock(mutex_);
  const Node* node = Get(id);
  if (node == nullptr) return std::nullopt;
  ObjectRef ref;
  std::optional<std::string> path = PathOfNode(node);
  ref.named = path.has_value();
  if (path) ref.path = std::move(*path);
  ref.created_ns = node->created_ns;
  ref.open = node->open;
  ref.is_dir = node->is_dir;
  ref.linked = node->linked;
  ref.other_paths = OtherPathsOf(node);
  return ref;
}

ino_t InodeTable::ShownBy(const Node* node, ino_t ino) const {
  return node == nullptr ? ino + (ino_t{renumbered_} << kShownShift)
                         : node->shown_ino;
}

ino_t InodeTable::ShownIno(NodeId id, ino_t ino) const {
  std::lock_guard lock(mutex_);
  return ShownBy(Get(id), ino);
}

ino_t InodeTable::ShownInoOf(NodeId parent, absl::string_view name,
                             ino_t ino) const {
  std::lock_guard lock(mutex_);
  const Node* node = GetByName(Get(parent), name);
  return ShownBy(node == nullptr ? GetByIno(ino) : node, ino);
}

void InodeTable::Rekey(
    const std::function<ino_t(const std::string& path)>& ino_of) {
  std::vector<std::pair<NodeId, std::vector<std::string>>> several;
  {
    std::lock_guard lock(mutex_);
    ++primary_;
    ++renumbered_;
    by_ino_.clear();
    for (Node* node : by_id_) {
      if (node->ino == 0) continue;  // its last name is about to go
      if (!node->linked && node->id != kRootNode) continue;
      std::vector<std::string> paths = OtherPathsOf(node);
      if (auto path = PathOfNode(node)) paths.push_back(*path);
      if (!paths.empty()) several.emplace_back(node->id, std::move(paths));
    }
  }
  for (const auto& [id, paths] : several) {
    ino_t ino = 0;
    for (const std::string& path : paths) {
      if (ino == 0) ino = ino_of(path);
    }
    if (ino != 0) {
      LearnIno(id, ino);
    } else if (id != kRootNode) {
      Disown(id);
    }
  }
}

// By another of its names the file would be found again as another node, and
// who has this one open would change it under names that are not its own.
void InodeTable::Disown(NodeId id) {
  std::lock_guard lock(mutex_);
  Node* node = Get(id);
  if (node == nullptr) return;
  if (node->open) node->open->NoteBehind(LegSet(UINT64_MAX));
  DetachNode(node);
  while (Node* parent = node->name.parent) {
    const std::string name = node->name.text;
    DropNameOf(node, parent, name);
    --parent->children;
    Release(parent);
  }
}

bool InodeTable::LiesIn(NodeId id, NodeId ancestor) const {
  std::lock_guard lock(mutex_);
  const auto leads_there = [&](const Node* node) {
    while (node != nullptr && node->id != ancestor) node = node->name.parent;
    return node != nullptr;
  };
  const Node* node = Get(id);
  if (node == nullptr) return false;
  bool any = leads_there(node);
  if (!node->more_names) return any;
  for (const Name& name : *node->more_names) any |= leads_there(name.parent);
  return any;
}

void InodeTable::LearnIno(NodeId id, ino_t ino) {
  std::lock_guard lock(mutex_);
  Node* node = Get(id);
  if (node == nullptr || node->ino == 0 || node->primary == primary_) return;
  if (GetByIno(ino) == nullptr) AttachNode(node, ino);
}

NodeId InodeTable::Find(NodeId parent, absl::string_view name,
                        const struct stat& st) {
  std::lock_guard lock(mutex_);
  const Node* node = FindNode(Get(parent), name, st);
  return node == nullptr ? 0 : node->id;
}

bool InodeTable::IsKnown(NodeId parent_id, absl::string_view name) const {
  std::lock_guard lock(mutex_);
  const Node* parent = Get(parent_id);
  if (parent == nullptr) return false;
  return GetByName(parent, name) != nullptr ||
         more_names_.contains({parent, std::string(name)});
}

std::string InodeTable::AnyPathIn(NodeId dir_id) const {
  std::lock_guard lock(mutex_);
  const Node* dir = Get(dir_id);
  if (dir == nullptr || dir->children == 0) return "";
  const auto path_of = [&](absl::string_view name) {
    const std::optional<std::string> path = PathOfNode(dir);
    return path ? JoinPath(*path, name) : "";
  };
  for (const Node* node : by_name_) {
    if (node->name.parent == dir) return path_of(node->name.text);
  }
  for (const auto& [parent, name] : more_names_) {
    if (parent == dir) return path_of(name);
  }
  return "";
}

void InodeTable::AddName(NodeId id, NodeId parent_id, absl::string_view name) {
  std::lock_guard lock(mutex_);
  Node* node = Get(id);
  Node* parent = Get(parent_id);
  if (node == nullptr || parent == nullptr) return;
  node->linked |= node->name.parent != nullptr;
  AddNameTo(node, parent, name);
}

NodeId InodeTable::NoteDirectory(NodeId parent_id, absl::string_view name,
                                 const struct stat& st) {
  std::lock_guard lock(mutex_);
  Node* parent = Get(parent_id);
  if (parent == nullptr) return 0;
  Node* node = FindNode(parent, name, st);
  if (node == nullptr) node = NewNode(st, 0);
  AddNameTo(node, parent, name);
  return node->id;
}

void InodeTable::RemoveName(NodeId id, NodeId parent_id,
                            absl::string_view name) {
  std::lock_guard lock(mutex_);
  ++times_lost_[LossCounterOf(parent_id, name)];
  Node* parent = Get(parent_id);
  Node* node = Get(id);
  if (node == nullptr || parent == nullptr) return;
  if (DropNameOf(node, parent, name)) {
    --parent->children;
    Release(parent);
  }
}

void InodeTable::Detach(NodeId id) {
  std::lock_guard lock(mutex_);
  if (Node* node = Get(id)) DetachNode(node);
}

void InodeTable::Reattach(NodeId id, ino_t ino) {
  std::lock_guard lock(mutex_);
  Node* node = Get(id);
  if (node == nullptr || node->ino != 0 || GetByIno(ino) != nullptr) return;
  AttachNode(node, ino);
}

void InodeTable::MoveName(NodeId id, NodeId parent_id, absl::string_view name,
                          NodeId new_parent_id, absl::string_view new_name) {
  std::lock_guard lock(mutex_);
  ++times_lost_[LossCounterOf(parent_id, name)];
  Node* node = Get(id);
  Node* parent = Get(parent_id);
  Node* new_parent = Get(new_parent_id);
  if (node == nullptr || parent == nullptr) return;
  const bool dropped = DropNameOf(node, parent, name);
  if (new_parent != nullptr) AddNameTo(node, new_parent, new_name);
  if (!dropped) return;
  --parent->children;
  Release(parent);
}

std::string InodeTable::OtherPath(NodeId id, NodeId parent_id,
                                  absl::string_view name) const {
  std::lock_guard lock(mutex_);
  const Node* node = Get(id);
  if (node == nullptr || !node->more_names) return "";
  const Node* parent = Get(parent_id);
  const auto is_other = [&](const Name& one) {
    return one.parent != parent || one.text != name;
  };
  const Name& other =
      is_other(node->name) ? node->name : node->more_names->front();
  const std::optional<std::string> dir = PathOfNode(other.parent);
  return dir ? JoinPath(*dir, other.text) : "";
}

std::shared_ptr<OpenFile> InodeTable::NewOpenFile() const {
  return std::make_shared<OpenFile>();
}

std::shared_ptr<OpenFile> InodeTable::Open(NodeId id,
                                           std::shared_ptr<OpenFile> fresh) {
  std::lock_guard lock(mutex_);
  Node* node = Get(id);
  if (node == nullptr) return nullptr;
  if (!node->open) node->open = std::move(fresh);
  if (node->openings++ == 0) open_.insert(node);
  return node->open;
}

void InodeTable::Close(NodeId id) {
  std::shared_ptr<OpenFile> closed;  // its descriptors, outside the lock
  std::lock_guard lock(mutex_);
  Node* node = Get(id);
  if (node == nullptr || node->openings == 0) return;
  if (--node->openings == 0) {
    closed = std::move(node->open);
    open_.erase(node);
  }
  Release(node);
}

std::vector<NodeId> InodeTable::OpenNodes() const {
  std::lock_guard lock(mutex_);
  std::vector<NodeId> open;
  open.reserve(open_.size());
  for (const Node* node : open_) open.push_back(node->id);
  return open;
}

std::vector<std::shared_ptr<OpenFile>> InodeTable::OpenFiles() const {
  std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<OpenFile>> files;
  files.reserve(open_.size());
  for (const Node* node : open_) files.push_back(node->open);
  return files;
}

size_t InodeTable::size() const {
  std::lock_guard lock(mutex_);
  return by_id_.size();
}

}  // namespace mirrorfs
