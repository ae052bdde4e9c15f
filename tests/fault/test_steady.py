# SPDX-License-Identifier: GPL-2.0-or-later
"""What has once made legs differ, or a mirror unusable: one step after the
other, without load."""

import errno
import os
import shutil

import pytest

from support.mirror import run, wait_until
from support.scene import fails_legs

pytestmark = [pytest.mark.timeout_s(400), pytest.mark.sanitizer, fails_legs]

MIB = 1 << 20


def quiet(it):
    """Nothing is dirty any more."""
    wait_until(lambda: not it.mirror.dirty()["regions"], 40)


def away(it, number):
    it.things[number].die()
    it.wait_state(number, "failed", "missing")


@pytest.mark.parametrize("aside", ["new", "moved"])
def test_a_link_to_a_file_below_a_changed_directory(scene, aside):
    """The directory of the file's old name is right on the leg; one above it
    is not yet when the new name is made right, because it comes later."""
    it = scene("plain", "faulty")
    mnt = it.mirror.mnt
    for n in range(4):
        (mnt / f"x{n}" / "y").mkdir(parents=True)
        (mnt / f"x{n}" / "y" / "f").write_bytes(b"old " * 50000)
    (mnt / "a").mkdir()
    quiet(it)
    away(it, 1)
    for n in range(4):
        os.link(mnt / f"x{n}/y/f", mnt / f"a/f{n}")
        (mnt / f"x{n}/{aside}").write_text("x")
        if aside == "moved":
            os.rename(mnt / f"x{n}/moved", mnt / f"x{n}/elsewhere")
            os.rename(mnt / f"x{n}/y", mnt / f"x{n}/z")
            os.rename(mnt / f"x{n}/z", mnt / f"x{n}/y")
    it.things[1].restart()
    it.finish()
    for n in range(4):
        assert os.path.samefile(it.stores[1] / f"x{n}/y/f",
                                it.stores[1] / f"a/f{n}")


def test_a_file_that_was_open_before_its_leg_replaced_it(scene):
    """Recovery makes the file anew on the leg, which then answers reads."""
    it = scene("plain", "plain")
    mnt = it.mirror.mnt
    (mnt / "z").mkdir()
    (mnt / "f").write_bytes(b"old " * 25000)
    os.link(mnt / "f", mnt / "z/kept")
    quiet(it)
    reader = os.open(mnt / "f", os.O_RDONLY | os.O_DIRECT)
    inode = os.stat(it.stores[0] / "f").st_ino
    it.mirror.cli("offline", mnt, it.names[0])
    (mnt / "other").write_text("x")
    os.unlink(mnt / "z/kept")
    (mnt / "f").write_bytes(b"new " * 50000)
    it.mirror.cli("online", mnt, it.names[0])
    it.wait_back(0)
    assert os.stat(it.stores[0] / "f").st_ino != inode, "not this case"
    it.mirror.cli("promote", mnt, it.names[0])
    got = os.read(reader, 400000)
    size = os.fstat(reader).st_size
    os.fsync(reader)
    os.close(reader)
    assert (size, got) == (200000, b"new " * 50000)
    it.finish()


def test_an_open_file_whose_name_went_to_another(scene):
    """On the leg that was away the descriptor is of what is now the other."""
    it = scene("plain", "plain")
    mnt = it.mirror.mnt
    (mnt / "f").write_text("old")
    with open(mnt / "f", "r+") as old, open(mnt / "f") as reader:
        it.mirror.cli("offline", mnt, it.names[1])
        os.unlink(mnt / "f")
        (mnt / "f").write_text("the new file")
        it.mirror.cli("online", mnt, it.names[1])
        it.wait_back(1)
        quiet(it)
        old.write("written to the file that has no name")
        old.flush()
        os.fsync(old.fileno())
        os.fchmod(old.fileno(), 0o600)
        assert reader.read() == "written to the file that has no name"
    for store in it.stores:
        assert (store / "f").read_text() == "the new file"
    it.finish()


def test_a_file_without_a_name_outlives_its_primary(scene):
    """The new primary was away when the file lost its name."""
    it = scene("plain", "plain")
    mnt = it.mirror.mnt
    with open(mnt / "f", "w+b", buffering=0) as file:
        file.write(b"old " * 5000)
        it.mirror.cli("offline", mnt, it.names[1])
        os.unlink(mnt / "f")
        file.seek(0)
        file.write(b"new " * 5000)
        (mnt / "f").write_text("another")
        it.mirror.cli("online", mnt, it.names[1])
        it.wait_back(1)
        it.mirror.cli("promote", mnt, it.names[1])
        file.write(b"more")
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), 0o600)
        os.utime(file.fileno(), (5, 5))
        st = os.fstat(file.fileno())
        assert (st.st_size, st.st_mtime, st.st_mode & 0o777) == \
            (20004, 5, 0o600)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        assert file.read() == b"new " * 5000 + b"more"
        os.ftruncate(file.fileno(), 8)
        assert os.fstat(file.fileno()).st_size == 8
    assert it.state(0) == it.state(1) == "in-sync"
    for store in it.stores:
        assert (store / "f").read_text() == "another"
    it.finish()


def test_a_name_goes_and_the_other_inherits_what_its_directory_covered(scene):
    """A new file is covered by the mark of the directory that it was made in;
    its other name lies elsewhere."""
    it = scene("plain", "plain")
    mnt = it.mirror.mnt
    for name in ("d1", "d2"):
        (mnt / name).mkdir()
    quiet(it)
    (mnt / "d1/x").write_text("one")
    os.link(mnt / "d1/x", mnt / "d2/y")

    def only_one_is_hot():
        (mnt / "d1/hot").touch()
        (mnt / "d1/hot").unlink()
        return not any(r["path"].startswith("d2")
                       for r in it.mirror.dirty()["regions"])

    wait_until(only_one_is_hot, 25)
    it.mirror.cli("offline", mnt, it.names[1])
    (mnt / "d1/x").write_text("two, two")
    os.unlink(mnt / "d1/x")
    it.mirror.cli("online", mnt, it.names[1])
    it.finish()
    assert (it.stores[1] / "d2/y").read_text() == "two, two"


def test_a_range_copied_from_what_a_leg_lacks_under_another_name(scene):
    it = scene("plain", "plain")
    mnt = it.mirror.mnt
    (mnt / "d").mkdir()
    (mnt / "d/y").write_text("old content")
    os.link(mnt / "d/y", mnt / "d/x")
    (mnt / "a-big").write_bytes(os.urandom(4 * MIB))
    it.mirror.umount()  # the names are forgotten
    it.mirror.mount()
    it.mirror.cli("offline", mnt, it.names[1])
    (mnt / "d/y").write_text("NEW content")
    with open(mnt / "a-big", "r+b") as file:
        file.write(os.urandom(4 * MIB))
    it.mirror.umount()
    it.mirror.mount()
    it.mirror.cli("set", mnt, "resync-rate-max=512K")
    it.mirror.cli("online", mnt, it.names[1])
    with open(mnt / "d/x", "rb") as source, open(mnt / "copy", "wb") as copy:
        os.copy_file_range(source.fileno(), copy.fileno(), 100)
    it.mirror.cli("set", mnt, "resync-rate-max=0")
    it.finish()
    for store in it.stores:
        assert (store / "copy").read_text() == "NEW content"


def test_offline_during_its_resync(scene):
    """What it was about to get it gets when it is back."""
    it = scene("plain", "plain")
    mnt = it.mirror.mnt
    for n in range(60):
        (mnt / f"f{n}").write_bytes(os.urandom(100000))
    quiet(it)
    it.mirror.cli("offline", mnt, it.names[1])
    for n in range(60):
        with open(mnt / f"f{n}", "r+b") as file:
            file.write(os.urandom(100000))
    it.mirror.cli("set", mnt, "resync-rate-max=1M")
    it.mirror.cli("online", mnt, it.names[1])
    wait_until(lambda: it.copied(1) > 200000, 30)
    it.mirror.cli("offline", mnt, it.names[1])
    it.mirror.cli("set", mnt, "resync-rate-max=0")
    it.mirror.cli("online", mnt, it.names[1])
    it.finish()


def test_names_outside_the_leg_hold_up_nothing(scene):
    """A snapshot of the leg by hard links beside it."""
    it = scene("plain", "plain")
    mnt = it.mirror.mnt
    (mnt / "d").mkdir()
    for n in range(40):
        (mnt / f"f{n}").write_text(str(n))
    (mnt / "d/other").write_text("old")
    quiet(it)
    snapshot = it.stores[0].with_name("snapshot")
    run("cp", "-al", it.stores[0], snapshot)
    it.mirror.cli("offline", mnt, it.names[1])
    (mnt / "new").touch()
    (mnt / "d/other").write_text("changed")
    it.mirror.cli("online", mnt, it.names[1])
    it.wait_back(1)
    shutil.rmtree(snapshot)
    it.finish()


def test_a_file_that_lives_on_by_a_name_nobody_asked_for(scene):
    it = scene("plain", "plain")
    mnt = it.mirror.mnt
    (mnt / "d/e").mkdir(parents=True)
    for n in "12":
        (mnt / f"x{n}").write_text("old")
        os.link(mnt / f"x{n}", mnt / f"d/e/y{n}")
    quiet(it)
    it.mirror.umount()
    it.mirror.mount()
    with open(mnt / "x1", "r+") as one, open(mnt / "x2", "r+") as two:
        os.unlink(mnt / "x1")
        (mnt / "tmp").write_text("another")
        os.rename(mnt / "tmp", mnt / "x2")
        it.mirror.cli("offline", mnt, it.names[1])
        one.write("new 1")
        two.write("new 2")
    it.mirror.cli("online", mnt, it.names[1])
    it.finish()
    for n in "12":
        assert (it.stores[1] / f"d/e/y{n}").read_text() == f"new {n}"


def test_a_stale_name_does_not_split_a_file(scene):
    """The leg still has a name that the primary's file has not; the others
    that lead there are looked at again."""
    it = scene("plain", "plain")
    mnt = it.mirror.mnt
    for name in ("A", "d/e", "x2"):
        (mnt / name).mkdir(parents=True)
    (mnt / "A/q").write_text("content")
    os.link(mnt / "A/q", mnt / "d/e/r")
    os.link(mnt / "A/q", mnt / "x2/z")
    quiet(it)
    it.mirror.cli("offline", mnt, it.names[1])
    os.unlink(mnt / "x2/z")
    (mnt / "A/new").touch()
    (mnt / "d/new").touch()
    it.mirror.cli("online", mnt, it.names[1])
    it.finish()
    assert os.path.samefile(it.stores[1] / "A/q", it.stores[1] / "d/e/r")


def fill_up(directory):
    """To the last block."""
    for size in (1 << 20, 65536, 4096, 512):
        try:
            with open(directory / f"ballast{size}", "wb", buffering=0) as file:
                while True:
                    file.write(b"x" * size)
        except OSError as error:
            assert error.errno == errno.ENOSPC


def test_over_a_hole_and_longer_on_a_full_leg(scene):
    """The leg's old size does not mean that it took what lies before."""
    it = scene("plain", "ext4", size=40 * MIB)
    name = it.mirror.mnt / "f"
    with open(name, "wb") as file:
        file.truncate(65536)
    ballast = it.stores[1].parent / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        for size in (65536, 512):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC
    taken = 0
    fd = os.open(name, os.O_RDWR)
    try:
        taken = os.pwrite(fd, b"y" * 131072, 0)
    except OSError as error:
        assert error.errno == errno.ENOSPC
    os.close(fd)
    ballast.unlink()
    it.finish()
    for store in it.stores:
        assert (store / "f").read_bytes()[:taken] == b"y" * taken


def test_full_legs_can_be_mounted(scene):
    """Where nothing is kept back for root: or nothing could be removed."""
    it = scene("xfs", "xfs", size=320 * MIB)
    (it.mirror.mnt / "f").write_bytes(os.urandom(8 * MIB))
    it.mirror.umount()
    for store in it.stores:
        fill_up(store.parent)
    it.mirror.mount()
    (it.mirror.mnt / "f").unlink()
    (it.mirror.mnt / "g").write_bytes(b"x" * MIB)
    for store in it.stores:
        for ballast in store.parent.glob("ballast*"):
            ballast.unlink()
    it.finish()


def test_no_more_data_is_an_answer(scene):
    """ENXIO of lseek; what a leg's page cache holds makes the other disagree."""
    it = scene("plain", "plain")
    path = it.mirror.mnt / "f"
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 20)
        os.fsync(file.fileno())
    (it.stores[1] / "f").read_bytes()
    with open(path, "rb") as file:
        with pytest.raises(OSError) as error:
            os.lseek(file.fileno(), 0, os.SEEK_DATA)
        assert error.value.errno == errno.ENXIO
        with pytest.raises(OSError) as error:
            os.lseek(file.fileno(), 2 << 20, os.SEEK_DATA)
        assert error.value.errno == errno.ENXIO
    assert it.state(0) == it.state(1) == "in-sync"


def test_times_that_a_leg_cannot_hold(scene):
    """The same on all legs, whichever it is that cannot."""
    it = scene("btrfs", "ext4")
    mnt = it.mirror.mnt
    (mnt / "d").mkdir()
    with open(mnt / "f", "w") as file:
        for path in (mnt / "f", mnt / "d"):
            os.utime(path, (-4_000_000_000, -4_000_000_000))
            assert os.stat(path).st_mtime == -(1 << 31)
        file.write("x")
        os.utime(mnt / "f", (1 << 35, 1 << 35))
    (mnt / "d").rename(mnt / "e")
    quiet(it)
    it.finish()


def test_what_one_leg_refuses(scene):
    """It is not done on the others either, and no leg is behind for ever."""
    it = scene("btrfs", "ext4")
    path = it.mirror.mnt / "f"
    path.write_text("x")
    with open(path, "r+") as file:
        with pytest.raises(OSError) as error:
            file.truncate(17 << 40)
        assert error.value.errno == errno.EFBIG
        with pytest.raises(OSError) as error:
            os.pwrite(file.fileno(), b"x", 17 << 40)
        assert error.value.errno == errno.EFBIG
    with pytest.raises(OSError) as error:
        os.setxattr(path, "btrfs.compression", b"zstd")
    assert error.value.errno == errno.EOPNOTSUPP
    assert os.stat(path).st_size == 1
    quiet(it)
    assert it.state(1) == "in-sync"
    it.finish()


def test_a_leg_that_is_full_keeps_no_other_waiting(scene):
    it = scene("plain", "plain", "ext4", size=64 * MIB)
    mnt = it.mirror.mnt
    for number in (1, 2):
        it.mirror.cli("offline", mnt, it.names[number])
    (mnt / "big").write_bytes(os.urandom(90 * MIB))
    for number in (2, 1):
        it.mirror.cli("online", mnt, it.names[number])
    it.wait_back(1)
    assert it.state(2) == "resync"
    (mnt / "big").unlink()
    it.finish()


def test_names_in_one_directory_are_forgotten_with_it(scene):
    """The kernel forgets the directory before the file."""
    it = scene("plain", "plain")
    mnt = it.mirror.mnt
    (mnt / "d/s").mkdir(parents=True)
    (mnt / "e").mkdir()
    (mnt / "d/s/x").write_text("1")
    os.link(mnt / "d/s/x", mnt / "d/s/y")
    os.link(mnt / "d/s/x", mnt / "e/z")
    for hold in (True, False):
        for name in ("d/s/x", "d/s/y", "e/z"):
            os.stat(mnt / name)
        file = open(mnt / "e/z")
        if not hold:
            file.close()
        run("sh", "-c", "echo 2 > /proc/sys/vm/drop_caches")
        file.close()
        run("sh", "-c", "echo 2 > /proc/sys/vm/drop_caches")
        assert sorted(os.listdir(mnt / "d/s")) == ["x", "y"]
    it.finish()


def test_a_read_only_mount_writes_nothing(scene):
    """Not even that a leg has failed: nobody knows what another one lacks."""
    it = scene("faulty", "plain")
    (it.mirror.mnt / "f").write_bytes(b"x" * 100000)
    it.mirror.umount()
    labels = [(store / ".mirrorfs/label").read_bytes() for store in it.stores]
    it.mirror.mount("ro")
    it.things[0].fail("read", errno.EIO, path="f")
    with pytest.raises(OSError) as error:
        (it.mirror.mnt / "f").read_bytes()
    assert error.value.errno == errno.EIO
    it.things[0].clear()
    assert (it.mirror.mnt / "f").read_bytes() == b"x" * 100000
    it.mirror.umount()
    assert labels == [(store / ".mirrorfs/label").read_bytes()
                      for store in it.stores]
    it.mirror.mount()
    it.finish()
