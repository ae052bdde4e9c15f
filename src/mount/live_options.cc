// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/live_options.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace mirrorfs {
namespace {

using Kind = MountOptionInfo::Kind;

absl::Status Change(const GivenOption& change, const MountOptions& now,
                    MountOptions* options) {
  const std::string name = OptionName(change.name);
  const auto refuse = [&](absl::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat("option \"", name, "\": ", why));
  };
  const MountOptionInfo* info = FindMountOption(name);
  if (info == nullptr || info->kind == Kind::kRejected) {
    return refuse("unknown; `mirrorfs get` lists the options");
  }
  if (info->kind == Kind::kIgnored) return absl::OkStatus();
  const MountOptions before = *options;
  const absl::Status applied = info->apply(change.value, options);
  if (!applied.ok()) return refuse(applied.message());
  if (info->kind == Kind::kFlag) {
    if (*options == before) return absl::OkStatus();
    return refuse("cannot change while mounted; unmount and mount again");
  }
  if (info->live || info->show(*options) == info->show(now)) {
    return absl::OkStatus();
  }
  return refuse(absl::StrCat("cannot change while mounted (it is ",
                             info->show(now), "); unmount and mount again"));
}

}  // namespace

LiveOptions::LiveOptions(MountOptions options, Check check, Apply apply)
    : check_(std::move(check)),
      apply_(std::move(apply)),
      options_(std::move(options)) {}

std::vector<LiveOptions::Shown> LiveOptions::Show() const {
  std::lock_guard lock(mutex_);
  std::vector<Shown> shown;
  for (const MountOptionInfo& info : MountOptionTable()) {
    if (info.kind != Kind::kValue) continue;
    shown.push_back({info.name, info.show(options_), info.live});
  }
  return shown;
}

absl::Status LiveOptions::Set(const std::vector<GivenOption>& changes,
                              bool dry_run) {
  std::lock_guard lock(mutex_);
  MountOptions changed = options_;
  for (const GivenOption& change : changes) {
    const absl::Status status = Change(change, options_, &changed);
    if (!status.ok()) return status;
  }
  const absl::Status status = check_(changed);
  if (!status.ok() || dry_run) return status;
  apply_(changed);
  options_ = std::move(changed);
  return absl::OkStatus();
}

}  // namespace mirrorfs
