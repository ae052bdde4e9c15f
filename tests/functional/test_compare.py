# SPDX-License-Identifier: GPL-2.0-or-later
"""The tests' own comparison of legs."""

import os

import pytest

from support import compare
from support.syscalls import fallocate


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs"])
def test_holes_that_were_read(disks, fs):
    """Blocks that were never written are no data because somebody read them."""
    disk = disks(fs)
    with open(disk.where / "f", "wb+") as file:
        fallocate(file.fileno(), 0, 0, 1 << 20)
        os.pwrite(file.fileno(), b"data", 0)
        os.fsync(file.fileno())
        assert not any(os.pread(file.fileno(), 900 << 10, 100 << 10))
    entry = compare.snapshot(disk.where, uncached=True)[b"f"]
    assert entry.hole_bytes >= 900 << 10
