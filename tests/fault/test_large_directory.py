# SPDX-License-Identifier: GPL-2.0-or-later
"""A directory whose names take long to heal, because there are many or the leg
is slow, is healed in parts: applications go on in it meanwhile."""

import errno
import os
import random
import threading
import time

import pytest

from support.faulty_leg import LOOKS, NAMES
from support.mirror import SLOWNESS
from support.scene import LEG_TIMEOUT, fails_legs
from support.syscalls import RENAME_EXCHANGE, renameat2

pytestmark = [pytest.mark.timeout_s(900), fails_legs]


def slow_down(it, delay_ms, *legs):
    for i in legs:
        it.things[i].add(LOOKS + NAMES, delay_ms=delay_ms, spare_private=True)


def test_nobody_waits_for_all_names(scene):
    it = scene("plain", "faulty")
    mnt = it.mirror.mnt
    big, other = mnt / "big", mnt / "other"
    other.mkdir()
    it.mirror.cli("offline", mnt, it.names[1])
    big.mkdir()
    for n in range(2000):
        (big / f"name-{n}").touch()
    slow_down(it, 2, 1)
    it.mirror.cli("online", mnt, it.names[1])
    longest, made = 0, 0
    while it.state(1) != "in-sync":
        began = time.monotonic()
        (big / f"new-{made}").write_bytes(b"x")
        os.rename(big / f"name-{made}", big / f"renamed-{made}")
        os.unlink(big / f"name-{1999 - made}")
        os.rename(other, mnt / "elsewhere")
        os.rename(mnt / "elsewhere", other)
        longest = max(longest, time.monotonic() - began)
        made = min(made + 1, 900)
    assert made > 50, "it was to take long"
    assert longest <= (LEG_TIMEOUT + 5) * SLOWNESS
    it.things[1].clear()
    it.finish()


# What a step may hear because of what has the name.
OF_THE_NAMES = {errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTDIR,
                errno.ENOTEMPTY, errno.EINVAL, errno.ELOOP, errno.EPERM}


class Churn:
    """All that can happen to names of one directory, at random."""

    def __init__(self, mnt, seed):
        self.dir = mnt / "d"
        self.out = mnt / "out"
        self.rng = random.Random(seed)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.errors = []

    def some(self):
        return self.dir / f"n{self.rng.randrange(150)}"

    def step(self):
        one, other = self.some(), self.some()
        away = self.out / f"o{self.rng.randrange(20)}"
        kind = self.rng.randrange(10)
        if kind == 0:
            one.write_bytes(self.rng.randbytes(self.rng.randrange(9000)))
        elif kind == 1:
            one.unlink()
        elif kind == 2:
            os.rename(one, other)
        elif kind == 3:
            renameat2(one, other, RENAME_EXCHANGE)
        elif kind == 4:
            os.link(one, other)
        elif kind == 5:
            os.rename(one, away)
        elif kind == 6:
            os.rename(away, one)
        elif kind == 7:
            one.mkdir()
            (one / "inside").write_bytes(b"x")
        elif kind == 8:
            (one / "inside").unlink()
            one.rmdir()
        else:
            os.symlink("somewhere", one)

    def steps(self, count):
        for _ in range(count):
            try:
                self.step()
            except OSError as error:
                if error.errno not in OF_THE_NAMES:
                    raise

    def run(self):
        try:
            while not self.stop.is_set():
                self.steps(1)
        except Exception as error:  # pylint: disable=broad-except
            self.errors.append(error)


@pytest.mark.parametrize("kinds", [("plain", "faulty"),
                                   ("plain", "faulty", "faulty")])
@pytest.mark.parametrize("moves", ["names", "the-directory"])
def test_names_change_between_parts(scene, kinds, moves, seed):
    it = scene(*kinds)
    mnt = it.mirror.mnt
    churn = Churn(mnt, seed)
    churn.dir.mkdir()
    churn.out.mkdir()
    churn.steps(1000)
    returning = range(1, len(kinds))
    for i in returning:
        it.mirror.cli("offline", mnt, it.names[i])
    churn.steps(1000)
    slow_down(it, 1, *returning)
    churn.thread.start()
    for i in returning:
        it.mirror.cli("online", mnt, it.names[i])
    if moves == "the-directory":
        for _ in range(20):
            time.sleep(0.1)
            try:
                renameat2(churn.dir, churn.out, RENAME_EXCHANGE)
            except FileNotFoundError:
                pass
    time.sleep(3)
    churn.stop.set()
    churn.thread.join()
    assert not churn.errors, churn.errors
    for i in returning:
        it.things[i].clear()
    it.finish()
