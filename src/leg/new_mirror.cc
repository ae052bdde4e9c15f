// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/new_mirror.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "base/errno.h"
#include "base/fd.h"
#include "base/given_name.h"
#include "base/mount_table.h"
#include "base/uuid.h"
#include "leg/copy_object.h"
#include "leg/object.h"
#include "region/region_key.h"

namespace mirrorfs {
namespace {

absl::Status Refuse(const std::string& path, absl::string_view why) {
  return absl::FailedPreconditionError(absl::StrCat("leg ", path, ": ", why));
}

absl::StatusOr<UniqueFd> OpenRoot(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return ToStatus(Errno::Last(), absl::StrCat("leg ", path));
  return fd;
}

std::string RealPath(const std::string& path) {
  const std::unique_ptr<char, decltype(&free)> real(
      realpath(path.c_str(), nullptr), &free);
  return real ? std::string(real.get()) : path;
}

// mke2fs puts it there; no use of the disk has begun with it.
constexpr char kLostAndFound[] = "lost+found";

bool CountsAsEmpty(absl::string_view name) {
  return name == "." || name == ".." || name == kLostAndFound ||
         name == kPrivateDir;
}

absl::StatusOr<bool> IsEmpty(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(path.c_str()),
                                                &closedir);
  if (!dir) return ToStatus(Errno::Last(), absl::StrCat("leg ", path));
  while (const dirent* entry = readdir(dir.get())) {
    if (!CountsAsEmpty(entry->d_name)) return false;
  }
  return true;
}

absl::Status CheckNoMountBeneath(const std::string& real) {
  for (const MountEntry& entry : ReadMountTable()) {
    const std::string& where = entry.mount_point;
    if (where != real && LiesIn(where, real)) {
      return Refuse(real, absl::StrCat(where,
                                       " is mounted inside it; a leg "
                                       "must be one file system"));
    }
  }
  return absl::OkStatus();
}

std::string UniqueLegName(const std::string& path,
                          absl::flat_hash_set<std::string>& taken) {
  const std::string real = RealPath(path);
  std::string name(BaseName(real));
  if (name.empty()) name = "leg";
  std::string candidate = name;
  for (int n = 2; !taken.insert(candidate).second; ++n) {
    candidate = absl::StrCat(name, n);
  }
  return candidate;
}

// Times are made equal on all legs, to the nanosecond.
absl::Status CheckTimes(const std::string& path, int probe) {
  constexpr timespec kTime = {1'000'000'001, 123'456'789};
  const timespec times[2] = {kTime, kTime};
  if (const Errno error = SetTimes(probe, times); !error.ok()) {
    return Refuse(path, ErrnoText(error));
  }
  const ErrnoOr<struct stat> st = StatObject(probe);
  if (!st.ok()) return Refuse(path, ErrnoText(st.error()));
  if (SameTime(st->st_mtim, kTime)) return absl::OkStatus();
  return Refuse(path, "its file system does not keep times to the nanosecond");
}

// By its number it is known whether two names are one file's. Where there are
// no such names, none will be looked for.
absl::Status CheckLinks(const std::string& path, int root_fd,
                        const char* probe) {
  const std::string other = absl::StrCat(probe, "-link");
  if (linkat(root_fd, probe, root_fd, other.c_str(), 0) != 0) {
    return absl::OkStatus();
  }
  struct stat one = {};
  struct stat two = {};
  const bool known =
      fstatat(root_fd, probe, &one, AT_SYMLINK_NOFOLLOW) == 0 &&
      fstatat(root_fd, other.c_str(), &two, AT_SYMLINK_NOFOLLOW) == 0;
  const Errno error = known ? kOk : Errno::Last();
  (void)unlinkat(root_fd, other.c_str(), 0);
  if (!known) return Refuse(path, ErrnoText(error));
  if (one.st_ino == two.st_ino) return absl::OkStatus();
  return Refuse(path,
                "its file system shows each name of a file as a file of its "
                "own (mergerfs: mount it with use_ino)");
}

absl::Status CheckFileSystem(const std::string& path, int root_fd) {
  constexpr char kProbe[] = ".mirrorfs-probe";
  const UniqueFd probe(
      openat(root_fd, kProbe,
             O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!probe.valid()) return Refuse(path, ErrnoText(Errno::Last()));
  absl::Status status = CheckTimes(path, probe.get());
  if (status.ok()) status = CheckLinks(path, root_fd, kProbe);
  (void)unlinkat(root_fd, kProbe, 0);
  return status;
}

// What lies in another mirror's leg is that one's, and shows in its mount.
absl::Status CheckNotInLeg(const std::string& path) {
  std::filesystem::path above = RealPath(path);
  while (above.has_relative_path()) {
    above = above.parent_path();
    const UniqueFd fd(open(above.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const absl::StatusOr<Label> label = ReadLabel(fd.get());
    if (!label.ok()) continue;
    return Refuse(
        path, absl::StrCat("lies inside ", above.string(),
                           ", a leg of mirror \"", label->mirror_name, "\""));
  }
  return absl::OkStatus();
}

absl::Status CheckName(const std::string& name) {
  if (name.empty() || IsNameToGive(name)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("name: ", kNameRule));
}

absl::Status CheckMayBecomeLeg(const std::string& path, int root_fd,
                               bool adopted, absl::string_view cure) {
  if (absl::Status status = CheckNotInLeg(path); !status.ok()) return status;
  const absl::StatusOr<Label> label = ReadLabel(root_fd);
  if (label.ok()) {
    return Refuse(path, absl::StrCat("already belongs to mirror \"",
                                     label->mirror_name, "\""));
  }
  if (!absl::IsNotFound(label.status())) {
    return Refuse(path, label.status().message());
  }
  if (adopted) return CheckFileSystem(path, root_fd);
  const absl::StatusOr<bool> empty = IsEmpty(path);
  if (!empty.ok()) return empty.status();
  if (!*empty) {
    return Refuse(path, absl::StrCat("is not empty", cure));
  }
  return CheckFileSystem(path, root_fd);
}

bool HasLostAndFound(const std::vector<UniqueFd>& roots) {
  return std::any_of(roots.begin(), roots.end(), [](const UniqueFd& root) {
    return faccessat(root.get(), kLostAndFound, F_OK, 0) == 0;
  });
}

// The label that all legs of a new mirror share, but for leg_uuid.
Label NewLabel(const std::vector<std::string>& paths,
               const NewMirrorOptions& options, size_t adopted) {
  Label label;
  label.mirror_uuid = NewUuid();
  label.mirror_name = options.name.empty()
                          ? std::string(BaseName(RealPath(paths[0])))
                          : options.name;
  label.region_bytes = options.region_bytes;
  label.generation = {1, NewUuid()};
  absl::flat_hash_set<std::string> names;
  for (size_t i = 0; i < paths.size(); ++i) {
    const bool in_sync = adopted == paths.size() || adopted == i;
    label.members.push_back({NewUuid(), UniqueLegName(paths[i], names),
                             static_cast<LegSlot>(i), in_sync, ""});
  }
  const size_t primary = adopted == paths.size() ? 0 : adopted;
  label.primary_uuid = label.members[primary].uuid;
  return label;
}

// A leg that holds nothing yet carries a generation of its own that the others
// know as past: older, and with no dirty log that reaches back to it.
Label LabelOfStaleLeg(Label label, const std::string& blank_generation) {
  label.generation = {0, blank_generation};
  label.history.clear();
  return label;
}

}  // namespace

absl::Status CheckLegPaths(const std::vector<std::string>& paths) {
  std::vector<std::string> real;
  std::vector<struct stat> stats;
  for (const std::string& path : paths) {
    struct stat st;
    if (stat(path.c_str(), &st) != 0) continue;  // a missing leg is no error
    if (!S_ISDIR(st.st_mode)) return Refuse(path, "is not a directory");
    for (size_t i = 0; i < stats.size(); ++i) {
      if (stats[i].st_dev == st.st_dev && stats[i].st_ino == st.st_ino) {
        return Refuse(path, absl::StrCat("is the same directory as ", real[i]));
      }
    }
    real.push_back(RealPath(path));
    stats.push_back(st);
  }
  for (const std::string& inner : real) {
    for (const std::string& outer : real) {
      if (inner != outer && LiesIn(inner, outer)) {
        return Refuse(inner, absl::StrCat("lies inside leg ", outer));
      }
    }
    if (absl::Status status = CheckNoMountBeneath(inner); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Label> CreateMirror(const std::vector<std::string>& paths,
                                   const NewMirrorOptions& options) {
  if (!IsValidRegionSize(options.region_bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("region-size ", options.region_bytes,
                     ": must be a power of two from 4K to 1G"));
  }
  if (absl::Status status = CheckName(options.name); !status.ok()) {
    return status;
  }
  if (paths.size() < 2 || paths.size() > kLegsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("a mirror has 2 to ", kLegsMax, " legs"));
  }
  std::vector<UniqueFd> roots;
  size_t adopted = paths.size();
  for (size_t i = 0; i < paths.size(); ++i) {
    absl::StatusOr<UniqueFd> root = OpenRoot(paths[i]);
    if (!root.ok()) return root.status();
    roots.push_back(std::move(*root));
    if (!options.adopt.empty() &&
        RealPath(options.adopt) == RealPath(paths[i])) {
      adopted = i;
    }
  }
  if (!options.adopt.empty() && adopted == paths.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--adopt ", options.adopt, ": is not one of the legs"));
  }
  if (absl::Status status = CheckLegPaths(paths); !status.ok()) return status;
  for (size_t i = 0; i < paths.size(); ++i) {
    absl::Status status =
        CheckMayBecomeLeg(paths[i], roots[i].get(), i == adopted,
                          "; name it with --adopt to keep its files");
    if (!status.ok()) return status;
  }
  if (adopted == paths.size() && HasLostAndFound(roots)) {
    adopted = 0;  // the others get the first one's, or get rid of theirs
  }
  Label label = NewLabel(paths, options, adopted);
  const std::string blank_generation = NewUuid();
  label.history = {blank_generation};
  for (size_t i = 0; i < paths.size(); ++i) {
    Label own = label.members[i].in_sync
                    ? label
                    : LabelOfStaleLeg(label, blank_generation);
    own.leg_uuid = label.members[i].uuid;
    absl::Status status = WriteLabelDurable(roots[i].get(), own);
    if (!status.ok()) return Refuse(paths[i], status.message());
  }
  // The one thing that empty directories can differ in.
  const size_t model = adopted == paths.size() ? 0 : adopted;
  for (size_t i = 0; i < paths.size(); ++i) {
    if (i == model) continue;
    const Errno error = CopyAttributes(roots[model].get(), roots[i].get());
    if (!error.ok()) return Refuse(paths[i], ErrnoText(error));
  }
  label.leg_uuid = label.members[0].uuid;
  return label;
}

absl::StatusOr<LabelMember> CheckNewLeg(
    const NewLegOptions& options, const std::vector<std::string>& leg_paths,
    const Label& label) {
  const std::string& path = options.path;
  absl::Status status = CheckName(options.name);
  if (!status.ok()) return status;
  const absl::StatusOr<UniqueFd> root = OpenRoot(path);
  if (!root.ok()) return root.status();
  std::vector<std::string> all = leg_paths;
  all.push_back(path);
  status = CheckLegPaths(all);
  if (status.ok()) {
    status = CheckMayBecomeLeg(path, root->get(), /*adopted=*/false, "");
  }
  if (!status.ok()) return status;
  absl::flat_hash_set<std::string> names;
  for (const LabelMember& member : label.members) names.insert(member.name);
  if (names.contains(options.name)) {
    return Refuse(path, absl::StrCat("another leg is named \"", options.name,
                                     "\" already"));
  }
  LabelMember member;
  member.slot = label.FreeSlot();
  if (member.slot < 0) {
    return Refuse(path,
                  absl::StrCat("a mirror has at most ", kLegsMax, " legs"));
  }
  member.uuid = NewUuid();
  member.name =
      options.name.empty() ? UniqueLegName(path, names) : options.name;
  member.replaces = options.replaces;
  member.joining = true;
  return member;
}

Label AddMember(const LabelMember& member, Label& label) {
  label.members.push_back(member);
  label.next_slot = std::max(label.next_slot, member.slot + 1);
  const std::string blank_generation = NewUuid();
  label.history.insert(label.history.begin(), blank_generation);
  if (label.history.size() > kHistoryMax) label.history.resize(kHistoryMax);
  Label own = LabelOfStaleLeg(label, blank_generation);
  own.leg_uuid = member.uuid;
  return own;
}

absl::Status ResolveConflict(const std::vector<std::string>& paths,
                             const std::string& keep) {
  std::vector<UniqueFd> roots;
  std::vector<Label> labels;
  size_t kept = paths.size();
  for (const std::string& path : paths) {
    absl::StatusOr<UniqueFd> root = OpenRoot(path);
    if (!root.ok()) return root.status();
    absl::StatusOr<Label> label = ReadLabel(root->get());
    if (!label.ok()) return Refuse(path, label.status().message());
    if (RealPath(path) == RealPath(keep)) kept = labels.size();
    roots.push_back(std::move(*root));
    labels.push_back(std::move(*label));
  }
  if (kept == paths.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--keep ", keep, ": is not one of the legs"));
  }
  // The kept leg goes on alone in a generation that has seen all the others',
  // so that they compare as older; what they lack is not in any log.
  Label next = labels[kept];
  next.history.insert(next.history.begin(), next.generation.id);
  next.generation = {next.generation.number + 1, NewUuid()};
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i].mirror_uuid != next.mirror_uuid) {
      return Refuse(paths[i], "belongs to another mirror");
    }
    if (i == kept) continue;
    // Not at its end, where a long one is cut off.
    next.history.insert(next.history.begin() + 1, labels[i].generation.id);
  }
  for (LabelMember& member : next.members) {
    member.in_sync = member.uuid == next.leg_uuid;
    member.left_at.clear();
    member.left_uses = 0;
    if (member.in_sync) member.offline = false;
  }
  next.primary_uuid = next.leg_uuid;
  next.clean = true;  // what a log says of before does not count any more
  return WriteLabelDurable(roots[kept].get(), next);
}

}  // namespace mirrorfs
