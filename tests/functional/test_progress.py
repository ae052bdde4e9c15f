# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a repair is, and how fast it may go."""

import os

import pytest

MIB = 1 << 20


def write_at(path, offset, size):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(os.urandom(size))


@pytest.fixture
def away(mirrors):
    """A mirror with a few files whose second leg is put aside."""
    mirror = mirrors()
    mirror.create()
    mirror.mount()
    for name, size in (("even", 4 * MIB), ("odd", 3 * MIB + 500),
                       ("shrinks", 4 * MIB), ("small", 10)):
        (mirror.mnt / name).write_bytes(os.urandom(size))
    mirror.umount()
    mirror.away = mirror.legs[1].with_name("b-away")
    mirror.legs[1].rename(mirror.away)
    return mirror.mount()


def test_what_a_leg_lacks_is_counted_exactly(away):
    assert away.leg_status("b")["dirty"] == {
        "bytes": 0, "regions": 0, "files": 0, "directories": 0}
    write_at(away.mnt / "even", 1 * MIB + 7, 10)
    dirty = away.leg_status("b")["dirty"]
    assert dirty["bytes"] == 1 * MIB
    assert dirty["files"] == 1
    # The last region of a file is as long as the file.
    write_at(away.mnt / "odd", 3 * MIB + 100, 10)
    assert away.leg_status("b")["dirty"]["bytes"] == 1 * MIB + 500
    # Two regions, one of them twice.
    write_at(away.mnt / "even", 2 * MIB - 5, 10)
    assert away.leg_status("b")["dirty"]["bytes"] == 2 * MIB + 500
    # A tail, and a region in it.
    write_at(away.mnt / "shrinks", 3 * MIB, 10)
    os.truncate(away.mnt / "shrinks", 2 * MIB + 30)
    dirty = away.leg_status("b")["dirty"]
    assert dirty["bytes"] == 2 * MIB + 500 + 30
    assert dirty["files"] == 3
    text = away.cli("status", away.mnt, check=False).stdout
    assert "leg b lacks 2.0 MiB" in text, text
    assert "3 files" in text

    away.umount()
    away.away.rename(away.legs[1])
    away.mount()
    away.wait_sync()
    leg = away.leg_status("b")
    assert leg["dirty"] == {
        "bytes": 0, "regions": 0, "files": 0, "directories": 0}
    assert leg["resync"]["done_bytes"] == 2 * MIB + 500 + 30
    assert leg["resync"]["total_bytes"] == leg["resync"]["done_bytes"]
    assert 0 < leg["resync"]["copied_bytes"] <= leg["resync"]["done_bytes"]
    assert away.leg_status("a")["resync"]["done_bytes"] == 0
    away.settle_and_compare()


def test_a_repair_that_is_over_has_no_time_left(away):
    (away.mnt / "new").write_bytes(os.urandom(5 * MIB))
    away.umount()
    away.away.rename(away.legs[1])
    away.mount()
    away.wait_sync()
    resync = away.leg_status("b")["resync"]
    assert resync["eta_s"] == 0
    assert resync["done_bytes"] >= 5 * MIB
    assert resync["rate"] > 0, "of the last seconds"
    away.settle_and_compare()
