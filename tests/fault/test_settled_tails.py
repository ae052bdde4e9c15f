# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a large file is healed is on record, and is believed by the next
start: it must be true."""

import fcntl
import os
import struct
import time

import pytest

from support.mirror import run, wait_until

pytestmark = pytest.mark.timeout_s(300)

MIB = 1 << 20
TICK = {"MIRRORFS_TICK_MS": "2000"}
EXT4_IOC_SHUTDOWN = 0x8004587d
NO_LOG_FLUSH = 2


def pull_the_disk(where):
    """Gone, with all that it had not written."""
    fd = os.open(where, os.O_RDONLY)
    fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    os.close(fd)


def names_are_dirty(mirror):
    return any(region["kind"] == "entries"
               for region in mirror.dirty()["regions"])


def test_a_leg_that_leaves_is_not_settled(mirrors, faulty_legs, disks):
    """While its failure is written to the others, it is not synced any more."""
    disk = disks("ext4", 900 * MIB, name="b", options=["commit=300"])
    other = faulty_legs("a")
    mirror = mirrors(legs=[other.root, disk.where / "b"],
                     options=["leg-timeout=15s", "probe-interval=1s"])
    mirror.expect_diagnostics("leg|log|recovery|mirror")
    mirror.create()
    mirror.mount(env=TICK)
    path = mirror.mnt / "big"
    path.touch()
    mirror.wait_sync()
    wait_until(lambda: not mirror.dirty()["regions"], 30)
    mirror.cli("offline", mirror.mnt, "b")
    with open(path, "wb") as file:
        for _ in range(400):
            file.write(os.urandom(MIB))
        os.fsync(file.fileno())
    mirror.umount()
    mirror.mount("resync-rate-max=50M", env=TICK)
    mirror.cli("online", mirror.mnt, "b")
    wait_until(lambda: mirror.tail_offset("big") >= 64 * MIB
               and not names_are_dirty(mirror), 60, interval=0.01)
    other.add(ops=["fsync"], path="*label*", delay_ms=4000)
    time.sleep(1.4)  # until shortly before the next step is settled
    pull_the_disk(disk.where)
    wait_until(lambda: mirror.cli("status", mirror.mnt, check=False)
               .stdout.find("failed") > 0, 60)
    other.clear()
    run("umount", "-l", disk.where)
    time.sleep(0.3)
    disk.mount()
    mirror.cli("set", mirror.mnt, "resync-rate-max=0")
    wait_until(lambda: mirror.leg_status("b")["state"] == "in-sync", 120)
    mirror.umount()
    mirror.assert_legs_identical([other.store, mirror.legs[1]])


def test_a_leg_keeps_nothing_beyond_the_end(mirrors, faulty_legs, base):
    """In the region in which the file ends, when the file then grows by a write
    further on."""
    other = faulty_legs("a")
    mirror = mirrors(legs=[other.root, base / "b"],
                     options=["leg-timeout=15s"])
    mirror.expect_diagnostics("leg|log|recovery|mirror")
    mirror.create("--region-size", "1M")
    mirror.mount()
    path = mirror.mnt / "big"
    path.write_bytes(os.urandom(40 * MIB))
    mirror.wait_sync()
    wait_until(lambda: not mirror.dirty()["regions"], 30)
    mirror.cli("offline", mirror.mnt, "b")
    new = os.urandom(40 * MIB)
    path.write_bytes(new)
    mirror.cli("set", mirror.mnt, "resync-rate-max=4M")
    mirror.cli("online", mirror.mnt, "b")
    time.sleep(1.5)
    end = 20 * MIB + MIB // 2
    fd = os.open(path, os.O_RDWR)
    os.ftruncate(fd, end)
    copy = os.open(mirror.legs[1] / "big", os.O_RDONLY)
    # So that the write comes between the copy of the last region and the end.
    other.add(ops=["getattr", "lookup"], path="*big*", delay_ms=400)
    mirror.cli("set", mirror.mnt, "resync-rate-max=20M")
    wait_until(lambda: os.pread(copy, 4096, end - 4096)
               == new[end - 4096:end], 80, interval=0.001)
    os.pwrite(fd, b"grown", 30 * MIB)
    os.close(fd)
    mirror.cli("set", mirror.mnt, "resync-rate-max=2M")
    other.clear()
    wait_until(lambda: mirror.leg_status("b")["resync"]["done_bytes"]
               >= 23 * MIB, 60)
    mirror.umount()
    mirror.mount("resync-rate-max=0")
    mirror.wait_sync()
    mirror.umount()
    os.close(copy)
    mirror.assert_legs_identical([other.store, mirror.legs[1]])
