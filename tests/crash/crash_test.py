# SPDX-License-Identifier: GPL-2.0-or-later
"""SIGKILL of the daemon at random and at named points, under a load whose
acknowledged state is known.

The page caches of the legs survive the daemon, so every acknowledged
operation must be there afterwards, fsynced or not.

MIRRORFS_KILLS is the number of kills for each kind of log (6; 200 in the long
form), MIRRORFS_SEED repeats a run.
"""

import os
import random
import subprocess
import time

import pytest

from support.load import VerifiedLoad
from support.mirror import HELPER, SLOWNESS, MountFailed

KILLS = int(os.environ.get("MIRRORFS_KILLS", "6"))


@pytest.fixture
def crashing(mirrors):
    """mirror, load = crashing(seed, log=...)"""
    loads = []

    def make(seed, region_size="64K", options=(), **keywords):
        mirror = mirrors(**keywords)
        mirror.create("--region-size", region_size)
        mirror.options += options
        mirror.mount()
        load = VerifiedLoad(mirror, seed)
        loads.append(load)
        return mirror, load

    yield make
    for load in loads:
        load.kill()


def one_kill(mirror, load, rng):
    """Load, kill, mount, judge; sometimes another kill in the recovery."""
    load.start()
    time.sleep(rng.uniform(0.1, 1.2) * SLOWNESS)
    mirror.kill9()
    load.end()
    while True:
        mirror.mount()
        # At once, while recovery may still be at work.
        operations = load.judge(keep=False)
        if rng.random() > 0.3:
            break
        time.sleep(rng.uniform(0, 0.2))
        mirror.kill9()
    mirror.wait_sync()
    load.judge()
    if rng.random() < 0.5:
        mirror.umount()
        mirror.assert_legs_identical()
        mirror.mount()
    else:
        mirror.assert_legs_soon_identical()
    return operations


@pytest.mark.sanitizer
@pytest.mark.timeout_s(60 + 20 * KILLS)
@pytest.mark.parametrize("log", ["disk", "core"])
def test_killed_at_random(crashing, log, seed):
    mirror, load = crashing(seed, log=log)
    rng = random.Random(seed)
    total = 0
    for n in range(KILLS):
        total += one_kill(mirror, load, rng)
    print(f"{KILLS} kills, {total} acknowledged operations")
    assert total > KILLS * 5, "there was no load to speak of"
    mirror.settle_and_compare()


@pytest.mark.timeout_s(60 + 20 * KILLS)
def test_killed_with_three_legs(crashing, seed):
    mirror, load = crashing(seed, legs=3, region_size="4K",
                            options=["read-policy=round-robin"])
    rng = random.Random(seed)
    for n in range(max(2, KILLS // 3)):
        one_kill(mirror, load, rng)
    mirror.settle_and_compare()


@pytest.mark.timeout_s(60 + 20 * KILLS)
def test_killed_while_a_leg_is_missing(crashing, seed):
    """One leg misses whole rounds, and gets them when it is back."""
    mirror, load = crashing(seed)
    mirror.expect_diagnostics("missing|stale|leg")
    rng = random.Random(seed)
    for n in range(max(2, KILLS // 3)):
        mirror.umount()
        leg = mirror.legs[rng.randrange(2)]
        away = leg.with_name("away")
        leg.rename(away)
        mirror.mount()
        for _ in range(2):
            load.start()
            time.sleep(rng.uniform(0.1, 0.8) * SLOWNESS)
            mirror.kill9()
            load.end()
            mirror.mount()
            load.judge()
        if rng.random() < 0.5:
            mirror.umount()
        else:
            mirror.kill9()
        away.rename(leg)
        mirror.mount()
        load.start()
        time.sleep(rng.uniform(0.1, 0.5) * SLOWNESS)
        mirror.kill9()  # in the middle of catching up
        load.end()
        mirror.mount()
        load.judge(keep=False)
        mirror.wait_sync()
        load.judge()
        mirror.umount()
        mirror.assert_legs_identical()
        mirror.mount()
    mirror.settle_and_compare()


# Where the daemon kills itself when MIRRORFS_KILL_AT=POINT:N is set and the
# point is passed for the N-th time.
KILL_POINTS = [
    "mark-flushed", "primary-written", "primary-changed", "before-clear",
    "label-write", "recovery-copy", "recovery-names",
]


def known_to_the_daemon(point):
    return point.encode() in HELPER.read_bytes()


def reach(mirror, load, point, count):
    """Runs until the daemon has killed itself at `point`. The phases are the
    lives of a mirror: load, recovery after a crash, orderly end."""
    env = {"MIRRORFS_KILL_AT": f"{point}:{count}"}

    def died(seconds):
        deadline = time.monotonic() + seconds * SLOWNESS
        while mirror.alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        return not mirror.alive()

    def mount():
        """False when it died before the mount was usable."""
        try:
            mirror.mount(env=env)
            return True
        except MountFailed as error:
            if error.code != -9:
                raise
            return False

    mirror.umount()
    if not mount():
        return "mount"
    load.start()
    if died(4):
        load.end()
        return "load"
    # Idle for a while, so that what is lazy happens.
    load.kill()
    load.judge()
    if died(13):
        return "idle"
    load.start()
    time.sleep(0.3)
    mirror.kill9()
    load.end()
    if mirror.log == "core":
        # Everything will be compared: here is something to be found.
        for d in load.directories:
            subprocess.run(["rm", "-rf", str(mirror.legs[1] / d)],
                           check=False)
    if not mount():
        return "mount after a crash"
    if died(5):
        return "recovery"
    mirror.cli("umount", mirror.mnt, check=False)
    if died(5):
        return "umount"
    return None


@pytest.mark.timeout_s(150)
@pytest.mark.parametrize("point", KILL_POINTS)
def test_killed_at_a_named_point(crashing, point, seed):
    if not known_to_the_daemon(point):
        pytest.skip("the daemon has no such point")
    rng = random.Random(seed)
    mirror, load = crashing(
        seed, log="core" if point.startswith("recovery") else "disk")
    reached = 0
    for count in (1, rng.randrange(2, 30)):
        where = reach(mirror, load, point, count)
        if where:
            mirror.wait_daemon_end()
            reached += 1
            print(f"{point}:{count} reached in {where}")
        load.kill()
        mirror.kill9()
        mirror.mount()
        load.judge(keep=False)
        mirror.wait_sync()
        load.judge()
        mirror.umount()
        mirror.assert_legs_identical()
        mirror.mount()
    assert reached, "never reached"
    mirror.settle_and_compare()


@pytest.mark.timeout_s(60)
@pytest.mark.parametrize("change", ["link", "rename"])
def test_a_new_name_in_flight_of_a_file_with_names_below(mirrors, change):
    """The new name is in a directory, an old one in a subdirectory to which
    nothing happened: on the leg that has not got the new one yet, that must
    become a name of the same file, and no file of its own."""
    mirror = mirrors()
    mirror.create()
    mirror.mount()
    d = mirror.mnt / "d"
    (d / "sub").mkdir(parents=True)
    (d / "sub/old").write_bytes(b"x" * 5000)
    os.link(d / "sub/old", d / "old")
    os.link(d / "old", d / "moves")
    mirror.umount()  # all is clean now
    mirror.mount(env={"MIRRORFS_KILL_AT": "primary-changed:1"})
    with pytest.raises(OSError):
        if change == "link":
            os.link(d / "old", d / "new")
        else:
            os.rename(d / "moves", d / "new")
    mirror.wait_daemon_end()
    mirror.mount()
    mirror.wait_sync()
    assert os.stat(d / "new").st_ino == os.stat(d / "sub/old").st_ino
    mirror.settle_and_compare()
