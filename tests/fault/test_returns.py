# SPDX-License-Identifier: GPL-2.0-or-later
"""What a leg missed, and how it gets it: of every kind, and no more."""

import errno
import os
import random
import shutil
import threading

import pytest

from support.faulty_leg import CONTENT, EVERYTHING
from support.mirror import run, wait_until
from support.scene import BLOCK, fails_legs
from support.syscalls import RENAME_EXCHANGE, renameat2
from support.trees import change_everything, make_tree

pytestmark = [pytest.mark.timeout_s(400), fails_legs]

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


def test_open_files_moved_before_their_names_are_repaired(scene):
    """On the leg they keep their names then, and get each other's content."""
    it = scene("plain", "faulty")
    mnt, leg = it.mirror.mnt, it.things[1]
    directory = mnt / "d"
    for path in (directory, mnt / "other"):
        path.mkdir()
    for name in "xy":
        (directory / name).write_bytes(name.encode() * 100000)
        # Files with several names are not renamed on a leg.
        os.link(directory / name, directory / (name + "2"))
    away(it, 1)
    for path in (directory, mnt / "other"):
        (path / "new").touch()
    leg.restart()
    rules = [leg.fail("opendir", errno.ENOMEM, path=path)
             for path in ("d", "other")]
    it.wait_state(1, "resync")
    fds = [os.open(directory / name, os.O_RDWR) for name in "xy"]
    for x, y in (("x", "y"), ("x2", "y2")):
        renameat2(directory / x, directory / y, RENAME_EXCHANGE)
    leg.remove(rules[0])
    wait_until(lambda: not any(
        region["missing"] and region["path"].split("/")[0] == "d"
        for region in it.mirror.dirty()["regions"]), what="that repair")
    for n, fd in enumerate(fds):
        os.pwrite(fd, b"written to %d" % n, 5000)
        os.close(fd)
    leg.clear()
    it.finish()


def test_links_repaired_while_a_directory_above_them_falls_behind(scene):
    """Two names of one file in a directory, of which nobody knows for a moment
    whether it has the right name on the leg."""
    it = scene("plain", "faulty")
    mnt, leg = it.mirror.mnt, it.things[1]
    directory = mnt / "p/d"
    directory.mkdir(parents=True)
    away(it, 1)
    (directory / "x").write_bytes(b"x" * 5000)
    os.link(directory / "x", directory / "y")
    leg.restart()
    making = leg.add("create", path="p/d/x", delay_ms=1500)
    refusing = leg.fail("create", errno.ENOMEM, path="p/new")
    wait_until(lambda: leg.struck(making), what="x")
    (mnt / "p/new").touch()
    assert leg.struck(refusing)
    leg.clear()
    it.finish()


def test_times_settled_while_a_directory_above_them_falls_behind(scene):
    it = scene("plain", "faulty")
    mnt, leg = it.mirror.mnt, it.things[1]
    directory = mnt / "p/d"
    directory.mkdir(parents=True)
    leg.fail("opendir", errno.ENOMEM, path="p")
    leg.add("write", path="p/d/f", delay_ms=50)
    fd = os.open(directory / "f", os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b"both take it, each at its own time", 0)
    with leg.failing("create", errno.ENOMEM, path="p/new"):
        (mnt / "p/new").touch()
    os.close(fd)
    os.sync()  # directories are settled, too
    leg.clear()
    it.finish()


@pytest.mark.parametrize("how", ["unlinked", "replaced"])
def test_loses_its_name_before_its_content_is_copied(scene, how):
    """What is open of it on the leg is never made right, and never read."""
    it = scene("faulty", "faulty")
    mnt, (first, leg) = it.mirror.mnt, it.things
    good = b"good" * 50000
    (mnt / "f").write_bytes(b"old!" * 50000)
    leg.fail(EVERYTHING, errno.EIO)
    it.wait_out(1)
    fd = os.open(mnt / "f", os.O_RDWR)
    os.pwrite(fd, good, 0)
    os.fsync(fd)
    leg.clear()
    rule = leg.fail("write", errno.ENOMEM, path="f")
    wait_until(lambda: leg.struck(rule), what="the copying")
    if how == "unlinked":
        os.unlink(mnt / "f")
    else:
        (mnt / "other").write_bytes(b"x")
        os.rename(mnt / "other", mnt / "f")
    leg.clear()
    it.wait_back(1)
    assert os.pread(fd, len(good), 0) == good
    first.fail(EVERYTHING, errno.EIO)
    it.wait_out(0)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        assert os.pread(fd, len(good), 0) == good
    except OSError as error:
        assert error.errno == errno.EIO
    os.close(fd)
    first.restart()
    it.finish()


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
        # The mirror has told it to keep all that it has been given. That is
        # syncfs(2), which the kernel does not pass on to a FUSE file system.
        leg.command(command="synced")
    it.finish()


def keep_moving(places, stopped):
    """Each goes there and back, again and again."""
    while not stopped.is_set():
        for here, there in places:
            here.rename(there)
            there.rename(here)


def come_back_while_moving(it, places):
    stopped = threading.Event()
    mover = threading.Thread(target=keep_moving, args=(places, stopped))
    mover.start()
    try:
        it.mirror.cli("online", it.mirror.mnt, it.names[1])
        it.wait_back(1)
    finally:
        stopped.set()
        mover.join()


@pytest.mark.parametrize("kinds", [("plain", "plain"), ("plain", "faulty")])
def test_links_into_directories_that_move_all_the_time(scene, kinds):
    """All names of a file are found, wherever they are just then."""
    it = scene(*kinds)
    mnt = it.mirror.mnt
    moving = [mnt / "deep" / f"d{n}" for n in range(8)]
    for directory in moving:
        directory.mkdir(parents=True)
    (mnt / "still").mkdir()
    (mnt / "elsewhere").mkdir()
    # So that who looks for names takes longer than a directory stays in place.
    for n in range(300):
        (mnt / "deep" / "more" / f"d{n}").mkdir(parents=True)
        (mnt / "deep" / "more" / f"d{n}" / "file").touch()
    for n in range(60):
        (mnt / "still" / f"f{n}").write_bytes(b"x" * n)
        os.link(mnt / "still" / f"f{n}", moving[n % 8] / f"a{n}")
    it.mirror.wait_sync()
    it.mirror.cli("offline", mnt, it.names[1])
    for n in range(60):
        os.link(mnt / "still" / f"f{n}", moving[(n + 3) % 8] / f"b{n}")
        if n % 3 == 0:
            (moving[n % 8] / f"a{n}").unlink()
        if n % 5 == 0:
            (mnt / "still" / f"f{n}").rename(mnt / "still" / f"g{n}")
    come_back_while_moving(it, [(directory, mnt / "elsewhere" / directory.name)
                                for directory in moving])
    it.finish()


@pytest.mark.parametrize("kinds", [("plain", "plain"), ("plain", "faulty")])
def test_links_to_files_whose_names_move_all_the_time(scene, kinds):
    """Between directories that lack nothing; it is the other name that does."""
    it = scene(*kinds)
    mnt = it.mirror.mnt
    for name in ("here", "there", "zz"):
        (mnt / name).mkdir()
    for n in range(150):
        (mnt / f"a{n}").mkdir()
    files = range(40)
    for n in files:
        (mnt / "here" / f"f{n}").write_bytes(b"x" * n)
    it.mirror.wait_sync()
    it.mirror.cli("offline", mnt, it.names[1])
    for n in range(150):
        (mnt / f"a{n}" / "new").touch()
    for n in files:
        os.link(mnt / "here" / f"f{n}", mnt / "zz" / f"b{n}")
    come_back_while_moving(it, [(mnt / "here" / f"f{n}", mnt / "there" / f"f{n}")
                                for n in files])
    it.finish()
