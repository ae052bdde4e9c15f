# SPDX-License-Identifier: GPL-2.0-or-later
"""Both legs are full, and applications fill again whatever becomes free. No
leg is dropped for that, and the mirror can be mounted, which alone allows to
remove something from it."""

import contextlib
import os
import threading
import time

import pytest

from support.mirror import run
from support.scene import fails_legs

pytestmark = [pytest.mark.timeout_s(400), fails_legs]

MIB = 1 << 20
SIZES = {"ext4": 64 * MIB, "xfs": 320 * MIB, "btrfs": 256 * MIB}


class Fillers:
    """Threads that append to files in the mount as long as they are in."""

    def __init__(self, mnt):
        self.mnt = mnt
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(n,))
                        for n in range(3)]

    def run(self, number):
        at = 0
        while not self.stop.is_set():
            at = (at + 1) % 2000
            with contextlib.suppress(OSError):
                with open(self.mnt / f"small{number}-{at}", "ab",
                          buffering=0) as file:
                    file.write(b"x" * 4096)

    def __enter__(self):
        with contextlib.suppress(OSError):
            with open(self.mnt / "big", "ab", buffering=0) as file:
                while file.write(b"x" * MIB):
                    pass
        for thread in self.threads:
            thread.start()
        time.sleep(1)

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def fill_up(path):
    """What is not written to the disk yet is thought to need more there."""
    for _ in range(3):
        with contextlib.suppress(OSError):
            with open(path, "ab", buffering=0) as file:
                while file.write(b"x" * 4096):
                    pass
        os.sync()


def make_room(mnt):
    """Every one of these must be possible."""
    (mnt / "big").unlink()
    for path in mnt.glob("small*"):
        path.unlink()


@pytest.mark.parametrize("end", ["umount", "kill"])
@pytest.mark.parametrize("fs", SIZES)
def test_labels_are_written_meanwhile(scene, fs, end):
    it = scene(fs, fs, size=SIZES[fs], allowed=["full"])
    mirror = it.mirror
    with Fillers(mirror.mnt):
        for n in range(12):
            mirror.cli("promote", mirror.mnt, it.names[1 - n % 2])
        if end == "kill":
            mirror.kill9()
    assert "failed" not in mirror.said()
    if end == "umount":
        mirror.umount()
    mirror.mount()
    make_room(mirror.mnt)
    it.finish()


def test_no_space_for_a_log(scene):
    """Nor room for one: it is kept in memory then."""
    it = scene("ext4", "ext4", size=SIZES["ext4"], allowed=["full"])
    mirror = it.mirror
    with Fillers(mirror.mnt):
        pass
    mirror.kill9()
    for store in it.stores:
        (store / ".mirrorfs/log/room").unlink(missing_ok=True)
        for journal in store.glob(".mirrorfs/log/db/*.log"):
            os.truncate(journal, journal.stat().st_size)  # it had room, too
        fill_up(store / ".mirrorfs/hog")
    mirror.mount()
    assert mirror.status()["log"]["type"] == "core"
    make_room(mirror.mnt)
    for store in it.stores:
        (store / ".mirrorfs/hog").unlink(missing_ok=True)
    mirror.wait_sync()
    mirror.kill9()  # what is in memory only is not relied upon
    mirror.mount()
    assert mirror.status()["log"]["type"] == "disk"
    it.finish()


def test_what_warns_again_and_again_is_said_once(scene):
    it = scene("plain", "ext4", size=SIZES["ext4"], allowed=["full"])
    mnt = it.mirror.mnt
    with Fillers(mnt):
        pass
    failed = 0
    with open(mnt / "big", "ab", buffering=0) as file:
        while failed < 100:
            try:
                file.write(b"x" * MIB)
            except OSError:
                failed += 1
    assert 0 < it.mirror.said().count("No space left") < 20
    make_room(mnt)
    it.finish()


@pytest.mark.parametrize("log", ["core", "disk"])
def test_no_space_for_a_place(scene, log):
    """A backup made of hard links keeps the old one, and others have taken
    nearly all the rest: labels are written nevertheless, and whole."""
    it = scene("ext4", "ext4", size=SIZES["ext4"], log=log)
    mirror = it.mirror
    (mirror.mnt / "f").write_bytes(b"old")
    mirror.umount()
    hogs = [leg.parent / "hog" for leg in mirror.legs]
    for leg, hog in zip(mirror.legs, hogs):
        run("cp", "-al", leg, leg.parent / "backup")
        fill_up(hog)
        os.truncate(hog, hog.stat().st_size - (9 << 10))
    os.sync()
    mirror.mount()
    (mirror.mnt / "f").unlink()
    mirror.kill9()
    mirror.mount()
    assert "damaged" not in mirror.said()
    for hog in hogs:
        hog.unlink()
    it.finish()
