// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the handlers share.
#pragma once

#include <memory>
#include <optional>
#include <shared_mutex>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "base/errno.h"
#include "fuse/file_system.h"
#include "leg/caller.h"
#include "leg/label.h"
#include "leg/object.h"

namespace mirrorfs {

inline FileSystem& FsOf(fuse_req_t request) {
  return *static_cast<FileSystem*>(fuse_req_userdata(request));
}

inline void Answer(fuse_req_t request, Errno error) {
  fuse_reply_err(request, error.value());
}

inline Caller CallerOf(fuse_req_t request) {
  const fuse_ctx* context = fuse_req_ctx(request);
  return {context->uid, context->gid, context->umask,
          FsOf(request).clock().RealtimeNs()};
}

// Paths keep their meaning while it lives. Every request that is about
// something in the mirror begins with it, so it counts them, too.
inline SharedNames HoldNames(FileSystem& fs) {
  fs.CountRequest();
  absl::SleepFor(fs.mirror().backlog().Delay());
  return fs.HoldNames();
}

// Whether a request about a node may have come by a name that does not lead to
// it any more. The kernel knows better once this returns, and looks again when
// it is answered ESTALE. `names` is let go then.
inline bool CameByOldName(FileSystem& fs, SharedNames& names, NodeId id) {
  if (!fs.doubts().is_telling() || !fs.doubts().IsTellingOf(id)) return false;
  names.unlock();
  fs.doubts().WaitUntilTold();
  return true;
}

// What is in it never shows in the mount.
inline bool IsPrivate(NodeId parent, absl::string_view name) {
  return parent == kRootNode && name == kPrivateDir;
}

// The path of `name` in `parent`, for a name that shall be made, moved or
// removed. ESTALE when the directory is gone, EPERM for our own.
inline ErrnoOr<std::string> PathToChange(FileSystem& fs, NodeId parent,
                                         absl::string_view name) {
  if (IsPrivate(parent, name)) return Errno(EPERM);
  std::optional<std::string> path = fs.nodes().PathOf(parent, name);
  if (!path) return Errno(ESTALE);
  return *std::move(path);
}

// The primary has answered `error` about `path`. Whether that is because
// somebody removes it behind our back; another leg answers then. `known`: the
// kernel has been told that something is there.
inline bool IsGoneBehindOurBack(FileSystem& fs, Errno error,
                                const std::string& path, bool known) {
  if (error != Errno(ENOENT)) return false;
  return fs.mirror().FailIfLabelIsGone() ||
         (known && fs.mirror().FailIfNameIsGone(path));
}

// What to answer for a change of names: the kernel tries it again after ESTALE.
inline Errno OrAgain(FileSystem& fs, Errno error, const std::string& path) {
  return IsGoneBehindOurBack(fs, error, path, true) ? Errno(ESTALE) : error;
}

inline Errno ErrorOf(Errno answer) { return answer; }
template <typename T>
Errno ErrorOf(const ErrnoOr<T>& answer) {
  return answer.error();
}

// What `ask()` answers, which is about something known at `path`; of another
// leg, where the primary lacks what it should have.
template <typename Ask>
auto AskAbout(FileSystem& fs, const std::string& path, Ask ask) {
  auto answer = ask();
  if (IsGoneBehindOurBack(fs, ErrorOf(answer), path, true)) answer = ask();
  return answer;
}
template <typename Ask>
auto AskAbout(FileSystem& fs, const ObjectRef& object, Ask ask) {
  return object.named ? AskAbout(fs, object.path, ask) : ask();
}

// Attributes of what has that name and that path. When another leg has become
// the primary meanwhile, they are to be asked for again.
inline ErrnoOr<struct stat> StatNamed(FileSystem& fs, NodeId parent,
                                      absl::string_view name,
                                      const std::string& path) {
  const ErrnoOr<struct stat> st = fs.mirror().StatPath(path);
  const bool known = !st.ok() && fs.nodes().IsKnown(parent, name);
  (void)IsGoneBehindOurBack(fs, st.error(), path, known);
  return st;
}

// Attributes of what has that name, by whose inode number a node may be found:
// never those of a leg that has become the primary just now. `names` is let go
// for a moment where that happens.
inline ErrnoOr<struct stat> StatToIdentify(FileSystem& fs, SharedNames& names,
                                           NodeId parent,
                                           absl::string_view name) {
  for (;;) {
    const ErrnoOr<std::string> path = PathToChange(fs, parent, name);
    if (!path.ok()) return path.error();
    const ErrnoOr<struct stat> st = StatNamed(fs, parent, name, *path);
    if (fs.IdentityIsCurrent()) return st;
    names.unlock();
    names = HoldNames(fs);
  }
}

// The answer for what has that name. ESTALE when it is replaced all the time,
// each time before the leg has answered.
inline ErrnoOr<fuse_entry_param> FindEntry(FileSystem& fs, SharedNames& names,
                                           NodeId parent, const char* name) {
  constexpr int kTriesMax = 16;
  for (int tries = 0; tries < kTriesMax; ++tries) {
    const uint64_t losses = fs.nodes().TimesLost(parent, name);
    const ErrnoOr<struct stat> st = StatToIdentify(fs, names, parent, name);
    if (!st.ok()) return st.error();
    const auto entry = fs.EntryFound(parent, name, *st, losses);
    if (entry) return *entry;
  }
  return Errno(ESTALE);
}

// The answer for what has just been made at `name`, with the attributes `st`.
inline ErrnoOr<fuse_entry_param> EntryMade(FileSystem& fs, SharedNames& names,
                                           NodeId parent, const char* name,
                                           const struct stat& st,
                                           int64_t created_ns) {
  // Who has become the primary since has other inode numbers.
  if (!fs.IdentityIsCurrent()) return FindEntry(fs, names, parent, name);
  return fs.EntryFor(parent, name, st, created_ns);
}

// ESTALE when it is gone: the kernel looks again at the name, where something
// else may have come to be.
inline ErrnoOr<ObjectRef> ObjectOf(FileSystem& fs, NodeId id) {
  std::optional<ObjectRef> ref = fs.nodes().Ref(id);
  // Whoever is about to open it may have come too late.
  if (!ref || (!ref->named && !(ref->open && ref->open->was_opened()))) {
    return Errno(ESTALE);
  }
  return *std::move(ref);
}

// The object of a node. While it lives, its path leads to it: names are held,
// and so is the node's own stripe. Whoever asks a leg by the path needs both; a
// descriptor of what has that name by now would be kept, and written to later.
class HeldObject {
 public:
  HeldObject(FileSystem& fs, NodeId id) : HeldObject(fs, HoldNames(fs), id) {}
  HeldObject(FileSystem& fs, SharedNames names, NodeId id)
      : names_(std::move(names)),
        stripe_(fs.nodes().Stripe(id)),
        object_(ObjectOf(fs, id)) {}

  bool ok() const { return object_.ok(); }
  Errno error() const { return object_.error(); }
  ObjectRef& operator*() { return *object_; }
  ObjectRef* operator->() { return &*object_; }

 private:
  SharedNames names_;
  std::shared_lock<HandoverSharedMutex> stripe_;
  ErrnoOr<ObjectRef> object_;
};

// The stripes of two nodes, in one order for all and each once, so that two
// requests cannot wait for each other.
template <template <typename> typename Lock>
class StripePair {
 public:
  StripePair(InodeTable& nodes, NodeId a, NodeId b) {
    HandoverSharedMutex* first = &nodes.Stripe(a);
    HandoverSharedMutex* second = &nodes.Stripe(b);
    if (second < first) std::swap(first, second);
    first_ = Lock<HandoverSharedMutex>(*first);
    if (second != first) second_ = Lock<HandoverSharedMutex>(*second);
  }

 private:
  Lock<HandoverSharedMutex> first_;
  Lock<HandoverSharedMutex> second_;
};

// What the kernel is told of an error about the object. That it is not there,
// when it has no name, means that nobody has it open any more: as above.
inline Errno ErrorAbout(const ObjectRef& object, Errno error) {
  return !object.named && error == Errno(ENOENT) ? Errno(ESTALE) : error;
}

// True when it cannot be seen cheaply.
inline bool MayHaveSetId(Mirror& mirror, const ObjectRef& object) {
  if (object.open == nullptr) return true;
  const ErrnoOr<struct stat> st = mirror.Stat(object);
  return !st.ok() || HasSetId(st->st_mode);
}

// Whether a change of the object's content by this request takes its set-id
// bits. The kernel says in the request whether the caller lacks CAP_FSETID, but
// libfuse does not pass that on; everybody but root is taken to lack it.
inline ContentWriter WriterOf(fuse_req_t request, const ObjectRef& object) {
  FileSystem& fs = FsOf(request);
  const fuse_ctx* caller = fuse_req_ctx(request);
  return {fs.takes_set_id() && caller->uid != 0 &&
              MayHaveSetId(fs.mirror(), object),
          caller->gid};
}

// What an open file's handle leads to. The node itself is what counts.
struct FileHandle {
  std::shared_ptr<OpenFile> file;
};

inline FileHandle& HandleOf(const fuse_file_info* info) {
  return *reinterpret_cast<FileHandle*>(info->fh);
}

// The handlers, by family; each fills in its part of the table.
void FillNameOperations(fuse_lowlevel_ops& operations);
void FillAttributeOperations(fuse_lowlevel_ops& operations);
void FillFileOperations(fuse_lowlevel_ops& operations);
void FillDirectoryOperations(fuse_lowlevel_ops& operations);

}  // namespace mirrorfs
