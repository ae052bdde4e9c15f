# SPDX-License-Identifier: GPL-2.0-or-later
"""Legs fail and return, the daemon dies, legs are missing at mounts, in any
order, against a model that knows one thing of each leg: whether it certainly
holds all that was acknowledged.

    While one that does is there, the mirror mounts and shows all of it.
    While none is, it does not mount, or shows all of it nevertheless. (A leg
    that was away when the others went on cannot know that alone, so it is not
    tried alone; one that has begun to catch up does know.)

MIRRORFS_MATRIX is the number of walks (3), MIRRORFS_SEED repeats one.
"""

import os
import random

import pytest

from support.mirror import MountFailed
from support.scene import fails_legs

WALKS = int(os.environ.get("MIRRORFS_MATRIX", "3"))
STEPS = 14

pytestmark = [pytest.mark.timeout_s(900), fails_legs]


class Walk:
    def __init__(self, it, rng):
        self.it = it
        self.rng = rng
        self.count = len(it.things)
        self.there = set(range(self.count))    # legs whose disk is there
        # That hold all, as the mirror itself said when it was last asked. One
        # that left without missing anything is not among them: the others
        # began a new generation.
        self.current = set(range(self.count))
        self.told = set()  # that know that they lack something
        self.value = 0
        self.mounted = True
        self.story = []

    def path(self):
        return self.it.mirror.mnt / "d" / "f"

    def note(self, *words):
        self.story.append(" ".join(map(str, words)))

    def in_sync(self):
        states = {i: self.it.state(i) for i in self.there}
        self.told |= {i for i in states if states[i] == "resync"}
        whole = {i for i in states if states[i] == "in-sync"}
        self.told -= whole
        return whole

    # ---- what may happen

    def write(self):
        """Acknowledged to the caller: in content, and in names."""
        self.value += 1
        self.note("write", self.value)
        self.path().write_bytes(b"%d" % self.value)
        names = self.it.mirror.mnt / "d"
        (names / f"n{self.value}").touch()
        if self.value > 1:
            (names / f"n{self.value - 1}").unlink()
        # Those that the mirror itself says are up to date now.
        self.current = self.in_sync()

    def look(self):
        self.note("look")
        found = self.path().read_bytes()
        assert found == b"%d" % self.value, f"{found} is stale"
        names = sorted(os.listdir(self.path().parent))
        assert names == ["f", f"n{self.value}"], names
        self.current = self.in_sync()

    def fail(self):
        # Never the last that holds everything: that one is never failed.
        safe = [i for i in self.there if self.in_sync() - {i}]
        if not safe:
            return
        i = self.rng.choice(safe)
        self.note("leg", i, "dies")
        self.it.things[i].die()
        self.there.discard(i)
        self.told.discard(i)
        self.it.wait_out(i)

    def back(self):
        away = sorted(set(range(self.count)) - self.there)
        if not away:
            return
        i = self.rng.choice(away)
        self.note("leg", i, "returns")
        self.it.things[i].restart()
        self.there.add(i)
        if self.rng.random() < 0.5:
            self.it.wait_back(i)
            self.note("and is in sync")

    def stop(self):
        if self.rng.random() < 0.6:
            self.note("the daemon is killed")
            self.it.mirror.kill9()
        else:
            self.note("umount")
            self.it.mirror.umount()
        self.mounted = False

    def mount(self):
        """With any of the legs."""
        wanted = {i for i in range(self.count) if self.rng.random() < 0.6}
        if not wanted & self.current and not wanted <= self.told:
            wanted.add(self.rng.choice(sorted(self.current)))
        self.only(wanted or set(self.current))
        self.try_to_mount()

    def only(self, wanted):
        for i in range(self.count):
            if i in wanted and i not in self.there:
                self.it.things[i].restart()
            elif i not in wanted and i in self.there:
                self.it.things[i].die()
        self.there = set(wanted)

    def try_to_mount(self):
        self.note("mount with", sorted(self.there), "where",
                  sorted(self.current), "are current")
        try:
            self.it.mirror.mount()
        except MountFailed as error:
            self.note("refused:", error.text.strip())
            assert not self.there & self.current, \
                "a leg that holds everything is not served"
            return
        self.mounted = True
        self.look()

    # ----

    def run(self):
        (self.it.mirror.mnt / "d").mkdir()
        self.write()
        for _ in range(STEPS):
            if self.mounted:
                self.rng.choice((self.write, self.write, self.fail, self.back,
                                 self.stop))()
            else:
                self.mount()
            if self.mounted:
                self.look()
        if self.mounted:
            self.it.mirror.umount()
        self.only(range(self.count))
        self.try_to_mount()
        assert self.mounted, "not even with all legs"


@pytest.mark.parametrize("walk", range(WALKS))
@pytest.mark.parametrize("log", ["disk", "core"])
@pytest.mark.parametrize("count", [2, 3])
def test_any_order(scene, count, log, walk, seed):
    it = scene(*["faulty"] * count, log=log)
    path = Walk(it, random.Random(f"{seed} {walk}"))
    try:
        path.run()
        it.finish()
    finally:
        print("\n".join(path.story))
