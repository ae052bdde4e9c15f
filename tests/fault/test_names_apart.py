# SPDX-License-Identifier: GPL-2.0-or-later
"""A leg whose file system shows each name of a file as a file of its own, as
mergerfs does without use_ino."""

import os
import time

import pytest

from support.mirror import wait_until


@pytest.fixture
def leg(faulty_legs):
    return faulty_legs("b")


def test_it_does_not_become_a_leg(mirrors, leg, base):
    leg.split_names()
    mirror = mirrors(base / "m", legs=[base / "m/a", leg.root])
    result = mirror.cli("create", *mirror.legs, check=False)
    assert result.returncode > 0
    assert result.stderr == (
        f"mirrorfs: leg {leg.root}: its file system shows each name of a file "
        "as a file of its own (mergerfs: mount it with use_ino)\n")
    result = mirror.cli("create", "--adopt", leg.root, *mirror.legs,
                        check=False)
    assert result.returncode > 0 and "use_ino" in result.stderr
    assert os.listdir(leg.store) == os.listdir(mirror.legs[0]) == []


def test_it_is_not_attached(mirrors, leg):
    mirror = mirrors()
    mirror.create()
    mirror.mount()
    leg.split_names()
    result = mirror.cli("attach", mirror.mnt, leg.root, check=False)
    assert result.returncode > 0 and "use_ino" in result.stderr
    assert len(mirror.status()["legs"]) == 2


def test_one_that_was_mounted_otherwise_before(mirrors, leg, base):
    """It cannot be made equal, says so, and is not tried without end."""
    mirror = mirrors(base / "m", legs=[base / "m/a", leg.root])
    mirror.create()
    mirror.expect_diagnostics("leg .b.|not supported")
    mirror.mount()
    mirror.cli("offline", mirror.mnt, "b")
    (mirror.mnt / "one").write_bytes(b"content")
    os.link(mirror.mnt / "one", mirror.mnt / "two")
    leg.split_names()
    mirror.cli("online", mirror.mnt, "b")

    def complains():
        said = mirror.cli("status", mirror.mnt, check=False).stdout
        return "not supported" in said and said

    said = wait_until(complains, 60)
    assert '"b"' in said
    before = leg.stats()["requests"]["rename"]
    time.sleep(3)
    assert leg.stats()["requests"]["rename"] - before < 20
    assert [name for name in os.listdir(leg.store / ".mirrorfs")
            if name.startswith("new.")] == []
    assert (mirror.mnt / "two").read_bytes() == b"content"
    # As it was before.
    mirror.umount()
    leg.restart()
    mirror.mount()
    mirror.settle_and_compare()
