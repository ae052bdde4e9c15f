// SPDX-License-Identifier: GPL-2.0-or-later
//
// argv of mount.mirrorfs.
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "mount/options.h"

namespace mirrorfs {
namespace {

using Action = MountCommand::Action;

// The words of argv sorted by what they are, before any of them is judged.
struct Words {
  std::vector<std::string> positional;
  std::vector<std::string> option_lists;
  bool sloppy = false;
  bool foreground = false;
  MountCommand command;
};

absl::Status Usage(absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat(why, "; try `mount.mirrorfs --help`"));
}

// Flags that stand alone. False when `word` is none of them.
bool TakeFlag(absl::string_view word, Words* words) {
  if (word == "-s") {
    words->sloppy = true;
  } else if (word == "-v" || word == "--verbose") {
    words->command.verbose = true;
  } else if (word == "-r") {
    words->option_lists.push_back("ro");
  } else if (word == "-w") {
    words->option_lists.push_back("rw");
  } else if (word == "-F" || word == "--foreground") {
    words->foreground = true;
  } else if (word == "-h" || word == "--help") {
    words->command.action = Action::kHelp;
  } else if (word == "-V" || word == "--version") {
    words->command.action = Action::kVersion;
  } else if (word == "-f") {
    // See the header for why the place decides.
    if (words->positional.empty()) {
      words->foreground = true;
    } else if (words->command.action == Action::kMount) {
      words->command.action = Action::kFake;
    }
  } else {
    return word == "-n";  // there is no mtab to write
  }
  return true;
}

// Flags with a value, which may be glued on. What is not -o is not for us: -t
// repeats our own name, -N (a mount namespace) has been entered already.
bool IsValueFlag(absl::string_view word) {
  return word.size() >= 2 && word[0] == '-' &&
         (word[1] == 'o' || word[1] == 't' || word[1] == 'N');
}

absl::StatusOr<Words> SortWords(int argc, const char* const* argv) {
  Words words;
  bool flags_end = false;
  for (int i = 1; i < argc; ++i) {
    const absl::string_view word = argv[i];
    if (flags_end || word.empty() || word[0] != '-') {
      words.positional.emplace_back(word);
    } else if (word == "--") {
      flags_end = true;
    } else if (TakeFlag(word, &words)) {
      continue;
    } else if (IsValueFlag(word)) {
      if (word.size() == 2 && ++i == argc) {
        return Usage(absl::StrCat(word, " needs a value"));
      }
      const absl::string_view value =
          word.size() > 2 ? word.substr(2) : argv[i];
      if (word[1] == 'o') words.option_lists.emplace_back(value);
    } else {
      return Usage(absl::StrCat("unknown flag ", word));
    }
  }
  return words;
}

void AppendOptionHelp(std::string* text) {
  for (const MountOptionInfo& info : MountOptionTable()) {
    std::string word = info.name;
    if (info.kind == MountOptionInfo::Kind::kValue) {
      absl::StrAppend(&word, "=", info.value_name);
    } else if (info.kind != MountOptionInfo::Kind::kFlag) {
      continue;
    }
    // A word too long for its column pushes its help to the next line.
    if (word.size() > 26) {
      absl::StrAppend(text, "  ", word, "\n");
      word.clear();
    }
    absl::StrAppendFormat(text, "  %-26s  %s\n", word, info.help);
  }
}

}  // namespace

absl::StatusOr<MountCommand> ParseMountCommandLine(int argc,
                                                   const char* const* argv) {
  absl::StatusOr<Words> words = SortWords(argc, argv);
  if (!words.ok()) return words.status();
  MountCommand command = words->command;
  if (command.action == Action::kHelp || command.action == Action::kVersion) {
    return command;
  }
  if (words->positional.size() != 2) {
    return Usage(
        words->positional.size() < 2
            ? "a leg list and a mount point are needed"
            : absl::StrCat("one word too many: ", words->positional[2]));
  }
  command.spec = words->positional[0];
  command.mount_point = words->positional[1];
  if (command.mount_point.empty()) return Usage("the mount point is empty");

  absl::StatusOr<MountOptions> options =
      ParseMountOptions(words->option_lists, words->sloppy);
  if (!options.ok()) return options.status();
  command.options = *std::move(options);
  if (words->foreground) command.options.foreground = true;

  if (!command.options.remount) {
    absl::StatusOr<std::vector<std::string>> legs = ParseLegList(command.spec);
    if (!legs.ok()) return legs.status();
    command.legs = *std::move(legs);
  }
  return command;
}

std::string MountUsage() {
  std::string text =
      "usage: mount.mirrorfs [FLAGS] LEG:LEG[:LEG...] DIR [-o OPTION,...]\n"
      "\n"
      "Mounts a mirror: one file system at DIR, every file of it on every "
      "leg.\n"
      "A colon inside a leg's path is written \\: and a comma inside an "
      "option\n"
      "\\, or in double quotes.\n"
      "\n"
      "flags:\n"
      "  -o OPTION,...      options, see below; may stand more than once\n"
      "  -r, -w             the same as -o ro, -o rw\n"
      "  -F, --foreground   do not detach; for service managers\n"
      "  -f                 before LEG:LEG the same as -F; after DIR, where\n"
      "                     mount(8) puts it, fake: check the words, mount "
      "nothing\n"
      "  -s                 ignore unknown options\n"
      "  -v                 ignored, as mount(8) passes it\n"
      "  -n, -t TYPE, -N NS accepted from mount(8) and ignored\n"
      "  -h, --help         this text\n"
      "  -V, --version      the version\n"
      "\n"
      "options (sizes take K M G T, durations ms s m h; _ is as good as -):\n";
  AppendOptionHelp(&text);
  text +=
      "\n"
      "Ignored, for fstab: defaults, auto, noauto, nofail, _netdev, user, "
      "users,\n"
      "owner, group, comment=, x-*.\n";
  return text;
}

}  // namespace mirrorfs
