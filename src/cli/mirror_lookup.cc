// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/mirror_lookup.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "control/control_client.h"

namespace mirrorfs {
namespace {

const nlohmann::json& StatusRequest() {
  static const nlohmann::json& request =
      *new nlohmann::json{{"command", "status"}};
  return request;
}

bool IsPathOf(const MirrorStatus& mirror, const std::string& path) {
  return mirror.mountpoint == path ||
         std::any_of(mirror.legs.begin(), mirror.legs.end(),
                     [&](const LegStatus& leg) { return leg.path == path; });
}

std::vector<MountedMirror> Matching(
    const std::vector<MountedMirror>& mirrors,
    const std::function<bool(const MirrorStatus&)>& matches) {
  std::vector<MountedMirror> found;
  for (const MountedMirror& mirror : mirrors) {
    if (matches(mirror.status)) found.push_back(mirror);
  }
  return found;
}

std::vector<MountedMirror> MatchingPath(
    const std::vector<MountedMirror>& mirrors, const std::string& what) {
  for (const auto& form : {AbsolutePath, PathWithRealParent, RealPath}) {
    const std::string path = form(what);
    std::vector<MountedMirror> found = Matching(
        mirrors,
        [&](const MirrorStatus& mirror) { return IsPathOf(mirror, path); });
    if (!found.empty()) return found;
  }
  return {};
}

}  // namespace

std::string AbsolutePath(const std::string& what) {
  std::error_code ignored;
  std::filesystem::path path =
      std::filesystem::absolute(what, ignored).lexically_normal();
  // "/a/b/" is "/a/b".
  if (!path.has_filename() && path.has_relative_path()) {
    path = path.parent_path();
  }
  return path.string();
}

std::string PathWithRealParent(const std::string& what) {
  const std::filesystem::path path = AbsolutePath(what);
  const std::filesystem::path parent = RealPath(path.parent_path().string());
  return (parent / path.filename()).string();
}

std::string RealPath(const std::string& what) {
  const std::unique_ptr<char, decltype(&free)> real(
      realpath(what.c_str(), nullptr), &free);
  return real ? real.get() : what;
}

MountedMirrors AskAllDaemons() {
  MountedMirrors all;
  for (const std::string& socket : ListControlSockets(ControlRunDir())) {
    absl::StatusOr<nlohmann::json> json =
        ControlCall(socket, StatusRequest(), kStatusTimeout);
    if (json.ok() && json->is_object()) {
      MirrorStatus status = ParseMirrorStatus(*json);
      all.mirrors.push_back({socket, *std::move(json), std::move(status)});
    } else if (json.ok()) {
      all.silent.push_back(absl::StrCat(socket, ": the answer is no status"));
    } else if (absl::IsPermissionDenied(json.status())) {
      all.denied = true;
    } else if (!absl::IsUnavailable(json.status())) {
      all.silent.push_back(absl::StrCat(socket, ": ", json.status().message()));
    }
  }
  std::stable_sort(all.mirrors.begin(), all.mirrors.end(),
                   [](const MountedMirror& a, const MountedMirror& b) {
                     return a.status.name < b.status.name;
                   });
  return all;
}

absl::StatusOr<MountedMirror> FindMirror(const std::string& what) {
  return FindMirrorAmong(AskAllDaemons(), what);
}

absl::StatusOr<MountedMirror> FindMirrorAmong(const MountedMirrors& all,
                                              const std::string& what) {
  std::vector<MountedMirror> found =
      Matching(all.mirrors, [&](const MirrorStatus& mirror) {
        return mirror.name == what || mirror.uuid == what;
      });
  if (found.empty()) found = MatchingPath(all.mirrors, what);
  if (found.size() == 1) return std::move(found[0]);
  if (found.size() > 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        what, ": ", found.size(),
        " mounted mirrors are called that; name the mount point or the uuid"));
  }
  if (all.denied) {
    return OnlyForRoot(what);
  }
  return absl::NotFoundError(absl::StrCat(
      what, ": not a mounted mirror, nor a leg of one",
      all.silent.empty() ? "" : "; but ", absl::StrJoin(all.silent, "; ")));
}

absl::Status OnlyForRoot(absl::string_view what) {
  return absl::PermissionDeniedError(
      absl::StrCat(what, ": only root may ask the daemons of mirrors"));
}

bool MayBeMounted(absl::string_view mirror_uuid) {
  return !absl::IsUnavailable(ControlCall(ControlSocketPath(mirror_uuid),
                                          StatusRequest(), kStatusTimeout)
                                  .status());
}

}  // namespace mirrorfs
