# SPDX-License-Identifier: GPL-2.0-or-later
"""A leg that is full. By default the caller hears of it, the legs end equal
and none is dropped; with on-enospc=degrade the leg is dropped."""

import contextlib
import errno
import os
import time

import pytest

from support.mirror import run, wait_until
from support.scene import fails_legs, knows_option, pending
from support.syscalls import FALLOC_KEEP_SIZE, fallocate

pytestmark = pytest.mark.timeout_s(400)

MIB = 1 << 20
degrades = pending(knows_option("on-enospc"), "on-enospc=")


def fill(path, limit=200 * MIB):
    """Writes until there is no space; returns how much was taken."""
    total = 0
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        while total < limit:
            total += os.write(fd, os.urandom(64 << 10))
        os.fsync(fd)
    except OSError as error:
        assert error.errno in (errno.ENOSPC, errno.EDQUOT), error
        return total
    finally:
        os.close(fd)
    raise AssertionError("it was never full")


def states(it):
    return [it.state(i) for i in range(len(it.names))]


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("fs", ["ext4", "faulty"])
def test_a_full_leg(scene, fs, number):
    legs = ["plain", "plain"]
    legs[number] = fs
    it = scene(*legs, size=64 * MIB, allowed=["full"])
    if fs == "faulty":
        it.things[number].space(60 * MIB)
    free = os.statvfs(it.mirror.mnt)
    assert free.f_bavail * free.f_frsize < 70 * MIB, "not the smallest leg's"
    it.start_load()
    taken = fill(it.mirror.mnt / "ballast")
    assert os.stat(it.mirror.mnt / "ballast").st_size >= taken
    it.load.progress(30)
    assert set(states(it)) <= {"in-sync", "resync"}
    free = os.statvfs(it.mirror.mnt)
    assert free.f_bavail * free.f_frsize < 4 * MIB
    (it.mirror.mnt / "ballast").unlink()
    it.load.progress(30)
    it.finish()


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs", "faulty"])
def test_space_that_cannot_be_allocated(scene, fs, number):
    """The file is as long as before, on all legs and for the program, and what
    had been allocated is free again."""
    legs = ["plain", "plain"]
    legs[number] = fs
    it = scene(*legs, size=64 * MIB)
    mnt = it.mirror.mnt
    path = mnt / "log"
    path.write_bytes(b"L" * 1000)
    if fs == "faulty":
        it.things[number].fail("fallocate", errno.ENOSPC)
    free = os.statvfs(mnt)
    size = space_of(free) + 20 * MIB
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    try:
        os.fsync(fd)
        for mode in (0, FALLOC_KEEP_SIZE):
            with pytest.raises(OSError) as caught:
                fallocate(fd, mode, 0, size)
            assert caught.value.errno == errno.ENOSPC
            sizes = {os.stat(p).st_size for p in
                     [path, *(store / "log" for store in it.stores)]}
            assert sizes == {1000}
            if fs in ("ext4", "xfs"):  # btrfs keeps room for itself
                wait_until(lambda: abs(space(mnt) - space_of(free)) < 2 * MIB,
                           what="the space to be free again")
        assert os.write(fd, b"M" * 100) == 100
    finally:
        os.close(fd)
    it.finish()
    for store in it.stores:
        assert (store / "log").read_bytes() == b"L" * 1000 + b"M" * 100


def space_of(free):
    return free.f_bavail * free.f_frsize


def space(path):
    return space_of(os.statvfs(path))


def log_place(it):
    return it.mirror.status()["log"]["location"]


@pytest.mark.parametrize("allocates", [True, False])
def test_the_log_leaves_a_full_leg(scene, allocates):
    """The leg that holds the dirty log is full and not broken: the log goes to
    another leg, where a crash finds it, and comes back when there is space."""
    it = scene("faulty", "plain")
    leg = it.things[0]
    if not allocates:
        leg.fail("fallocate", errno.EOPNOTSUPP)
    directories = [it.mirror.mnt / f"d{i}" for i in range(200)]
    for directory in directories:
        directory.mkdir()
    assert log_place(it) == "a"
    leg.space(4 * MIB)
    fill(it.mirror.mnt / "ballast")
    for directory in directories:  # a mark for each
        with contextlib.suppress(OSError):
            (directory / "new").mkdir()
        assert set(states(it)) <= {"in-sync", "resync"}
        if log_place(it) == "b":
            break
    assert log_place(it) == "b"
    assert "enospc" in it.mirror.cli("events", it.mirror.mnt).stdout
    it.crash()
    it.mirror.mount()  # on either, by what room was kept
    assert set(states(it)) <= {"in-sync", "resync"}
    (it.mirror.mnt / "ballast").unlink()
    leg.space(None)
    (it.mirror.mnt / "more").write_bytes(b"x" * MIB)
    it.mirror.umount()
    it.mirror.mount()
    assert log_place(it) == "a"
    it.finish()


@degrades
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("fs", ["ext4", "faulty"])
def test_a_full_leg_is_dropped(scene, fs, number):
    legs = ["plain", "plain"]
    legs[number] = fs
    it = scene(*legs, size=64 * MIB, options=["on-enospc=degrade"])
    leg = it.things[number]
    if fs == "faulty":
        leg.space(20 * MIB)
    it.start_load()
    with open(it.mirror.mnt / "ballast", "wb") as file:
        for _ in range(100):
            file.write(os.urandom(MIB))
    it.wait_out(number)
    it.load.progress()
    os.unlink(it.mirror.mnt / "ballast")
    if fs == "faulty":
        leg.space(None)
    it.finish()


@degrades
def test_a_full_leg_does_not_come_and_go(scene):
    """Each time would be recorded, and an absent third leg be a conflict after
    many."""
    it = scene("plain", "faulty",
               options=["on-enospc=degrade", "probe-interval=100ms"])
    it.things[1].fail("write", errno.ENOSPC, spare_private=True)
    end = time.monotonic() + 10
    written = 0
    while time.monotonic() < end:
        (it.mirror.mnt / f"f{written}").write_bytes(b"new" * 1000)
        written += 1
        time.sleep(0.02)
    returns = it.mirror.cli("events", it.mirror.mnt).stdout.count("leg-back")
    assert 2 <= returns <= 7, returns
    it.things[1].clear()
    it.finish()


def test_no_space_for_names(scene):
    """No inode left on one leg: no leg has the name."""
    it = scene("plain", "faulty")
    leg = it.things[1]
    directory = it.mirror.mnt / "d"
    directory.mkdir()
    (directory / "old").write_bytes(b"x")
    leg.fail(["create", "mkdir", "mknod", "symlink", "link"], errno.ENOSPC,
             spare_private=True)
    calls = [lambda: (directory / "f").touch(),
             lambda: (directory / "s").mkdir(),
             lambda: os.mkfifo(directory / "p"),
             lambda: os.symlink("x", directory / "l"),
             lambda: os.link(directory / "old", directory / "h")]
    for call in calls:
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.ENOSPC
    assert os.listdir(directory) == ["old"]
    assert set(states(it)) <= {"in-sync", "resync"}
    leg.clear()
    it.finish()
    for store in it.stores:
        assert os.listdir(store / "d") == ["old"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_overwriting_fails_in_the_middle(scene, number):
    """A hole is filled on one leg and cannot be on the other: old or new, but
    the same on all."""
    it = scene("plain", "faulty")
    path = it.mirror.mnt / "f"
    with open(path, "wb") as file:
        file.truncate(MIB)
    leg = it.things[1]
    leg.fail("write", number, path="f", skip=2)
    fd = os.open(path, os.O_RDWR)
    with pytest.raises(OSError) as caught:
        for at in range(0, MIB, 64 << 10):
            os.pwrite(fd, b"new!" * (16 << 10), at)
    assert caught.value.errno == number
    os.close(fd)
    assert set(states(it)) <= {"in-sync", "resync"}
    leg.clear()
    it.finish()


@fails_legs
def test_full_during_its_resync(scene):
    """It catches up when there is space again, and until then says so."""
    it = scene("plain", "ext4", size=64 * MIB)
    it.start_load()
    disk = it.things[1]
    disk.umount(lazy=True)
    it.wait_state(1, "failed", "missing")
    with open(it.mirror.mnt / "big", "wb") as file:
        for _ in range(100):
            file.write(os.urandom(MIB))
    disk.mount()
    it.load.progress(30)
    assert it.state(1) != "in-sync"
    os.unlink(it.mirror.mnt / "big")
    it.finish()


def test_a_full_disk_beneath_all(scene, disks):
    """Both legs on one disk: they are full together."""
    disk = disks("ext4", 64 * MIB, name="both")
    it = scene("plain", "plain", mount=False, allowed=["full"])
    for i, leg in enumerate(it.mirror.legs):
        place = disk.where / leg.name
        run("cp", "-a", leg, place)
        it.mirror.legs[i] = it.stores[i] = place
    it.mirror.mount()
    it.start_load()
    fill(it.mirror.mnt / "ballast")
    it.load.progress(20)
    os.unlink(it.mirror.mnt / "ballast")
    it.finish()


def test_no_room_to_keep_what_was_changed_by_hand(scene):
    """It is left as it is, and said so; the rest of the leg is healed, and it
    too when there is room."""
    it = scene("plain", "ext4", size=64 * MIB)
    mirror, leg = it.mirror, it.stores[1]
    mirror.expect_diagnostics("leg|healing|kept|space|conflict")
    (mirror.mnt / "dir").mkdir()
    (mirror.mnt / "file").write_bytes(os.urandom(20 * MIB))
    (mirror.mnt / "small").write_bytes(b"small")
    mirror.wait_sync()
    mirror.cli("offline", mirror.mnt, it.names[1])
    time.sleep(2.2)
    foreign = os.urandom(20 * MIB)
    (leg / "file").write_bytes(foreign)
    fill(leg / "dir/ballast")  # which is kept, by a rename
    for name in ("file", "small"):
        with open(mirror.mnt / name, "r+b") as file:
            file.write(b"by the mirror")
    time.sleep(0.05)
    mirror.cli("online", mirror.mnt, it.names[1])
    wait_until(lambda: it.leg(1)["conflicts"]["waiting"], 30)
    wait_until(lambda: (leg / "small").read_bytes() == b"by the mirror", 30)
    assert it.state(1) == "resync"
    assert (leg / "file").read_bytes() == foreign
    assert "no room" in mirror.cli("status", mirror.mnt, check=False).stdout
    (mirror.mnt / "goes on").write_bytes(b"")
    ballast, = (leg / ".mirrorfs/conflicts").rglob("ballast")
    ballast.unlink()
    it.wait_back(1)
    conflicts = it.leg(1)["conflicts"]
    assert (conflicts["kept"], conflicts["waiting"]) == (1, False)
    kept, = (leg / ".mirrorfs/conflicts").rglob("file")
    assert kept.read_bytes() == foreign
    it.finish()


def test_one_that_cannot_be_kept_stops_no_other_name(scene):
    """A file with several names is kept as a copy, for which there is no
    room; what else is to be removed from its directory is removed."""
    it = scene("plain", "ext4", size=64 * MIB)
    mirror, leg = it.mirror, it.stores[1]
    mirror.expect_diagnostics("leg|healing|kept|space|conflict")
    (mirror.mnt / "dir").mkdir()
    (mirror.mnt / "dir/linked").write_bytes(os.urandom(20 * MIB))
    os.link(mirror.mnt / "dir/linked", mirror.mnt / "other")
    for n in range(20):
        (mirror.mnt / f"dir/gone{n}").write_bytes(b"gone")
    mirror.wait_sync()
    os.sync()
    mirror.umount()  # all of it is clean
    mirror.mount()
    mirror.cli("offline", mirror.mnt, it.names[1])
    time.sleep(2.2)
    foreign = os.urandom(20 * MIB)
    (leg / "dir/linked").write_bytes(foreign)
    fill(leg / "ballast")
    for path in (mirror.mnt / "dir").iterdir():
        path.unlink()
    time.sleep(0.05)
    mirror.cli("online", mirror.mnt, it.names[1])
    wait_until(lambda: it.leg(1)["conflicts"]["waiting"], 30)
    wait_until(lambda: os.listdir(leg / "dir") == ["linked"], 30)
    assert not [name for name in os.listdir(leg / ".mirrorfs")
                if name.startswith("new.")]
    (leg / "ballast").unlink()
    it.wait_back(1)
    # Its other name is in a directory where nothing was missed.
    mirror.cli("resync", mirror.mnt, it.names[1])
    it.wait_back(1)
    versions = [path.read_bytes()
                for path in (leg / ".mirrorfs/conflicts").rglob("*")
                if path.is_file()]
    assert versions == [foreign]
    it.finish()
