// SPDX-License-Identifier: GPL-2.0-or-later
//
// Handlers of operations on names.
#include <fcntl.h>
#include <linux/fs.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "absl/strings/str_split.h"
#include "fuse/request.h"

namespace mirrorfs {
namespace {

// The kernel counts it as a lookup.
void AnswerEntry(fuse_req_t request, const fuse_entry_param& entry) {
  const NodeId id = entry.ino;
  // It did not get it when the request was interrupted.
  if (fuse_reply_entry(request, &entry) != 0) {
    FsOf(request).nodes().Forget(id, 1);
  }
}

void AnswerMade(fuse_req_t request, SharedNames& names, NodeId parent,
                const char* name, const struct stat& st, int64_t created_ns) {
  const ErrnoOr<fuse_entry_param> entry =
      EntryMade(FsOf(request), names, parent, name, st, created_ns);
  if (!entry.ok()) return Answer(request, entry.error());
  AnswerEntry(request, *entry);
}

void Lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
  FileSystem& fs = FsOf(request);
  ErrnoOr<fuse_entry_param> entry = Errno(ENOENT);
  {
    SharedNames names = HoldNames(fs);
    if (!IsPrivate(parent, name)) entry = FindEntry(fs, names, parent, name);
  }
  if (entry.ok()) return AnswerEntry(request, *entry);
  if (entry.error() != Errno(ENOENT)) return Answer(request, entry.error());
  fuse_entry_param absent = {};
  absent.entry_timeout = absl::ToDoubleSeconds(fs.options().negative_timeout);
  if (absent.entry_timeout <= 0) return Answer(request, entry.error());
  fuse_reply_entry(request, &absent);
}

void Forget(fuse_req_t request, fuse_ino_t id, uint64_t lookups) {
  FsOf(request).nodes().Forget(id, lookups);
  fuse_reply_none(request);
}

void ForgetMulti(fuse_req_t request, size_t count, fuse_forget_data* forgets) {
  for (size_t i = 0; i < count; ++i) {
    FsOf(request).nodes().Forget(forgets[i].ino, forgets[i].nlookup);
  }
  fuse_reply_none(request);
}

// `make(mirror, path, caller)` makes the object and says its attributes.
template <typename Make>
void MakeObject(fuse_req_t request, NodeId parent, const char* name,
                Make make) {
  FileSystem& fs = FsOf(request);
  const Caller caller = CallerOf(request);
  SharedNames names = HoldNames(fs);
  const ErrnoOr<std::string> path = PathToChange(fs, parent, name);
  if (!path.ok()) return Answer(request, path.error());
  const ErrnoOr<struct stat> st =
      AskAbout(fs, std::string(ParentPath(*path)),
               [&] { return make(fs.mirror(), *path, caller); });
  if (!st.ok()) return Answer(request, st.error());
  AnswerMade(request, names, parent, name, *st, caller.asked_ns);
}

void Mkdir(fuse_req_t request, fuse_ino_t parent, const char* name,
           mode_t mode) {
  MakeObject(request, parent, name,
             [&](Mirror& mirror, const auto& path, const Caller& caller) {
               return mirror.Mkdir(path, mode, caller);
             });
}

void Mknod(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode,
           dev_t rdev) {
  MakeObject(request, parent, name,
             [&](Mirror& mirror, const auto& path, const Caller& caller) {
               return mirror.Mknod(path, mode, rdev, caller);
             });
}

void Symlink(fuse_req_t request, const char* target, fuse_ino_t parent,
             const char* name) {
  MakeObject(request, parent, name,
             [&](Mirror& mirror, const auto& path, const Caller& caller) {
               return mirror.Symlink(target, path, caller);
             });
}

void Link(fuse_req_t request, fuse_ino_t id, fuse_ino_t parent,
          const char* name) {
  FileSystem& fs = FsOf(request);
  SharedNames names = HoldNames(fs);
  ErrnoOr<struct stat> st = Errno(ESTALE);
  {
    const std::unique_lock stripe(fs.nodes().Stripe(id));
    const ErrnoOr<ObjectRef> object = ObjectOf(fs, id);
    if (!object.ok()) return Answer(request, object.error());
    const ErrnoOr<std::string> path = PathToChange(fs, parent, name);
    if (!path.ok()) return Answer(request, path.error());
    st =
        AskAbout(fs, *object, [&] { return fs.mirror().Link(*object, *path); });
    if (st.ok()) {
      fs.nodes().LearnIno(id, st->st_ino);
      fs.nodes().AddName(id, parent, name);
    }
  }
  if (!st.ok()) return Answer(request, st.error());
  AnswerMade(request, names, parent, name, *st, 0);
}

// The last name of a node is about to go: what is open lives on, on every leg.
std::shared_ptr<OpenFile> ReadyToLoseItsName(FileSystem& fs, NodeId id) {
  const std::optional<ObjectRef> object = fs.nodes().Ref(id);
  std::shared_ptr<OpenFile> open;
  if (object && object->open && object->named && !object->is_dir) {
    open = object->open;
    fs.mirror().OpenEverywhere(*object, *open);
  }
  fs.nodes().Detach(id);
  return open;
}

// Another name of a file that loses this one and lives on. If somebody has it
// open and the kernel never asked for another, it is looked for: changes of
// what has no known name would go unmarked.
std::string OtherName(FileSystem& fs, NodeId id, NodeId parent,
                      const char* name, const std::string& path) {
  std::string other = fs.nodes().OtherPath(id, parent, name);
  const std::optional<ObjectRef> object = fs.nodes().Ref(id);
  if (!other.empty() || !object || !object->open) return other;
  other = fs.mirror().FindOtherName(path);
  if (other.empty()) return other;
  NodeId dir = kRootNode;
  std::string at;
  for (const absl::string_view step :
       absl::StrSplit(ParentPath(other), '/', absl::SkipEmpty())) {
    at = JoinPath(at, step);
    const ErrnoOr<struct stat> st = fs.mirror().StatPath(at);
    if (st.ok()) dir = fs.nodes().NoteDirectory(dir, step, *st);
  }
  if (dir != 0) fs.nodes().AddName(id, dir, BaseName(other));
  return other;
}

// Whether the object, which had these attributes, has no name but that one. Its
// stripe is held, so nobody takes or gives it another one now; who did before
// that is seen.
bool IsLastName(FileSystem& fs, const std::string& path,
                const struct stat& before) {
  if (S_ISDIR(before.st_mode) || before.st_nlink <= 1) return true;
  const ErrnoOr<struct stat> now = fs.mirror().StatPath(path);
  return now.ok() && now->st_nlink <= 1;
}

// A change of names was answered so. The numbers in `doubt` are those that the
// nodes have, because the names lock is held.
void NoteDoubt(FileSystem& fs, Errno error, NameDoubt doubt) {
  if (!MayBeMade(error)) return;
  doubt.primary_epoch = fs.identity_epoch();
  fs.doubts().Add(std::move(doubt));
}

// Whether it can be freed once the caller has been answered, who may look for
// the space.
bool IsFreedSoon(const struct stat& st) {
  constexpr blkcnt_t kBlocksMax = (1 << 20) / 512;
  return st.st_blocks <= kBlocksMax;
}

void Unlink(fuse_req_t request, fuse_ino_t parent, const char* name) {
  FileSystem& fs = FsOf(request);
  std::vector<LegFd> unlinked;  // goes last, after the answer and the locks
  SharedNames names = HoldNames(fs);
  const ErrnoOr<struct stat> st = StatToIdentify(fs, names, parent, name);
  if (!st.ok()) return Answer(request, st.error());
  const ErrnoOr<std::string> path = PathToChange(fs, parent, name);
  if (!path.ok()) return Answer(request, path.error());
  const NodeId id = fs.nodes().Find(parent, name, *st);
  const std::unique_lock stripe(fs.nodes().Stripe(id));
  const bool last = IsLastName(fs, *path, *st);
  const Errno error =
      last ? fs.mirror().UnlinkLast(*path, ReadyToLoseItsName(fs, id),
                                    IsFreedSoon(*st) ? &unlinked : nullptr)
           : fs.mirror().UnlinkOne(*path,
                                   OtherName(fs, id, parent, name, *path));
  if (error.ok()) {
    fs.nodes().RemoveName(id, parent, name);
  } else if (last) {
    fs.nodes().Reattach(id, st->st_ino);
  }
  NoteDoubt(fs, error,
            {.from = {parent, name, id}, .ino = st->st_ino, .last = last});
  Answer(request, OrAgain(fs, error, *path));
}

// A directory is about to go because it is empty. ESTALE when it is so only on
// the primary, where somebody has removed behind our back what the kernel knows
// in it.
Errno CheckIsEmpty(FileSystem& fs, NodeId id, const std::string& path) {
  const std::string known = fs.nodes().AnyPathIn(id);
  if (known.empty()) return kOk;
  const auto entries = fs.mirror().ListDir(path);
  const bool emptied =
      entries.ok() && entries->empty() && fs.mirror().FailIfNameIsGone(known);
  return emptied ? Errno(ESTALE) : kOk;
}

void Rmdir(fuse_req_t request, fuse_ino_t parent, const char* name) {
  FileSystem& fs = FsOf(request);
  SharedNames names = HoldNames(fs);
  const ErrnoOr<struct stat> st = StatToIdentify(fs, names, parent, name);
  if (!st.ok()) return Answer(request, st.error());
  const ErrnoOr<std::string> path = PathToChange(fs, parent, name);
  if (!path.ok()) return Answer(request, path.error());
  const NodeId id = fs.nodes().Find(parent, name, *st);
  if (const Errno error = CheckIsEmpty(fs, id, *path); !error.ok()) {
    return Answer(request, error);
  }
  fs.nodes().Detach(id);
  const Errno error = fs.mirror().Rmdir(*path);
  if (error.ok()) {
    fs.nodes().RemoveName(id, parent, name);
  } else {
    fs.nodes().Reattach(id, st->st_ino);
  }
  NoteDoubt(fs, error,
            {.from = {parent, name, id}, .ino = st->st_ino, .last = true});
  Answer(request, OrAgain(fs, error, *path));
}

// One of the two places of a rename.
struct RenameEnd {
  NodeId parent;
  const char* name;
  std::string path;
  ErrnoOr<struct stat> st = Errno(ENOENT);
  NodeId id = 0;

  bool is_dir() const { return st.ok() && S_ISDIR(st->st_mode); }
  NamePlace place() const { return {parent, name, id}; }

  // Stale when another leg has become the primary: to be done again.
  Errno Resolve(FileSystem& fs) {
    const ErrnoOr<std::string> found = PathToChange(fs, parent, name);
    if (!found.ok()) return found.error();
    path = *found;
    st = StatNamed(fs, parent, name, path);
    if (st.ok()) id = fs.nodes().Find(parent, name, *st);
    return st.ok() || st.error() == Errno(ENOENT) ? kOk : st.error();
  }
};

// The names lock is held, exclusively if a directory moves.
Errno RenameHeld(FileSystem& fs, RenameEnd& from, RenameEnd& to,
                 unsigned flags) {
  InodeTable& nodes = fs.nodes();
  const StripePair<std::unique_lock> stripes(nodes, from.id, to.id);

  // Two names of one file: nothing happens.
  if (to.st.ok() && from.st->st_ino == to.st->st_ino) return kOk;
  const bool exchange = flags & RENAME_EXCHANGE;
  const bool replaces = to.st.ok() && !exchange;
  const bool last = replaces && IsLastName(fs, to.path, *to.st);
  if (replaces && to.is_dir()) {
    const Errno error = CheckIsEmpty(fs, to.id, to.path);
    if (!error.ok()) return error;
  }
  ErrnoOr<ObjectRef> object = ObjectOf(fs, from.id);
  ObjectRef moved;
  if (object.ok()) moved.created_ns = object->created_ns;
  moved.path = from.path;
  moved.is_dir = from.is_dir() || to.is_dir();
  Mirror::Victim victim;
  if (last) {
    victim.replaced = Mirror::Replaced::kIsGone;
    victim.open = ReadyToLoseItsName(fs, to.id);
  } else if (replaces) {
    victim.replaced = Mirror::Replaced::kLivesOn;
    victim.heir = OtherName(fs, to.id, to.parent, to.name, to.path);
  }
  const Errno error =
      fs.mirror().Rename(moved, to.path, flags, std::move(victim));
  if (!error.ok()) {
    if (last) nodes.Reattach(to.id, to.st->st_ino);
    NoteDoubt(fs, error,
              {.from = from.place(),
               .ino = from.st->st_ino,
               .to = to.place(),
               .exchange = exchange,
               .last = last});
    const Errno about_from = OrAgain(fs, error, from.path);
    return OrAgain(fs, about_from, std::string(ParentPath(to.path)));
  }
  NoteRenamed(nodes, from.place(), to.place(), exchange);
  return kOk;
}

void Rename(fuse_req_t request, fuse_ino_t parent, const char* name,
            fuse_ino_t new_parent, const char* new_name, unsigned flags) {
  FileSystem& fs = FsOf(request);
  if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) {
    return Answer(request, Errno(EINVAL));
  }
  RenameEnd from{parent, name};
  RenameEnd to{new_parent, new_name};
  const auto resolve = [&] {
    Errno error = from.Resolve(fs);
    if (error.ok()) error = to.Resolve(fs);
    if (error.ok() && !from.st.ok()) error = from.st.error();
    return error;
  };
  for (;;) {
    const SharedNames names = HoldNames(fs);
    const Errno error = resolve();
    if (!fs.IdentityIsCurrent()) continue;
    if (!error.ok()) return Answer(request, error);
    const bool moves_dir = from.is_dir() || to.is_dir();
    if (!moves_dir) return Answer(request, RenameHeld(fs, from, to, flags));
    break;
  }
  for (;;) {
    std::unique_lock names(fs.mirror().names_lock());
    const Errno error = resolve();
    if (fs.IdentityIsCurrent() && !fs.doubts().any()) {
      if (!error.ok()) return Answer(request, error);
      return Answer(request, RenameHeld(fs, from, to, flags));
    }
    names.unlock();
    if (!fs.IdentityIsCurrent()) {
      fs.LearnIdentity();
    } else if (!fs.doubts().Settle()) {
      return Answer(request, Errno(ETIMEDOUT));
    }
  }
}

void Readlink(fuse_req_t request, fuse_ino_t id) {
  FileSystem& fs = FsOf(request);
  const SharedNames names = HoldNames(fs);
  const std::shared_lock stripe(fs.nodes().Stripe(id));
  const std::optional<std::string> path = fs.nodes().PathOf(id);
  if (!path) return Answer(request, Errno(ESTALE));
  const ErrnoOr<std::string> target =
      AskAbout(fs, *path, [&] { return fs.mirror().Readlink(*path); });
  if (!target.ok()) return Answer(request, target.error());
  fuse_reply_readlink(request, target->c_str());
}

}  // namespace

void FillNameOperations(fuse_lowlevel_ops& operations) {
  operations.lookup = Lookup;
  operations.forget = Forget;
  operations.forget_multi = ForgetMulti;
  operations.mkdir = Mkdir;
  operations.mknod = Mknod;
  operations.symlink = Symlink;
  operations.link = Link;
  operations.unlink = Unlink;
  operations.rmdir = Rmdir;
  operations.rename = Rename;
  operations.readlink = Readlink;
}

}  // namespace mirrorfs
