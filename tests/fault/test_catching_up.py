# SPDX-License-Identifier: GPL-2.0-or-later
"""A leg that returns catches up while applications go on: what they do to what
it lacks does not make it lack ever more."""

import os
import random
import threading

import pytest

from support.mirror import wait_until
from support.scene import fails_legs
from support.syscalls import RENAME_EXCHANGE, renameat2

pytestmark = [pytest.mark.timeout_s(400), fails_legs]

MIB = 1 << 20


def lacking(it, kind):
    return [region["path"] for region in it.mirror.dirty()["regions"]
            if region["missing"] and region["kind"] == kind]


@pytest.fixture(name="halfway")
def _halfway(scene):
    """The second leg has all names again and waits for contents."""
    it = scene("plain", "plain")
    mnt = it.mirror.mnt
    it.mirror.cli("offline", mnt, it.names[1])
    (mnt / "d").mkdir()
    for name in ("big", "other", "d/big"):
        (mnt / name).write_bytes(os.urandom(4 * MIB))
    it.mirror.cli("set", mnt, "resync-rate-max=64K")
    it.mirror.cli("online", mnt, it.names[1])
    wait_until(lambda: it.state(1) == "resync" and not lacking(it, "entries"),
               30)
    yield it
    assert lacking(it, "attributes"), "it was to be slow"
    it.mirror.cli("set", mnt, "resync-rate-max=0")
    it.finish()


def test_a_file_is_lacked_and_not_its_directory(halfway):
    mnt = halfway.mirror.mnt
    with open(mnt / "big", "r+b") as file:
        file.write(b"x" * MIB)
        file.seek(6 * MIB)
        file.write(b"longer")
    os.chmod(mnt / "other", 0o600)
    os.truncate(mnt / "other", 3 * MIB)
    assert not lacking(halfway, "entries")
    (mnt / "new").write_bytes(b"made by all")
    assert (halfway.stores[1] / "new").read_bytes() == b"made by all"


def test_a_link_is_made_from_and_not_lacked(halfway):
    mnt = halfway.mirror.mnt
    os.link(mnt / "d/big", mnt / "link")
    os.rename(mnt / "other", mnt / "d/other")
    assert not lacking(halfway, "entries")
    assert (halfway.stores[1] / "link").exists()


def test_what_moved_away_is_not_lacked_there(halfway):
    """A new file or directory of the old name is another one."""
    mnt, store = halfway.mirror.mnt, halfway.stores[1]
    os.rename(mnt / "d", mnt / "e")
    os.rename(mnt / "big", mnt / "e/moved")
    (mnt / "d").mkdir()
    (mnt / "d/big").write_bytes(b"new")
    (mnt / "big").write_bytes(b"new, too")
    assert not lacking(halfway, "entries")
    assert (store / "d/big").read_bytes() == b"new"
    assert (store / "big").read_bytes() == b"new, too"
    lacked = set(lacking(halfway, "attributes"))
    assert not lacked & {"big", "d/big"}, lacked
    assert {"e/moved", "e/big", "other"} <= lacked


def test_what_changed_places_is_lacked_where_it_is(halfway):
    mnt = halfway.mirror.mnt
    (mnt / "whole").mkdir()
    (mnt / "whole/f").write_bytes(b"whole")
    renameat2(mnt / "d", mnt / "whole", RENAME_EXCHANGE)
    lacked = set(lacking(halfway, "attributes"))
    assert "whole/big" in lacked and "d/big" not in lacked, lacked
    assert not lacking(halfway, "entries")


def test_a_crash_undoes_nothing_of_what_is_lacked(halfway):
    """What a move leaves behind is for a crash that undoes it."""
    mnt = halfway.mirror.mnt
    os.rename(mnt / "d", mnt / "e")
    os.rename(mnt / "big", mnt / "e/moved")
    (mnt / "big").write_bytes(b"new")
    halfway.mirror.kill9()
    halfway.mirror.mount("resync-rate-max=64K")


@pytest.mark.parametrize("how", ["overwritten", "appended"])
def test_a_busy_file_is_healed(scene, how, seed):
    it = scene("plain", "faulty")
    mnt = it.mirror.mnt
    rng = random.Random(seed)
    busy = threading.Event()
    failures = []

    def use():
        fd = os.open(mnt / "busy", os.O_RDWR)
        try:
            while not busy.is_set():
                at = rng.randrange(0, 16 * MIB, 512)
                if how == "appended":
                    at = os.fstat(fd).st_size
                os.pwrite(fd, os.urandom(4096), at)
        except OSError as error:
            failures.append(error)
        finally:
            os.close(fd)

    (mnt / "busy").write_bytes(os.urandom(16 * MIB))
    user = threading.Thread(target=use)
    user.start()
    try:
        it.things[1].die()
        it.wait_out(1)
        it.things[1].restart()
        it.wait_back(1)
    finally:
        busy.set()
        user.join()
    assert not failures
    it.finish()


def test_a_name_that_comes_where_one_was(scene):
    """Of a file whose other name nobody has seen in a walk."""
    it = scene("plain", "plain")
    mnt, store = it.mirror.mnt, it.stores[1]
    letters = "ABCDEFGH"
    for name in (*letters, "P", "Z", "Z/d", "Z/e"):
        (mnt / name).mkdir()
    (mnt / "P/p").write_text("data")
    wait_until(lambda: not it.mirror.dirty()["regions"], 40)
    it.mirror.cli("set", mnt, "resync-rate-max=4K")
    it.mirror.cli("offline", mnt, it.names[1])
    for letter in letters:
        (mnt / letter / "x").write_text("x")
        os.link(mnt / letter / "x", mnt / letter / "y")
    (mnt / "Z/z").write_text("z")
    it.mirror.cli("online", mnt, it.names[1])
    # Each time another of the letters is healed the names are looked for.
    wait_until(lambda: (store / "A/y").exists(), 30)
    os.link(mnt / "P/p", mnt / "Z/e/f")
    wait_until(lambda: (store / "C/y").exists(), 30)
    os.rename(mnt / "Z/e/f", mnt / "Z/d/f")
    wait_until(lambda: (store / "E/y").exists(), 30)
    os.rmdir(mnt / "Z/e")
    os.rename(mnt / "Z/d", mnt / "Z/e")
    it.mirror.cli("set", mnt, "resync-rate-max=0")
    it.finish()
    assert os.path.samefile(store / "P/p", store / "Z/e/f")
