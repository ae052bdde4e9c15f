// SPDX-License-Identifier: GPL-2.0-or-later
#include "mount/options.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "region/leg_set.h"

namespace mirrorfs {
namespace {

using Kind = MountOptionInfo::Kind;

// Splits an option list at commas. mount(8) leaves double quotes in place, so
// they are ours to honour and remove; a backslash protects a comma, a quote or
// a backslash.
absl::StatusOr<std::vector<std::string>> SplitOptionList(
    absl::string_view list) {
  std::vector<std::string> words(1);
  bool quoted = false;
  for (size_t i = 0; i < list.size(); ++i) {
    const char c = list[i];
    const bool escapes =
        c == '\\' && i + 1 < list.size() &&
        (list[i + 1] == ',' || list[i + 1] == '"' || list[i + 1] == '\\');
    if (escapes) {
      words.back() += list[++i];
    } else if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      words.emplace_back();
    } else {
      words.back() += c;
    }
  }
  if (quoted) {
    return absl::InvalidArgumentError(
        absl::StrCat("a double quote is not closed in options: ", list));
  }
  return words;
}

GivenOption SplitOption(const std::string& word) {
  const size_t equals = word.find('=');
  GivenOption option{OptionName(word.substr(0, equals)), ""};
  if (equals != word.npos) option.value = word.substr(equals + 1);
  return option;
}

absl::Status OptionError(absl::string_view word, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("option \"", word, "\": ", why));
}

absl::Status ApplyWord(const std::string& word, bool sloppy,
                       MountOptions* options) {
  // Notes that fstab carries for other programs.
  if (word.empty() || absl::StartsWith(word, "x-") ||
      absl::StartsWith(word, "X-")) {
    return absl::OkStatus();
  }
  const GivenOption given = SplitOption(word);
  const bool has_value = word.find('=') != word.npos;
  const MountOptionInfo* info = FindMountOption(given.name);
  if (info == nullptr || info->kind == Kind::kRejected) {
    if (sloppy) return absl::OkStatus();
    return OptionError(
        word, info == nullptr
                  ? "unknown; `mount.mirrorfs --help` lists the options"
                  : absl::StrCat("not accepted, ", info->help));
  }
  if (info->kind == Kind::kIgnored) return absl::OkStatus();
  if (info->kind == Kind::kFlag && has_value) {
    return OptionError(word, "takes no value");
  }
  if (info->kind == Kind::kValue && !has_value) {
    return OptionError(word, "needs a value");
  }
  const absl::Status applied = info->apply(given.value, options);
  if (!applied.ok()) return OptionError(word, applied.message());
  options->given.push_back(given);
  return absl::OkStatus();
}

// What no single option can see.
absl::Status CheckTogether(const MountOptions& options) {
  if (options.log == "core" && !options.log_dir.empty()) {
    return absl::InvalidArgumentError(
        "option \"log-dir\": needs log=disk; log=core keeps nothing on disk");
  }
  return absl::OkStatus();
}

}  // namespace

const MountOptionInfo* FindMountOption(absl::string_view name) {
  for (const MountOptionInfo& info : MountOptionTable()) {
    if (name == info.name) return &info;
  }
  return nullptr;
}

std::string OptionName(absl::string_view written) {
  std::string name(written);
  // The first character stays: _netdev is called that.
  if (!name.empty()) std::replace(name.begin() + 1, name.end(), '_', '-');
  return name;
}

absl::StatusOr<MountOptions> ParseMountOptions(
    const std::vector<std::string>& o_lists, bool sloppy) {
  MountOptions options;
  // A mirror for one user is of little use when root mounts it, and another
  // user may not open a mount to everyone without asking for it.
  options.allow_other = geteuid() == 0;
  for (const std::string& list : o_lists) {
    absl::StatusOr<std::vector<std::string>> words = SplitOptionList(list);
    if (!words.ok()) return words.status();
    for (const std::string& word : *words) {
      absl::Status status = ApplyWord(word, sloppy, &options);
      if (!status.ok()) return status;
    }
  }
  absl::Status status = CheckTogether(options);
  if (!status.ok()) return status;
  return options;
}

std::vector<std::string> SplitLegList(absl::string_view text) {
  if (text.empty()) return {};
  std::vector<std::string> legs(1);
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\\' && i + 1 < text.size() &&
        (text[i + 1] == ':' || text[i + 1] == '\\')) {
      legs.back() += text[++i];
    } else if (c == ':') {
      legs.emplace_back();
    } else {
      legs.back() += c;
    }
  }
  return legs;
}

absl::StatusOr<std::vector<std::string>> ParseLegList(absl::string_view spec) {
  const std::vector<std::string> legs = SplitLegList(spec);
  if (std::find(legs.begin(), legs.end(), "") != legs.end()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "leg list \"", spec, "\": a leg's path is empty; write /a:/b"));
  }
  if (legs.size() < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("leg list \"", spec,
                     "\": a mirror has at least two legs; write /a:/b"));
  }
  if (legs.size() > kLegsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("leg list: at most ", kLegsMax, " legs"));
  }
  return legs;
}

std::string FormatLegList(const std::vector<std::string>& legs) {
  std::string spec;
  for (const std::string& leg : legs) {
    if (!spec.empty()) spec += ':';
    for (const char c : leg) {
      if (c == ':' || c == '\\') spec += '\\';
      spec += c;
    }
  }
  return spec;
}

std::vector<std::string> FuseMountWords(const MountOptions& options) {
  std::vector<std::string> words = {
      options.read_only ? "ro" : "rw", options.suid ? "suid" : "nosuid",
      options.dev ? "dev" : "nodev", options.exec ? "exec" : "noexec"};
  if (options.sync) words.push_back("sync");
  if (options.dirsync) words.push_back("dirsync");
  if (options.allow_other) words.push_back("allow_other");
  words.push_back("default_permissions");
  return words;
}

}  // namespace mirrorfs
