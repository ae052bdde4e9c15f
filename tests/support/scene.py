# SPDX-License-Identifier: GPL-2.0-or-later
"""A mirror under load whose legs have bad days, and what must hold after."""

import errno
import functools
import os
import re
import stat
import time
from pathlib import Path

import pytest

from support import compare
from support.load import VerifiedLoad
from support.mirror import (CLI, HELPER, REPO, SLOWNESS, run, thread_states,
                            wait_until)

LEG_TIMEOUT = 3
# No more than a guard against waiting for ever: how fast a leg catches up under
# load is up to the machine, and to what else is tested at the same time.
CATCH_UP = 180
REGION = 64 << 10
BLOCK = 64 << 10  # what recovery compares and copies at once


# ---- what the program can do already

@functools.lru_cache(maxsize=None)
def knows_option(name):
    return name.encode() in HELPER.read_bytes()


@functools.lru_cache(maxsize=None)
def knows_command(name):
    listed = run(CLI, "help", check=False).stdout
    return re.search(rf"^\s+{name}\b", listed, re.MULTILINE) is not None


def kill_points():
    """The names of all places where the daemon can be made to die."""
    return sorted({name for path in (REPO / "src").rglob("*.cc")
                   for name in re.findall(r'KillPoint\("([^"]+)"\)',
                                          path.read_text())})


def pending(known, what, can_run=True):
    """Expected to fail until the program can do it."""
    return pytest.mark.xfail(not known, strict=False, run=can_run or known,
                             reason=f"the program has no {what} yet")


def not_yet(what):
    """For what the issue asks for and a test has found to be missing."""
    return pending(False, what)


fails_legs = pending(knows_option("probe-interval"),
                     "legs that fail and return while mounted")
hangs_no_more = pending(knows_option("leg-timeout"), "leg-timeout=",
                        can_run=False)


def needs_command(name):
    return pending(knows_command(name), f"`mirrorfs {name}`")


# ---- what is where

def data_bytes(path):
    """Bytes of a file that are no holes, as recovery would copy them."""
    return sum(BLOCK for at in range(0, os.stat(path).st_size, BLOCK)
               if any(read_at(path, at)))


def read_at(path, at):
    with open(path, "rb") as file:
        file.seek(at)
        return file.read(BLOCK)


def is_file(path):
    """A directory on the way may be a link to anywhere."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError as error:
        assert error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP,
                               errno.ENAMETOOLONG), error
        return False


def missing_bytes(good, bad):
    """How much of `good` is not in `bad`, in whole blocks; what lies under
    another name there counts as not there."""
    total, seen = 0, set()
    for directory, subdirs, files in os.walk(good):
        if directory == str(good) and ".mirrorfs" in subdirs:
            subdirs.remove(".mirrorfs")
        for path in (Path(directory, name) for name in files):
            st = path.lstat()
            if not stat.S_ISREG(st.st_mode) or st.st_ino in seen:
                continue
            seen.add(st.st_ino)
            twin = Path(bad) / path.relative_to(good)
            if is_file(twin):
                total += sum(BLOCK for at in range(0, st.st_size, BLOCK)
                             if read_at(path, at) != read_at(twin, at))
            else:
                total += data_bytes(path)
    return total


class Scene:
    """`stores` says for each leg where its files can be looked at whatever
    the leg answers; `things` is what the leg lies on (a FaultyLeg, a Disk or
    None)."""

    def __init__(self, mirror, things, stores, seed, allowed=()):
        self.mirror = mirror
        self.things = things
        self.stores = stores
        self.names = [leg.name for leg in mirror.legs]
        self.seed = seed
        self.allowed = allowed
        self.load = None

    # ---- the load

    def start_load(self, steps=10):
        if self.load is None:
            self.load = VerifiedLoad(self.mirror, self.seed, workers=2,
                                     allowed=self.allowed)
        self.load.start()
        self.load.progress(steps)

    def stop_load(self):
        """Nothing went wrong for the applications so far."""
        self.load.progress(10)
        self.load.stop()
        self.check_waits()
        self.load.judge()

    def check_waits(self):
        seconds, what = self.load.slowest()
        assert seconds <= (LEG_TIMEOUT + 5) * SLOWNESS, \
            f"{what} took {seconds:.1f} s"

    # ---- the legs

    def leg(self, i):
        return self.mirror.leg_status(self.names[i])

    def state(self, i):
        return self.leg(i)["state"]

    def primary(self):
        """The number of the primary."""
        return self.names.index(self.mirror.status()["primary"])

    def wait_state(self, i, *states, timeout=30):
        seen = []

        def reached():
            seen.append(self.state(i))
            return seen[-1] in states

        try:
            wait_until(reached, timeout)
        except AssertionError:
            raise AssertionError(
                f"leg {self.names[i]} is {seen[-1:]} and not "
                f"{' or '.join(states)}\n{self.plight()}") from None

    def plight(self):
        """Why a leg may not be in sync."""
        try:
            return self.missing_regions()
        except AssertionError as error:
            lines = [str(error), "the daemon:",
                     thread_states(self.mirror.daemon_pid)]
            for thing in self.things:
                if hasattr(thing, "pid"):
                    lines += [f"leg {thing.root}:", thread_states(thing.pid)]
            return "\n".join(lines)

    def missing_regions(self):
        lines = [str(region) for region in self.mirror.dirty()["regions"][:20]]
        return "\n".join(lines + [str(leg) for leg in
                                  self.mirror.status()["legs"]])

    def wait_out(self, i, timeout=30):
        """Until the leg is not in sync."""
        self.wait_state(i, "failed", "missing", "stale", "offline", "resync",
                        timeout=timeout)

    def wait_back(self, *legs, timeout=CATCH_UP):
        for i in legs or range(len(self.names)):
            self.wait_state(i, "in-sync", timeout=timeout)

    def copied(self, i):
        return self.leg(i)["resync"]["copied_bytes"]

    def return_exactly(self, i, bring_back):
        """Without load: the leg gets no more than it missed."""
        source = self.stores[self.primary()]
        leg = self.leg(i)
        needed = max(missing_bytes(source, self.stores[i]),
                     leg["dirty"]["bytes"])
        before = leg["resync"]["copied_bytes"]
        bring_back()
        self.wait_back(i)
        after = self.copied(i)
        copied = after - before if after >= before else after
        assert copied <= 1.1 * needed + BLOCK, \
            f"{copied} bytes were copied, and {needed} were missing"

    # ---- the end

    def assert_legs_identical(self, *legs):
        chosen = [self.stores[i] for i in legs or range(len(self.stores))]
        lines = compare.tree_differences(*chosen)
        assert not lines, "legs differ:\n" + "\n".join(lines)

    def finish(self):
        """The mirror is whole again, and everything is everywhere."""
        if self.load and any(p.poll() is None
                             for p in self.load.processes.values()):
            self.stop_load()
        self.wait_back()
        self.mirror.wait_sync()
        if self.load:
            self.load.judge()
        self.mirror.umount()
        self.assert_legs_identical()
        result = self.mirror.cli("check", *self.mirror.legs, check=False)
        assert result.returncode == 0, \
            f"check disagrees: {result.stdout}{result.stderr}"

    def crash(self):
        self.mirror.kill9()
        if self.load:
            self.load.end()

    def answers(self, within=5):
        """Status answers at once, whatever the legs do."""
        began = time.monotonic()
        self.mirror.status()
        assert time.monotonic() - began < within * SLOWNESS
