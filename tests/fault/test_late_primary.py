# SPDX-License-Identifier: GPL-2.0-or-later
"""The log outlives mounts without the primary, and may say that the leg which
the labels call the primary lacks something: then it is not the primary."""

import errno
import os

import pytest

from support.mirror import MountFailed, wait_until

pytestmark = pytest.mark.timeout_s(400)

REGIONS = (0, 70_000, 140_000)


@pytest.fixture
def logs(base):
    (base / "logs").mkdir()
    return [f"log-dir={base / 'logs'}"]


def write_durable(path, at, data):
    with open(path, "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), data, at)
        os.fsync(file.fileno())


def check_writes(it, path):
    """What is written is read, and is there after a crash."""
    for n, at in enumerate(REGIONS):
        write_durable(path, at, b"again%d" % n)
    os.posix_fadvise(fd := os.open(path, os.O_RDONLY), 0, 0,
                     os.POSIX_FADV_DONTNEED)
    os.close(fd)
    for _ in range(2):
        for n, at in enumerate(REGIONS):
            with open(path, "rb") as file:
                file.seek(at)
                assert file.read(6) == b"again%d" % n
        it.mirror.kill9()
        it.mirror.mount()
    it.wait_back()
    it.finish()


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("end", ["umount", "kill"])
def test_it_is_late_once_after_a_crash(scene, logs, count, end):
    """And nothing is changed without it."""
    it = scene(*["plain"] * count, options=logs)
    mirror = it.mirror
    path = mirror.mnt / "f"
    path.write_bytes(b"1" * 300_000)
    mirror.kill9()
    mirror.mount(legs=[mirror.base / "late", *mirror.legs[1:]])
    assert path.read_bytes() == b"1" * 300_000
    mirror.kill9() if end == "kill" else mirror.umount()
    mirror.mount()
    it.wait_back()
    check_writes(it, path)


def test_it_is_late_and_the_log_lies_on_another_leg(scene):
    it = scene("plain", "plain")
    mirror = it.mirror
    late = mirror.base / "late"
    path = mirror.mnt / "f"
    path.write_bytes(b"1" * 300_000)
    mirror.umount()
    mirror.mount(legs=[late, mirror.legs[1]])  # the log goes there
    (mirror.mnt / "g").write_bytes(b"g")
    mirror.umount()
    mirror.mount()
    it.wait_back()
    mirror.cli("promote", mirror.mnt, "a")
    wait_until(lambda: not mirror.dirty()["regions"])
    with open(path, "r+b") as file:
        file.write(b"22222222")
    os.truncate(path, 290_000)
    mirror.kill9()
    mirror.mount(legs=[late, mirror.legs[1]])
    mirror.umount()
    mirror.mount()
    it.wait_back()
    check_writes(it, path)


@pytest.mark.parametrize("way_out", ["the other", "resolve"])
def test_the_only_leg_lacks_something_by_the_log(scene, logs, way_out):
    """It could not be told before the crash, and says that it is whole."""
    it = scene("plain", "faulty", options=logs)
    mirror, b = it.mirror, it.things[1]
    path = mirror.mnt / "f"
    path.write_bytes(b"x" * 300_000)
    mirror.wait_sync()
    b.fail(["write", "chmod", "setxattr"], errno.EPERM, path="*f")
    b.hang("write", path="*label.new")
    if os.fork() == 0:
        try:
            write_durable(path, REGIONS[1], b"new")
        finally:
            os._exit(0)
    wait_until(lambda: b.hanging() > 0, 20)
    os.kill(mirror.daemon_pid, 9)
    b.restart()
    mirror.wait_daemon_end()
    os.wait()
    away = mirror.base / "away"
    mirror.legs[0].rename(away)
    with pytest.raises(MountFailed) as refused:
        mirror.mount()
    assert "no leg that is here has everything" in str(refused.value)
    if way_out == "resolve":
        mirror.cli("resolve", "--keep", mirror.legs[1], mirror.legs[1])
        mirror.mount()
        write_durable(path, 0, b"kept")
        mirror.umount()
    away.rename(mirror.legs[0])
    mirror.mount()
    it.wait_back()
    expected = b"xxx" if way_out == "resolve" else b"new"
    with open(path, "rb") as file:
        file.seek(REGIONS[1])
        assert file.read(3) == expected
    check_writes(it, path)
