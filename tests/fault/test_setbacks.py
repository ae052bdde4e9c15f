# SPDX-License-Identifier: GPL-2.0-or-later
"""A leg that is here and cannot be healed: what is said of it."""

import errno
import os
import threading
import time

import pytest

from support.hold import Hold
from support.mirror import MountFailed, wait_until
from support.scene import REGION

pytestmark = pytest.mark.timeout_s(400)


def failing(it, number):
    return it.leg(number)["resync"].get("failing")


def events(it, name):
    text = it.mirror.cli("events", it.mirror.mnt).stdout
    return [line for line in text.splitlines() if name in line]


def test_a_leg_that_cannot_be_healed(scene):
    it = scene("plain", "faulty")
    path = it.mirror.mnt / "f"
    path.write_bytes(b"old")
    it.mirror.wait_sync()
    assert failing(it, 1) is None
    it.things[1].fail("write", errno.EPERM, path="f")
    path.write_bytes(b"newer")
    wait_until(lambda: failing(it, 1), timeout=40, what="it to be said")
    assert failing(it, 1) == {"path": "f", "error": "Operation not permitted"}
    result = it.mirror.cli("status", it.mirror.mnt, check=False)
    assert result.returncode == 4
    assert "none needed" not in result.stdout
    assert 'cannot be healed: "f": Operation not permitted' in result.stdout
    # Recovery goes on trying, and does not say so each time.
    struck = len(events(it, "resync-failed"))
    time.sleep(7)
    assert struck == len(events(it, "resync-failed")) == 1
    it.things[1].clear()
    it.wait_back(1)
    assert failing(it, 1) is None
    it.finish()


def test_what_is_said_stays_on_its_line(scene):
    it = scene("plain", "faulty")
    path = it.mirror.mnt / "a\nmirrorfs: error: t: made up"
    path.write_bytes(b"old")
    it.mirror.wait_sync()
    it.things[1].fail("write", errno.EPERM, path="a*")
    path.write_bytes(b"newer")
    wait_until(lambda: "made up" in it.mirror.said(), timeout=40)
    assert "a\\x0amirrorfs: error: t: made up" in it.mirror.said()
    assert "\nmirrorfs: error: t: made up" not in it.mirror.said()
    it.things[1].clear()
    it.wait_back(1)
    it.finish()


@pytest.mark.parametrize("third", [False, True])
@pytest.mark.parametrize("how", ["error", "hang"])
def test_the_source_cannot_be_read(scene, how, third):
    """That is no failure of the leg that is healed from it. If another leg has
    all, that is the source from then on."""
    it = scene("faulty", "plain", *["plain"] * third)
    mnt = it.mirror.mnt
    (mnt / "d").mkdir()
    it.mirror.wait_sync()
    it.mirror.cli("offline", mnt, "b")
    for n in range(10):
        (mnt / f"d/f{n}").write_bytes(b"x" * 1000)
    (mnt / "other").write_bytes(b"x")
    requests = ["opendir", "readdir"]
    if how == "error":
        it.things[0].fail(requests, errno.EIO, path="d")
    else:
        it.things[0].hang(requests, path="d")
    it.mirror.cli("online", mnt, "b")
    if third:
        it.wait_back(1)
        assert it.primary() != 0
    else:
        time.sleep(4)
        assert it.state(1) == "resync"
    assert 'leg "b" is failed' not in it.mirror.said()
    it.things[0].clear()
    it.wait_back()
    it.finish()


@pytest.mark.parametrize("comes_back", [False, True])
def test_fails_between_its_last_repair_and_its_admission(scene, comes_back):
    """That was recorded as in sync, and mounted alone later as if it were."""
    it = scene("plain", "faulty", options=["probe-interval=0"], mount=False)
    mirror = it.mirror
    hold = Hold(mirror.base / "hold", "leg-admitting")
    mirror.mount(env=hold.env)
    path = mirror.mnt / "x"
    path.write_bytes(b"old")
    mirror.wait_sync()
    mirror.cli("offline", mirror.mnt, "b")
    path.write_bytes(b"missed")
    with hold:
        mirror.cli("online", mirror.mnt, "b")
        hold.wait_reached()
        it.things[1].fail("write", errno.EIO, path="x", count=1)
        path.write_bytes(b"new")
        it.wait_out(1)
        if comes_back:
            it.things[1].fail("write", errno.EPERM, path="x")
            mirror.cli("online", mirror.mnt, "b")
    time.sleep(1)
    assert it.state(1) == ("resync" if comes_back else "failed")
    mirror.umount()
    with pytest.raises(MountFailed, match="leg .*b"):
        mirror.mount(legs=[mirror.legs[1], mirror.base / "absent"])
    it.things[1].clear()
    mirror.mount()
    it.finish()
    assert (it.stores[1] / "x").read_bytes() == b"new"


@pytest.mark.parametrize("log", ["disk", "core"])
def test_the_source_of_a_region_is_a_disk_that_is_gone(scene, log):
    """ENXIO, which is also what a socket says, does not mean that the file is
    gone."""
    it = scene("faulty", "plain", log=log, options=["probe-interval=0"])
    mnt = it.mirror.mnt
    (mnt / "f").write_bytes(bytes(4 * REGION))
    wait_until(lambda: not it.mirror.dirty()["regions"])
    with open(mnt / "f", "r+b", buffering=0) as file:
        it.mirror.cli("offline", mnt, "b")
        os.pwrite(file.fileno(), b"missed", 2 * REGION)
        assert any(region["kind"] == "data"
                   for region in it.mirror.dirty()["regions"])
        it.things[0].fail("open", errno.ENXIO, path="f")
        it.mirror.cli("online", mnt, "b")
        time.sleep(2)
        assert it.state(1) == "resync"
        it.things[0].clear()
    it.finish()


@pytest.mark.parametrize("what", ["directory", "file"])
@pytest.mark.parametrize("number", [errno.EPERM, errno.EIO])
def test_a_time_that_cannot_be_set(scene, number, what):
    """It is set later."""
    it = scene("plain", "faulty")
    path = it.mirror.mnt / "new"
    # Later than on the other leg, so that the time is another.
    it.things[1].add(["mkdir", "write"], path="new", delay_ms=100)
    rule = it.things[1].fail("utimens", number, path="new", count=1)
    if what == "directory":
        path.mkdir()
    else:
        path.write_bytes(b"x")
    wait_until(lambda: it.things[1].struck(rule))
    it.finish()


def test_a_file_loses_its_name_while_its_times_are_settled(scene):
    """What came to have that name was taken for it, and got its content."""
    it = scene("plain", "plain", mount=False)
    mirror, mnt = it.mirror, it.mirror.mnt
    hold = Hold(mirror.base / "hold", "times-settling")
    mirror.mount(env=hold.env)
    (mnt / "a").write_bytes(b"old")
    mirror.wait_sync()
    # It is removed, and no descriptor of the leg is believed any more.
    (it.stores[1] / "foreign").write_bytes(b"")
    with open(mnt / "a", "r+b", buffering=0) as file:
        file.write(b"new")
        with hold:
            mirror.cli("resync", mnt, "b")
            hold.wait_reached()
            renaming = threading.Thread(
                target=lambda: (os.rename(mnt / "a", mnt / "b"),
                                (mnt / "a").write_bytes(b"another")))
            renaming.start()
            time.sleep(1)
        renaming.join()
        file.write(b"newer")
        os.fsync(file.fileno())
    for store in it.stores:
        assert (store / "a").read_bytes() == b"another"
        assert (store / "b").read_bytes() == b"newnewer"
    it.finish()


# What is done before somebody settles times, and what makes him do so.
SETTLED = {
    "file": (lambda mnt: (mnt / "dir/old").write_bytes(b"x"),
             lambda mnt: None),
    "new": (lambda mnt: None, lambda mnt: (mnt / "dir/new").mkdir()),
    "directory": (lambda mnt: (mnt / "dir/new").mkdir(), lambda mnt: None),
}


@pytest.mark.parametrize("what", SETTLED)
def test_another_primary_while_times_are_settled(scene, what):
    """Its time counts, and not that of the one before."""
    before, act = SETTLED[what]
    it = scene("plain", "faulty", mount=False)
    mirror, mnt = it.mirror, it.mirror.mnt
    hold = Hold(mirror.base / "hold", "times-settling")
    mirror.mount(env={**hold.env, "MIRRORFS_TICK_MS": "1000"})
    (mnt / "dir").mkdir()
    (mnt / "dir/old").write_bytes(b"old")
    mirror.wait_sync()
    # So that the times are others there.
    it.things[1].add(["mkdir", "write"], delay_ms=100)
    with open(mnt / "dir/old", "r+b", buffering=0) as file:
        before(mnt)
        if what == "file":
            file.write(b"new")
        with hold:
            acting = threading.Thread(
                target=lambda: (act(mnt), what == "file" and file.close()))
            acting.start()
            hold.wait_reached()
            mirror.cli("promote", mnt, it.names[1])
        acting.join()
    it.finish()


@pytest.mark.parametrize("what", ["fsync", "write"])
def test_the_log_fails_once_on_the_last_leg(scene, what):
    """It works again some seconds after the leg does, by itself. After a write
    that found no space RocksDB is busy as long as it recovers; after a failed
    fsync it never recovers."""
    number = errno.EIO if what == "fsync" else errno.ENOSPC
    it = scene("faulty", "faulty")
    mnt = it.mirror.mnt
    for n in range(30):
        (mnt / f"d{n}").mkdir()
    wait_until(lambda: not it.mirror.dirty()["regions"])
    (mnt / "d29/f").mkdir()
    it.things[1].die()
    it.wait_out(1)
    rule = it.things[0].fail(what, number, count=1)
    for n in range(10):
        try:
            (mnt / f"d{n}/new").mkdir()
        except OSError as error:
            assert error.errno == number
        if it.things[0].struck(rule):
            break
    assert it.things[0].struck(rule)
    it.things[0].clear()

    def is_made():
        try:
            (mnt / "d20/late").mkdir()
        except OSError as error:
            assert error.errno == number
            return False
        return True

    wait_until(is_made, 60, interval=0.5)
    for n in range(21, 29):
        (mnt / f"d{n}/late").mkdir()
    it.things[1].restart()
    it.wait_back()
    it.finish()
