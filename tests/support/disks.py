# SPDX-License-Identifier: GPL-2.0-or-later
"""Small disks of our own: image files behind loop devices."""

import functools
import os
import subprocess
import time
from pathlib import Path

from support.mirror import mounts_at, run, users_of

MKFS = {
    # No lazy initialisation: it would write in the background.
    "ext4": ["mkfs.ext4", "-q", "-F", "-E",
             "lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "btrfs": ["mkfs.btrfs", "-q", "-f"],
}
SMALLEST = {"ext4": 64 << 20, "xfs": 320 << 20, "btrfs": 256 << 20,
            "tmpfs": 1 << 20}


class Disk:
    """A file system of its own, mounted at `where`."""

    def __init__(self, base, name, fs="ext4", size=256 << 20, options=(),
                 mkfs=()):
        self.fs = fs
        self.size = max(size, SMALLEST[fs])
        self.image = Path(base) / f"{name}.img"
        self.where = Path(base) / name
        self.options = list(options)
        self.where.mkdir(parents=True)
        if fs != "tmpfs":
            with open(self.image, "wb") as file:
                file.truncate(self.size)
            run(*MKFS[fs], *mkfs, self.image)
        self.mount()

    def mount(self, *options):
        words = [*self.options, *options]
        if self.fs == "tmpfs":
            run("mount", "-t", "tmpfs", "-o",
                ",".join([f"size={self.size}", "mode=755", *words]), "tmpfs",
                self.where)
            return
        # The loop device detaches itself when it is unmounted. Two that look
        # for a free device at once may meet; one of them tries again.
        for attempt in range(5):
            result = run("mount", "-t", self.fs, "-o",
                         ",".join(["loop", *words]), self.image, self.where,
                         check=attempt == 4)
            if result.returncode == 0:
                return
            time.sleep(0.2)

    def umount(self, lazy=False):
        if self.mounted():
            for attempt in range(50):
                flags = ["-l"] if lazy else []
                result = run("umount", *flags, self.where, check=False)
                if result.returncode == 0:
                    return
                time.sleep(0.1)
            raise AssertionError(f"{result.stderr}{users_of(self.where)}")

    def mounted(self):
        return bool(mounts_at(self.where))

    def destroy(self):
        for _ in range(20):
            if not self.mounted():
                break
            if subprocess.run(["umount", str(self.where)], check=False,
                              stderr=subprocess.DEVNULL).returncode != 0:
                subprocess.run(["umount", "-l", str(self.where)], check=False,
                               stderr=subprocess.DEVNULL)
        try:
            self.image.unlink()
        except FileNotFoundError:
            pass


@functools.lru_cache(maxsize=None)
def available(fs):
    """Whether this machine can make and mount such a disk at all."""
    with open("/proc/filesystems", encoding="ascii") as file:
        known = fs in [line.split()[-1] for line in file]
    if fs == "tmpfs":
        return known
    if not os.path.exists("/dev/loop-control"):
        return False
    if subprocess.run(["which", MKFS[fs][0]], stdout=subprocess.DEVNULL,
                      check=False).returncode != 0:
        return False
    if not known:  # a module that is not loaded yet, or not there
        return subprocess.run(["modprobe", fs], check=False,
                              stderr=subprocess.DEVNULL).returncode == 0
    return True
