# SPDX-License-Identifier: GPL-2.0-or-later
"""A leg on a FUSE file system is never told of syncfs(2). What the log calls
clean must be durable there all the same."""

import errno
import os
import random

import pytest

from support import syscalls
from support.mirror import wait_until

MIB = 1 << 20


def clean(mirror):
    return not mirror.dirty()["regions"]


@pytest.fixture
def mirror(mirrors, faulty_legs, base):
    """Its second leg remembers what it would lose."""
    leg = faulty_legs("b")
    mirror = mirrors(base / "m", legs=[base / "m/a", leg.root])
    mirror.leg = leg
    mirror.create()
    mirror.mount(env={"MIRRORFS_TICK_MS": "50"})
    leg.track()
    return mirror


def lose_all(mirror):
    """The leg's server loses its power, and then the daemon dies."""
    assert mirror.leg.lose() == 0, "the log called it clean"
    mirror.kill9()
    mirror.mount()
    mirror.settle_and_compare()


def rewrite(mirror, rng):
    (mirror.mnt / "old").write_bytes(rng.randbytes(3 * MIB))
    wait_until(lambda: clean(mirror))
    with open(mirror.mnt / "old", "r+b") as file:
        for at in (5, 2 * MIB - 3, 3 * MIB - 1):
            os.pwrite(file.fileno(), rng.randbytes(6), at)


def truncate(mirror, rng):
    (mirror.mnt / "old").write_bytes(rng.randbytes(3 * MIB))
    wait_until(lambda: clean(mirror))
    os.truncate(mirror.mnt / "old", MIB + 7)


def make_files(mirror, rng):
    (mirror.mnt / "d/e").mkdir(parents=True)
    for n in range(100):
        (mirror.mnt / f"d/e/{n}").write_bytes(rng.randbytes(5000))


def make_old_files(mirror, rng):
    """A leg that does not say when an object was changed (sshfs)."""
    (mirror.mnt / "d").mkdir()
    for n in range(10):
        (mirror.mnt / f"d/{n}").write_bytes(rng.randbytes(5000))
        os.utime(mirror.mnt / f"d/{n}", ns=(1, 1))


def move_new_files(mirror, rng):
    (mirror.mnt / "d").mkdir()
    (mirror.mnt / "f").write_bytes(rng.randbytes(MIB))
    (mirror.mnt / "f").rename(mirror.mnt / "d/f")
    (mirror.mnt / "d").rename(mirror.mnt / "moved")
    os.link(mirror.mnt / "moved/f", mirror.mnt / "second")


def lose_a_name(mirror, rng):
    """The one under which it was written."""
    (mirror.mnt / "one").touch()
    os.link(mirror.mnt / "one", mirror.mnt / "two")
    wait_until(lambda: clean(mirror))
    (mirror.mnt / "one").write_bytes(rng.randbytes(MIB))
    (mirror.mnt / "one").unlink()


def make_without_a_name(mirror, rng):
    try:
        fd = os.open(mirror.mnt, os.O_TMPFILE | os.O_RDWR)
    except OSError as error:
        assert error.errno == errno.EOPNOTSUPP, error
        pytest.skip("the library does not pass O_TMPFILE on")
    os.write(fd, rng.randbytes(MIB))
    syscalls.link_fd(fd, mirror.mnt / "named")
    os.close(fd)


def make_what_is_no_file(mirror, rng):
    """And a file that nobody may read."""
    os.mkfifo(mirror.mnt / "fifo")
    os.symlink("fifo", mirror.mnt / "link")
    (mirror.mnt / "secret").write_bytes(rng.randbytes(100))
    os.chmod(mirror.mnt / "secret", 0)
    os.chmod(mirror.mnt / "fifo", 0o600)


CHANGES = [rewrite, truncate, make_files, make_old_files, move_new_files,
           lose_a_name, make_without_a_name, make_what_is_no_file]


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__)
def test_what_cooled_is_durable(mirror, seed, change):
    change(mirror, random.Random(seed))
    wait_until(lambda: clean(mirror))
    lose_all(mirror)


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__)
def test_an_orderly_end_leaves_nothing_to_lose(mirror, seed, change):
    change(mirror, random.Random(seed))
    mirror.umount()
    assert mirror.leg.lose() == 0
    mirror.assert_legs_identical()


def test_what_a_leg_was_given_when_it_came_back(mirror, seed):
    rng = random.Random(seed)
    (mirror.mnt / "old").write_bytes(rng.randbytes(3 * MIB))
    mirror.cli("offline", mirror.mnt, "b")
    with open(mirror.mnt / "old", "r+b") as file:
        os.pwrite(file.fileno(), b"missed", MIB - 3)
    make_files(mirror, rng)
    (mirror.mnt / "large").write_bytes(rng.randbytes(100 * MIB))
    mirror.cli("online", mirror.mnt, "b")
    mirror.wait_sync()
    wait_until(lambda: clean(mirror))
    lose_all(mirror)


def test_a_directory_that_never_cools(mirror, seed):
    """Its mark moves on past what is durable."""
    rng = random.Random(seed)
    (mirror.mnt / "first").write_bytes(rng.randbytes(MIB))
    count = 0

    def first_is_clean():
        nonlocal count
        (mirror.mnt / f"n{count}").touch()
        count += 1
        leg = mirror.cli("dirty", mirror.mnt, "--json").stdout
        return '"first"' not in leg

    wait_until(first_is_clean)
    mirror.leg.lose()
    mirror.kill9()
    mirror.mount()
    mirror.settle_and_compare()


def test_what_cannot_be_made_durable_stays_dirty(mirror, seed):
    """With an error that is no failure of the leg."""
    mirror.expect_diagnostics("leg .b.|durable")
    (mirror.mnt / "f").write_bytes(random.Random(seed).randbytes(MIB))
    rule = mirror.leg.fail("fsync", errno.EINVAL, path="f")
    wait_until(lambda: mirror.leg.struck(rule) > 2)
    assert not clean(mirror)
    assert mirror.leg_status("b")["state"] == "in-sync"
    mirror.leg.clear()
    wait_until(lambda: clean(mirror))
    lose_all(mirror)


def test_a_leg_that_cannot_sync_fails(mirror, seed):
    mirror.expect_diagnostics("leg .b.|durable")
    (mirror.mnt / "f").write_bytes(random.Random(seed).randbytes(MIB))
    mirror.leg.fail("fsync", errno.EIO, path="f", count=1, lose=True)
    wait_until(lambda: mirror.leg_status("b")["state"] != "in-sync")
    mirror.cli("online", mirror.mnt, "b", check=False)
    mirror.wait_sync()
    wait_until(lambda: clean(mirror))
    lose_all(mirror)


def test_directories_are_synced(mirror):
    before = mirror.leg.stats()["requests"].get("fsyncdir", 0)
    (mirror.mnt / "d").mkdir()
    wait_until(lambda: clean(mirror))
    assert mirror.leg.stats()["requests"]["fsyncdir"] > before
