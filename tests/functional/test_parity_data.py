# SPDX-License-Identifier: GPL-2.0-or-later
"""Content: every way of opening, reading, writing and shaping a file."""

import errno
import fcntl
import itertools
import mmap
import os
import random
import resource
import signal
import struct

import pytest

from support.parity import OTHER, USER, case, case_id, cases_of
from support.syscalls import (FALLOC_COLLAPSE_RANGE, FALLOC_INSERT_RANGE,
                              FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE,
                              FALLOC_UNSHARE_RANGE, FALLOC_ZERO_RANGE,
                              RWF_APPEND, RWF_DSYNC, RWF_SYNC,
                              aligned_buffer, fallocate, link_fd)

MIB = 1 << 20


def pattern(size, salt=0):
    """Bytes of which no two stretches are alike."""
    return random.Random(salt).randbytes(size)


# ---- opening

@case
def open_flags(p):
    access = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR)
    extra = (0, os.O_TRUNC, os.O_APPEND, os.O_SYNC, os.O_DSYNC,
             os.O_TRUNC | os.O_APPEND, os.O_NOFOLLOW, os.O_NONBLOCK,
             os.O_DIRECTORY, os.O_NOATIME)
    for how, more, create, there in itertools.product(
            access, extra, (0, os.O_CREAT, os.O_CREAT | os.O_EXCL),
            (False, True)):
        name = f"f{how}-{more:x}-{create:x}-{there}"
        if there:
            p.create(name, b"0123456789")
        fd = p(os.open, name, how | more | create, 0o640)
        if fd is not None:
            p(os.write, fd, b"ab")
            p(os.lseek, fd, 0, os.SEEK_CUR)
            p(os.pread, fd, 20, 0)
            p(os.fstat, fd)
            p.see("flags", fcntl.fcntl(fd, fcntl.F_GETFL))
            p(os.close, fd)
        p(os.lstat, name)


@case
def open_directories(p):
    p(os.mkdir, "d")
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_DIRECTORY,
                  os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_TRUNC,
                  os.O_DIRECTORY | os.O_CREAT):
        fd = p(os.open, "d", flags, 0o644)
        if fd is not None:
            p(os.read, fd, 1)
            p(os.fsync, fd)
            p(os.fdatasync, fd)
            p(os.ftruncate, fd, 0)
            p(os.close, fd)
    p(os.open, "absent", os.O_DIRECTORY)
    p(os.open, "absent/", os.O_CREAT | os.O_WRONLY, 0o644)
    p.create("f")
    p(os.open, "f/", os.O_RDONLY)
    p(os.open, "f/x", os.O_CREAT | os.O_WRONLY)
    p.listing()


@case
def create_without_permission_for_oneself(p):
    # The mode counts from the next open on.
    for mode in (0o000, 0o200, 0o400, 0o444):
        fd = p(os.open, f"f{mode:o}", os.O_CREAT | os.O_RDWR | os.O_EXCL,
               mode)
        p(os.write, fd, b"written")
        p(os.pread, fd, 10, 0)
        p(os.ftruncate, fd, 3)
        p(os.close, fd)
        p(os.open, f"f{mode:o}", os.O_RDWR)
        p(os.stat, f"f{mode:o}")


@case
def permissions_of_files(p):
    for mode in (0o000, 0o100, 0o200, 0o400, 0o600, 0o700, 0o060, 0o006):
        name = f"f{mode:o}"
        p.create(name, b"x")
        p(os.chmod, name, mode)
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR,
                      os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_TRUNC):
            p(os.open, name, flags)
        p(os.truncate, name, 5)
        for bits in range(8):
            p(os.access, name, bits)


@case(users=False)
def permissions_of_other_users(p):
    p(os.chmod, ".", 0o755)
    for mode in (0o600, 0o640, 0o644, 0o660, 0o666, 0o066, 0o606, 0o711):
        name = f"f{mode:o}"
        p.create(name, b"x")
        p(os.chown, name, USER, OTHER)
        p(os.chmod, name, mode)
        for uid, gid, groups in ((USER, USER, ()), (OTHER, OTHER, ()),
                                 (12345, 12345, ()), (12345, 12345, (OTHER,))):
            with p.user(uid, gid, groups):
                for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
                    p(os.open, name, flags)
                p(os.truncate, name, 1)
                p(os.utime, name)
                p(os.chmod, name, mode)


@case
def write_on_a_read_only_descriptor(p):
    p.create("f", b"content")
    fd = p(os.open, "f", os.O_RDONLY)
    p(os.write, fd, b"x")
    p(os.pwrite, fd, b"x", 0)
    p(os.ftruncate, fd, 0)
    p(fallocate, fd, 0, 0, 100)
    p(os.fsync, fd)
    fd = p(os.open, "f", os.O_WRONLY)
    p(os.read, fd, 1)
    p(os.pread, fd, 1, 0)
    fd = p(os.open, "f", os.O_PATH)
    p(os.read, fd, 1)
    p(os.write, fd, b"x")
    p(os.fstat, fd)
    p(os.fsync, fd)


@case
def truncating_open_drops_content(p):
    p.create("f", pattern(5000))
    reader = p(os.open, "f", os.O_RDONLY)
    p(os.pread, reader, 5000, 0)
    with p.stamps("f"):
        p(os.close, p(os.open, "f", os.O_WRONLY | os.O_TRUNC))
    p(os.fstat, reader)
    p(os.pread, reader, 5000, 0)
    with p.stamps("f"):
        p(os.close, p(os.open, "f", os.O_WRONLY | os.O_TRUNC))


@case
def unnamed_temporary_files(p):
    # Where the library has no such call it is refused like on a file system
    # that has none; anything else has to be right.
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640) \
        if _tmpfile_works() else None
    if fd is None:
        return
    os.write(fd, b"unnamed")
    st = os.fstat(fd)
    assert st.st_nlink == 0 and st.st_size == 7, st
    link_fd(fd, "named")
    assert os.fstat(fd).st_nlink == 1
    os.pwrite(fd, b"UN", 0)
    os.close(fd)
    with open("named", "rb") as file:
        assert file.read() == b"UNnamed"
    assert os.stat("named").st_mode & 0o777 == 0o640
    os.unlink("named")


def _tmpfile_works():
    try:
        os.close(os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600))
        return True
    except OSError as error:
        assert error.errno in (errno.EOPNOTSUPP, errno.ENOSYS), error
        return False


# ---- reading and writing

@case
def writes_at_all_kinds_of_places(p):
    fd = p(os.open, "f", os.O_CREAT | os.O_RDWR, 0o644)
    expected = bytearray()
    places = [(0, 10), (5, 10), (4090, 20), (100000, 1), (65536, 4096),
              (1 << 20, 3), ((1 << 20) - 1, 3), (3 << 20, 300000),
              ((2 << 20) - 7, 5000), (0, 0), (10 << 20, 0), (12345, 1 << 20)]
    for salt, (offset, size) in enumerate(places):
        data = pattern(size, salt)
        p(os.pwrite, fd, data, offset)
        if size:
            if len(expected) < offset + size:
                expected.extend(bytes(offset + size - len(expected)))
            expected[offset:offset + size] = data
        p(os.fstat, fd)
    assert os.pread(fd, 1 << 24, 0)[:1] == expected[:1]
    p(os.close, fd)
    assert p.read("f") == expected


@case
def many_small_writes(p):
    fd = p(os.open, "f", os.O_CREAT | os.O_WRONLY, 0o644)
    for n in range(3000):
        os.write(fd, b"%06d\n" % n)
    p(os.fstat, fd)
    p(os.close, fd)
    p.read("f")
    fd = p(os.open, "f", os.O_RDWR)
    for n in range(0, 3000, 7):
        os.pwrite(fd, b"#", n * 7)
    p(os.fdatasync, fd)
    p(os.close, fd)
    p.read("f")


@case
def one_big_write(p):
    data = pattern(9 * MIB + 123)
    fd = p(os.open, "f", os.O_CREAT | os.O_RDWR, 0o644)
    p(os.write, fd, data)
    p(os.fsync, fd)
    assert os.pread(fd, len(data) + 10, 0) == data
    p(os.pread, fd, 100, len(data) - 50)
    p(os.pread, fd, 100, len(data))
    p(os.pread, fd, 100, 1 << 40)
    p(os.close, fd)
    p.read("f")


@case
def appends(p):
    one = p(os.open, "f", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    two = p(os.open, "f", os.O_RDWR | os.O_APPEND)
    plain = p(os.open, "f", os.O_RDWR)
    for n in range(50):
        p(os.write, (one, two)[n % 2], b"line %d\n" % n)
    # pwrite on an appending descriptor appends, on Linux.
    p(os.pwrite, one, b"XX", 0)
    p(os.pwrite, plain, b"YY", 0)
    p(os.lseek, two, 0, os.SEEK_CUR)
    p(os.ftruncate, plain, 10)
    p(os.write, one, b"after truncation")
    fcntl.fcntl(one, fcntl.F_SETFL, 0)
    p(os.pwrite, one, b"ZZ", 4)
    fcntl.fcntl(plain, fcntl.F_SETFL, os.O_APPEND)
    p(os.write, plain, b"END")
    p(os.fstat, two)
    p.read("f")


@case
def vectors(p):
    fd = p(os.open, "f", os.O_CREAT | os.O_RDWR, 0o644)
    p(os.writev, fd, [b"one", b"", b"two", pattern(10000)])
    p(os.pwritev, fd, [b"A", b"B"], 1)
    p(os.pwritev, fd, [b"sync"], 20, RWF_DSYNC)
    p(os.pwritev, fd, [b"sync"], 30, RWF_SYNC)
    p(os.pwritev, fd, [b"append"], 0, RWF_APPEND)
    buffers = [bytearray(3), bytearray(5000), bytearray(9000)]
    p(os.preadv, fd, buffers, 0)
    p.see("read", [bytes(b) for b in buffers])
    p.read("f")


@case
def seeks(p):
    p.create("f", b"0123456789")
    fd = p(os.open, "f", os.O_RDWR)
    for offset, whence in ((3, os.SEEK_SET), (-1, os.SEEK_SET),
                           (2, os.SEEK_CUR), (-3, os.SEEK_END),
                           (100, os.SEEK_END), (-100, os.SEEK_CUR),
                           (-1000, os.SEEK_CUR), (0, 99)):
        p(os.lseek, fd, offset, whence)
    p(os.lseek, fd, 20, os.SEEK_SET)
    p(os.read, fd, 5)
    p(os.write, fd, b"beyond")
    p.read("f")


@case
def direct_io(p):
    fd = p(os.open, "f", os.O_CREAT | os.O_RDWR | os.O_DIRECT, 0o644)
    if fd is None:
        return
    buffer = aligned_buffer(64 * 1024)
    buffer[:] = pattern(64 * 1024)
    p(os.pwrite, fd, buffer, 0)
    p(os.pwrite, fd, buffer[:4096], 1 << 20)
    p(os.fstat, fd)
    back = aligned_buffer(64 * 1024)
    p(os.preadv, fd, [back], 0)
    p.see("same", bytes(back) == bytes(buffer))
    p(os.preadv, fd, [back], 1 << 20)
    plain = p(os.open, "f", os.O_RDWR)
    p(os.pwrite, plain, b"plain", 4096)
    p(os.preadv, fd, [back], 4096)
    p.see("sees the cached write", bytes(back[:5]))
    p(os.ftruncate, fd, 5000)
    p(os.preadv, fd, [back], 0)
    p(os.fsync, fd)
    p(os.close, fd)
    p.read("f")


@case
def synchronous_writes(p):
    for name, flags in (("sync", os.O_SYNC), ("dsync", os.O_DSYNC),
                        ("append", os.O_SYNC | os.O_APPEND)):
        fd = p(os.open, name, os.O_CREAT | os.O_RDWR | flags, 0o644)
        for n in range(5):
            p(os.write, fd, pattern(5000, n))
        p(os.ftruncate, fd, 12345)
        p(os.fsync, fd)
        p(os.fdatasync, fd)
        p(os.fstat, fd)
        p(os.close, fd)
        p.read(name)


@case
def several_descriptors_see_each_other(p):
    one = p(os.open, "f", os.O_CREAT | os.O_RDWR, 0o644)
    two = p(os.open, "f", os.O_RDWR)
    p(os.write, one, b"hello")
    p(os.read, two, 10)
    p(os.write, two, b" there")
    p(os.read, one, 10)
    p(os.ftruncate, one, 3)
    p(os.pread, two, 10, 0)
    three = p(os.open, "f", os.O_WRONLY | os.O_TRUNC)
    p(os.pread, one, 10, 0)
    p(os.write, three, b"again")
    p(os.pread, two, 10, 0)
    p(os.close, one)
    p(os.pread, two, 10, 0)
    copy = p(os.dup, two)
    p(os.close, two)
    p(os.pread, copy, 10, 0)


@case
def limits_of_offsets(p):
    fd = p(os.open, "f", os.O_CREAT | os.O_RDWR, 0o644)
    p(os.pwrite, fd, b"x", (1 << 63) - 2)
    p(os.pwrite, fd, b"x", -1)
    p(os.ftruncate, fd, -1)
    p(os.ftruncate, fd, (1 << 63) - 1)
    p(os.pread, fd, 10, (1 << 63) - 100)
    p(fallocate, fd, 0, -1, 10)
    p(fallocate, fd, 0, 0, 0)
    p(fallocate, fd, 0, 0, -1)
    p(fallocate, fd, 0, (1 << 63) - 10, 100)
    p(os.fstat, fd)


@case(not_fs=("tmpfs", "btrfs"))
def offsets_near_the_largest_file(p):
    # ext4 ends at 16 TiB, xfs far beyond; the answer has to be the leg's.
    fd = p(os.open, "f", os.O_CREAT | os.O_RDWR, 0o644)
    p(os.pwrite, fd, b"x", (1 << 44) - 8192)
    p(os.pwrite, fd, b"x", 1 << 45)
    p(os.ftruncate, fd, (1 << 44) + (1 << 20))
    p(os.ftruncate, fd, 100)
    p(os.fstat, fd)


@case
def file_size_limit(p):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100000, resource.RLIM_INFINITY))
    fd = p(os.open, "f", os.O_CREAT | os.O_RDWR, 0o644)
    p(os.write, fd, pattern(99000))
    p(os.write, fd, pattern(5000))
    p(os.write, fd, pattern(5000))
    p(os.ftruncate, fd, 200000)
    p(fallocate, fd, 0, 0, 200000)
    p(os.fstat, fd)


# ---- size and holes

@case
def truncation(p):
    p.create("f", pattern(100000))
    for size in (99999, 65536, 65535, 4096, 1, 0, 10, 4097, 1 << 20,
                 (1 << 20) + 1, 300000, 0):
        with p.stamps("f"):
            p(os.truncate, "f", size)
        p(os.stat, "f")
        p.read("f")
    fd = p(os.open, "f", os.O_RDWR)
    p(os.write, fd, pattern(10000))
    p(os.ftruncate, fd, 5000)
    p(os.ftruncate, fd, 9000)
    p.read("f")
    with p.stamps("f"):
        p(os.ftruncate, fd, 9000)


@case
def truncation_errors(p):
    p(os.mkdir, "d")
    p(os.mkfifo, "fifo")
    p(os.symlink, "absent", "l")
    for name in ("d", "fifo", "l", "absent", "d/x"):
        p(os.truncate, name, 0)
    p.create("f", b"x")
    p(os.truncate, "f", -1)
    p(os.truncate, "f/", 0)


def data_map(p, fd, size):
    """Where data and holes are, in 64 KiB steps so that file systems agree."""
    found, offset = [], 0
    while offset < size:
        try:
            data = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as error:
            found.append(errno.errorcode[error.errno])
            break
        hole = os.lseek(fd, data, os.SEEK_HOLE)
        found.append((data >> 16, -(-hole >> 16)))
        offset = hole
    p.see("data", found)


@case
def holes(p):
    fd = p(os.open, "f", os.O_CREAT | os.O_RDWR, 0o644)
    p(os.ftruncate, fd, 8 * MIB)
    data_map(p, fd, 8 * MIB)
    p(os.pwrite, fd, pattern(65536), 2 * MIB)
    p(os.pwrite, fd, pattern(65536), 5 * MIB)
    p(os.fsync, fd)
    data_map(p, fd, 8 * MIB)
    for offset in (0, 2 * MIB, 2 * MIB + 5, 8 * MIB - 1):
        p(os.lseek, fd, offset, os.SEEK_DATA)
        p(os.lseek, fd, offset, os.SEEK_HOLE)
    for offset in (8 * MIB, 9 * MIB, -1):
        p(os.lseek, fd, offset, os.SEEK_DATA)
        p(os.lseek, fd, offset, os.SEEK_HOLE)
    p.see("sparse", os.fstat(fd).st_blocks * 512 < 2 * MIB)
    p(os.pread, fd, 10, MIB)


@case
def a_huge_sparse_file(p):
    fd = p(os.open, "f", os.O_CREAT | os.O_RDWR, 0o644)
    p(os.ftruncate, fd, 1 << 40)
    p(os.pwrite, fd, b"needle", 700 << 30)
    p(os.fsync, fd)
    p(os.fstat, fd)
    p(os.pread, fd, 10, 700 << 30)
    p.see("sparse", os.fstat(fd).st_blocks * 512 < MIB)
    p(os.ftruncate, fd, (700 << 30) + 2)
    p(os.ftruncate, fd, 1 << 40)
    p(os.pread, fd, 10, 700 << 30)


MODES = {
    "plain": 0,
    "keep": FALLOC_KEEP_SIZE,
    "punch": FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE,
    "punch-alone": FALLOC_PUNCH_HOLE,
    "zero": FALLOC_ZERO_RANGE,
    "zero-keep": FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE,
}


@case
def allocation(p):
    for name, mode in MODES.items():
        for offset, size in ((0, 4096), (100000, 200000), (MIB - 5, 10),
                             (250000, MIB), (3 * MIB, MIB)):
            file = f"{name}-{offset}"
            p.create(file, pattern(2 * MIB))
            fd = p(os.open, file, os.O_RDWR)
            # Keeping the size beyond the end, the kernel does not pass on.
            p(fallocate, fd, mode, offset, size)
            p(os.fstat, fd)
            p(os.close, fd)
            p.read(file)


@case
def allocation_changes_times(p):
    p.create("f", pattern(MIB))
    fd = p(os.open, "f", os.O_RDWR)
    with p.stamps("f"):
        p(fallocate, fd, MODES["punch"], 4096, 8192)
    with p.stamps("f"):
        p(fallocate, fd, 0, 0, 2 * MIB)


@case
def allocation_on_other_things(p):
    p(os.mkdir, "d")
    fd = p(os.open, "d", os.O_RDONLY)
    p(fallocate, fd, 0, 0, 10)
    p(os.mkfifo, "fifo")
    fd = p(os.open, "fifo", os.O_RDWR | os.O_NONBLOCK)
    p(fallocate, fd, 0, 0, 10)


def exotic_allocation(path, mode):
    """errno (or 0), and the content afterwards."""
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        os.write(fd, pattern(4 * MIB))
        try:
            fallocate(fd, mode, MIB, MIB)
            result = 0
        except OSError as error:
            result = error.errno
        size = os.fstat(fd).st_size
        return result, size, os.pread(fd, 8 * MIB, 0)
    finally:
        os.close(fd)


@pytest.mark.parametrize("mode", [FALLOC_COLLAPSE_RANGE, FALLOC_INSERT_RANGE,
                                  FALLOC_UNSHARE_RANGE],
                         ids=["collapse", "insert", "unshare"])
def test_exotic_allocation(parity, mode):
    """Not every kernel passes these on: done as natively, or not at all."""
    native = exotic_allocation(parity.native / "exotic", mode)
    mirrored = exotic_allocation(parity.mounted / "exotic", mode)
    try:
        if mirrored[0] == errno.EOPNOTSUPP:
            assert mirrored[1:] == (4 * MIB, pattern(4 * MIB))
        else:
            assert mirrored == native
        for leg in parity.legs:
            assert (leg / "exotic").read_bytes() == mirrored[2]
    finally:
        os.unlink(parity.native / "exotic")
        os.unlink(parity.mounted / "exotic")


@case
def punching_makes_holes(p):
    p.create("f", pattern(8 * MIB))
    fd = p(os.open, "f", os.O_RDWR)
    p(fallocate, fd, MODES["punch"], MIB, 6 * MIB)
    p(os.fsync, fd)
    data_map(p, fd, 8 * MIB)
    p.see("sparse", os.fstat(fd).st_blocks * 512 <= 3 * MIB)
    p.read("f")


# ---- copying inside the kernel

@case
def copy_file_range(p):
    p.create("src", pattern(3 * MIB))
    src = p(os.open, "src", os.O_RDWR)
    dst = p(os.open, "dst", os.O_CREAT | os.O_RDWR, 0o644)

    def copy(source, target, length, at, to):
        """Until it is all copied: how much one call does is its affair."""
        total = 0
        while total < length:
            try:
                n = os.copy_file_range(source, target, length - total,
                                       at + total, to + total)
            except OSError as error:
                return errno.errorcode[error.errno]
            if n == 0:
                break
            total += n
        return total

    for length, at, to in ((MIB, 0, 0), (100, 5, 3), (3 * MIB, 0, 4 * MIB),
                           (10 * MIB, MIB, 0), (0, 0, 0), (10, 9 * MIB, 0),
                           (70000, 123456, 1234567)):
        p.see(f"copy {length} {at} {to}", copy(src, dst, length, at, to))
        p(os.fstat, dst)
    p.read("dst")
    p.see("in one file", copy(src, src, 4096, 0, 8192))
    p.see("overlapping", copy(src, src, 8192, 0, 4096))
    read_only = p(os.open, "src", os.O_RDONLY)
    p.see("to read-only", copy(dst, read_only, 10, 0, 0))
    appending = p(os.open, "dst", os.O_WRONLY | os.O_APPEND)
    p.see("to appending", copy(src, appending, 10, 0, 0))
    p.read("src")


@case
def copy_of_what_was_just_written(p):
    # Not synced, still in whatever cache there is.
    fd = p(os.open, "f", os.O_CREAT | os.O_RDWR, 0o644)
    for n in range(20):
        os.pwrite(fd, pattern(50000, n), n * 50000)
    done = 0
    while done < 10**6:
        n = os.copy_file_range(fd, fd, 10**6 - done, done, 2 * 10**6 + done)
        if n == 0:
            break
        done += n
    p.see("copied", done)
    p.read("f")


@case
def sendfile_and_splice(p):
    p.create("src", pattern(300000))
    src = p(os.open, "src", os.O_RDONLY)
    dst = p(os.open, "dst", os.O_CREAT | os.O_WRONLY, 0o644)
    total = 0
    while total < 300000:
        total += os.sendfile(dst, src, total, 300000 - total)
    p.see("sent", total)
    p.read("dst")
    reader, writer = os.pipe()
    p(os.splice, src, writer, 5000, offset_src=100)
    p(os.splice, reader, dst, 5000, offset_dst=10)
    p.read("dst")


# ---- mapping

@case
def shared_mappings(p):
    p.create("f", pattern(3 * MIB))
    fd = p(os.open, "f", os.O_RDWR)
    with mmap.mmap(fd, 3 * MIB) as view:
        view[10:20] = b"0123456789"
        view[MIB - 4:MIB + 4] = b"boundary"
        view[2 * MIB:2 * MIB + 4096] = b"m" * 4096
        p(os.pread, fd, 20, 5)
        p(os.pwrite, fd, b"written", 100)
        p.see("the mapping sees it", view[100:107])
        view.flush()
        p(os.fsync, fd)
    p.read("f")
    p(os.close, fd)


@case
def mapping_then_closing(p):
    p.create("f", pattern(MIB))
    fd = p(os.open, "f", os.O_RDWR)
    view = mmap.mmap(fd, MIB)
    p(os.close, fd)
    p(os.rename, "f", "g")
    view[5000:5010] = b"after move"
    view.flush()
    p(os.unlink, "g")
    view[0:4] = b"gone"
    view.flush()
    view.close()
    p.create("h", pattern(100))
    fd = p(os.open, "h", os.O_RDWR)
    view = mmap.mmap(fd, 100)
    view[:3] = b"abc"
    view.close()  # unmapping without a flush: the kernel writes it in time
    p(os.fsync, fd)
    p(os.close, fd)
    p.read("h")


@case
def mapping_and_truncation(p):
    p.create("f", pattern(20000))
    fd = p(os.open, "f", os.O_RDWR)
    view = mmap.mmap(fd, 20000)
    view[100:104] = b"mmap"
    p(os.ftruncate, fd, 8000)
    p.see("tail of the last page", bytes(view[8000:8192]) == bytes(192))
    view[7990:8000] = b"end of it."
    p(os.ftruncate, fd, 16000)
    p.see("zeros again", bytes(view[8000:16000]) == bytes(8000))
    view.flush()
    view.close()
    p.read("f")


@case
def private_and_read_only_mappings(p):
    p.create("f", pattern(10000))
    fd = p(os.open, "f", os.O_RDONLY)
    view = mmap.mmap(fd, 10000, flags=mmap.MAP_PRIVATE,
                     prot=mmap.PROT_READ | mmap.PROT_WRITE)
    view[:4] = b"mine"
    p.read("f")
    p(mmap.mmap, fd, 10000, mmap.MAP_SHARED, mmap.PROT_WRITE)
    with mmap.mmap(fd, 10000, prot=mmap.PROT_READ) as reader:
        p.see("mapped", bytes(reader[:10]))


@case
def executable_mapping(p):
    p.create("f", pattern(10000), 0o755)
    fd = p(os.open, "f", os.O_RDONLY)
    view = mmap.mmap(fd, 4096, flags=mmap.MAP_PRIVATE,
                     prot=mmap.PROT_READ | mmap.PROT_EXEC)
    p.see("mapped", bytes(view[:10]))


# ---- locks

def _in_child(body):
    """What `body` returns (an int) in another process with new opens."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = body()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@case
def flock_locks(p):
    p.create("f", b"x")
    fd = p(os.open, "f", os.O_RDWR)

    def attempt(kind):
        other = os.open("f", os.O_RDWR)
        try:
            fcntl.flock(other, kind | fcntl.LOCK_NB)
            return 0
        except OSError as error:
            return error.errno

    for held in (fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN):
        p(fcntl.flock, fd, held)
        for wanted in (fcntl.LOCK_SH, fcntl.LOCK_EX):
            p.see(f"{held} {wanted}", _in_child(lambda w=wanted: attempt(w)))
    p(fcntl.flock, fd, fcntl.LOCK_EX)
    p(os.close, fd)
    p.see("closed", _in_child(lambda: attempt(fcntl.LOCK_EX)))


@case
def record_locks(p):
    p.create("f", bytes(100))
    fd = p(os.open, "f", os.O_RDWR)

    def attempt(kind, start, length):
        other = os.open("f", os.O_RDWR)
        try:
            fcntl.lockf(other, kind | fcntl.LOCK_NB, length, start)
            return 0
        except OSError as error:
            return error.errno

    p(fcntl.lockf, fd, fcntl.LOCK_EX, 10, 20)
    p(fcntl.lockf, fd, fcntl.LOCK_SH, 10, 40)
    for kind in (fcntl.LOCK_SH, fcntl.LOCK_EX):
        for start, length in ((0, 20), (25, 1), (0, 0), (30, 10), (45, 1)):
            p.see(f"{kind} {start} {length}",
                  _in_child(lambda k=kind, s=start, n=length:
                            attempt(k, s, n)))
    # Closing any descriptor of the file drops them all.
    p(os.close, p(os.open, "f", os.O_RDONLY))
    p.see("dropped", _in_child(lambda: attempt(fcntl.LOCK_EX, 0, 0)))


@case
def open_file_description_locks(p):
    p.create("f", bytes(100))
    one = p(os.open, "f", os.O_RDWR)
    two = p(os.open, "f", os.O_RDWR)
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 10, 0)
    f_ofd_setlk = 37
    p(fcntl.fcntl, one, f_ofd_setlk, lock)
    p.see("held", p.errno_of(fcntl.fcntl, two, f_ofd_setlk, lock))
    p(os.close, one)
    p.see("free", p.errno_of(fcntl.fcntl, two, f_ofd_setlk, lock))


@case
def a_lock_that_waits(p):
    p.create("f", b"x")
    fd = p(os.open, "f", os.O_RDWR)
    p(fcntl.flock, fd, fcntl.LOCK_EX)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            other = os.open("f", os.O_RDWR)
            os.write(writer, b"waiting ")
            fcntl.flock(other, fcntl.LOCK_EX)
            os.write(writer, b"got it")
        finally:
            os._exit(0)
    p(os.read, reader, 100)
    p.create("g", b"the mount goes on meanwhile")
    p(fcntl.flock, fd, fcntl.LOCK_UN)
    os.waitpid(pid, 0)
    p(os.read, reader, 100)


# ---- syncing

@case
def syncing(p):
    p.create("f", pattern(10000))
    p(os.mkdir, "d")
    for name, flags in (("f", os.O_RDONLY), ("f", os.O_RDWR),
                        ("d", os.O_RDONLY), (".", os.O_RDONLY)):
        fd = p(os.open, name, flags)
        p(os.fsync, fd)
        p(os.fdatasync, fd)
        p(os.close, fd)
    os.sync()


@case
def sync_of_an_unlinked_file(p):
    fd = p(os.open, "f", os.O_CREAT | os.O_RDWR, 0o644)
    p(os.unlink, "f")
    p(os.write, fd, pattern(70000))
    p(os.fsync, fd)
    p(os.fdatasync, fd)
    p(os.fstat, fd)
    p(os.pread, fd, 10, 65530)


@pytest.mark.sanitizer
@pytest.mark.parametrize("function, identity", cases_of(globals()),
                         ids=case_id)
def test_data(parity, function, identity):
    parity.check(function, identity)
