# SPDX-License-Identifier: GPL-2.0-or-later
"""Which leg is read: what a policy says, never a leg that lacks it, and legs
that are write-mostly last."""

import errno
import os
import threading

import pytest

from support.mirror import wait_until
from support.scene import REGION

pytestmark = pytest.mark.timeout_s(400)

UNCACHED = "cache=none"  # each read of the mount is one of a leg


def reads(it):
    return [thing.stats()["requests"]["read"] for thing in it.things]


def read_by(it, path):
    """The names of the legs that answer."""
    before = reads(it)
    data = path.read_bytes()
    after = reads(it)
    return data, {name for name, old, new in zip(it.names, before, after)
                  if new > old}


def fresh(it, name, size=8 * REGION):
    """A file that all legs hold and that nobody has read."""
    path = it.mirror.mnt / name
    path.write_bytes(os.urandom(size))
    it.mirror.wait_sync()
    return path


def set_option(it, change, check=True):
    return it.mirror.cli("set", it.mirror.mnt, change, check=check)


def test_write_mostly_legs_are_read_last(scene):
    it = scene("faulty", "faulty", options=[UNCACHED, "write-mostly=a"])
    assert it.leg(0)["write_mostly"] and not it.leg(1)["write_mostly"]
    assert "write-mostly" in it.mirror.cli("status", it.mirror.mnt).stdout
    path = fresh(it, "f")
    for policy in ("primary", "round-robin", "least-pending", "prefer=a",
                   "prefer=b"):
        set_option(it, f"read-policy={policy}")
        assert read_by(it, path)[1] == {"b"}, policy
    # Where no other can be read, it is. Recovery would read there, too.
    set_option(it, "resync-rate-max=1")
    it.things[1].fail("read", errno.EPERM)
    it.things[1].fail("write", errno.EPERM, path="g")
    other = it.mirror.mnt / "g"
    other.write_bytes(b"lacking on b")
    assert read_by(it, other) == (b"lacking on b", {"a"})
    it.things[1].clear()
    set_option(it, "resync-rate-max=0")
    it.wait_back()  # recovery reads there, too
    set_option(it, "read-policy=primary")
    set_option(it, "write-mostly=a:b")
    assert read_by(it, path)[1] == {"a"}
    set_option(it, "write-mostly=")
    assert not it.leg(0)["write_mostly"]
    assert read_by(it, path)[1] == {"a"}
    it.finish()


def test_write_mostly_is_checked(scene):
    it = scene("faulty", "faulty", options=["write-mostly=b"])
    for change in ("write-mostly=nobody", "write-mostly=a::b"):
        result = set_option(it, change, check=False)
        assert result.returncode == 1
        assert "write-mostly" in result.stderr
        assert len(result.stderr.splitlines()) == 1
    shown = it.mirror.cli("get", it.mirror.mnt, "write-mostly").stdout
    assert shown == "b\n"
    it.finish()


def test_the_leg_with_the_fewest_pending_reads(scene):
    it = scene("faulty", "faulty",
               options=[UNCACHED, "read-policy=least-pending"])
    slow, *others = [fresh(it, f"f{i}") for i in range(4)]
    assert read_by(it, others[0])[1] == {"a"}, "the primary of equals"
    it.things[0].add(ops=["read"], delay_ms=2000)
    reader = threading.Thread(target=slow.read_bytes)
    reader.start()
    wait_until(lambda: it.things[0].hanging() > 0, what="a read to wait")
    assert [read_by(it, path)[1] for path in others] == [{"b"}] * 3
    it.things[0].clear()
    reader.join()
    it.finish()


@pytest.mark.parametrize("policy", ["round-robin", "least-pending", "prefer=b"])
def test_what_a_leg_lacks_is_not_read_there(scene, policy):
    it = scene("faulty", "faulty",
               options=[UNCACHED, f"read-policy={policy}", "write-mostly=a"])
    path = fresh(it, "f")
    it.things[1].fail("write", errno.EPERM, path="f")
    with open(path, "r+b") as file:
        file.seek(3 * REGION)
        file.write(b"new")
    wait_until(lambda: it.leg(1)["dirty"]["regions"] > 0,
               what="the leg to be known to lack it")
    data, legs = read_by(it, path)
    assert data[3 * REGION:3 * REGION + 3] == b"new"
    assert "a" in legs
    it.things[1].clear()
    it.finish()
