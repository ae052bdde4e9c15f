// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/offline_legs.h"

#include <fcntl.h>

#include "absl/strings/str_cat.h"
#include "base/errno.h"
#include "base/fd.h"
#include "cli/exit_code.h"
#include "cli/mirror_lookup.h"
#include "leg/new_mirror.h"

namespace mirrorfs {
namespace {

absl::StatusOr<Label> ReadLabelAt(const std::string& path) {
  const UniqueFd root(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) {
    return absl::NotFoundError(
        absl::StrCat(path, ": ", ErrnoText(Errno::Last())));
  }
  absl::StatusOr<Label> label = ReadLabel(root.get());
  if (label.ok()) return label;
  return absl::NotFoundError(absl::StrCat(path, ": ",
                                          absl::IsNotFound(label.status())
                                              ? "not a leg of a mirror"
                                              : label.status().message()));
}

absl::Status CheckTogether(const std::vector<std::string>& paths,
                           const std::vector<Label>& labels) {
  for (size_t i = 1; i < labels.size(); ++i) {
    if (labels[i].mirror_uuid != labels[0].mirror_uuid) {
      return absl::InvalidArgumentError(
          absl::StrCat(paths[i], ": belongs to mirror \"",
                       labels[i].mirror_name, "\", not to that of ", paths[0]));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<Label>> OpenOffline(
    const std::vector<std::string>& paths) {
  if (paths.size() < 2) {
    return absl::InvalidArgumentError("at least two legs are needed");
  }
  std::vector<Label> labels;
  for (const std::string& path : paths) {
    absl::StatusOr<Label> label = ReadLabelAt(path);
    if (!label.ok()) return label.status();
    labels.push_back(*std::move(label));
  }
  absl::Status status = CheckLegPaths(paths);
  if (!status.ok()) return absl::InvalidArgumentError(status.message());
  status = CheckTogether(paths, labels);
  if (!status.ok()) return status;
  if (MayBeMounted(labels[0].mirror_uuid)) {
    return absl::FailedPreconditionError(
        absl::StrCat("mirror \"", labels[0].mirror_name,
                     "\" is mounted; `mirrorfs umount` it first"));
  }
  return labels;
}

int OfflineExitCode(const absl::Status& status) {
  return absl::IsNotFound(status) ? kExitNotMounted : kExitUsage;
}

}  // namespace mirrorfs
