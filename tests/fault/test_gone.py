# SPDX-License-Identifier: GPL-2.0-or-later
"""A leg that is not there any more, on real file systems: unmounted, replaced,
emptied, read-only."""

import os
import shutil
import subprocess

import pytest

from support import compare
from support.mirror import run, wait_until
from support.scene import fails_legs, needs_command

pytestmark = pytest.mark.timeout_s(150)


@fails_legs
@pytest.mark.parametrize("number", [0, 1])
def test_lazily_unmounted(scene, number):
    legs = ["plain", "plain"]
    legs[number] = "ext4"
    it = scene(*legs)
    it.start_load()
    it.things[number].umount(lazy=True)
    it.wait_state(number, "failed", "missing")
    it.load.progress()
    it.stop_load()
    # The place where it was is the empty mount point: not a leg.
    assert os.listdir(it.things[number].where) == []
    it.things[number].mount()
    it.wait_back(number)
    it.start_load()
    it.finish()


@fails_legs
@pytest.mark.parametrize("number", [0, 1])
def test_detached_fuse_leg(scene, number):
    """The connection ends: ENOTCONN for all that is open."""
    legs = ["plain", "plain"]
    legs[number] = "faulty"
    it = scene(*legs)
    leg = it.things[number]
    it.start_load()
    leg.die()
    it.wait_state(number, "failed", "missing")
    it.load.progress()
    it.answers()
    it.stop_load()
    it.return_exactly(number, leg.restart)
    it.start_load()
    leg.die()
    it.load.progress()
    leg.restart()
    it.finish()


@fails_legs
@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs"])
def test_read_only(scene, fs):
    """What ext4 does by itself after an error: errors=remount-ro."""
    it = scene("plain", fs)
    it.start_load()
    run("mount", "-o", "remount,ro", it.things[1].where, check=False)
    if "ro" not in mount_flags(it.things[1].where):
        # Busy for writing: as an ext4 error does it, by force.
        pytest.skip(f"{fs} cannot be made read-only while it is written to")
    it.wait_state(1, "failed")
    it.load.progress()
    it.stop_load()
    it.return_exactly(1, lambda: run("mount", "-o", "remount,rw",
                                     it.things[1].where))
    it.start_load()
    it.finish()


def mount_flags(where):
    return subprocess.run(["findmnt", "-n", "-o", "OPTIONS", str(where)],
                          capture_output=True, check=False,
                          text=True).stdout.strip().split(",")


@fails_legs
def test_ext4_that_found_an_error(scene):
    """errors=remount-ro, and an error: read-only with writers at work."""
    it = scene("plain", "ext4")
    device = subprocess.run(
        ["findmnt", "-n", "-o", "SOURCE", str(it.things[1].where)],
        capture_output=True, check=True, text=True).stdout.strip()
    trigger = f"/sys/fs/ext4/{os.path.basename(device)}/trigger_fs_error"
    if not os.path.exists(trigger):
        pytest.skip("this kernel cannot make ext4 find an error")
    run("mount", "-o", "remount,errors=remount-ro", it.things[1].where)
    it.start_load()
    with open(trigger, "w", encoding="ascii") as file:
        file.write("an error of a test")
    it.wait_state(1, "failed", "missing")
    it.load.progress()
    it.stop_load()
    # Repaired, as an admin does it.
    disk = it.things[1]
    disk.umount(lazy=True)
    wait_until(lambda: run("losetup", "-j", disk.image).stdout == "",
               what="nobody to have the disk open")
    run("fsck.ext4", "-fy", disk.image, check=False)
    disk.mount()
    it.wait_back(1)
    it.finish()


@fails_legs
def test_mixed_file_systems(scene):
    """ext4, xfs and btrfs together; each is away once."""
    it = scene("ext4", "xfs", "btrfs")
    for number in (1, 2, 0):
        it.start_load()
        it.things[number].umount(lazy=True)
        it.wait_state(number, "failed", "missing")
        it.load.progress(10)
        it.things[number].mount()
        it.load.progress(10)
        it.wait_back(number)
        it.stop_load()
    it.finish()


def test_an_immutable_file(scene):
    """chattr +i on a file of one leg: that file alone is behind."""
    it = scene("plain", "ext4")
    path = it.mirror.mnt / "f"
    path.write_bytes(b"old")
    it.start_load()
    copy = it.stores[1] / "f"
    run("chattr", "+i", copy)
    try:
        path.write_bytes(b"new and longer")
        os.chmod(path, 0o600)
        it.load.progress()
        assert path.read_bytes() == b"new and longer"
        assert copy.read_bytes() == b"old"
        wait_until(lambda: it.leg(1)["dirty"]["regions"] > 0,
                   what="the leg to be known to lack it")
    finally:
        run("chattr", "-i", copy)
    it.finish()
    assert copy.read_bytes() == b"new and longer"


@fails_legs
@pytest.mark.parametrize("number", [0, 1])
def test_another_directory_in_its_place(scene, number):
    it = scene("plain", "plain")
    it.start_load()
    leg = it.mirror.legs[number]
    away = leg.with_name("away")
    leg.rename(away)
    leg.mkdir()
    (leg / "somebody's").write_text("precious")
    it.wait_state(number, "failed", "missing")
    it.load.progress()
    it.stop_load()
    assert os.listdir(leg) == ["somebody's"]
    shutil.rmtree(leg)
    it.stores[number] = away
    it.return_exactly(number, lambda: away.rename(leg))
    it.stores[number] = leg
    it.start_load()
    it.finish()


@fails_legs
@needs_command("resync")
def test_the_files_of_a_leg_are_removed(scene):
    """rm -rf behind our back, the label left: applications go on, and a
    whole resync brings everything back."""
    it = scene("plain", "plain")
    it.start_load()
    it.load.progress(20)
    for entry in it.mirror.legs[1].iterdir():
        if entry.name != ".mirrorfs":
            run("rm", "-rf", entry, check=False)
    it.load.progress()
    it.stop_load()
    it.mirror.cli("resync", it.mirror.mnt, "b", "--wait", timeout=60)
    it.finish()


@fails_legs
@needs_command("replace")
@pytest.mark.parametrize("number", [0, 1])
def test_a_whole_leg_is_removed(scene, number):
    """rm -rf of all, label included. It cannot come back; another directory
    takes its place."""
    it = scene("plain", "plain")
    it.start_load()
    leg = it.mirror.legs[number]
    run("rm", "-rf", leg, check=False)
    run("rm", "-rf", leg, check=False)
    it.wait_state(number, "failed", "missing")
    it.load.progress()
    it.answers()
    spare = leg.with_name("spare")
    spare.mkdir()
    it.mirror.cli("replace", it.mirror.mnt, it.names[number], spare)
    it.load.progress()
    it.mirror.legs[number] = it.stores[number] = spare
    it.names[number] = next(
        one["name"] for one in it.mirror.status()["legs"]
        if one["path"] == str(spare))
    it.finish()


@fails_legs
def test_changed_by_hand_while_away(scene):
    """Not merged and not lost: the primary's version, and the other one under
    .mirrorfs/conflicts/."""
    it = scene("plain", "faulty")
    (it.mirror.mnt / "f").write_bytes(b"of the mirror")
    (it.mirror.mnt / "g").write_bytes(b"of the mirror")
    leg = it.things[1]
    leg.die()
    (it.mirror.mnt / "f").write_bytes(b"newer, of the mirror")
    it.wait_state(1, "failed", "missing")
    (leg.store / "f").write_bytes(b"by hand")
    leg.restart()
    it.wait_back(1)
    it.finish()
    for store in it.stores:
        assert (store / "f").read_bytes() == b"newer, of the mirror"
    kept = [path for path in (leg.store / ".mirrorfs/conflicts").rglob("*")
            if path.is_file() and path.read_bytes() == b"by hand"]
    assert kept, "the foreign version is gone"


def test_the_compare_can_fail(scene):
    """The witness of all of the above."""
    it = scene("plain", "plain")
    (it.mirror.mnt / "f").write_bytes(b"one")
    it.mirror.umount()
    (it.stores[1] / "f").write_bytes(b"two")
    assert compare.tree_differences(*it.stores)
