# SPDX-License-Identifier: GPL-2.0-or-later
"""The house rules that a compiler does not check. Needs no build, no root.

Runs under pytest, and by itself: python3 tests/tidy/test_tidy.py
"""

import re
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
SRC = REPO / "src"

LINES_WANTED = 400
LINES_MAX = 600

# Which folders of src/ a folder may include, as in its meson.build. The order
# is that of knowledge: nothing points back up.
MAY_INCLUDE = {
    "base": set(),
    "region": set(),
    "dirtylog": {"base", "region"},
    "leg": {"base", "region"},
    "mirror": {"base", "region", "dirtylog", "leg"},
    "recovery": {"base", "region", "dirtylog", "leg", "mirror"},
    "fuse": {"base", "region", "dirtylog", "leg", "mirror"},
    "control": {"base"},
    "mount": {"base", "region", "dirtylog", "leg", "mirror", "recovery",
              "fuse", "control"},
    "cli": {"base", "region", "leg", "control"},
}
# Libraries of their own within a folder.
MAY_INCLUDE_TOO = {
    "control/mirror_status": {"region", "dirtylog", "leg", "mirror",
                              "recovery"},
    "control/where": {"region", "dirtylog", "leg", "mirror"},
    "control/dirty_bytes": {"region", "dirtylog", "leg", "mirror"},
}
MAY_INCLUDE_ONLY = {
    "mount/options": {"base", "region"},
    "mount/live_options": {"base", "region"},
    "mount/option_table": {"base", "region"},
    "mount/command_line": {"base", "region"},
}
# A library, and the only files that know it.
KNOWN_TO_FEW = {
    "rocksdb/": {"dirtylog/disk_log.cc", "dirtylog/store_files.cc"},
    "fuse": {"fuse/fuse_api.h"},
    "boost/": {"base/coroutine.cc", "mount/request_bytes.cc"},
    "liburing": {"leg/parallel_sync.cc"},
}
# What a file that uses it includes, or a header of the project that it
# includes: other headers of libraries happen to, in some versions.
COMES_FROM = {
    r"absl::Str(Cat|Append)\(": "absl/strings/str_cat.h",
    r"absl::StrFormat\(": "absl/strings/str_format.h",
    r"absl::StrJoin\(": "absl/strings/str_join.h",
    r"absl::StrReplaceAll\(": "absl/strings/str_replace.h",
    r"absl::StrSplit\(": "absl/strings/str_split.h",
    r"absl::(StrContains|StartsWith|EndsWith)\(": "absl/strings/match.h",
    r"absl::(Consume|Strip)(Prefix|Suffix)\(": "absl/strings/strip.h",
    r"absl::Simple\w+\(": "absl/strings/numbers.h",
    r"absl::flat_hash_map<": "absl/container/flat_hash_map.h",
    r"absl::flat_hash_set<": "absl/container/flat_hash_set.h",
    r"absl::btree_map<": "absl/container/btree_map.h",
    r"spdlog::(warn|info|error)\(": "spdlog/spdlog.h",
    r"std::(sort|min|max|find|find_if|count_if|(any|all|none)_of)\(":
        "algorithm",
    r"std::atomic<": "atomic",
    r"std::(countr_\w+|popcount)\(": "bit",
    r"\bu?int(8|16|32|64)_t\b": "cstdint",
    r"std::function<": "functional",
    r"std::(unique|shared)_ptr<": "memory",
    r"std::(mutex|lock_guard|unique_lock)\b": "mutex",
    r"std::optional<": "optional",
    r"std::(move|exchange|pair)\b": "utility",
    r"std::vector<": "vector",
}


def sources(*patterns, below=SRC):
    return sorted(path for pattern in patterns for path in
                  below.rglob(pattern))


def cpp_sources():
    return sources("*.h", "*.cc")


def shown(path):
    return str(path.relative_to(REPO))


def fail_with(problems):
    assert not problems, "\n" + "\n".join(problems)


def tracked_files():
    """What belongs to the project: all that git does not ignore."""
    listed = subprocess.run(
        ["git", "-C", str(REPO), "ls-files", "-z", "--cached", "--others",
         "--exclude-standard"], capture_output=True, check=False)
    if listed.returncode == 0:
        names = listed.stdout.decode().split("\0")
        paths = [REPO / name for name in names if name]
    else:  # unpacked from an archive
        paths = [path for path in REPO.rglob("*")
                 if not path.relative_to(REPO).parts[0].startswith("build")]
    return sorted(path for path in paths if path.is_file())


# ---- C++

def allowed_includes(path):
    relative = path.relative_to(SRC)
    folder = relative.parts[0]
    unit = f"{folder}/{relative.stem}"
    allowed = MAY_INCLUDE_ONLY.get(unit, MAY_INCLUDE.get(folder))
    if allowed is None:
        return None
    return allowed | {folder} | MAY_INCLUDE_TOO.get(unit, set())


def test_includes_point_down():
    problems = []
    for path in cpp_sources():
        allowed = allowed_includes(path)
        if allowed is None:
            problems.append(f"{shown(path)}: its folder is not in MAY_INCLUDE")
            continue
        for name in re.findall(r'^#include "([^"]+)"', path.read_text(),
                               re.MULTILINE):
            folder = name.split("/")[0]
            if folder in MAY_INCLUDE and folder not in allowed:
                problems.append(f"{shown(path)}: must not include {name}")
    fail_with(problems)


def included(path):
    """By it, and by the project's headers among those, and so on."""
    names, todo = set(), [path]
    while todo:
        for name in re.findall(r'^#include ["<]([^">]+)',
                               todo.pop().read_text(), re.MULTILINE):
            if name not in names and (SRC / name).exists():
                todo.append(SRC / name)
            names.add(name)
    return names


def test_what_is_used_is_included():
    problems = []
    for path in cpp_sources() + sources("*.cc", below=REPO / "tests/unit"):
        names = included(path)
        code = re.sub(r"//.*", "", path.read_text())
        problems += [f"{shown(path)}: does not include {header}"
                     for used, header in COMES_FROM.items()
                     if header not in names and re.search(used, code)]
    fail_with(problems)


def test_libraries_are_known_to_few():
    problems = []
    for path in cpp_sources():
        for name in re.findall(r"^#include <([^>]+)>", path.read_text(),
                               re.MULTILINE):
            for library, few in KNOWN_TO_FEW.items():
                if name.startswith(library) and \
                        str(path.relative_to(SRC)) not in few:
                    problems.append(f"{shown(path)}: must not know {name}")
    fail_with(problems)


def test_files_are_short():
    """At most 600 lines, and 400 for nearly all."""
    lengths = {path: path.read_text().count("\n") for path in cpp_sources()}
    fail_with([f"{shown(path)}: {lines} lines, more than {LINES_MAX}"
               for path, lines in lengths.items() if lines > LINES_MAX])
    long = [f"{shown(path)}: {lines} lines"
            for path, lines in lengths.items() if lines > LINES_WANTED]
    assert len(long) <= len(lengths) // 20, \
        f"too many of more than {LINES_WANTED} lines:\n" + "\n".join(long)


def test_no_std_string_view():
    """abseil's, everywhere: it is what its own calls take."""
    fail_with([f"{shown(path)}: std::string_view"
               for path in cpp_sources()
               if "std::string_view" in path.read_text()])


def test_headers_are_included_once():
    fail_with([f"{shown(path)}: no #pragma once" for path in sources("*.h")
               if "#pragma once" not in path.read_text()])


def test_sources_are_in_meson():
    problems = []
    for path in sources("*.cc"):
        build = path.parent / "meson.build"
        if f"'{path.name}'" not in build.read_text():
            problems.append(f"{shown(path)}: is not named in {shown(build)}")
    fail_with(problems)


def test_unit_tests_are_in_meson():
    build = (REPO / "tests/unit/meson.build").read_text()
    fail_with([f"{shown(path)}: is not named in tests/unit/meson.build"
               for path in sources("*_test.cc", below=REPO / "tests/unit")
               if f"'{path.stem}'" not in build])


# ---- every file

def test_spdx_line_comes_first():
    problems = []
    for path in tracked_files():
        is_script = path.parent.name == "scripts" and path.suffix == ""
        if path.suffix not in {".h", ".cc", ".py", ".sh", ".bash"} and not is_script:
            continue
        lines = path.read_text(errors="replace").splitlines()
        if lines and lines[0].startswith("#!"):
            del lines[0]
        if not lines or not re.match(
                r"(//|#) SPDX-License-Identifier: GPL-2\.0-or-later$",
                lines[0]):
            problems.append(f"{shown(path)}: the SPDX line is not first")
    fail_with(problems)


def test_nothing_is_left_to_do():
    # What a quote ends is data, like a mark in another program's output.
    words = re.compile(r"\b(TO" r"DO|FIX" r"ME)\b(?![\"'])")
    fail_with([f"{shown(path)}: {match[0]}" for path in tracked_files()
               if (match := words.search(path.read_text(errors="replace")))])


def test_the_project_stands_alone():
    """No path that leads out of it."""
    outside = ".." "/shared"
    fail_with([f"{shown(path)}: refers to {outside}"
               for path in tracked_files()
               if outside in path.read_text(errors="replace")])


# ---- the manual

def manual(page):
    return (REPO / "man" / f"{page}.scd").read_text()


def section(text, title):
    """The lines of a section of a manual page, subsections included."""
    found = re.search(rf"^# {re.escape(title)}$(.*?)(?=^# |\Z)", text,
                      re.MULTILINE | re.DOTALL)
    assert found, f"no section {title}"
    return found[1].splitlines()


def bold_words(line):
    return [word.replace("\\", "") for word in
            re.findall(r"\*((?:[^*\\]|\\.)+)\*", line)]


def option_table():
    text = (SRC / "mount/option_table.cc").read_text()
    return re.findall(r'^\s*\{"([^"]+)", Kind::(\w+)', text, re.MULTILINE)


def test_mount_options_are_in_the_manual():
    """Each in a heading: NAME= for one with a value, NAME for others."""
    table = {name + ("=" if kind == "kValue" else "")
             for name, kind in option_table()}
    assert len(table) > 30, "the table was not understood"
    headings = [line for line in section(manual("mount.mirrorfs.8"), "OPTIONS")
                if line.startswith("*")]
    documented = {word for line in headings for word in bold_words(line)}
    fail_with([f"not in mount.mirrorfs(8): {name}"
               for name in sorted(table - documented)] +
              [f"only in mount.mirrorfs(8): {name}"
               for name in sorted(documented - table)])


def commands():
    text = "".join(path.read_text() for path in sources("*.cc",
                                                        below=SRC / "cli"))
    return set(re.findall(r'add_subcommand\(\s*"([^"]+)"', text))


def test_commands_are_in_the_manual():
    found = commands()
    assert len(found) > 5, "the commands were not understood"
    text = manual("mirrorfs.8")
    described = {line[3:] for line in section(text, "COMMANDS")
                 if line.startswith("## ")}
    shortly = {line.split("*")[1].split()[1]
               for line in section(text, "SYNOPSIS") if line.startswith("*")}
    assert described == found
    assert shortly == found


def test_flags_of_commands_are_in_the_manual():
    """Those that start with -- in an add_option or add_flag."""
    text = manual("mirrorfs.8")
    problems = []
    for path in sources("*.cc", below=SRC / "cli"):
        for names in re.findall(r'add_(?:option|flag)\(\s*"([^"]+)"',
                                path.read_text()):
            problems += [f"{shown(path)}: {name} is not in mirrorfs(8)"
                         for name in names.split(",")
                         if name.startswith("-") and f"*{name}*" not in text]
    fail_with(problems)


def main():
    failed = 0
    for name, test in sorted(globals().items()):
        if not name.startswith("test_"):
            continue
        try:
            test()
            print(f"ok      {name}")
        except AssertionError as error:
            failed += 1
            print(f"FAILED  {name}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
