# SPDX-License-Identifier: GPL-2.0-or-later
"""Several processes at the same names."""

import os
import subprocess
import sys
import time

import pytest

SECONDS = 2

# Does it again and again and prints each error that is not expected.
AGAIN = """
import errno, os, sys, time
what, path, seconds, expected = sys.argv[1:]
end = time.monotonic() + float(seconds)
while time.monotonic() < end:
    try:
        if what == "open":
            fd = os.open(path, os.O_RDONLY)
            content = os.read(fd, 10)
            os.close(fd)
            if content != b"x" * 10:
                print("content", content)
        else:
            getattr(os, what)(path)
    except OSError as error:
        if errno.errorcode[error.errno] != expected:
            print(error)
"""

no_timeouts = pytest.mark.parametrize(
    "options", [(), ("entry-timeout=0", "attr-timeout=0")],
    ids=["default", "no timeouts"])


def again(what, path, seconds=SECONDS, expected=""):
    return subprocess.Popen(
        [sys.executable, "-c", AGAIN, what, path, str(seconds), expected],
        stdout=subprocess.PIPE, text=True)


def remount(mirror, options):
    if options:
        mirror.umount()
        mirror.mount(*options)


@no_timeouts
def test_a_name_that_is_replaced_is_always_there(mirror, options):
    """The kernel looks again when it is told that what it found is gone, but
    only once: who replaces the name twice in that time still wins."""
    remount(mirror, options)
    name = mirror.mnt / "name"
    name.write_bytes(b"x" * 10)
    others = [again("stat", name, expected="ESTALE"),
              again("open", name, expected="ESTALE")]
    while any(other.poll() is None for other in others):
        (mirror.mnt / "new").write_bytes(b"x" * 10)
        os.rename(mirror.mnt / "new", name)
    assert [other.communicate()[0] for other in others] == ["", ""]


@no_timeouts
def test_a_directory_that_cannot_be_removed_stays_one(mirror, options):
    """Who has it open is in the same one as who looks at its name."""
    remount(mirror, options)
    directory, moved = mirror.mnt / "d", mirror.mnt / "moved"
    directory.mkdir()
    (directory / "file").touch()
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        others = [again("rmdir", directory, 0.5, "ENOTEMPTY"),
                  again("stat", directory, 0.5)]
        assert [other.communicate()[0] for other in others] == ["", ""]
        directory.rename(moved)
        directory.mkdir()
        os.close(os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        assert os.listdir(fd) == os.listdir(moved)
        assert not os.listdir(directory)
        (moved / "new").unlink()
        directory.rmdir()
        moved.rename(directory)
    os.close(fd)
