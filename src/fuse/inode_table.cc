// SPDX-License-Identifier: GPL-2.0-or-later
#include "fuse/inode_table.h"

#include <algorithm>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "region/region_key.h"

namespace mirrorfs {
namespace {

// Where in an inode number stands how many primaries there were before.
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

InodeTable::Node* InodeTable::NewNode(const struct stat& st,
                                      int64_t created_ns) {
  Node* node = new Node;
  node->id = next_id_++;
  node->ino = st.st_ino;
  node->shown_ino = st.st_ino + (rekeyings_ << kShownShift);
  node->is_dir = S_ISDIR(st.st_mode);
  node->created_ns = created_ns;
  by_id_.insert(node);
  by_ino_.insert(node);
  return node;
}

void InodeTable::DetachNode(Node* node) {
  if (node->ino == 0) return;
  by_ino_.erase(by_ino_.find(node->ino));
  node->ino = 0;
}

NodeId InodeTable::Remember(NodeId parent_id, absl::string_view name,
                            const struct stat& st, int64_t created_ns) {
  std::lock_guard lock(mutex_);
  Node* parent = Get(parent_id);
  Node* node = GetByIno(st.st_ino);
  if (node != nullptr && created_ns != 0) {
    DetachNode(node);
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
  if (Node* stale = GetByIno(st.st_ino)) DetachNode(stale);
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
    if (node->more_names) {
      std::for_each(node->more_names->begin(), node->more_names->end(), drop);
    }
    delete node;
  }
}

void InodeTable::AddNameTo(Node* node, Node* parent, absl::string_view name) {
  const auto same = [&](const Name& one) {
    return one.parent == parent && one.text == name;
  };
  if (node->name.parent == nullptr) {
    node->name = {parent, std::string(name)};
  } else if (node->is_dir) {
    // A directory has one name; an older one is of a move behind our back.
    if (same(node->name)) return;
    Node* old = node->name.parent;
    node->name = {parent, std::string(name)};
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
  }
  ++parent->children;
}

bool InodeTable::DropNameOf(Node* node, const Node* parent,
                            absl::string_view name) {
  const auto same = [&](const Name& one) {
    return one.parent == parent && one.text == name;
  };
  if (same(node->name)) {
    node->name = {};
    if (node->more_names) {
      node->name = std::move(node->more_names->back());
      node->more_names->pop_back();
    }
  } else if (node->more_names) {
    const auto found =
        std::find_if(node->more_names->begin(), node->more_names->end(), same);
    if (found == node->more_names->end()) return false;
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
  if (node->more_names) {
    for (const Name& name : *node->more_names) {
      const std::optional<std::string> dir = PathOfNode(name.parent);
      if (dir) ref.other_paths.push_back(JoinPath(*dir, name.text));
    }
  }
  return ref;
}

ino_t InodeTable::ShownBy(const Node* node, ino_t ino) const {
  return node == nullptr ? ino + (rekeyings_ << kShownShift) : node->shown_ino;
}

ino_t InodeTable::ShownIno(NodeId id, ino_t ino) const {
  std::lock_guard lock(mutex_);
  return ShownBy(Get(id), ino);
}

ino_t InodeTable::ShownInoOf(ino_t ino) const {
  std::lock_guard lock(mutex_);
  return ShownBy(GetByIno(ino), ino);
}

void InodeTable::Rekey(
    const std::function<ino_t(const std::string& path)>& ino_of) {
  std::vector<std::pair<NodeId, std::string>> named;
  {
    std::lock_guard lock(mutex_);
    ++rekeyings_;
    for (Node* node : by_id_) {
      if (node->ino == 0) continue;  // its last name is about to go
      if (auto path = PathOfNode(node)) named.emplace_back(node->id, *path);
    }
    by_ino_.clear();
    for (Node* node : by_id_) node->ino = 0;
  }
  for (const auto& [id, path] : named) {
    const ino_t ino = ino_of(path);
    if (ino != 0) Reattach(id, ino);
  }
}

NodeId InodeTable::FindIno(ino_t ino) const {
  std::lock_guard lock(mutex_);
  const Node* node = GetByIno(ino);
  return node == nullptr ? 0 : node->id;
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
  Node* node = GetByIno(st.st_ino);
  if (node == nullptr) node = NewNode(st, 0);
  AddNameTo(node, parent, name);
  return node->id;
}

void InodeTable::RemoveName(NodeId id, NodeId parent_id,
                            absl::string_view name) {
  std::lock_guard lock(mutex_);
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
  node->ino = ino;
  by_ino_.insert(node);
}

void InodeTable::MoveName(NodeId id, NodeId parent_id, absl::string_view name,
                          NodeId new_parent_id, absl::string_view new_name) {
  std::lock_guard lock(mutex_);
  Node* node = Get(id);
  Node* parent = Get(parent_id);
  Node* new_parent = Get(new_parent_id);
  if (node == nullptr || parent == nullptr || new_parent == nullptr) return;
  const bool dropped = DropNameOf(node, parent, name);
  AddNameTo(node, new_parent, new_name);
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
