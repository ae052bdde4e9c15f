// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the kernel knows of us: a node for each inode it remembers, with the
// names that lead to it. A node is what the primary says the inode is, so two
// names of one file are one node. Node ids are a counter and never reused: a
// late or forged id finds nothing instead of freed memory.
//
// A node lives while the kernel has looked it up, has it open, or a child's
// name hangs on it. Nodes hold no descriptor; about 150 bytes each plus a name
// longer than 15 bytes.
//
// Threads: all calls from any thread; one mutex, never held during I/O.
#pragma once

#include <sys/stat.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "base/handover_lock.h"
#include "mirror/open_file.h"

namespace mirrorfs {

using NodeId = uint64_t;
inline constexpr NodeId kRootNode = 1;

class InodeTable {
 public:
  explicit InodeTable(ino_t root_ino);
  ~InodeTable();

  // The kernel is about to learn of `st`, which has just been made, by that
  // name: finds or makes its node, notes the name, counts one lookup.
  // `created_ns` not 0: whatever had this inode number is gone.
  NodeId Remember(NodeId parent, absl::string_view name, const struct stat& st,
                  int64_t created_ns);
  // The same for what was found there. 0 when that name has been moved or
  // removed since `losses`, which is TimesLost before `st` was asked for: what
  // was found may be what had the name before.
  NodeId RememberFound(NodeId parent, absl::string_view name,
                       const struct stat& st, uint64_t losses);
  // How often that name (or a few others) was moved or removed so far.
  uint64_t TimesLost(NodeId parent, absl::string_view name) const;
  // The same for a file without a name.
  NodeId RememberUnnamed(const struct stat& st, int64_t created_ns);
  void Forget(NodeId id, uint64_t lookups);

  // Nothing when no name leads to it, or when there is no such node.
  std::optional<std::string> PathOf(NodeId id) const;
  std::optional<std::string> PathOf(NodeId parent,
                                    absl::string_view name) const;
  // What the mirror wants to know of the node.
  std::optional<ObjectRef> Ref(NodeId id) const;
  // Its inode number on this primary, which may not have been learned yet.
  void LearnIno(NodeId id, ino_t ino);
  // The node of `st`, which has that name, or 0.
  NodeId Find(NodeId parent, absl::string_view name, const struct stat& st);
  // Whether the kernel has been told of something by that name, and nobody has
  // moved or removed it through us.
  bool IsKnown(NodeId parent, absl::string_view name) const;
  // The path of something that the kernel knows in that directory, or empty.
  // Where there is anything, that takes a look at every node.
  std::string AnyPathIn(NodeId dir) const;
  // The number that users see: what it was when the kernel first learned of
  // the node, whatever leg is the primary now. `ino` for a node unknown.
  ino_t ShownIno(NodeId id, ino_t ino) const;
  // The same, of whatever has that name and that number on the primary.
  ino_t ShownInoOf(NodeId parent, absl::string_view name, ino_t ino) const;
  // Another leg is the primary, with other inode numbers. Those of files with
  // several names are asked for at once: `ino_of(path)`, 0 for none; others are
  // learned when they are seen under their name, because there may be millions,
  // and everybody waits. One that none of its names leads to now is no file's
  // any more: who has it open gets errors. Nodes made from now on show numbers
  // that no other leg's can be mistaken for. No names may change meanwhile.
  void Rekey(const std::function<ino_t(const std::string& path)>& ino_of);

  // --- names ---
  // Of a node whose number on this primary is known.
  void AddName(NodeId id, NodeId parent, absl::string_view name);
  // The directory of that name, which the kernel may not have asked for. It
  // stays as long as something known lies in it, see AddName. 0: `parent_id` is
  // unknown.
  NodeId NoteDirectory(NodeId parent_id, absl::string_view name,
                       const struct stat& st);
  void RemoveName(NodeId id, NodeId parent, absl::string_view name);
  // Nobody finds the node by its inode number any more: before its last name
  // goes, because the number may come back at once. Undone by Reattach.
  void Detach(NodeId id);
  void Reattach(NodeId id, ino_t ino);
  // It cannot be said any more which file the node is: no name leads to it, and
  // who has it open gets errors.
  void Disown(NodeId id);
  // Whether it is `ancestor`, or one of its known names lies in that.
  bool LiesIn(NodeId id, NodeId ancestor) const;
  void MoveName(NodeId id, NodeId parent, absl::string_view name,
                NodeId new_parent, absl::string_view new_name);
  // A path of the node by another name than this one, or empty.
  std::string OtherPath(NodeId id, NodeId parent, absl::string_view name) const;

  // --- open files ---
  // Counts one more opening; all openings of a node share the OpenFile. Null
  // when there is no such node. `fresh` is used when there is none yet.
  std::shared_ptr<OpenFile> Open(NodeId id, std::shared_ptr<OpenFile> fresh);
  std::shared_ptr<OpenFile> NewOpenFile() const;
  void Close(NodeId id);
  // Nodes that are open now.
  std::vector<NodeId> OpenNodes() const;
  std::vector<std::shared_ptr<OpenFile>> OpenFiles() const;

  // Held shared by whoever uses the node's path, exclusively by who changes
  // what it is called.
  HandoverSharedMutex& Stripe(NodeId id) { return stripes_[id % kStripes]; }

  size_t size() const;

 private:
  struct Node;
  struct Name {
    Node* parent = nullptr;
    std::string text;
  };
  struct Node {
    NodeId id = 0;
    ino_t ino = 0;  // on the primary of `primary`; 0: detached
    ino_t shown_ino = 0;
    uint64_t lookups = 0;
    int64_t created_ns = 0;
    uint32_t children = 0;  // names whose parent this is
    uint32_t openings = 0;
    uint32_t primary = 0;  // how many there were before it
    bool is_dir = false;
    bool linked = false;  // seen with several names
    Name name;            // parent null: none
    std::unique_ptr<std::vector<Name>> more_names;
    std::shared_ptr<OpenFile> open;
  };
  struct ById {
    using is_transparent = void;
    size_t operator()(NodeId id) const { return absl::Hash<NodeId>()(id); }
    size_t operator()(const Node* node) const { return (*this)(node->id); }
    bool operator()(const Node* a, const Node* b) const { return a == b; }
    bool operator()(const Node* a, NodeId id) const { return a->id == id; }
  };
  struct ByIno {
    using is_transparent = void;
    size_t operator()(ino_t ino) const { return absl::Hash<ino_t>()(ino); }
    size_t operator()(const Node* node) const { return (*this)(node->ino); }
    bool operator()(const Node* a, const Node* b) const { return a == b; }
    bool operator()(const Node* a, ino_t ino) const { return a->ino == ino; }
  };
  struct ByName {
    using is_transparent = void;
    using Key = std::pair<const Node*, absl::string_view>;
    static Key Of(const Node* node) {
      return {node->name.parent, node->name.text};
    }
    size_t operator()(const Key& key) const { return absl::Hash<Key>()(key); }
    size_t operator()(const Node* node) const { return (*this)(Of(node)); }
    bool operator()(const Node* a, const Node* b) const {
      return Of(a) == Of(b);
    }
    bool operator()(const Node* a, const Key& key) const {
      return Of(a) == key;
    }
  };
  static constexpr size_t kStripes = 1024;
  // Of a file with several, all but the first.
  using MoreNames = absl::flat_hash_set<std::pair<const Node*, std::string>>;
  static constexpr size_t kLossCounters = 1024;
  static constexpr uint32_t kNoPrimary = UINT32_MAX;

  static size_t LossCounterOf(NodeId parent, absl::string_view name) {
    return absl::HashOf(parent, name) % kLossCounters;
  }
  Node* Get(NodeId id) const;
  Node* GetByIno(ino_t ino) const;
  Node* GetByName(const Node* parent, absl::string_view name) const;
  Node* FindNode(const Node* parent, absl::string_view name,
                 const struct stat& st);
  NodeId RememberLocked(Node* parent, absl::string_view name,
                        const struct stat& st, int64_t created_ns);
  ino_t ShownBy(const Node* node, ino_t ino) const;
  Node* NewNode(const struct stat& st, int64_t created_ns);
  void AttachNode(Node* node, ino_t ino);
  void DetachNode(Node* node);
  void LoseNumber(Node* node);
  void SetFirstName(Node* node, Name name);
  void AddNameTo(Node* node, Node* parent, absl::string_view name);
  bool DropNameOf(Node* node, const Node* parent, absl::string_view name);
  void Release(Node* node);  // erases it when nothing holds it
  std::optional<std::string> PathOfNode(const Node* node) const;
  std::vector<std::string> OtherPathsOf(const Node* node) const;

  mutable std::mutex mutex_;
  absl::flat_hash_set<Node*, ById, ById> by_id_;
  absl::flat_hash_set<Node*, ByIno, ByIno> by_ino_;     // of this primary
  absl::flat_hash_set<Node*, ByName, ByName> by_name_;  // by the first of each
  MoreNames more_names_;
  absl::flat_hash_set<Node*> open_;
  NodeId next_id_ = kRootNode + 1;
  uint32_t primary_ = 0;  // how many there were before
  // How often numbers came to mean something else, while what had them lives.
  uint32_t renumbered_ = 0;
  std::array<uint64_t, kLossCounters> times_lost_{};
  std::array<HandoverSharedMutex, kStripes> stripes_;
};

}  // namespace mirrorfs
