// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/tree_compare.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/errno.h"
#include "base/fd.h"
#include "leg/label.h"
#include "leg/object_compare.h"

namespace mirrorfs {
namespace {

// Directories held open at a time, over all trees.
constexpr size_t kOpenDirsMax = 256;

using InodeKey = std::pair<dev_t, ino_t>;

InodeKey KeyOf(const struct stat& st) { return {st.st_dev, st.st_ino}; }

// Which names are one file. Trees agree when at each name, the first name that
// was seen of its file is the same on all of them.
class LinkGroups {
 public:
  explicit LinkGroups(size_t trees) : seen_(trees) {}

  // The group of the file at `path` on `tree`; a new one when it is the first
  // of its names. All trees must be asked about one path before the next.
  size_t GroupOf(size_t tree, const struct stat& st, const std::string& path) {
    if (first_names_.empty() || first_names_.back() != path) {
      first_names_.push_back(path);
    }
    const size_t own = first_names_.size() - 1;
    if (st.st_nlink < 2) return own;
    return seen_[tree].emplace(KeyOf(st), own).first->second;
  }

  const std::string& FirstName(size_t group) const {
    return first_names_[group];
  }

 private:
  std::vector<std::string> first_names_;
  std::vector<absl::flat_hash_map<InodeKey, size_t>> seen_;
};

class Walk {
 public:
  Walk(const std::vector<TreeToCompare>& trees,
       const std::function<void(const TreeDifference&)>& report)
      : trees_(trees),
        report_(report),
        open_levels_(std::max<size_t>(2, kOpenDirsMax / trees.size())),
        links_(trees.size()) {}

  absl::StatusOr<TreeCompareCounts> Run() {
    Level root = NewLevel("");
    for (size_t t = 0; t < trees_.size(); ++t) {
      root.dirs[t] = UniqueFd(
          open(trees_[t].root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      if (!root.dirs[t].valid()) {
        return ToStatus(Errno::Last(), trees_[t].root);
      }
      root.takes_part[t] = true;
    }
    CompareName(root, ".");
    ReadNames(root);
    root.names.erase(
        std::remove(root.names.begin(), root.names.end(), kPrivateDir),
        root.names.end());
    levels_.push_back(std::move(root));
    while (!levels_.empty()) Step();
    return counts_;
  }

 private:
  // A directory on the way from the roots to where we are.
  struct Level {
    std::string name;                // in the level above
    std::vector<std::string> names;  // in it, on any tree
    size_t next = 0;
    size_t parent_path_size = 0;
    std::vector<bool> takes_part;  // trees that have it
    std::vector<UniqueFd> dirs;    // may be closed meanwhile
  };

  // A name on the trees that have it.
  using Views = std::vector<std::optional<NamedObject>>;

  Level NewLevel(std::string name) {
    Level level;
    level.name = std::move(name);
    level.takes_part.resize(trees_.size());
    level.dirs.resize(trees_.size());
    return level;
  }

  void Report(absl::string_view what, std::string detail) {
    ++counts_.differences;
    report_({path_, std::string(what), std::move(detail)});
  }

  ReportFinding Reporter() {
    return [this](absl::string_view what, std::string detail) {
      Report(what, std::move(detail));
    };
  }

  // Compares the next name of the deepest directory, or leaves that.
  void Step() {
    Level& level = levels_.back();
    if (level.next == level.names.size()) {
      path_.resize(level.parent_path_size);
      levels_.pop_back();
      return;
    }
    EnsureOpen(levels_.size() - 1);
    const std::string name = std::move(level.names[level.next++]);
    const size_t parent_path_size = path_.size();
    absl::StrAppend(&path_, path_.empty() ? "" : "/", name);
    const Views views = CompareName(level, name);
    if (!Descend(name, views, parent_path_size)) {
      path_.resize(parent_path_size);
    }
  }

  Views CompareName(const Level& level, const std::string& name) {
    ++counts_.objects;
    std::vector<std::string> missing;
    const Views views = LookAt(level, name, &missing);
    ReportMissing(views, missing);
    if (!IsKnownLink(views)) CompareWithFirst(views);
    return views;
  }

  Views LookAt(const Level& level, const std::string& name,
               std::vector<std::string>* missing) {
    Views views(trees_.size());
    for (size_t t = 0; t < trees_.size(); ++t) {
      if (!level.takes_part[t]) continue;
      NamedObject object{trees_[t].name, level.dirs[t].get(), name, {}};
      const Errno error = FromSyscall(fstatat(object.dir_fd, name.c_str(),
                                              &object.st, AT_SYMLINK_NOFOLLOW));
      if (error.ok()) {
        views[t] = std::move(object);
      } else if (error == Errno(ENOENT)) {
        missing->push_back(trees_[t].name);
      } else {
        ReportUnreadable(trees_[t].name, "stat", error, Reporter());
      }
    }
    return views;
  }

  static const NamedObject* First(const Views& views) {
    for (const auto& view : views) {
      if (view) return &*view;
    }
    return nullptr;
  }

  void ReportMissing(const Views& views,
                     const std::vector<std::string>& missing) {
    const NamedObject* first = First(views);
    if (first == nullptr || missing.empty()) return;
    Report("missing",
           absl::StrCat("on ", absl::StrJoin(missing, ", "), "; ", first->leg,
                        " has a ", FileTypeName(first->st.st_mode)));
  }

  void CompareWithFirst(const Views& views) {
    const NamedObject* first = First(views);
    for (const auto& view : views) {
      if (view && &*view != first) {
        counts_.bytes += CompareObjects(*first, *view, Reporter());
      }
    }
  }

  // True when this is one more name of a file that was compared under another,
  // on every tree. Reports trees that disagree about that.
  bool IsKnownLink(const Views& views) {
    const auto linked = [](const std::optional<NamedObject>& view) {
      return view && !S_ISDIR(view->st.st_mode) && view->st.st_nlink > 1;
    };
    if (std::none_of(views.begin(), views.end(), linked)) return false;
    std::vector<std::pair<const NamedObject*, size_t>> groups;
    for (size_t t = 0; t < views.size(); ++t) {
      if (!views[t] || S_ISDIR(views[t]->st.st_mode)) continue;
      groups.emplace_back(&*views[t], links_.GroupOf(t, views[t]->st, path_));
    }
    bool agree = true;
    for (const auto& [view, group] : groups) {
      if (group == groups[0].second) continue;
      agree = false;
      Report("hard-links",
             absl::StrCat(LinkText(*groups[0].first, groups[0].second), ", ",
                          LinkText(*view, group)));
    }
    const bool everywhere = groups.size() == views.size();
    return agree && everywhere && links_.FirstName(groups[0].second) != path_;
  }

  std::string LinkText(const NamedObject& view, size_t group) {
    const std::string& first = links_.FirstName(group);
    return first == path_
               ? absl::StrCat(view.leg, ": not seen before")
               : absl::StrCat(view.leg, ": the same file as ", first);
  }

  // Goes into `name` on the trees where it is a directory, if they are two.
  bool Descend(const std::string& name, const Views& views,
               size_t parent_path_size) {
    const auto is_dir = [](const std::optional<NamedObject>& view) {
      return view && S_ISDIR(view->st.st_mode);
    };
    if (std::count_if(views.begin(), views.end(), is_dir) < 2) return false;
    Level level = NewLevel(name);
    level.parent_path_size = parent_path_size;
    for (size_t t = 0; t < views.size(); ++t) {
      if (is_dir(views[t])) OpenDir(t, views[t]->dir_fd, level);
    }
    ReadNames(level);
    if (std::count(level.takes_part.begin(), level.takes_part.end(), true) <
        2) {
      return false;
    }
    levels_.push_back(std::move(level));
    CloseFarLevels(levels_.size() - 1);
    return true;
  }

  void OpenDir(size_t tree, int parent_fd, Level& level) {
    ErrnoOr<UniqueFd> dir = OpenQuietly(parent_fd, level.name, O_DIRECTORY);
    if (dir.ok()) {
      level.dirs[tree] = std::move(*dir);
      level.takes_part[tree] = true;
    } else {
      level.takes_part[tree] = false;
      ReportUnreadable(trees_[tree].name, "open", dir.error(), Reporter());
    }
  }

  // The union of the names on all trees. A tree that cannot be listed takes no
  // part.
  void ReadNames(Level& level) {
    for (size_t t = 0; t < trees_.size(); ++t) {
      if (!level.takes_part[t]) continue;
      const Errno error = AppendNames(level.dirs[t].get(), &level.names);
      if (error.ok()) continue;
      ReportUnreadable(trees_[t].name, "list", error, Reporter());
      level.takes_part[t] = false;
    }
    std::sort(level.names.begin(), level.names.end());
    level.names.erase(std::unique(level.names.begin(), level.names.end()),
                      level.names.end());
  }

  static Errno AppendNames(int dir_fd, std::vector<std::string>* names) {
    ErrnoOr<UniqueFd> own = OpenQuietly(dir_fd, ".", O_DIRECTORY);
    if (!own.ok()) return own.error();
    const std::unique_ptr<DIR, int (*)(DIR*)> dir(fdopendir(own->get()),
                                                  closedir);
    if (dir == nullptr) return Errno::Last();
    own->Release();
    for (;;) {
      errno = 0;
      const dirent* entry = readdir(dir.get());
      if (entry == nullptr) return Errno::Last();
      const absl::string_view name = entry->d_name;
      if (name != "." && name != "..") names->emplace_back(name);
    }
  }

  // Levels further up than this may be closed; the roots never are.
  bool IsNear(size_t level, size_t deepest) const {
    return level == 0 || level + open_levels_ > deepest;
  }

  void CloseFarLevels(size_t deepest) {
    for (size_t l = deepest; l-- > 1;) {
      if (IsNear(l, deepest)) continue;
      if (levels_[l].dirs.empty()) return;  // those above are closed as well
      levels_[l].dirs.clear();
    }
  }

  // Opens level `deepest` again after coming back up to it, and the levels
  // near it, so that the next ones cost nothing.
  void EnsureOpen(size_t deepest) {
    if (!levels_[deepest].dirs.empty()) return;
    size_t from = deepest;
    while (levels_[from].dirs.empty()) --from;
    for (size_t l = from + 1; l <= deepest; ++l) {
      Level& level = levels_[l];
      level.dirs.resize(trees_.size());
      for (size_t t = 0; t < trees_.size(); ++t) {
        // What could not be opened again above is lost here, too.
        if (!levels_[l - 1].takes_part[t]) level.takes_part[t] = false;
        if (level.takes_part[t]) {
          OpenDir(t, levels_[l - 1].dirs[t].get(), level);
        }
      }
      if (l - 1 > 0 && !IsNear(l - 1, deepest)) levels_[l - 1].dirs.clear();
    }
  }

  const std::vector<TreeToCompare>& trees_;
  const std::function<void(const TreeDifference&)>& report_;
  const size_t open_levels_;
  LinkGroups links_;
  std::vector<Level> levels_;
  std::string path_;  // of the name being compared
  TreeCompareCounts counts_;
};

}  // namespace

absl::StatusOr<TreeCompareCounts> CompareTrees(
    const std::vector<TreeToCompare>& trees,
    const std::function<void(const TreeDifference&)>& report) {
  if (trees.size() < 2) {
    return absl::InvalidArgumentError("there is nothing to compare with");
  }
  return Walk(trees, report).Run();
}

}  // namespace mirrorfs
