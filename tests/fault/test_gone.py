# SPDX-License-Identifier: GPL-2.0-or-later
"""A leg that is not there any more, on real file systems: unmounted, replaced,
emptied, read-only."""

import os
import shutil
import time

import pytest

from support import compare
from support.mirror import run, wait_until
from support.scene import fails_legs, needs_command

pytestmark = pytest.mark.timeout_s(400)


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


def break_it(disk, how):
    """Read-only or shut down, with writers at work."""
    if how == "shutdown":  # what xfs does when its log cannot be written
        if run("xfs_io", "-x", "-c", "shutdown", disk.where,
               check=False).returncode != 0:
            pytest.skip("no xfs_io")
        return
    device = run("findmnt", "-n", "-o", "SOURCE", disk.where).stdout.strip()
    trigger = f"/sys/fs/ext4/{os.path.basename(device)}/trigger_fs_error"
    if not os.path.exists(trigger):
        pytest.skip("this kernel cannot make ext4 find an error")
    run("mount", "-o", "remount,errors=remount-ro", disk.where)
    with open(trigger, "w", encoding="ascii") as file:
        file.write("an error of a test")


def repair(disk):
    """As an admin does it; nobody may have the disk open any more."""
    wait_until(lambda: run("losetup", "-j", disk.image).stdout == "",
               what="nobody to have the disk open")
    if disk.fs == "ext4":
        run("fsck.ext4", "-fy", disk.image, check=False)
    disk.mount()


BREAKS = [("ext4", "read-only"), ("ext4", "shutdown"), ("xfs", "shutdown")]


@fails_legs
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("fs,how", BREAKS)
def test_a_broken_file_system(scene, fs, how, number):
    legs = ["plain", "plain"]
    legs[number] = fs
    it = scene(*legs)
    it.start_load()
    break_it(it.things[number], how)
    it.wait_state(number, "failed", "missing")
    it.load.progress()
    it.stop_load()
    it.mirror.umount()
    it.things[number].umount()
    repair(it.things[number])
    it.mirror.mount()
    it.load.judge()
    it.finish()


@pytest.mark.parametrize("number", [0, 1])
def test_a_failed_disk_is_let_go(scene, number):
    """It can be unmounted, repaired and mounted again beneath the mirror."""
    legs = ["plain", "plain"]
    legs[number] = "ext4"
    it = scene(*legs)
    it.start_load()
    break_it(it.things[number], "read-only")
    it.wait_state(number, "failed", "missing")
    it.load.progress()
    it.things[number].umount()
    repair(it.things[number])
    it.wait_back(number)
    it.finish()


@pytest.mark.parametrize("number", [0, 1])
def test_an_offline_disk_is_let_go(scene, number):
    """With files open and written to; and a file without a name."""
    legs = ["plain", "plain"]
    legs[number] = "ext4"
    it = scene(*legs)
    it.start_load()
    with open(it.mirror.mnt / "open", "wb") as file, \
            open(it.mirror.mnt / "nameless", "w+b") as nameless:
        (it.mirror.mnt / "nameless").unlink()
        for one in (file, nameless):
            one.write(b"before")
            one.flush()
        it.mirror.cli("offline", it.mirror.mnt, it.names[number])
        it.things[number].umount()
        for one in (file, nameless):
            one.write(b" and after")
            one.flush()
        it.load.progress()
        it.things[number].mount()
        it.mirror.cli("online", it.mirror.mnt, it.names[number])
        it.load.progress()
        nameless.seek(0)
        assert nameless.read() == b"before and after"
        file.write(b", too")
    assert (it.mirror.mnt / "open").read_bytes() == b"before and after, too"
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


@pytest.mark.parametrize("number", [0, 1])
def test_a_leg_is_emptied(scene, number):
    """Label and all, but for the directory itself: it is not taken for a leg
    any more, and another one answers."""
    it = scene("plain", "plain")
    path = it.mirror.mnt / "d/f"
    path.parent.mkdir()
    path.write_bytes(b"kept")
    it.mirror.wait_sync()
    leg = it.mirror.legs[number]
    run("find", leg, "-mindepth", "1", "-delete")
    it.wait_state(number, "failed")
    assert "its label is gone" in it.mirror.said()
    assert path.read_bytes() == b"kept"
    name = it.names[number]
    refused = it.mirror.cli("online", it.mirror.mnt, name, check=False)
    assert refused.returncode != 0
    it.mirror.cli("detach", it.mirror.mnt, name)
    it.mirror.cli("attach", it.mirror.mnt, leg, "--name", "anew")
    it.names[number] = "anew"
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
    time.sleep(2.2)  # what was under way may reach it until then
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
