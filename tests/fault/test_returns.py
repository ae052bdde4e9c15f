# SPDX-License-Identifier: GPL-2.0-or-later
"""What a leg missed, and how it gets it: of every kind, and no more."""

import os
import random
import shutil

import pytest

from support.faulty_leg import CONTENT, EVERYTHING
from support.mirror import run, wait_until
from support.scene import BLOCK, fails_legs
from support.trees import change_everything, make_tree

pytestmark = [pytest.mark.timeout_s(150), fails_legs]

MIB = 1 << 20


def away(it, number):
    it.things[number].die()
    it.wait_state(number, "failed", "missing")


@pytest.mark.parametrize("log", ["disk", "core"])
@pytest.mark.parametrize("number", [0, 1])
def test_every_kind_of_change(scene, number, log, seed):
    legs = ["plain", "plain"]
    legs[number] = "faulty"
    it = scene(*legs, log=log)
    make_tree(it.mirror.mnt)
    away(it, number)
    change_everything(it.mirror.mnt, random.Random(seed))
    it.things[number].restart()
    it.wait_back(number)
    it.finish()


def test_only_what_was_missed(scene):
    """Much is there, little was changed."""
    it = scene("plain", "faulty")
    big = it.mirror.mnt / "big"
    big.write_bytes(os.urandom(32 * MIB))
    for n in range(300):
        (it.mirror.mnt / f"clean{n}").write_bytes(os.urandom(5000))
    run("sync", "-f", it.stores[0])
    away(it, 1)
    with open(big, "r+b") as file:
        for at in (0, 7 * MIB, 20 * MIB + 17):
            file.seek(at)
            file.write(b"changed")
    (it.mirror.mnt / "clean7").write_bytes(os.urandom(6000))
    it.return_exactly(1, it.things[1].restart)
    assert it.copied(1) <= 16 * BLOCK
    it.finish()


def test_a_large_directory_is_renamed_not_copied(scene):
    it = scene("plain", "faulty")
    tree = it.mirror.mnt / "tree"
    for n in range(20):
        (tree / f"d{n}").mkdir(parents=True)
        for m in range(10):
            (tree / f"d{n}" / f"f{m}").write_bytes(os.urandom(20000))
    inode = os.stat(it.stores[1] / "tree/d3/f3").st_ino
    away(it, 1)
    (it.mirror.mnt / "other").mkdir()
    tree.rename(it.mirror.mnt / "other/moved")
    (it.mirror.mnt / "other/moved/d3/f3").rename(it.mirror.mnt / "alone")
    it.things[1].restart()
    it.wait_back(1)
    assert it.copied(1) < MIB, "the tree was copied again"
    assert os.stat(it.stores[1] / "alone").st_ino == inode
    it.finish()


def test_deletes_stay_deleted(scene):
    it = scene("plain", "faulty")
    for n in range(50):
        (it.mirror.mnt / "d" / f"s{n}").mkdir(parents=True)
        (it.mirror.mnt / "d" / f"s{n}" / "f").write_text("x")
    away(it, 1)
    shutil.rmtree(it.mirror.mnt / "d")
    (it.mirror.mnt / "d").mkdir()
    it.things[1].restart()
    it.wait_back(1)
    assert os.listdir(it.stores[1] / "d") == []
    it.finish()


def test_a_replaced_file_does_not_overwrite_its_links(scene):
    """The editor's way of saving, while a hard link holds the old file."""
    it = scene("plain", "faulty")
    mnt = it.mirror.mnt
    (mnt / "f").write_bytes(b"old " * 5000)
    os.link(mnt / "f", mnt / "kept")
    away(it, 1)
    (mnt / "f.tmp").write_bytes(b"new " * 5000)
    os.rename(mnt / "f.tmp", mnt / "f")
    it.things[1].restart()
    it.finish()
    for store in it.stores:
        assert (store / "kept").read_bytes() == b"old " * 5000
        assert (store / "f").read_bytes() == b"new " * 5000


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
    wait_until(lambda: not it.mirror.dirty()["regions"], 30)
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


@pytest.mark.parametrize("number", [0, 1])
def test_open_files(scene, number):
    """Files that are open all the time, one of them unlinked."""
    legs = ["plain", "plain"]
    legs[number] = "faulty"
    it = scene(*legs)
    mnt = it.mirror.mnt
    fds = [os.open(mnt / name, os.O_CREAT | os.O_RDWR)
           for name in ("named", "moved", "unlinked", "unlinked later")]
    for fd in fds:
        os.pwrite(fd, b"before " * 10000, 0)
    os.unlink(mnt / "unlinked")
    away(it, number)
    os.rename(mnt / "moved", mnt / "elsewhere")
    for fd in fds:
        os.pwrite(fd, b"meanwhile", 100)
        os.fsync(fd)
    it.things[number].restart()
    it.wait_back(number)
    os.unlink(mnt / "unlinked later")
    for fd in fds:
        os.pwrite(fd, b"afterwards", 50000)
        os.fsync(fd)
        want = bytearray(b"before " * 10000)
        want[100:109] = b"meanwhile"
        want[50000:50010] = b"afterwards"
        assert os.pread(fd, 100000, 0) == want
        os.close(fd)
    it.finish()
    assert (it.stores[number] / "named").read_bytes() == want


def test_a_file_that_was_open_before_its_leg_replaced_it(scene):
    """Recovery makes the file anew on the leg, which then answers reads."""
    it = scene("plain", "plain")
    mnt = it.mirror.mnt
    (mnt / "z").mkdir()
    (mnt / "f").write_bytes(b"old " * 25000)
    os.link(mnt / "f", mnt / "z/kept")
    wait_until(lambda: not it.mirror.dirty()["regions"], 30)
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


def quiet(it):
    wait_until(lambda: not it.mirror.dirty()["regions"], 40)


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
    it.wait_back(1, timeout=20)
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


def test_fails_again_during_its_resync(scene):
    it = scene("plain", "faulty")
    leg = it.things[1]
    it.start_load()
    for n in range(4):
        leg.die()
        it.wait_out(1)
        it.load.progress()
        (it.mirror.mnt / f"big{n}").write_bytes(os.urandom(8 * MIB))
        leg.restart()
        leg.add(CONTENT, delay_ms=20)
        it.wait_state(1, "resync", "in-sync")
    leg.clear()
    it.finish()


def test_a_failed_fsync_is_not_forgotten(scene):
    """The disk lost what was written and says so once: what was not durable
    is copied again, though the leg looks well."""
    it = scene("plain", "faulty")
    leg = it.things[1]
    leg.track()
    fd = os.open(it.mirror.mnt / "f", os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b"durable ", 0)
    os.fsync(fd)
    os.pwrite(fd, b"not yet durable", 0)
    leg.fail("fsync", 5, path="f", count=1, lose=True)
    os.fsync(fd)  # it is durable on the other leg
    os.close(fd)
    assert (it.mirror.mnt / "f").read_bytes() == b"not yet durable"
    it.wait_back(1)
    it.finish()
    assert (it.stores[1] / "f").read_bytes() == b"not yet durable"


@pytest.mark.parametrize("number", [0, 1])
def test_the_disk_forgets_what_was_not_synced(scene, number):
    """The leg is away for a moment, and what had not reached the disk is
    gone with its cache."""
    legs = ["plain", "plain"]
    legs[number] = "faulty"
    it = scene(*legs)
    leg = it.things[number]
    leg.track()
    it.start_load()
    for _ in range(3):
        it.load.progress(20)
        rule = leg.fail(EVERYTHING, 107)
        it.wait_out(number)
        # A real disk writes back by itself what is older.
        leg.lose(younger_ms=4000)
        leg.remove(rule)
        it.load.progress(10)
        it.wait_back(number)
    it.finish()
