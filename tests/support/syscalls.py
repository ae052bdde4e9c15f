# SPDX-License-Identifier: GPL-2.0-or-later
"""System calls that Python's os module does not have (or bends)."""

import ctypes
import os

AT_FDCWD = -100
AT_SYMLINK_FOLLOW = 0x400
AT_EMPTY_PATH = 0x1000

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

FALLOC_KEEP_SIZE = 0x01
FALLOC_PUNCH_HOLE = 0x02
FALLOC_COLLAPSE_RANGE = 0x08
FALLOC_ZERO_RANGE = 0x10
FALLOC_INSERT_RANGE = 0x20
FALLOC_UNSHARE_RANGE = 0x40

RWF_DSYNC = 2
RWF_SYNC = 4
RWF_APPEND = 16

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result):
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def renameat2(source, target, flags=0):
    _check(_libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD,
                           os.fsencode(target), flags))


def fallocate(fd, mode, offset, length):
    _check(_libc.fallocate(fd, mode, ctypes.c_long(offset),
                           ctypes.c_long(length)))


def linkat(source, target, flags=0):
    _check(_libc.linkat(AT_FDCWD, os.fsencode(source), AT_FDCWD,
                        os.fsencode(target), flags))


def link_fd(fd, target):
    """Gives an O_TMPFILE a name."""
    linkat(f"/proc/self/fd/{fd}", target, AT_SYMLINK_FOLLOW)


def creat_raw(path, flags, mode):
    """open(2) that keeps the flags as they are given."""
    return _check(_libc.open(os.fsencode(path), flags, mode))


def fchmodat_nofollow(path, mode):
    """chmod of a symlink itself, where the C library and kernel allow it."""
    _check(_libc.fchmodat(AT_FDCWD, os.fsencode(path), mode, 0x100))


def faccessat(path, mode):
    """access(2) with the effective ids."""
    _check(_libc.faccessat(AT_FDCWD, os.fsencode(path), mode, 0x200))


def aligned_buffer(size, alignment=4096):
    """A memoryview whose address suits O_DIRECT; mmap gives whole pages."""
    import mmap
    assert alignment <= mmap.PAGESIZE
    return memoryview(mmap.mmap(-1, max(size, 1)))[:size]


def name_to_handle(path):
    """name_to_handle_at(2): the bytes of a handle for open_by_handle_at."""
    handle = (ctypes.c_uint * 34)(128)  # its size, its type, 128 bytes
    mount_id = ctypes.c_int()
    _check(_libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), handle,
                                   ctypes.byref(mount_id), 0))
    return bytes(handle)[8:8 + handle[0]]
