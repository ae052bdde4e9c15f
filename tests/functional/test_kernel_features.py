# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel, libfuse and we agreed on, as seen by what it does.

That a feature was asked for does not say that it is in effect. Several came
with libfuse 3.17 (Debian 13); there they must work, and before they are
skipped.
"""

import contextlib
import errno
import mmap
import os
import re
import threading
from pathlib import Path

import pytest

from support.mirror import wait_until
from support.syscalls import aligned_buffer, link_fd, name_to_handle

BLOCK = 4096


def libfuse_version(mirror):
    maps = Path(f"/proc/{mirror.daemon_pid}/maps").read_text("utf-8")
    found = re.search(r"libfuse3\.so\.(\d+)\.(\d+)", maps)
    return int(found[1]), int(found[2])


def needs_libfuse_317(mirror):
    version = libfuse_version(mirror)
    if version < (3, 17):
        pytest.skip(f"libfuse {version[0]}.{version[1]} is too old")


@pytest.fixture
def modern(mirror):
    needs_libfuse_317(mirror)
    return mirror


@pytest.fixture
def uncached(mirrors):
    """A mirror with cache=none, whose daemon does no work of its own."""
    fresh = mirrors(options=["cache=none"])
    fresh.create()
    return fresh.mount(env={"MIRRORFS_TICK_MS": "3600000"})


# ---- requests

def requests_taken(mirror):
    """Reads of the daemon: of the legs there are none here, so requests."""
    text = Path(f"/proc/{mirror.daemon_pid}/io").read_text("ascii")
    return int(re.search(r"syscr: (\d+)", text)[1])


def test_a_write_is_one_request(modern):
    """HANDLE_KILLPRIV_V2: no question about security.capability each time."""
    fd = os.open(modern.mnt / "f", os.O_CREAT | os.O_WRONLY, 0o644)
    block, count = bytes(BLOCK), 500
    os.pwrite(fd, block, 0)
    before = requests_taken(modern)
    for n in range(count):
        os.pwrite(fd, block, n * BLOCK)
    requests = requests_taken(modern) - before
    os.close(fd)
    assert requests >= count, "the requests were not counted"
    assert requests < 1.2 * count
    modern.settle_and_compare()


def test_many_writes_are_one_request(mirrors):
    """WRITEBACK_CACHE: they are gathered in the page cache."""
    mirror = mirrors(options=["cache=writeback"])
    mirror.create()
    mirror.mount()
    needs_libfuse_317(mirror)  # before, each asks for security.capability
    fd = os.open(mirror.mnt / "f", os.O_CREAT | os.O_WRONLY, 0o644)
    os.pwrite(fd, b"x", 0)
    before = requests_taken(mirror)
    for n in range(1000):
        os.pwrite(fd, b"x", n)
    assert requests_taken(mirror) - before < 100
    os.fsync(fd)
    os.close(fd)
    mirror.settle_and_compare()


# ---- unnamed files

def test_unnamed_files(modern):
    """O_TMPFILE: on every leg with its name, and on none without."""
    (modern.mnt / "d").mkdir()
    fd = os.open(modern.mnt / "d", os.O_TMPFILE | os.O_RDWR, 0o640)
    assert os.pwrite(fd, b"kept", 0) == 4
    assert os.pread(fd, 10, 0) == b"kept"
    assert os.fstat(fd).st_nlink == 0
    assert [os.listdir(leg / "d") for leg in modern.legs] == [[], []]
    link_fd(fd, modern.mnt / "d" / "named")
    assert os.pwrite(fd, b"KE", 0) == 2
    os.setxattr(fd, "user.x", b"1")
    os.close(fd)
    lost = os.open(modern.mnt / "d", os.O_TMPFILE | os.O_RDWR, 0o640)
    os.pwrite(lost, b"lost", 0)
    os.close(lost)
    for leg in modern.legs:
        assert os.listdir(leg / "d") == ["named"]
        assert (leg / "d" / "named").read_bytes() == b"KEpt"
        assert os.getxattr(leg / "d" / "named", "user.x") == b"1"
    modern.settle_and_compare()


def test_unnamed_files_that_stay_so(modern):
    """With O_EXCL it never gets a name."""
    fd = os.open(modern.mnt, os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    with pytest.raises(FileNotFoundError):
        link_fd(fd, modern.mnt / "named")
    os.close(fd)
    assert os.listdir(modern.mnt) == []
    modern.settle_and_compare()


def test_owner_and_mode_of_unnamed_files(modern, base):
    """The caller's, its umask and a set-group-ID directory respected."""
    native = base / "native"
    seen = {}
    for root in (native, modern.mnt / "d"):
        root.mkdir()
        os.chown(root, 0, 11002)
        root.chmod(0o2777)
        pid = os.fork()
        if pid == 0:
            try:
                os.setgroups([])
                os.setresgid(11001, 11001, 11001)
                os.setresuid(11001, 11001, 11001)
                os.umask(0o027)
                fd = os.open(root, os.O_TMPFILE | os.O_RDWR, 0o6777)
                os.write(fd, b"x")
                link_fd(fd, root / "named")
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        st = os.stat(root / "named")
        seen[root] = (oct(st.st_mode), st.st_uid, st.st_gid)
    assert seen[native] == seen[modern.mnt / "d"]
    modern.settle_and_compare()


def test_unnamed_files_and_a_crash(modern):
    """Named and then written; others never named; and the daemon killed."""
    fds = []
    for n in range(20):
        fd = os.open(modern.mnt, os.O_TMPFILE | os.O_RDWR, 0o644)
        os.pwrite(fd, os.urandom(50000), 0)
        if n % 2:
            link_fd(fd, modern.mnt / f"f{n}")
            os.pwrite(fd, os.urandom(50000), 3000)
        fds.append(fd)
    modern.kill9()
    for fd in fds:
        with contextlib.suppress(OSError):  # there is nobody to close it
            os.close(fd)
    modern.remount()
    modern.wait_sync()
    assert len(os.listdir(modern.mnt)) == 10
    modern.settle_and_compare()


def test_unnamed_files_that_a_leg_has_no_space_for(disks, mirrors):
    """What is named then must be whole on every leg, or on record."""
    small, large = disks("ext4", 64 << 20), disks("ext4", 256 << 20)
    mirror = mirrors()
    mirror.legs = [large.where / "a", small.where / "b"]
    for leg in mirror.legs:
        leg.mkdir()
    mirror.create()
    mirror.mount()
    needs_libfuse_317(mirror)
    mirror.expect_diagnostics("no space|leg \"b\"")
    filler = small.where / "filler"
    fd = os.open(mirror.mnt, os.O_TMPFILE | os.O_RDWR, 0o644)
    # A file with a hole, so that the failing write does not make it longer.
    os.ftruncate(fd, 8 << 20)
    free = os.statvfs(small.where).f_bfree * os.statvfs(small.where).f_frsize
    with open(filler, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - (4 << 20))
    with pytest.raises(OSError) as failed:
        for n in range(8):
            os.pwrite(fd, os.urandom(1 << 20), n << 20)
    assert failed.value.errno == errno.ENOSPC
    filler.unlink()
    link_fd(fd, mirror.mnt / "named")
    os.close(fd)
    mirror.wait_sync()
    mirror.settle_and_compare()


# ---- without the page cache

def test_shared_mappings_without_a_cache(uncached):
    """DIRECT_IO_ALLOW_MMAP."""
    needs_libfuse_317(uncached)
    path = uncached.mnt / "f"
    path.write_bytes(b"a" * 3 * BLOCK)
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 3 * BLOCK, mmap.MAP_SHARED) as mapping:
        assert mapping[:3] == b"aaa"
        mapping[BLOCK:BLOCK + 6] = b"mapped"
        mapping.flush()
        assert os.pread(fd, 6, BLOCK) == b"mapped"
        os.pwrite(fd, b"written", 0)
        assert mapping[:7] == b"written"
    os.close(fd)
    for leg in uncached.legs:
        data = (leg / "f").read_bytes()
        assert data[:8] == b"writtena"
        assert data[BLOCK:BLOCK + 7] == b"mappeda"
    uncached.settle_and_compare()


# fsync(2), fdatasync(2), io_uring_enter(2): the same on the machines that
# share the newer calls' numbers and differ in the older ones'.
SYNCING = {"x86_64": {74, 75, 426}, "aarch64": {82, 83, 426}}


def threads_syncing(mirror):
    """How many threads of the daemon wait for a disk right now."""
    numbers = SYNCING.get(os.uname().machine)
    if numbers is None:
        pytest.skip("not written for this machine")
    count = 0
    for task in Path(f"/proc/{mirror.daemon_pid}/task").iterdir():
        try:
            word = (task / "syscall").read_text("ascii").split()[0]
        except (OSError, IndexError):
            continue
        count += word.isdigit() and int(word) in numbers
    return count


class Writers:
    """Threads that overwrite a block each of one file, over and over."""

    def __init__(self, path, flags, count):
        # The marks that these writes need are made, and synced, now.
        with open(path, "wb") as file:
            file.write(bytes(count * BLOCK))
        with open(path, "r+b") as file:
            file.write(bytes(count * BLOCK))
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(path, flags, n))
            for n in range(count)]

    def _write(self, path, flags, n):
        fd = os.open(path, os.O_WRONLY | flags)
        block = aligned_buffer(BLOCK)
        while not self._stop.is_set():
            os.pwrite(fd, block, n * BLOCK)
        os.close(fd)

    def __enter__(self):
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize("flags", [os.O_DSYNC, os.O_DSYNC | os.O_DIRECT],
                         ids=["O_DSYNC", "O_DSYNC-O_DIRECT"])
def test_synchronous_writes_without_a_cache(uncached, flags):
    """The kernel leaves O_DSYNC to us then, whether O_DIRECT or not."""
    with Writers(uncached.mnt / "f", flags, 1):
        wait_until(lambda: threads_syncing(uncached) > 0, interval=0,
                   what="a write that is synced")
    uncached.settle_and_compare()


def test_parallel_direct_writes(uncached):
    """FOPEN_PARALLEL_DIRECT_WRITES: two writes of one file under way."""
    needs_libfuse_317(uncached)
    with Writers(uncached.mnt / "f", os.O_DIRECT | os.O_DSYNC, 4):
        wait_until(lambda: threads_syncing(uncached) > 1, interval=0,
                   what="two writes at once")
    uncached.settle_and_compare()


# ---- handles

def test_no_handles_that_go_stale(modern):
    """NO_EXPORT_SUPPORT: none are given, instead of some that cannot be kept."""
    (modern.mnt / "f").touch()
    with pytest.raises(OSError) as failed:
        name_to_handle(modern.mnt / "f")
    assert failed.value.errno == errno.EOPNOTSUPP
    modern.umount()
