# SPDX-License-Identifier: GPL-2.0-or-later
"""What bash offers when somebody presses the tabulator."""

import shlex

from support.mirror import REPO, run

SCRIPT = REPO / "data/bash-completion/mirrorfs"


def offered(mirror, *words):
    """The completions of the last word."""
    function = "_mirrorfs" if words[0] == "mirrorfs" else "_mount_mirrorfs"
    script = (f"source {SCRIPT}\n"
              f"COMP_WORDS=({' '.join(shlex.quote(word) for word in words)})\n"
              f"COMP_CWORD={len(words) - 1}\n"
              f"{function}\n"
              'printf "%s\\n" "${COMPREPLY[@]}"\n')
    result = run("bash", "-c", script, env=mirror.env, cwd=mirror.base)
    assert result.stderr == "", result.stderr
    return result.stdout.split()


def test_commands_and_flags(mirror):
    commands = offered(mirror, "mirrorfs", "")
    assert {"status", "wait-sync", "get", "set", "where", "events", "help",
            "create"} <= set(commands)
    assert all(word.islower() for word in commands)
    assert offered(mirror, "mirrorfs", "wa") == ["wait-sync"]
    assert set(offered(mirror, "mirrorfs", "wait-sync", "--")) >= {
        "--timeout", "--every", "--json", "--help"}
    assert offered(mirror, "mirrorfs", "help", "dir") == ["dirty"]


def test_mirrors_files_and_options(mirror):
    assert offered(mirror, "mirrorfs", "status", "") == ["t"]
    assert offered(mirror, "mirrorfs", "get", "") == ["t"]
    assert "log" in offered(mirror, "mirrorfs", "get", "t", "")
    settable = offered(mirror, "mirrorfs", "set", "t", "")
    assert {"read-policy=", "write-mostly="} <= set(settable)
    assert "log=" not in settable
    assert offered(mirror, "mirrorfs", "where", "mn") == ["mnt"]


def test_mount_options(mirror):
    options = offered(mirror, "mount.mirrorfs", "a:b", "mnt", "-o", "")
    assert {"log=", "ro", "read-policy=", "resync-rate-max="} <= set(options)
    assert offered(mirror, "mount.mirrorfs", "-o", "ro,log-") == [
        "ro,log-dir="]
    assert offered(mirror, "mount.mirrorfs", "mn") == ["mnt"]
