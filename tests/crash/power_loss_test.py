# SPDX-License-Identifier: GPL-2.0-or-later
"""Loss of power: everything that was not synced may be gone, on each leg and
in the log by itself, and what was fsynced is there.

The legs' disks are image files on a disk of our own (the outer one). When the
outer disk is frozen in the middle of the load, the images are what a power
cut would leave: what the legs' file systems had written out, each as far as
it had come. They are copied, everything is killed, and the mirror is mounted
on the copies.

MIRRORFS_POWER_CUTS is the number of cuts for each kind (2).
"""

import ctypes
import os
import random
import shutil
import subprocess
import threading
import time

import pytest

from support import durable_load
from support.disks import Disk
from support.mirror import SLOWNESS, run, wait_until

CUTS = int(os.environ.get("MIRRORFS_POWER_CUTS", "2"))
WORKERS = 3
SIZE = 400 << 20

_libc = ctypes.CDLL(None, use_errno=True)


def sync_file_system(path):
    fd = os.open(path, os.O_RDONLY)
    _libc.syncfs(fd)
    os.close(fd)


class Machine:
    """Disks that lose power together."""

    def __init__(self, base, disks, kinds):
        self.outer = disks("ext4", 3 << 30, name="outer")
        self.spare = base / "copies"
        self.spare.mkdir()
        # Mounts on top of the outer disk's images, not inside of it.
        self.disks = []
        for n, fs in enumerate(kinds):
            disk = Disk(self.outer.where, f"disk{n}", fs, SIZE,
                        options=["commit=1"] if fs == "ext4" and n else [])
            self.disks.append(disk)
        run("sync", "-f", self.outer.where)

    def thaw(self):
        subprocess.run(["fsfreeze", "-u", str(self.outer.where)], check=False,
                       stderr=subprocess.DEVNULL)

    def cut(self, stop):
        """Freezes, copies, calls stop() to send the kills, thaws."""
        rescue = threading.Timer(60 * SLOWNESS, self.thaw)
        rescue.start()
        try:
            run("fsfreeze", "-f", self.outer.where)
            for disk in self.disks:
                run("cp", "--sparse=always", disk.image,
                    self.spare / disk.image.name)
            stop()
        finally:
            self.thaw()
            rescue.cancel()

    def power_on(self):
        """The disks again, as they were at the cut."""
        for disk in self.disks:
            disk.umount()
            shutil.rmtree(disk.where, ignore_errors=True)
            disk.where.mkdir(exist_ok=True)
            disk.image.unlink()
            run("cp", "--sparse=always", self.spare / disk.image.name,
                disk.image)
            disk.mount()

    def destroy(self):
        self.thaw()
        for disk in self.disks:
            disk.destroy()


@pytest.fixture
def machine(base, disks, mirrors):
    made = []

    def make(*kinds):
        made.append(Machine(base, disks, kinds))
        return made[-1]

    yield make
    for machine in made:
        machine.thaw()
        for mirror in getattr(make, "mirrors", []):
            mirror.force_end()
        machine.destroy()


def durable_workers(mirror, journals, seed, round_number):
    started = []
    for n in range(WORKERS):
        name = f"r{round_number}-w{n}"
        started.append((name, subprocess.Popen(
            ["/usr/bin/python3", durable_load.__file__,
             str(mirror.mnt / name), str(journals / name),
             f"{seed}-{round_number}-{n}"], start_new_session=True)))
    return started


def check_promises(mirror, journals):
    """All rounds': what was there once must stay."""
    total = 0
    for journal in sorted(journals.iterdir()):
        wrong, count = durable_load.judge(mirror.mnt / journal.name, journal)
        assert not wrong, f"{journal.name}: " + "\n".join(wrong[:20])
        total += count
    return total


KINDS = {
    "ext4": (("ext4", "ext4"), "disk", False),
    "ext4-core": (("ext4", "ext4"), "core", False),
    "ext4-log-dir": (("ext4", "ext4", "ext4"), "disk", True),
    "xfs": (("xfs", "ext4"), "disk", False),
}


@pytest.mark.timeout_s(120 + 40 * CUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_power_cuts(kind, machine, mirrors, base, seed):
    file_systems, log, log_apart = KINDS[kind]
    box = machine(*file_systems)
    mirror = mirrors(log=log)
    mirror.legs = [disk.where / "leg" for disk in box.disks[:2]]
    machine.mirrors = [mirror]
    if log_apart:
        log_dir = box.disks[2].where / "logs"
        mirror.options.append(f"log-dir={log_dir}")
        log_dir.mkdir()
    for leg in mirror.legs:
        leg.mkdir()
    mirror.create("--region-size", "64K")
    for disk in box.disks:
        sync_file_system(disk.where)
    # A torn or lost log is said to be so.
    mirror.expect_diagnostics("log|everything")
    mirror.mount()
    journals = base / "journals"
    journals.mkdir()
    rng = random.Random(seed)
    for n in range(CUTS):
        workers = durable_workers(mirror, journals, seed, n)
        end = time.monotonic() + rng.uniform(1, 6) * SLOWNESS
        while time.monotonic() < end:
            # What has reached which disk: not the same on all.
            time.sleep(rng.uniform(0.1, 0.6))
            if rng.random() < 0.5:
                sync_file_system(rng.choice(box.disks).where)
        kept = base / "journals.at-cut"

        def stop():
            shutil.copytree(journals, kept)
            for _, process in workers:
                process.kill()
            if mirror.daemon:
                mirror.daemon.kill()

        box.cut(stop)
        for _, process in workers:
            process.wait(30)
        mirror.kill9()
        shutil.rmtree(journals)
        kept.rename(journals)
        mirror.force_end()
        box.power_on()
        mirror.mount()
        total = check_promises(mirror, journals)
        mirror.wait_sync()
        assert total > 10, "there was no load to speak of"
        check_promises(mirror, journals)
        print(f"cut {n}: {total} promises kept")
        mirror.umount()
        mirror.assert_legs_identical()
        mirror.mount()
    mirror.settle_and_compare()


def test_a_leg_that_was_taken_in_is_whole(machine, mirrors, base):
    """At once, for a log that lies elsewhere, too; the other leg never comes
    back."""
    box = machine("ext4", "ext4", "ext4")
    mirror = mirrors(options=[f"log-dir={box.disks[2].where / 'logs'}"])
    mirror.legs = [disk.where / "leg" for disk in box.disks[:2]]
    machine.mirrors = [mirror]
    mirror.expect_diagnostics("leg")
    for directory in (box.disks[2].where / "logs", *mirror.legs):
        directory.mkdir()
    mirror.create("--region-size", "64K")
    for disk in box.disks:
        sync_file_system(disk.where)
    mirror.mount()
    path = mirror.mnt / "f"
    path.write_bytes(b"x" * 300_000)
    mirror.wait_sync()
    wait_until(lambda: not mirror.dirty()["regions"])
    name = mirror.status()["legs"][1]["name"]
    mirror.cli("offline", mirror.mnt, name)
    with open(path, "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"degraded", 70_000)
        os.fsync(file.fileno())
    mirror.cli("online", mirror.mnt, name)
    wait_until(lambda: mirror.leg_status(name)["state"] == "in-sync")
    box.cut(lambda: mirror.daemon.kill())
    mirror.kill9()
    mirror.force_end()
    box.power_on()
    mirror.mount(legs=[base / "lost", mirror.legs[1]])
    assert path.read_bytes()[70_000:70_008] == b"degraded"
    with open(path, "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"goes on", 70_000)
        os.fsync(file.fileno())
    assert path.read_bytes()[70_000:70_007] == b"goes on"
    mirror.umount()


def test_a_repair_goes_on_where_it_was_durable(machine, mirrors, seed):
    """The power goes while a large file is copied to a leg, and a program writes
    another."""
    rng = random.Random(seed)
    box = machine("ext4", "ext4")
    mirror = mirrors()
    mirror.legs = [disk.where / "leg" for disk in box.disks]
    machine.mirrors = [mirror]
    mirror.expect_diagnostics("leg|log")
    for leg in mirror.legs:
        leg.mkdir()
    mirror.create("--region-size", "64K")
    for disk in box.disks:
        sync_file_system(disk.where)
    mirror.mount()
    # No name is made later: until that is durable, all that is new in the
    # directory is suspect.
    (mirror.mnt / "other").touch()
    name = mirror.status()["legs"][1]["name"]
    mirror.cli("offline", mirror.mnt, name)
    path = mirror.mnt / "large"
    size = 200 << 20
    path.write_bytes(rng.randbytes(1 << 20) * 200)
    mirror.umount()
    mirror.mount("resync-rate-max=60M", env={"MIRRORFS_TICK_MS": "50"})
    mirror.cli("online", mirror.mnt, name)
    seen = [0]  # what the log has said; all but the last is durable
    with open(mirror.mnt / "other", "r+b", buffering=0) as file:
        while len(seen) < 3 or any(region["kind"] == "entries" for region
                                   in mirror.dirty()["regions"]):
            os.pwrite(file.fileno(), rng.randbytes(10), rng.randrange(1 << 20))
            os.fsync(file.fileno())
            assert mirror.leg_status(name)["state"] == "resync", "never settled"
            settled = mirror.tail_offset("large")
            if settled > seen[-1]:
                seen.append(settled)
    left = size - seen[1]
    box.cut(lambda: mirror.daemon.kill())
    mirror.kill9()
    mirror.force_end()
    box.power_on()
    mirror.mount("resync-rate-max=1")
    assert mirror.leg_status(name)["dirty"]["bytes"] <= left + (8 << 20)
    mirror.cli("set", mirror.mnt, "resync-rate-max=0")
    mirror.wait_sync()
    mirror.settle_and_compare()
