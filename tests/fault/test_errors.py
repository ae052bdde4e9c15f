# SPDX-License-Identifier: GPL-2.0-or-later
"""A leg that answers with errors. The applications notice nothing; the leg is
failed, and gets what it missed when the errors are over."""

import contextlib
import errno
import os
import time

import pytest

from support.faulty_leg import (ATTRIBUTES, CONTENT, EVERYTHING, LOOKS, NAMES,
                                READS, SYNCS)
from support.mirror import MountFailed, wait_until
from support.scene import fails_legs
from support.syscalls import RENAME_EXCHANGE, renameat2

pytestmark = pytest.mark.timeout_s(400)

NAMES_OF_LEGS = "ab"


def reading(number):
    """That leg is read: faults of reads come to nothing elsewhere."""
    return [f"read-policy=prefer={NAMES_OF_LEGS[number]}"]


REQUESTS = {"writes": CONTENT, "names": NAMES, "attributes": ATTRIBUTES,
            "syncs": SYNCS, "reads": READS, "looks": LOOKS,
            "everything": EVERYTHING}
ERRORS = ["EIO", "ENODEV", "EROFS", "ESTALE", "ENOTCONN", "EUCLEAN"]
PRIMARY, SECONDARY = 0, 1


def cases():
    """All of them, or each error and each request at least once."""
    if os.environ.get("MIRRORFS_FAULTS") == "all":
        return [(error, what, leg) for error in ERRORS for what in REQUESTS
                for leg in (PRIMARY, SECONDARY)
                if not (error == "EROFS" and what in ("reads", "looks"))]
    return [("EIO", what, leg) for what in REQUESTS
            for leg in (PRIMARY, SECONDARY)] + [
        ("ENODEV", "everything", PRIMARY), ("EROFS", "writes", SECONDARY),
        ("EROFS", "names", PRIMARY), ("ESTALE", "names", SECONDARY),
        ("ENOTCONN", "everything", SECONDARY), ("EUCLEAN", "reads", PRIMARY),
        ("EUCLEAN", "names", SECONDARY)]


# What a leg is failed for. An error of a read is answered from another leg.
FAILS = ("writes", "names", "attributes", "syncs", "everything")


@fails_legs
@pytest.mark.parametrize("error,what,number", cases())
def test_errors_of_a_leg(scene, error, what, number):
    legs = ["plain", "plain"]
    legs[number] = "faulty"
    it = scene(*legs, options=reading(number))
    leg = it.things[number]
    it.start_load()
    rule = leg.fail(REQUESTS[what], getattr(errno, error))
    if what in FAILS:
        it.wait_out(number)
        if number == PRIMARY:
            assert it.primary() == SECONDARY
    else:
        wait_until(lambda: leg.struck(rule) > 0, what="the fault to strike")
    it.load.progress()
    it.stop_load()
    it.return_exactly(number, leg.clear)
    # A second time, and back while the applications are at work.
    it.start_load()
    leg.fail(REQUESTS[what], getattr(errno, error))
    it.load.progress()
    leg.clear()
    it.finish()


@fails_legs
@pytest.mark.parametrize("number", [PRIMARY, SECONDARY])
def test_some_requests_fail(scene, number):
    """A disk that goes bad by and by."""
    legs = ["plain", "plain"]
    legs[number] = "faulty"
    it = scene(*legs, options=reading(number))
    leg = it.things[number]
    it.start_load()
    leg.fail(EVERYTHING, errno.EIO, rate=0.02)
    it.load.progress(40)
    leg.clear()
    it.finish()


@pytest.mark.parametrize("number", [PRIMARY, SECONDARY])
def test_short_transfers(scene, number):
    """A leg that takes and gives less than asked for, but in the end all."""
    legs = ["plain", "plain"]
    legs[number] = "faulty"
    it = scene(*legs, options=reading(number))
    it.things[number].add(["read", "write"], limit=5000)
    it.start_load()
    it.load.progress(20)
    it.finish()
    assert not it.mirror.suspicious_diagnostics()


@pytest.mark.parametrize("number", [PRIMARY, SECONDARY])
def test_a_leg_that_ends_too_early(scene, number):
    """Short reads that stay short: the rest is had from the other leg."""
    legs = ["plain", "plain"]
    legs[number] = "faulty"
    it = scene(*legs, options=reading(number))
    (it.mirror.mnt / "f").write_bytes(os.urandom(1 << 20))
    want = (it.stores[1 - number] / "f").read_bytes()
    it.mirror.umount()
    it.mirror.mount()  # nothing is cached
    it.things[number].add("read", limit=0, path="f")
    assert (it.mirror.mnt / "f").read_bytes() == want
    it.things[number].clear()
    it.finish()


@pytest.mark.parametrize("number", [PRIMARY, SECONDARY])
def test_a_bad_range_is_rewritten(scene, number):
    legs = ["plain", "plain"]
    legs[number] = "faulty"
    it = scene(*legs, options=reading(number))
    (it.mirror.mnt / "f").write_bytes(os.urandom(1 << 20))
    want = (it.stores[1 - number] / "f").read_bytes()
    it.mirror.umount()
    it.mirror.mount()
    leg = it.things[number]
    leg.fail("read", errno.EIO, path="f")
    writes = leg.stats()["requests"]["write"]
    assert (it.mirror.mnt / "f").read_bytes() == want
    wait_until(lambda: leg.stats()["requests"]["write"] > writes,
               what="the bad range to be rewritten")
    leg.clear()
    it.finish()


def test_errors_of_the_last_leg_are_the_callers(scene):
    """It is never failed: there is nothing else to serve."""
    it = scene("faulty", "plain")
    path = it.mirror.mnt / "f"
    path.write_bytes(b"before")
    it.mirror.umount()
    away = it.mirror.legs[1].with_name("away")
    it.mirror.legs[1].rename(away)
    it.mirror.mount()
    leg = it.things[0]
    for number in (errno.EIO, errno.EROFS):
        rule = leg.fail(["write", "mkdir"], number, spare_private=True)
        with pytest.raises(OSError) as caught:
            path.write_bytes(b"after")
        assert caught.value.errno == number
        with pytest.raises(OSError) as caught:
            (it.mirror.mnt / "d").mkdir()
        assert caught.value.errno == number
        assert it.state(0) == "in-sync" and it.primary() == 0
        leg.remove(rule)
    path.write_bytes(b"after")
    (it.mirror.mnt / "d").mkdir()
    it.mirror.umount()
    away.rename(it.mirror.legs[1])
    it.mirror.mount()
    it.finish()


@fails_legs
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM,
                                    errno.EINTR])
def test_errors_of_ours_fail_no_leg(scene, number):
    it = scene("plain", "faulty")
    it.start_load()
    leg = it.things[1]
    rule = leg.fail(["open", "create", "write", "mkdir"], number, rate=0.2,
                    spare_private=True)
    wait_until(lambda: leg.struck(rule) > 5, what="the fault to strike")
    states = {it.state(1) for _ in range(20)}
    assert states <= {"in-sync", "resync"}, states
    leg.clear()
    it.finish()


@fails_legs
@pytest.mark.parametrize("number", [PRIMARY, SECONDARY])
def test_errors_that_all_legs_give_alike(scene, number):
    """The disks are full, read-only or broken together: nobody is better."""
    it = scene("faulty", "faulty")
    (it.mirror.mnt / "f").write_bytes(b"x" * 100000)
    for leg in it.things:
        leg.fail("mkdir", errno.EIO, spare_private=True)
    with pytest.raises(OSError) as caught:
        (it.mirror.mnt / "d").mkdir()
    assert caught.value.errno == errno.EIO
    for leg in it.things:
        leg.clear()
    it.wait_back()
    it.finish()


@pytest.mark.parametrize("what", ["lookup", "statfs", "create", "write"])
def test_the_disk_of_the_log_fails_while_it_is_opened(scene, what):
    """At any of its requests, with an error that no disk of a database gives:
    the mount is refused or comes up without it, and nobody is killed."""
    it = scene("faulty", "plain", mount=False)
    leg = it.things[0]
    for skip in range(0, 60, 2):
        rule = leg.fail(what, errno.ENODEV, skip=skip)
        try:
            it.mirror.mount()
        except MountFailed as failed:
            assert failed.code > 0, f"{failed} after {skip} of {what}"
        else:
            leg.clear()
            it.wait_back()
            it.mirror.umount()
        struck = not leg.stats()["rules"] or leg.struck(rule)
        leg.clear()
        if not struck:
            break
    it.mirror.mount()
    it.finish()


def only_in_sync(it):
    """Leg 0 is the last one in sync: leg 1 is up, and lacks a file for good."""
    path = it.mirror.mnt / "behind"
    path.write_bytes(b"old")
    it.mirror.wait_sync()
    rule = it.things[1].fail("write", errno.EPERM, path="behind")
    path.write_bytes(b"newer")
    it.wait_out(1)
    return rule


@pytest.mark.parametrize("what,kind", [
    ("write", "file"), ("truncate", "file"), ("chmod", "file"),
    ("chmod", "directory"), ("rename", "file"), ("rename", "directory")])
def test_a_change_of_the_last_leg_that_may_have_been_made(scene, what, kind):
    """The last leg in sync does what it is told, and says that it did not: who
    asked hears of an error, and the others get what it has."""
    it = scene("faulty", "faulty")
    path = it.mirror.mnt / "f"
    if kind == "directory":
        path.mkdir()
        (path / "inside").write_bytes(b"before" * 100)
    else:
        path.write_bytes(b"before" * 100)
    only_in_sync(it)
    it.things[0].hang(what, path="f")
    with pytest.raises(OSError) as caught:
        {"write": lambda: path.write_bytes(b"after" * 1000),
         "rename": lambda: path.rename(it.mirror.mnt / "g"),
         "chmod": lambda: path.chmod(0o600),
         "truncate": lambda: os.truncate(path, 10)}[what]()
    assert caught.value.errno in (errno.EIO, errno.ETIMEDOUT)
    assert it.primary() == 0
    it.things[0].clear()  # what hung is done now
    it.things[1].clear()
    it.wait_back()
    it.finish()


@pytest.mark.parametrize("what", ["write", "mkdir", "chmod"])
def test_an_heir_that_cannot_be_written_down(scene, what):
    """The primary fails, another leg takes the change, and its label cannot be
    written: so the primary stays it, and what the other took is undone."""
    it = scene("faulty", "faulty")
    path = it.mirror.mnt / "f"
    path.write_bytes(b"before" * 100)
    it.mirror.wait_sync()
    it.things[0].fail(what, errno.EIO, path="[fd]")
    rule = it.things[1].fail("write", errno.EIO, path=".mirrorfs/label*")
    with pytest.raises(OSError) as caught:
        {"write": lambda: path.write_bytes(b"after" * 1000),
         "mkdir": lambda: (it.mirror.mnt / "d").mkdir(),
         "chmod": lambda: path.chmod(0o600)}[what]()
    assert caught.value.errno == errno.EIO
    assert it.things[1].struck(rule) > 0
    assert it.primary() == 0
    it.things[0].clear()
    it.things[1].clear()
    it.wait_back()
    it.finish()


# What one change of names of "f", and of "g" where there is one, can be.
NAME_CHANGES = {
    "rename": lambda mnt: os.rename(mnt / "f", mnt / "h"),
    "replace": lambda mnt: os.rename(mnt / "f", mnt / "g"),
    "exchange": lambda mnt: renameat2(mnt / "f", mnt / "g", RENAME_EXCHANGE),
    "move-directory": lambda mnt: os.rename(mnt / "d", mnt / "e"),
    "exchange-directory": lambda mnt: renameat2(mnt / "d", mnt / "g",
                                                RENAME_EXCHANGE),
    "unlink": lambda mnt: os.unlink(mnt / "f"),
    "rmdir": lambda mnt: os.rmdir(mnt / "empty"),
}


@pytest.mark.parametrize("when", ["at-once", "late", "never"])
@pytest.mark.parametrize("change", NAME_CHANGES)
def test_names_after_a_change_that_may_have_been_made(scene, change, when):
    """What is open is written under the name that it has by then, and what has
    the name is what it leads to."""
    it = scene("faulty", "plain")
    mnt, leg = it.mirror.mnt, it.things[0]
    (mnt / "d").mkdir()
    (mnt / "empty").mkdir()
    for name in ("f", "g", "d/inside"):
        (mnt / name).write_bytes(b"old")
    it.mirror.wait_sync()
    files = {name: os.open(mnt / name, os.O_RDWR)
             for name in ("f", "g", "d/inside")}
    it.mirror.cli("offline", mnt, it.names[1])
    requests = ["rename", "unlink", "rmdir"]
    if when == "late":
        leg.hang(requests, count=1)
    else:
        leg.fail(requests, errno.EIO, count=1, after=when == "at-once")
    with pytest.raises(OSError) as caught:
        NAME_CHANGES[change](mnt)
    assert caught.value.errno in (errno.EIO, errno.ETIMEDOUT)
    leg.clear()
    it.mirror.cli("online", mnt, it.names[1])
    it.wait_back(1)
    there = os.listdir(mnt)
    for name, fd in files.items():
        os.pwrite(fd, name.encode() + b" is new", 0)
        os.fsync(fd)
    for name in ("f", "h"):
        with open(mnt / name, "a+b") as file:
            file.write(b", and longer")
    (mnt / "empty").mkdir(exist_ok=True)
    (mnt / "empty/new").write_bytes(b"x")
    for fd in files.values():
        os.close(fd)
    made = when != "never"
    assert ("f" in there) == (not made or change not in (
        "rename", "replace", "unlink"))
    if change == "rename":
        name = "h" if made else "f"
        assert (mnt / name).read_bytes() == b"f is new, and longer"
    if change == "exchange":
        name = "g" if made else "f"
        assert (mnt / name).read_bytes().startswith(b"f is new")
    it.finish()


@pytest.mark.parametrize("options", [["entry-timeout=0", "attr-timeout=0"],
                                     ["entry-timeout=1"]])
def test_a_file_that_cannot_be_looked_at_at_the_failover(scene, options):
    """It has another name, by which it is found again. Who has it open by the
    first must not write to what gets that name then."""
    it = scene("faulty", "faulty", options=options)
    mnt = it.mirror.mnt
    (mnt / "other").write_bytes(b"x")
    (mnt / "f1").write_bytes(b"old content")
    os.link(mnt / "f1", mnt / "f2")
    os.stat(mnt / "f1")
    os.stat(mnt / "f2")
    it.mirror.wait_sync()
    fd = os.open(mnt / "f1", os.O_RDWR)
    it.things[1].fail(["getattr", "lookup"], errno.EIO, path="*f[12]")
    it.things[0].die()
    (mnt / "other").write_bytes(b"y")
    it.wait_out(0)
    it.things[1].clear()
    time.sleep(1.2)  # what the kernel knows of the names is too old
    with open(mnt / "f2", "r+b") as second:
        os.unlink(mnt / "f1")
        (mnt / "f1").write_bytes(b"an innocent file")
        it.things[0].restart()
        it.wait_back(0)
        with contextlib.suppress(OSError):
            os.pwrite(fd, b"NEW", 0)
            os.fsync(fd)
        second.write(b"2ND")
    with contextlib.suppress(OSError):
        os.close(fd)
    it.mirror.wait_sync()
    assert (mnt / "f1").read_bytes() == b"an innocent file"
    assert (mnt / "f2").read_bytes() == b"2ND content"
    it.finish()


@fails_legs
def test_the_new_primary_is_short_of_memory(scene):
    """An open file of several names stays what it is: whether it is there
    still cannot be told before the leg says yes or no."""
    it = scene("faulty", "faulty")
    mnt = it.mirror.mnt
    (mnt / "f").write_bytes(b"before")
    os.link(mnt / "f", mnt / "g")
    os.stat(mnt / "g")
    with open(mnt / "f", "r+b", buffering=0) as file:
        rule = it.things[1].fail(["lookup", "getattr", "open"], errno.ENOMEM,
                                 path="[fg]", count=6)
        it.things[0].die()
        (mnt / "other").write_bytes(b"notices")
        assert it.things[1].struck(rule) > 0
        file.write(b"after!")
        os.fsync(file.fileno())
        assert os.fstat(file.fileno()).st_nlink == 2
    assert (mnt / "g").read_bytes() == b"after!"
    it.things[0].restart()
    it.finish()
