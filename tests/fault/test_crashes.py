# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon dies while a leg is away, or in the middle of taking one out,
taking one in, replacing or promoting one.

MIRRORFS_KILLS as for tests/crash.
"""

import errno
import os
import random

import pytest

from support.faulty_leg import CONTENT, EVERYTHING
from support.mirror import SLOWNESS, MountFailed, wait_until
from support.scene import fails_legs, kill_points, knows_command

pytestmark = [pytest.mark.timeout_s(900), fails_legs]

ROUNDS = max(2, int(os.environ.get("MIRRORFS_KILLS", "6")) // 3)


@pytest.mark.parametrize("log", ["disk", "core"])
@pytest.mark.parametrize("number", [0, 1])
def test_killed_while_a_leg_is_failed(scene, number, log, seed):
    """It returns at the next mount, or is still away then and returns later."""
    legs = ["plain", "plain"]
    legs[number] = "faulty"
    it = scene(*legs, log=log)
    leg = it.things[number]
    rng = random.Random(seed)
    for _ in range(ROUNDS):
        it.start_load()
        leg.die()
        it.wait_out(number)
        it.load.progress(10)
        it.crash()
        if rng.random() < 0.5:
            leg.restart()
            it.mirror.mount()
        else:
            it.mirror.mount()
            it.load.judge(keep=False)
            leg.restart()
        it.load.judge()
        if rng.random() < 0.5:
            it.wait_back(number)
    it.finish()


@pytest.mark.parametrize("log", ["disk", "core"])
def test_killed_at_once_after_a_failure(scene, log, seed):
    """What is acknowledged after the failure is on one leg alone: the mirror
    knows which, and recovers from that one (I8)."""
    it = scene("faulty", "faulty", log=log)
    rng = random.Random(seed)
    path = it.mirror.mnt / "f"
    for value in range(3 * ROUNDS):
        leg = it.things[rng.randrange(2)]
        leg.fail(EVERYTHING, errno.EIO)
        path.write_bytes(b"%d" % value)
        it.mirror.kill9()
        leg.clear()
        it.mirror.mount()
        assert path.read_bytes() == b"%d" % value, "a stale leg is served"
        it.wait_back()
    it.finish()


def a_bad_day(it, point, count):
    """All that can happen to legs, until the daemon kills itself. Returns
    what was going on then, or None."""
    mirror, leg = it.mirror, it.things[1]
    spare = mirror.legs[0].with_name("spare")
    spare.mkdir(exist_ok=True)

    def died(seconds=3.0):
        try:
            wait_until(lambda: not mirror.alive(), seconds / SLOWNESS)
        except AssertionError:
            return False
        return True

    def command(*words):
        if knows_command(words[0]):
            mirror.cli(words[0], mirror.mnt, *words[1:], check=False)

    steps = [
        ("failure", lambda: leg.fail(EVERYTHING, errno.EIO)),
        ("return", leg.clear),
        ("death of the primary", it.things[0].die),
        ("return of the primary", it.things[0].restart),
        ("failed fsync", lambda: leg.fail(["fsync"], errno.EIO, count=3)),
        ("slow resync", lambda: leg.add(CONTENT, delay_ms=5)),
        ("promotion", lambda: command("promote", it.names[2])),
        ("offline", lambda: command("offline", it.names[2])),
        ("online", lambda: command("online", it.names[2])),
        ("replacement", lambda: command("replace", it.names[2], spare)),
    ]
    mirror.umount()
    try:
        mirror.mount(env={"MIRRORFS_KILL_AT": f"{point}:{count}"})
    except MountFailed:
        return "mount"
    it.load.start()
    for what, step in steps:
        step()
        if died():
            return what
    return None


def repair(it):
    """Whatever the replacement had come to: the legs are those that the
    mirror says it has."""
    spare = it.mirror.legs[0].with_name("spare")
    for thing in it.things[:2]:
        thing.restart()
    it.mirror.kill9()
    it.load.kill()
    legs = [*it.mirror.legs[:2], it.mirror.legs[2]]
    try:
        it.mirror.mount(legs=[*legs, spare])
    except MountFailed:
        it.mirror.mount(legs=legs)
    paths = [leg["path"] for leg in it.mirror.status()["legs"]]
    if str(spare) in paths:
        it.mirror.legs[2] = it.stores[2] = spare
        it.names[2] = next(leg["name"] for leg in it.mirror.status()["legs"]
                           if leg["path"] == str(spare))


@pytest.mark.parametrize("point", kill_points())
def test_killed_at_a_named_point(scene, point, seed):
    """Each place that has a name, in the life of a mirror whose legs fail."""
    it = scene("faulty", "faulty", "plain")
    it.start_load()
    it.stop_load()
    count = random.Random(seed).choice((1, 1, 2, 5))
    where = a_bad_day(it, point, count)
    print(f"{point}:{count} reached in {where}")
    repair(it)
    it.load.judge(keep=False)
    it.mirror.wait_sync()
    it.load.judge()
    if knows_command("online"):
        it.mirror.cli("online", it.mirror.mnt, it.names[2], check=False)
    it.finish()


@pytest.mark.parametrize("point,count", [
    ("conflict-overruled", 1), ("leg-returning", 1), ("leg-admitting", 1),
    ("label-write", 3), ("label-write", 4), ("label-write", 5)])
def test_killed_while_a_conflict_is_resolved(scene, point, count):
    """It is a conflict still, or it is resolved; and what was to be kept is
    kept."""
    it = scene("plain", "plain")
    mirror = it.mirror
    (mirror.mnt / "common").write_bytes(b"x")
    mirror.umount()
    a, b = mirror.legs
    absent = a.with_name("absent")
    for number, leg in ((1, b), (0, a)):
        mirror.mount(legs=[leg, absent])
        (mirror.mnt / "which").write_bytes(b"%d" % number)
        mirror.umount()
    mirror.mount(legs=[a, absent],
                 env={"MIRRORFS_KILL_AT": f"{point}:{count}"})
    (mirror.mnt / "more").write_bytes(b"x")
    b.rename(absent)
    mirror.legs[1] = it.stores[1] = absent
    it.wait_state(1, "conflict")
    mirror.cli("resolve", "--keep", "a", mirror.mnt, check=False)
    wait_until(lambda: not mirror.alive(), 20)
    mirror.kill9()
    try:
        mirror.mount()
    except MountFailed as refused:
        assert "conflict" in str(refused)
        mirror.cli("resolve", "--keep", a, a, absent)
        mirror.mount()
    it.wait_back()
    assert (mirror.mnt / "which").read_bytes() == b"0"
    assert (mirror.mnt / "more").read_bytes() == b"x"
    it.finish()
