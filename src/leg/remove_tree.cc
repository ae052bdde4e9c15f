// SPDX-License-Identifier: GPL-2.0-or-later
#include "leg/remove_tree.h"

#include <xxhash.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "leg/label.h"
#include "leg/walk.h"
#include "region/region_key.h"

namespace mirrorfs {
namespace {

constexpr char kAsidePrefix[] = "moved.";

}  // namespace

Errno RemoveTree(Leg& leg, const std::string& path, const TakeInstead& take) {
  const ErrnoOr<struct stat> st = leg.Stat(path);
  if (!st.ok()) return IsAbsent(st.error()) ? kOk : st.error();
  if (take) {
    const ErrnoOr<bool> taken = take(path, *st);
    if (!taken.ok()) return taken.error();
    if (*taken) return kOk;
  }
  Errno error;
  if (S_ISDIR(st->st_mode)) {
    const ErrnoOr<std::vector<std::string>> names = ListNames(leg, path);
    if (!names.ok()) return names.error();
    for (const std::string& name : *names) {
      error = RemoveTree(leg, JoinPath(path, name), take);
      if (!error.ok()) return error;
    }
    error = leg.Rmdir(path);
  } else {
    error = leg.Unlink(path);
  }
  leg.NamesReplaced();
  return error;
}

std::string AsidePath(absl::string_view path) {
  return absl::StrCat(
      kPrivateDir, "/", kAsidePrefix,
      absl::Hex(XXH3_64bits(path.data(), path.size()), absl::kZeroPad16));
}

Errno RemoveAsides(Leg& leg, const TakeInstead& take) {
  const auto names = ListNames(leg, kPrivateDir);
  if (!names.ok()) return names.error();
  Errno result;
  for (const std::string& name : *names) {
    if (!absl::StartsWith(name, kAsidePrefix)) continue;
    const Errno error = RemoveTree(leg, JoinPath(kPrivateDir, name), take);
    if (!error.ok()) result = error;
  }
  return result;
}

}  // namespace mirrorfs
