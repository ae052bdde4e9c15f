# SPDX-License-Identifier: GPL-2.0-or-later
"""Which legs hold what of a file."""

import json
import os

import pytest

MIB = 1 << 20


def where(mirror, path):
    document = json.loads(mirror.cli("where", path, "--json").stdout)
    assert document["schema"] == 1 and document["name"] == "t"
    return document


def on_leg(mirror, path, name="b"):
    return next(leg for leg in where(mirror, path)["legs"]
                if leg["name"] == name)


def ranges(leg):
    return [(part["offset"], part["bytes"]) for part in leg["stale"]]


@pytest.fixture
def away(mirrors):
    """A mirror with a few files whose second leg is put aside."""
    mirror = mirrors()
    mirror.create()
    mirror.mount()
    (mirror.mnt / "d" / "e").mkdir(parents=True)
    (mirror.mnt / "d/e/deep").write_text("x")
    (mirror.mnt / "old").write_bytes(os.urandom(5 * MIB + 500))
    (mirror.mnt / "untouched").write_text("x")
    mirror.umount()
    mirror.away = mirror.legs[1].with_name("b-away")
    mirror.legs[1].rename(mirror.away)
    return mirror.mount()


def bring_back(mirror, *options):
    mirror.umount()
    mirror.away.rename(mirror.legs[1])
    mirror.mount(*options)


def test_all_is_well(mirror):
    (mirror.mnt / "d").mkdir()
    (mirror.mnt / "d/f").write_bytes(b"x" * 100)
    document = where(mirror, mirror.mnt / "d/f")
    assert document["path"] == "d/f"
    assert document["kind"] == "file"
    assert document["bytes"] == 100
    assert [leg["state"] for leg in document["legs"]] == ["current"] * 2
    assert [leg["primary"] for leg in document["legs"]] == [True, False]
    # By its place in a leg, and the root.
    assert where(mirror, mirror.legs[1] / "d/f")["path"] == "d/f"
    assert where(mirror, mirror.mnt)["kind"] == "directory"
    text = mirror.cli("where", mirror.mnt / "d/f").stdout
    assert f"{mirror.legs[1]}/d/f  current" in text


def test_ranges_that_a_missing_leg_lacks(away):
    # Backwards: who writes on is marked ahead.
    for offset in (5 * MIB + 100, MIB - 5):
        with open(away.mnt / "old", "r+b") as file:
            os.pwrite(file.fileno(), b"x" * 10, offset)
    leg = on_leg(away, away.mnt / "old")
    assert leg["state"] == "missing"
    assert ranges(leg) == [(0, 2 * MIB), (5 * MIB, 500)]
    assert leg["stale_bytes"] == 2 * MIB + 500
    assert not leg["name_stale"]
    leg = on_leg(away, away.mnt / "untouched")
    assert leg["state"] == "missing" and ranges(leg) == []
    assert not (leg["name_stale"] or leg["attributes_stale"])
    assert on_leg(away, away.mnt / "old", "a")["state"] == "current"
    # A tail swallows what lies in it.
    os.truncate(away.mnt / "old", 4 * MIB)
    os.truncate(away.mnt / "old", 5 * MIB)
    assert ranges(on_leg(away, away.mnt / "old")) == [(0, 2 * MIB),
                                                      (4 * MIB, MIB)]


def test_attributes_and_names(away):
    os.chmod(away.mnt / "untouched", 0o600)
    leg = on_leg(away, away.mnt / "untouched")
    assert leg["attributes_stale"] and not leg["name_stale"]
    assert ranges(leg) == []
    (away.mnt / "d/e/new").write_bytes(os.urandom(MIB))
    leg = on_leg(away, away.mnt / "d/e/new")
    assert leg["name_stale"]
    assert ranges(leg) == [(0, MIB)]
    leg = on_leg(away, away.mnt / "d/e")
    assert leg["entries_stale"]
    assert not on_leg(away, away.mnt / "d")["entries_stale"]


def test_while_a_leg_catches_up(away):
    with open(away.mnt / "old", "r+b") as file:
        os.pwrite(file.fileno(), b"x", 0)
    (away.mnt / "d/new").write_bytes(os.urandom(MIB))
    # Slow enough that nothing of it is done yet.
    away.umount()
    away.away.rename(away.legs[1])
    away.mount("resync-rate-max=1")
    leg = on_leg(away, away.mnt / "old")
    assert leg["state"] == "stale"
    assert ranges(leg) == [(0, MIB)]
    text = away.cli("where", away.mnt / "old").stdout
    assert "1 MiB in 1 range [0..1048576)" in text, text
    away.cli("set", "t", "resync-rate-max=0")
    away.wait_sync()
    for name in ("old", "d/new"):
        assert on_leg(away, away.mnt / name)["state"] == "current"
    away.settle_and_compare()


def test_a_new_leg_lacks_all_beneath(mirrors):
    mirror = mirrors()
    (mirror.legs[0] / "d/e").mkdir(parents=True)
    (mirror.legs[0] / "d/e/f").write_bytes(os.urandom(3 * MIB))
    mirror.create(adopt=mirror.legs[0])
    mirror.mount("resync-rate-max=1")
    leg = on_leg(mirror, mirror.mnt / "d/e/f")
    assert leg["state"] == "absent"
    assert leg["name_stale"] and leg["attributes_stale"]
    assert ranges(leg) == [(0, 3 * MIB)]
    mirror.cli("set", "t", "resync-rate-max=0")
    mirror.settle_and_compare()


def test_names_that_are_odd(mirror):
    for name in (b"new\nline", b"\xff\xfe", b"-n", "ü".encode()):
        path = os.fsencode(mirror.mnt) + b"/" + name
        with open(path, "wb") as file:
            file.write(b"x")
        result = mirror.cli("where", "--", path)
        assert "current" in result.stdout
        assert len(result.stdout.splitlines()) == 6


def test_what_is_not_there(mirror):
    for path, code, word in ((mirror.mnt / "none", 1, "No such file"),
                             (mirror.mnt / ".mirrorfs/label", 1, "No such"),
                             (mirror.legs[0] / ".mirrorfs", 1, "No such"),
                             ("/", 2, "does not lie in a mounted mirror")):
        result = mirror.cli("where", path, check=False)
        assert result.returncode == code
        assert word in result.stderr
        assert len(result.stderr.splitlines()) == 1
    link = mirror.mnt / "link"
    link.symlink_to("/nowhere")
    assert where(mirror, link)["kind"] == "symlink"
