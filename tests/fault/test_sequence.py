# SPDX-License-Identifier: GPL-2.0-or-later
"""Many legs, failing one after the other down to the last, and back; the
primary among them."""

import errno
import os
import random

import pytest

from support.faulty_leg import EVERYTHING
from support.mirror import MountFailed
from support.scene import fails_legs

pytestmark = [pytest.mark.timeout_s(900), fails_legs]


@pytest.mark.parametrize("count", [3, 5])
def test_down_to_one_and_back(scene, count, seed):
    it = scene(*["faulty"] * count, options=["read-policy=round-robin"])
    rng = random.Random(seed)
    order = rng.sample(range(count), count)
    it.start_load()
    for n, number in enumerate(order[:-1]):
        # After another primary's failure the rest catch up for a moment.
        it.wait_back(*order[n:])
        leg = it.things[number]
        if rng.random() < 0.5:
            leg.die()
        else:
            leg.fail(EVERYTHING, errno.EIO)
        it.wait_out(number)
        it.load.progress(10)
    assert it.mirror.status()["state"] == "degraded"
    assert it.primary() == order[-1]
    for number in rng.sample(order[:-1], count - 1):
        it.things[number].restart()
        it.load.progress(10)
        it.wait_back(number)
    it.finish()


def test_the_last_leg_fails_too(scene):
    """Its errors are the callers'; the others are not served in its place."""
    it = scene("faulty", "faulty", "faulty")
    mnt = it.mirror.mnt
    (mnt / "f").write_bytes(b"1")
    for number in (0, 1):
        it.things[number].die()
        it.wait_state(number, "failed", "missing")
    (mnt / "f").write_bytes(b"2")
    it.things[2].fail(EVERYTHING, errno.EIO, spare_private=True)
    it.things[0].restart()  # stale, and its source cannot be read
    with pytest.raises(OSError):
        (mnt / "f").write_bytes(b"3")
    try:
        assert (mnt / "f").read_bytes() != b"1", "a stale leg was read"
    except OSError:
        pass
    assert it.state(0) != "in-sync"
    it.things[2].clear()
    it.things[1].restart()
    (mnt / "f").write_bytes(b"4")
    it.finish()


@pytest.mark.parametrize("how", ["dies", "errors"])
def test_the_primary_fails_again_and_again(scene, how):
    """Whoever is primary: applications go on, another one takes over."""
    it = scene("faulty", "faulty", allowed=["loses-nameless"])
    it.start_load()
    for _ in range(4):
        number = it.primary()
        leg = it.things[number]
        if how == "dies":
            leg.die()
        else:
            leg.fail(EVERYTHING, errno.EIO)
        it.wait_out(number)
        assert it.primary() == 1 - number
        it.load.progress(10)
        leg.restart()
        it.wait_back(number)
    it.finish()


def test_the_primary_fails_right_after_it_made_a_file(scene):
    """Between the making and the answer, which says what was made."""
    it = scene("faulty", "plain")
    it.things[0].add(ops=["getattr"], path="new", errno=errno.EIO, skip=1)
    fd = os.open(it.mirror.mnt / "new", os.O_CREAT | os.O_EXCL | os.O_RDWR)
    os.write(fd, b"there")
    os.close(fd)
    it.wait_state(0, "failed", "missing")
    assert (it.mirror.mnt / "new").read_bytes() == b"there"
    it.things[0].restart()
    it.wait_back(0)
    it.finish()


def test_inode_numbers_survive_the_primary(scene):
    """st_ino of what is open, and of names, through a failover."""
    it = scene("faulty", "plain")
    mnt = it.mirror.mnt
    for n in range(20):
        (mnt / f"f{n}").write_text(str(n))
    os.link(mnt / "f0", mnt / "link")
    before = {name: os.stat(mnt / name).st_ino for name in os.listdir(mnt)}
    fd = os.open(mnt / "f1", os.O_RDWR)
    it.things[0].die()
    it.wait_state(0, "failed", "missing")
    assert os.fstat(fd).st_ino == before["f1"]
    os.write(fd, b"goes on")
    os.close(fd)
    after = {name: os.stat(mnt / name).st_ino for name in os.listdir(mnt)}
    assert after == before
    it.things[0].restart()
    it.finish()


def test_a_listing_across_a_failover(scene):
    """No name twice, none left out."""
    it = scene("faulty", "plain")
    names = {f"name-{n:04}" for n in range(3000)}
    (it.mirror.mnt / "d").mkdir()
    for name in names:
        (it.mirror.mnt / "d" / name).touch()
    seen = []
    with os.scandir(it.mirror.mnt / "d") as entries:
        seen += [next(entries).name for _ in range(100)]
        it.things[0].die()
        seen += [entry.name for entry in entries]
    assert sorted(seen) == sorted(names)
    it.things[0].restart()
    it.finish()


def test_split_brain_is_refused(scene):
    """Each leg was changed without the other; nothing is merged."""
    it = scene("faulty", "faulty")
    mnt = it.mirror.mnt
    (mnt / "f").write_bytes(b"both")
    it.things[1].die()
    it.wait_state(1, "failed", "missing")
    (mnt / "f").write_bytes(b"of a")
    it.mirror.umount()
    it.things[0].die()
    it.things[1].restart()
    # b alone is older than a, and nobody here can know it.
    it.mirror.mount()
    (mnt / "f").write_bytes(b"of b")
    # a comes back while b is in use.
    it.things[0].restart()
    (mnt / "g").write_bytes(b"more of b")
    assert it.state(0) != "in-sync"
    assert (it.things[0].store / "f").read_bytes() == b"of a"
    it.mirror.umount()
    with pytest.raises(MountFailed) as caught:
        it.mirror.mount()
    assert "resolve" in caught.value.text
    it.mirror.cli("resolve", "--keep", it.mirror.legs[1], *it.mirror.legs)
    it.mirror.mount()
    it.finish()
    for store in it.stores:
        assert (store / "f").read_bytes() == b"of b"
