# SPDX-License-Identifier: GPL-2.0-or-later
"""A leg that does not answer: the process beneath it is stopped, or some of
its requests hang. One request waits for leg-timeout=, then the mount goes on,
and everything else answers all the time."""

import os
import threading
import time

import pytest

from support.faulty_leg import (CONTENT, EVERYTHING, LOOKS, NAMES, READS,
                                SYNCS)
from support.mirror import (SLOWNESS, mounts_at, process_exists,
                            wait_until)
from support.scene import LEG_TIMEOUT, hangs_no_more

pytestmark = [pytest.mark.timeout_s(400), hangs_no_more]


DEGRADED = 3  # an exit code


def reading(number):
    return [f"read-policy=prefer={'ab'[number]}"]


HANGS = {"writes": CONTENT, "names": NAMES, "syncs": SYNCS, "reads": READS,
         "looks": LOOKS, "opens": ["open"], "everything": EVERYTHING}


def with_faulty(number):
    legs = ["plain", "plain"]
    legs[number] = "faulty"
    return legs


@pytest.mark.parametrize("number", [0, 1])
def test_a_stopped_leg(scene, number):
    it = scene(*with_faulty(number), options=reading(number))
    leg = it.things[number]
    it.start_load()
    leg.stop()
    it.answers()
    it.wait_state(number, "failed", timeout=2 * LEG_TIMEOUT + 10)
    assert it.primary() == 1 - number
    it.load.progress()
    it.answers()
    it.stop_load()
    it.return_exactly(number, leg.go_on)
    # Again, and back under load.
    it.start_load()
    leg.stop()
    it.wait_state(number, "failed", timeout=2 * LEG_TIMEOUT + 10)
    it.load.progress()
    leg.go_on()
    it.load.progress()
    it.finish()


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("what", HANGS)
def test_requests_that_hang(scene, what, number):
    it = scene(*with_faulty(number), options=reading(number))
    leg = it.things[number]
    it.start_load()
    leg.hang(HANGS[what])
    it.load.progress(40)  # also of reads that hang
    it.answers()
    leg.clear()  # late answers come now
    it.load.progress()
    it.finish()


def test_a_late_write_is_discarded(scene):
    """What hung is done long after something newer was written."""
    it = scene("plain", "faulty")
    path = it.mirror.mnt / "f"
    path.write_bytes(b"old " * 1000)
    leg = it.things[1]
    leg.hang("write", path="f")
    fd = os.open(path, os.O_RDWR)
    began = time.monotonic()
    os.pwrite(fd, b"new " * 1000, 0)
    assert time.monotonic() - began < (LEG_TIMEOUT + 5) * SLOWNESS
    os.pwrite(fd, b"newer " * 100, 0)
    os.fsync(fd)
    os.close(fd)
    leg.clear()
    it.finish()
    assert (it.stores[1] / "f").read_bytes().startswith(b"newer newer")


TIMEOUT = 8  # twice that is more than is allowed


def hang_and_write(it, *numbers):
    """How long a write takes, an open file's and one that makes a name."""
    path = it.mirror.mnt / "f"
    path.write_bytes(b"old")
    fd = os.open(path, os.O_RDWR)
    os.fsync(fd)
    for number in numbers:
        it.things[number].stop()
    began = time.monotonic()
    os.pwrite(fd, b"new", 0)
    os.fsync(fd)
    first = time.monotonic() - began
    (it.mirror.mnt / "g").write_bytes(b"new")
    os.close(fd)
    then = time.monotonic() - began - first
    for number in numbers:
        it.things[number].go_on()
    it.finish()
    assert first < (TIMEOUT + 5) * SLOWNESS
    assert then < TIMEOUT * SLOWNESS, "the leg was waited for once more"


@pytest.mark.parametrize("hung", [(0,), (1, 2), (0, 1), (0, 1, 2, 3)])
@pytest.mark.parametrize("log", ["core", "disk"])
def test_who_hangs_is_waited_for_once(scene, log, hung):
    """With the log on it, too, and together with other legs."""
    it = scene(*["faulty"] * max(2, max(hung) + 1), "plain", log=log,
               options=[f"leg-timeout={int(TIMEOUT * SLOWNESS)}s"])
    hang_and_write(it, *hung)


@pytest.mark.parametrize("what", ["write", "fsync"])
def test_status_says_who_is_waited_for(scene, what):
    """Before the leg fails; and only that one."""
    it = scene("plain", "faulty", options=["leg-timeout=60s"])
    path = it.mirror.mnt / "f"
    path.write_bytes(b"old")
    it.things[1].hang(what, spare_private=True)

    def write():
        with open(path, "wb", buffering=0) as file:
            file.write(b"new")
            os.fsync(file.fileno())

    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_until(lambda: it.leg(1)["unanswered_s"] >= 5, timeout=60,
                   what="the wait to show")
        said = it.mirror.cli("status", it.mirror.mnt).stdout
        line, = [row for row in said.splitlines() if "no answer for" in row]
        assert line.split()[0] == it.names[1]
        assert it.leg(0)["unanswered_s"] == 0
        assert it.state(1) == "in-sync"
    finally:
        it.things[1].clear()
        writer.join()
    wait_until(lambda: it.leg(1)["unanswered_s"] == 0, what="the answer")
    it.finish()


@pytest.mark.parametrize("command", ["status", "dirty", "where", "events"])
def test_a_label_that_is_being_written_is_not_waited_for(scene, command):
    it = scene("plain", "faulty", "plain", options=["leg-timeout=60s"])
    mnt = it.mirror.mnt
    (mnt / "file").write_bytes(b"content")
    it.mirror.wait_sync()
    it.things[1].add(["fsync"], path="*label*", delay_ms=20000)
    offline = threading.Thread(target=it.mirror.cli,
                               args=("offline", mnt, it.names[2]))
    offline.start()
    try:
        time.sleep(1)
        answer = it.mirror.cli(
            command, mnt / "file" if command == "where" else mnt, check=False)
        assert answer.returncode in (0, DEGRADED), answer.stderr
        assert offline.is_alive()
    finally:
        it.things[1].clear()
        offline.join()
    it.mirror.cli("online", mnt, it.names[2])
    it.finish()


def test_slow_is_not_hung(scene):
    """A leg that takes its time is waited for."""
    it = scene("plain", "faulty")
    leg = it.things[1]
    leg.add(CONTENT + NAMES, delay_ms=int(LEG_TIMEOUT * 1000 / 3), rate=0.05,
            spare_private=True)
    it.start_load()
    it.load.progress(30)
    assert it.state(1) in ("in-sync", "resync")
    leg.clear()
    it.finish()


@pytest.mark.parametrize("number", [0, 1])
def test_umount_with_a_hung_leg(scene, number):
    it = scene(*with_faulty(number))
    leg = it.things[number]
    (it.mirror.mnt / "f").write_bytes(b"x" * 100000)
    leg.stop()
    writer = threading.Thread(
        target=(it.mirror.mnt / "g").write_bytes, args=(b"y" * 100000,))
    writer.start()
    it.answers()
    writer.join((LEG_TIMEOUT + 5) * SLOWNESS)
    assert not writer.is_alive(), "a write waits for the hung leg"
    began = time.monotonic()
    it.mirror.cli("umount", it.mirror.mnt, timeout=60)
    assert time.monotonic() - began < 2 * (LEG_TIMEOUT + 5) * SLOWNESS
    assert not mounts_at(it.mirror.mnt)
    # The kernel keeps a thread whose request a stopped process has taken.
    leg.restart()
    it.mirror.wait_daemon_end()
    it.mirror.mount()
    it.finish()
    assert (it.stores[number] / "g").read_bytes() == b"y" * 100000


def test_a_leg_that_hangs_in_the_last_moment(scene):
    """The daemon has done all else when it sees that the leg hangs: it fails
    the leg while it takes itself apart."""
    it = scene("plain", "faulty")
    (it.mirror.mnt / "f").write_bytes(b"x" * 100000)
    wait_until(lambda: not it.mirror.dirty()["regions"], 40)
    leg = it.things[1]
    leg.hang("fsync", path=".mirrorfs*")
    it.mirror.cli("umount", it.mirror.mnt, check=False, timeout=60)
    leg.clear()
    it.mirror.wait_daemon_end()
    it.mirror.mount()
    it.finish()


def test_locks_are_free_while_a_directory_rename_hangs(scene):
    it = scene("plain", "faulty")
    for name in ("d", "e"):
        (it.mirror.mnt / name).mkdir()
    leg = it.things[1]
    leg.hang("rename")
    mover = threading.Thread(target=os.rename, args=(it.mirror.mnt / "d",
                                                     it.mirror.mnt / "moved"))
    mover.start()
    began = time.monotonic()
    (it.mirror.mnt / "e" / "f").write_bytes(b"x")
    assert time.monotonic() - began < (LEG_TIMEOUT + 5) * SLOWNESS
    mover.join((LEG_TIMEOUT + 5) * SLOWNESS)
    assert not mover.is_alive()
    leg.clear()
    it.finish()


def test_attaching_while_a_leg_hangs(scene):
    """Which nobody has noticed: no command, and no unmount, waits longer."""
    it = scene("plain", "faulty", "plain")
    mirror = it.mirror
    (mirror.mnt / "f").write_bytes(b"x" * 100_000)
    spare = mirror.legs[0].with_name("spare")
    spare.mkdir()
    it.things[1].stop()
    for words in (["attach", mirror.mnt, spare], ["offline", mirror.mnt, "c"],
                  ["umount", mirror.mnt]):
        since = time.monotonic()
        result = mirror.cli(*words, check=False, timeout=60)
        assert time.monotonic() - since < (LEG_TIMEOUT + 5) * SLOWNESS, words
    assert result.returncode == 0
    # What the leg had begun to answer when it stopped keeps a thread in the
    # kernel, which kills nobody in that state.
    wait_until(lambda: not process_exists(mirror.daemon.pid))
    it.things[1].go_on()
    wait_until(lambda: not mirror.alive())
