# SPDX-License-Identifier: GPL-2.0-or-later
"""The faulty leg itself: it passes through, and it fails as it is told."""

import errno
import os
import threading
import time

import pytest

from support import compare
from support.faulty_leg import CHANGES, EVERYTHING
from support.mirror import wait_until
from support.trees import make_tree


pytestmark = pytest.mark.timeout_s(60)


def raises(number, call, *arguments):
    with pytest.raises(OSError) as caught:
        call(*arguments)
    assert caught.value.errno == number, caught.value


def test_passes_everything_through(faulty_legs):
    leg = faulty_legs()
    make_tree(leg.root)
    fd = os.open(leg.root / "dir0/file0", os.O_RDWR)
    os.pwrite(fd, b"x" * 100000, 5)
    os.rename(leg.root / "dir1", leg.root / "moved")
    os.fsync(fd)
    st = os.fstat(fd)
    same = os.stat(leg.store / "dir0/file0")
    os.close(fd)
    assert (st.st_ino, st.st_nlink, st.st_mtime_ns, st.st_ctime_ns) == \
        (same.st_ino, same.st_nlink, same.st_mtime_ns, same.st_ctime_ns)
    assert not compare.tree_differences(leg.root, leg.store)


def test_errors(faulty_legs):
    leg = faulty_legs()
    path = leg.root / "dir" / "f"
    path.parent.mkdir()
    path.write_bytes(b"abc")
    with leg.failing(["write", "create"], errno.EIO, path="dir/*"):
        raises(errno.EIO, path.write_bytes, b"def")
        raises(errno.EIO, (leg.root / "dir/g").touch)
        (leg.root / "h").write_bytes(b"not there")
    assert path.read_bytes() == b"" and not (leg.store / "dir/g").exists()
    once = leg.fail("mkdir", errno.EROFS, skip=1, count=1)
    (leg.root / "1").mkdir()
    raises(errno.EROFS, (leg.root / "2").mkdir)
    (leg.root / "3").mkdir()
    assert leg.struck(once) == 1
    leg.fail("unlink", errno.EIO, after=True)
    raises(errno.EIO, path.unlink)
    leg.clear()
    assert not path.exists()
    half = leg.fail("getattr", errno.ESTALE, rate=0.5)
    answers = []
    for _ in range(200):
        try:
            os.stat(leg.root)
            answers.append(True)
        except OSError:
            answers.append(False)
    assert 20 < answers.count(True) < 180 and leg.struck(half) > 20


def test_short_transfers(faulty_legs):
    leg = faulty_legs()
    (leg.store / "f").write_bytes(bytes(range(100)))
    fd = os.open(leg.root / "f", os.O_RDWR)
    leg.add("read", limit=10)
    leg.add("write", limit=7)
    assert os.pread(fd, 50, 20) == bytes(range(20, 30))
    assert os.pwrite(fd, b"x" * 50, 0) == 7
    os.close(fd)


def test_space(faulty_legs):
    leg = faulty_legs()
    leg.space(100_000)
    fd = os.open(leg.root / "f", os.O_CREAT | os.O_RDWR)
    assert os.write(fd, bytes(200_000)) == 100_000 - 4096
    raises(errno.ENOSPC, os.write, fd, b"x")
    assert os.pwrite(fd, b"over what is there", 0) == 18
    raises(errno.ENOSPC, (leg.root / "dir").mkdir)
    assert os.statvfs(leg.root).f_bavail == 0
    os.ftruncate(fd, 0)
    (leg.root / "dir").mkdir()
    os.close(fd)


def test_what_was_not_synced_is_lost(faulty_legs):
    leg = faulty_legs(track=True)
    fd = os.open(leg.root / "f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"synced")
    os.fsync(fd)
    os.pwrite(fd, b"later on", 3)
    os.ftruncate(fd, 2)
    assert leg.lose() == 2
    assert (leg.store / "f").read_bytes() == b"synced"
    os.pwrite(fd, b"unsynced", 0)
    leg.fail("fsync", errno.EIO, count=1, lose=True)
    raises(errno.EIO, os.fsync, fd)
    assert os.pread(fd, 100, 0) == b"synced"
    os.fsync(fd)
    os.close(fd)


def test_hanging(faulty_legs):
    leg = faulty_legs()
    (leg.root / "other").mkdir()
    leg.hang(CHANGES)
    maker = threading.Thread(target=(leg.root / "d").mkdir)
    maker.start()
    wait_until(lambda: leg.hanging() == 1)
    # Not the same directory: the kernel has it locked.
    assert os.listdir(leg.root / "other") == []
    leg.clear()
    maker.join(20)
    assert (leg.root / "d").is_dir()
    leg.add(EVERYTHING, delay_ms=300)
    began = time.monotonic()
    os.stat(leg.root)
    assert time.monotonic() - began >= 0.3


def test_dead_and_back(faulty_legs):
    leg = faulty_legs()
    (leg.root / "f").write_text("x")
    leg.die()
    raises(errno.ENOTCONN, os.listdir, leg.root)
    leg.restart()
    assert (leg.root / "f").read_text() == "x"
    leg.detach()
    assert os.listdir(leg.root) == []
    leg.restart()
    assert os.listdir(leg.root) == ["f"]
