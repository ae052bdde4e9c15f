# SPDX-License-Identifier: GPL-2.0-or-later
"""Modes, owners, times, extended attributes, ACLs, space."""

import errno
import os
import shutil
import stat
import struct
import subprocess

import pytest

from support.parity import (ACL_ACCESS, ACL_DEFAULT, OTHER, USER, acl, case,
                            case_id, cases_of, show_acl)
from support.syscalls import fchmodat_nofollow

SECOND = 10**9


def listed_xattrs(name):
    """XFS shows its ACLs a second time; the mirror shows them once."""
    return [one for one in os.listxattr(name)
            if not one.startswith("trusted.SGI_ACL_")]


# ---- modes

@case
def change_modes(p):
    p.create("f")
    p(os.mkdir, "d")
    p(os.mkfifo, "p")
    for mode in (0o000, 0o777, 0o7777, 0o4755, 0o2755, 0o1755, 0o6711, 0o2644,
                 0o100644, 0o600):
        for name in ("f", "d", "p"):
            with p.stamps(name):
                p(os.chmod, name, mode)
            p(os.stat, name)
    fd = p(os.open, "d", os.O_RDONLY)
    p(os.fchmod, fd, 0o711)
    p(os.stat, "d")
    p(os.symlink, "f", "l")
    p(os.chmod, "l", 0o604)
    p(os.stat, "f")
    p(os.chmod, "absent", 0o644)
    p(os.chmod, "f/x", 0o644)


@case
def modes_of_symlinks(p):
    # Refused by some kernels and C libraries; alike on both sides.
    p.create("f")
    p(os.symlink, "f", "l")
    p(fchmodat_nofollow, "l", 0o600)
    p(fchmodat_nofollow, "f", 0o600)
    p(os.lstat, "l")
    p(os.stat, "f")


@case(users=False)
def modes_by_others(p):
    p(os.chmod, ".", 0o755)
    p.create("f")
    p(os.chown, "f", USER, USER)
    with p.user(OTHER):
        p(os.chmod, "f", 0o777)
        p(os.utime, "f", (1, 1))
        p(os.utime, "f")
        p(os.chown, "f", OTHER, -1)
        p(os.setxattr, "f", "user.x", b"1")
        p(os.truncate, "f", 0)
    with p.user(USER, groups=(OTHER,)):
        p(os.chmod, "f", 0o2775)
        p(os.stat, "f")
        p(os.chown, "f", -1, OTHER)
        p(os.stat, "f")
        p(os.chmod, "f", 0o2775)
        p(os.stat, "f")
        p(os.chown, "f", -1, 12345)
    # Not in the file's group: the setgid bit is taken away silently.
    with p.user(USER):
        p(os.chmod, "f", 0o2775)
        p(os.stat, "f")
    p(os.mkdir, "d")
    p(os.chown, "d", USER, OTHER)
    with p.user(USER):
        p(os.chmod, "d", 0o2775)
        p(os.stat, "d")


# ---- owners

@case(users=False)
def change_owners(p):
    p.create("f")
    p(os.mkdir, "d")
    p(os.symlink, "f", "l")
    p(os.mkfifo, "p")
    for name in ("f", "d", "l", "p"):
        for uid, gid in ((USER, OTHER), (-1, USER), (OTHER, -1),
                         (2**31, 2**32 - 2), (0, 0)):
            with p.stamps(name):
                p(os.chown, name, uid, gid, follow_symlinks=False)
            p(os.lstat, name)
        # Changing nothing changes the ctime, but FUSE does not say so.
        p(os.chown, name, -1, -1, follow_symlinks=False)
        p(os.lstat, name)
    p(os.chown, "l", USER, USER)
    p(os.stat, "f")
    p(os.lstat, "l")


@case(users=False)
def owners_and_suid_bits(p):
    for mode in (0o6755, 0o6745, 0o2644, 0o2654, 0o4711, 0o6777):
        for uid, gid in ((USER, -1), (-1, USER), (0, 0), (-1, -1)):
            name = f"f{mode:o}-{uid}-{gid}"
            p.create(name)
            p(os.chmod, name, mode)
            p(os.chown, name, uid, gid)
            p(os.stat, name)
            p(os.mkdir, "d" + name)
            p(os.chmod, "d" + name, mode)
            p(os.chown, "d" + name, uid, gid)
            p(os.stat, "d" + name)


@case(users=False)
def owners_changed_by_owners(p):
    p(os.chmod, ".", 0o777)
    for mode in (0o6755, 0o2644, 0o644):
        name = f"f{mode:o}"
        p.create(name)
        p(os.chown, name, USER, USER)
        p(os.chmod, name, mode)
        with p.user(USER, groups=(OTHER,)):
            p(os.chown, name, -1, OTHER)
            p(os.stat, name)
            p(os.chown, name, USER, USER)
            p(os.stat, name)
            p(os.chown, name, -1, -1)
            p(os.chown, name, OTHER, -1)


# ---- suid, sgid and capabilities do not outlive a change of content

def _writers(p, name):
    """Ways of changing content, each as an unprivileged user."""
    def by_write():
        fd = p(os.open, name, os.O_WRONLY)
        p(os.write, fd, b"new")
        p(os.close, fd)

    def by_append():
        fd = p(os.open, name, os.O_WRONLY | os.O_APPEND)
        p(os.write, fd, b"new")
        p(os.close, fd)

    def by_truncate():
        p(os.truncate, name, 1)

    def by_open():
        p(os.close, p(os.open, name, os.O_WRONLY | os.O_TRUNC))

    def by_fallocate():
        fd = p(os.open, name, os.O_WRONLY)
        p(os.posix_fallocate, fd, 0, 100000)
        p(os.close, fd)

    def by_copy():
        source = p(os.open, name, os.O_RDONLY)
        fd = p(os.open, name, os.O_WRONLY)
        p(os.copy_file_range, source, fd, 4, 0, 8)
        p(os.close, fd)

    return {"write": by_write, "append": by_append, "truncate": by_truncate,
            "open": by_open, "fallocate": by_fallocate, "copy": by_copy}


def _clearing(p, way):
    p(os.chmod, ".", 0o755)
    for who in (0, USER, OTHER):
        for mode in (0o6777, 0o6767, 0o2777, 0o2767, 0o4777):
            # Newer kernels drop a setgid bit without group execution too, but
            # their FUSE does not, and tells nobody of the attempt.
            if who == OTHER and mode & 0o2010 == 0o2000:
                continue
            name = f"f{who}-{mode:o}"
            p.create(name, b"0123456789")
            p(os.chown, name, USER, USER)
            p(os.chmod, name, mode)
            with p.user(who):
                _writers(p, name)[way]()
            p(os.stat, name)


@case(users=False)
def write_clears_suid(p):
    _clearing(p, "write")


@case(users=False)
def append_clears_suid(p):
    _clearing(p, "append")


@case(users=False)
def truncate_clears_suid(p):
    _clearing(p, "truncate")


@case(users=False)
def truncating_open_clears_suid(p):
    _clearing(p, "open")


@case(users=False)
def fallocate_clears_suid(p):
    _clearing(p, "fallocate")


@case(users=False)
def copy_file_range_clears_suid(p):
    _clearing(p, "copy")


@case(users=False, not_fs=("tmpfs",))
def write_clears_capabilities(p):
    # cap_net_raw=ep, revision 2
    capability = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
    p(os.chmod, ".", 0o777)
    for who in (0, USER):
        name = f"f{who}"
        p.create(name, b"x")
        p(os.chown, name, USER, USER)
        p(os.setxattr, name, "security.capability", capability)
        p(os.getxattr, name, "security.capability")
        with p.user(who):
            fd = p(os.open, name, os.O_WRONLY)
            p(os.write, fd, b"y")
            p(os.close, fd)
        p(os.getxattr, name, "security.capability")
        p(os.setxattr, name, "security.capability", capability)
        p(os.chown, name, OTHER, OTHER)
        p(os.getxattr, name, "security.capability")
        p(os.setxattr, name, "security.capability", capability)
        p(os.truncate, name, 0)
        p(os.listxattr, name)


# ---- times

@case
def set_times(p):
    p.create("f")
    p(os.mkdir, "d")
    p(os.symlink, "f", "l")
    moments = [(0, 0), (1, 999999999), (1234567890 * SECOND + 123456789,
                                        987654321 * SECOND + 987654321),
               (-5 * SECOND + 7, -1), (4000000000 * SECOND, 4 * SECOND)]
    for name in ("f", "d", "l"):
        for atime, mtime in moments:
            p(os.utime, name, ns=(atime, mtime), follow_symlinks=False)
            st = os.lstat(name)
            p.see(f"times of {name}", (st.st_atime_ns, st.st_mtime_ns))
    p(os.utime, "absent", ns=(0, 0))
    fd = p(os.open, "f", os.O_RDONLY)
    p(os.utime, fd, ns=(5, 6))
    p.see("times", os.fstat(fd).st_mtime_ns)


@case(not_fs=("btrfs", "tmpfs"))
def times_beyond_the_range(p):
    p.create("f")
    for moment in (20000000000 * SECOND, -20000000000 * SECOND):
        p(os.utime, "f", ns=(moment % (1 << 62), moment % (1 << 62)))
        p.see("mtime", os.stat("f").st_mtime_ns)


@case
def set_times_to_now_or_not_at_all(p):
    p.create("f", b"x")
    p(os.utime, "f", ns=(7 * SECOND, 8 * SECOND))
    run = subprocess.run
    p(run, ["touch", "-a", "f"], check=False)
    p.see("mtime stayed", os.stat("f").st_mtime_ns)
    p.see("atime moved", os.stat("f").st_atime_ns > 7 * SECOND)
    p(os.utime, "f", ns=(7 * SECOND, 8 * SECOND))
    p(run, ["touch", "-m", "f"], check=False)
    p.see("atime stayed", os.stat("f").st_atime_ns)
    p.see("mtime moved", os.stat("f").st_mtime_ns > 8 * SECOND)
    p(run, ["touch", "-d", "2001-02-03 04:05:06.789 UTC", "f"], check=False)
    p.see("mtime", os.stat("f").st_mtime_ns)
    p(run, ["touch", "new"], check=False)
    p(run, ["touch", "-h", "-d", "@99", "f"], check=False)
    p.see("mtime", os.stat("f").st_mtime_ns)


@case
def times_that_content_changes(p):
    p.create("f", bytes(10000))
    fd = p(os.open, "f", os.O_RDWR)
    for function, *arguments in ((os.pwrite, b"x", 0), (os.pwrite, b"", 0),
                                 (os.ftruncate, 5000), (os.ftruncate, 5000),
                                 (os.fsync,), (os.pread, 10, 0),
                                 (os.fchmod, 0o600), (os.fstat,)):
        with p.stamps("f", "."):
            p(function, fd, *arguments)
    with p.stamps("f", "."):
        p(os.close, fd)
    with p.stamps("f", "."):
        p(os.setxattr, "f", "user.x", b"1")
    with p.stamps("f", "."):
        p(os.link, "f", "g")
    with p.stamps("f", "."):
        p(os.rename, "g", "h")
    with p.stamps("f", "."):
        p(os.unlink, "h")


@case
def a_write_after_set_times_counts(p):
    p.create("f", b"x")
    fd = p(os.open, "f", os.O_WRONLY)
    p(os.write, fd, b"y")
    p(os.utime, "f", ns=(5, 5))
    p.see("mtime", os.stat("f").st_mtime_ns)
    p(os.close, fd)
    p.see("closing changes nothing", os.stat("f").st_mtime_ns)
    fd = p(os.open, "f", os.O_WRONLY)
    p(os.utime, "f", ns=(5, 5))
    p(os.write, fd, b"z")
    p.see("a write does", os.stat("f").st_mtime_ns > 5)
    p(os.close, fd)


@case
def archives_keep_times(p):
    # What tar and cp -p do: write, set times while open, close.
    for n in range(10):
        fd = p(os.open, f"f{n}", os.O_CREAT | os.O_WRONLY, 0o600)
        p(os.write, fd, b"x" * n * 1000)
        p(os.utime, fd, ns=(n * SECOND + 1, n * SECOND + 2))
        p(os.fchmod, fd, 0o640)
        p(os.close, fd)
        p.see("mtime", os.stat(f"f{n}").st_mtime_ns)


# ---- extended attributes

@case
def xattrs(p):
    p.create("f")
    p(os.mkdir, "d")
    for name in ("f", "d"):
        p(os.listxattr, name)
        p(os.getxattr, name, "user.a")
        p(os.setxattr, name, "user.a", b"1")
        p(os.setxattr, name, "user.b", b"")
        p(os.setxattr, name, "user.\xff\n bin", bytes(range(256)))
        p(os.setxattr, name, "user.a", b"2", os.XATTR_CREATE)
        p(os.setxattr, name, "user.c", b"2", os.XATTR_REPLACE)
        p(os.setxattr, name, "user.a", b"3", os.XATTR_REPLACE)
        p(os.setxattr, name, "user.a", b"3", 3)
        p(os.listxattr, name)
        for attribute in ("user.a", "user.b", "user.\xff\n bin", "user.c"):
            p(os.getxattr, name, attribute)
        p(os.removexattr, name, "user.a")
        p(os.removexattr, name, "user.a")
        p(os.getxattr, name, "user.a")
        p(os.listxattr, name)
    p(os.setxattr, "absent", "user.a", b"1")
    p(os.getxattr, "absent", "user.a")


@case
def xattr_names(p):
    p.create("f")
    for name in ("user." + "n" * 250, "user." + "n" * 251, "user.", "user",
                 "", "nonsense.x", "x", "system.x", "trusted.",
                 "user.mirrorfs", "security.", "btrfs.nonsense",
                 "user." + "ü" * 100):
        p(os.setxattr, "f", name, b"value of " + name.encode())
        p(os.getxattr, "f", name)
    p(os.listxattr, "f")


@case(not_fs=("btrfs", "xfs", "tmpfs"))
def xattr_sizes(p):
    # How much fits is the file system's affair; the answer must be its.
    p.create("f")
    for size in (0, 1, 100, 3000, 4000, 4096, 5000, 65536, 65537):
        p(os.setxattr, "f", f"user.s{size}", b"v" * size)
        p(os.getxattr, "f", f"user.s{size}")
        p(os.removexattr, "f", f"user.s{size}")
    for n in range(100):
        if p.errno_of(os.setxattr, "f", f"user.many{n}", b"v" * 100):
            break
    p(os.listxattr, "f")


@case(only_fs=("xfs", "tmpfs"))
def big_xattrs(p):
    p.create("f")
    for size in (5000, 32768, 65536, 65537):
        p(os.setxattr, "f", f"user.s{size}", b"v" * size)
        p(os.getxattr, "f", f"user.s{size}")
    p(os.listxattr, "f")


@case
def xattr_short_buffers(p):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    p.create("f")
    p(os.setxattr, "f", "user.long", b"v" * 100)
    for size in (0, 1, 99, 100, 200):
        buffer = ctypes.create_string_buffer(size)
        result = libc.getxattr(b"f", b"user.long", buffer, size)
        p.see(f"get {size}", (result, ctypes.get_errno() if result < 0 else 0))
        result = libc.listxattr(b"f", buffer, size)
        p.see(f"list {size}", result if result < 0 or size == 0 else "fits")


@case
def xattrs_of_other_kinds(p):
    p(os.symlink, "absent", "l")
    p(os.mkfifo, "fifo")
    for name in ("l", "fifo"):
        p(os.setxattr, name, "user.x", b"1", follow_symlinks=False)
        p(os.setxattr, name, "trusted.x", b"1", follow_symlinks=False)
        p(os.getxattr, name, "trusted.x", follow_symlinks=False)
        p(os.listxattr, name, follow_symlinks=False)


# btrfs lists trusted. names to everybody.
@case(users=False, not_fs=("btrfs",))
def privileged_xattrs(p):
    p.create("f")
    p(os.chmod, ".", 0o755)
    p(os.chmod, "f", 0o666)
    p(os.setxattr, "f", "trusted.secret", b"1")
    p(os.setxattr, "f", "security.note", b"2")
    p(os.setxattr, "f", "user.open", b"3")
    p(os.listxattr, "f")
    with p.user(USER):
        p(os.listxattr, "f")
        p(os.getxattr, "f", "trusted.secret")
        p(os.getxattr, "f", "security.note")
        p(os.setxattr, "f", "trusted.secret", b"9")
        p(os.removexattr, "f", "trusted.secret")
        p(os.setxattr, "f", "user.open", b"9")
    p(os.chmod, "f", 0o600)
    with p.user(USER):
        p(os.getxattr, "f", "user.open")
        p(os.listxattr, "f")
    p(os.mkdir, "sticky")
    p(os.chmod, "sticky", 0o1777)
    with p.user(USER):
        p(os.setxattr, "sticky", "user.x", b"1")


@case
def xattrs_through_descriptors(p):
    p.create("f", b"x")
    fd = p(os.open, "f", os.O_RDWR)
    p(os.setxattr, fd, "user.a", b"1")
    p(os.unlink, "f")
    p(os.setxattr, fd, "user.b", b"2")
    p(os.getxattr, fd, "user.a")
    p(os.listxattr, fd)
    p(os.removexattr, fd, "user.a")
    p(os.listxattr, fd)


@case
def xattrs_follow_renames_and_links(p):
    p.create("f")
    p(os.setxattr, "f", "user.x", b"1")
    p(os.link, "f", "g")
    p(os.setxattr, "g", "user.y", b"2")
    p(os.rename, "f", "h")
    p(os.listxattr, "h")
    p.create("h2")
    p(os.rename, "h2", "h")
    p(os.listxattr, "h")
    p(os.listxattr, "g")


# ---- ACLs

FULL = acl("u:7", f"U{OTHER}:6", "g:5", f"G{OTHER}:4", "m:7", "o:0")


@case
def acl_as_xattr(p):
    p.create("f")
    p(os.mkdir, "d")
    p(os.setxattr, "f", ACL_ACCESS, FULL)
    p(os.stat, "f")
    p.see("acl", show_acl(os.getxattr("f", ACL_ACCESS)))
    p(os.setxattr, "f", ACL_DEFAULT, FULL)
    p(os.setxattr, "d", ACL_DEFAULT, FULL)
    p(os.setxattr, "d", ACL_ACCESS, FULL)
    p(listed_xattrs, "d")
    p(os.chmod, "f", 0o640)
    p.see("chmod sets the mask", show_acl(os.getxattr("f", ACL_ACCESS)))
    p(os.chmod, "f", 0o777)
    p.see("and again", show_acl(os.getxattr("f", ACL_ACCESS)))
    # One that says no more than a mode becomes a mode.
    p(os.setxattr, "f", ACL_ACCESS, acl("u:6", "g:4", "o:0"))
    p(os.stat, "f")
    p(listed_xattrs, "f")
    p(os.getxattr, "f", ACL_ACCESS)
    for bad in (b"", b"x", acl("u:7"), acl("u:7", "g:7"), FULL[:-3],
                acl("u:7", f"U{OTHER}:6", "g:5", "o:0"),
                acl("u:8", "g:5", "o:0"), b"\x03\0\0\0" + FULL[4:]):
        p(os.setxattr, "f", ACL_ACCESS, bad)
    p(os.removexattr, "d", ACL_DEFAULT)
    p(os.removexattr, "d", ACL_ACCESS)
    p(os.stat, "d")
    p(listed_xattrs, "d")
    p(os.removexattr, "f", ACL_ACCESS)
    with p.stamps("f"):
        p(os.setxattr, "f", ACL_ACCESS, FULL)
    p(os.symlink, "f", "l")
    p(os.setxattr, "l", ACL_ACCESS, FULL, follow_symlinks=False)


@case(users=False)
def acl_is_enforced(p):
    p(os.chmod, ".", 0o755)
    p.create("f", b"x")
    p(os.chmod, "f", 0o600)
    third = 11003
    lists = {
        "user": acl("u:6", f"U{USER}:6", "g:0", "m:6", "o:0"),
        "masked": acl("u:6", f"U{USER}:6", "g:0", "m:4", "o:0"),
        "denied": acl("u:6", f"U{USER}:0", "g:0", "m:6", "o:6"),
        "group": acl("u:6", "g:0", f"G{OTHER}:6", "m:6", "o:0"),
        "groups": acl("u:6", "g:0", f"G{OTHER}:4", f"G{third}:2", "m:6",
                      "o:0"),
        "other": acl("u:6", f"U{OTHER}:0", "g:0", "m:6", "o:4"),
    }
    for name, value in lists.items():
        p(os.setxattr, "f", ACL_ACCESS, value)
        p(os.stat, "f")
        for uid, groups in ((USER, ()), (OTHER, ()), (third, (OTHER,)),
                            (third, (OTHER, third)), (third, ())):
            with p.user(uid, groups=groups):
                for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
                    p.see(f"{name} {uid} {groups} {flags}",
                          p.errno_of(os.open, "f", flags))
                p(os.chmod, "f", 0o777)
                p(os.setxattr, "f", ACL_ACCESS, value)


@case(users=False)
def acl_of_directories_is_enforced(p):
    p(os.chmod, ".", 0o755)
    p(os.mkdir, "d", 0o700)
    p.create("d/f", b"x")
    for permissions in range(8):
        p(os.setxattr, "d", ACL_ACCESS,
          acl("u:7", f"U{USER}:{permissions}", "g:0", "m:7", "o:0"))
        with p.user(USER):
            p(os.listdir, "d")
            p(os.stat, "d/f")
            p(os.mkdir, "d/new")
            p(os.rmdir, "d/new")
            p(os.rename, "d/f", "d/g")
            p(os.rename, "d/g", "d/f")


@case
def default_acl_is_inherited(p):
    defaults = {
        "wide": acl("u:7", f"U{OTHER}:7", "g:7", "m:7", "o:7"),
        "narrow": acl("u:7", "g:5", "o:0"),
        "masked": acl("u:7", f"U{OTHER}:7", "g:7", "m:4", "o:4"),
    }
    for name, value in defaults.items():
        p(os.mkdir, name)
        p(os.setxattr, name, ACL_DEFAULT, value)
        # With a default ACL the umask does not count.
        for mask in (0o000, 0o022, 0o077, 0o777):
            with p.umask(mask):
                for mode in (0o777, 0o666, 0o600, 0o000):
                    made = f"{name}/{mask:o}-{mode:o}"
                    p.create(made + "f", b"", mode)
                    p(os.mkdir, made + "d", mode)
                    p(os.mkfifo, made + "p", mode)
                    p(os.symlink, "x", made + "l")
                    for kind in "fdpl":
                        p(os.lstat, made + kind)
                    for kind in "fdp":
                        p.see(made + kind, (
                            show_acl(_xattr(made + kind, ACL_ACCESS)),
                            show_acl(_xattr(made + kind, ACL_DEFAULT))))
    with p.umask(0o077):
        p(os.makedirs, "wide/a/b/c", 0o777)
        p.create("wide/a/b/c/f", b"", 0o666)
        p(os.stat, "wide/a/b/c/f")
        p.see("deep", show_acl(_xattr("wide/a/b/c/f", ACL_ACCESS)))


def _xattr(path, name):
    try:
        return os.getxattr(path, name)
    except OSError as error:
        assert error.errno == errno.ENODATA, error
        return None


@case(users=False)
def default_acl_and_set_group(p):
    p(os.mkdir, "d")
    p(os.chown, "d", USER, OTHER)
    p(os.chmod, "d", 0o2770)
    p(os.setxattr, "d", ACL_DEFAULT, FULL)
    with p.user(USER, groups=(OTHER,)), p.umask(0o077):
        p.create("d/f", b"x", 0o666)
        p(os.mkdir, "d/sub", 0o777)
        p(os.stat, "d/f")
        p(os.stat, "d/sub")
    with p.user(USER), p.umask(0o022):
        p.create("d/g", b"x", 0o2777)
        p(os.stat, "d/g")
    p.see("acl", show_acl(os.getxattr("d/sub", ACL_DEFAULT)))


@case
def acl_tools(p):
    if shutil.which("setfacl") is None:
        return
    run = subprocess.run
    p(os.mkdir, "d")
    p.create("d/f", b"x")
    for words in (["-m", f"u:{OTHER}:rwx,g:{OTHER}:r", "d/f"],
                  ["-d", "-m", f"u:{OTHER}:rx", "d"], ["-x", f"u:{OTHER}",
                                                       "d/f"],
                  ["-R", "-m", "o::---", "d"], ["-b", "d/f"], ["-k", "d"],
                  ["-m", "u:nosuchuser:r", "d/f"]):
        p(run, ["setfacl", *words], capture_output=True, check=False)
        p(run, ["getfacl", "-R", "-n", "d"], capture_output=True, check=False)


# ---- access

@case
def access_calls(p):
    p.create("f", b"x")
    p(os.mkdir, "d")
    for mode in (0o000, 0o111, 0o222, 0o444, 0o640, 0o755):
        p(os.chmod, "f", mode)
        p(os.chmod, "d", mode)
        for bits in range(8):
            p(os.access, "f", bits)
            p(os.access, "d", bits)
    p(os.chmod, "d", 0o700)
    p(os.access, "absent", os.F_OK)


# ---- space

@case
def space(p):
    st = p(os.statvfs, ".")
    p.see("sensible", 0 < st.f_bavail <= st.f_bfree <= st.f_blocks)
    p.create("f", b"x")
    fd = p(os.open, "f", os.O_RDONLY)
    p(os.fstatvfs, fd)


def test_space_is_the_smallest_legs(parity):
    """Size and free space as the legs' file system tells them."""
    mounted, leg = (os.statvfs(parity.mounted), os.statvfs(parity.legs[0]))
    for name in ("f_bsize", "f_frsize", "f_blocks", "f_namemax", "f_files"):
        assert getattr(mounted, name) == getattr(leg, name), name
    assert abs(mounted.f_bavail - leg.f_bavail) * leg.f_frsize < 64 << 20


@case
def block_counts(p):
    p.create("f", bytes(100000))
    fd = p(os.open, "f", os.O_RDWR)
    p(os.fsync, fd)
    p.see("blocks", 100000 <= os.fstat(fd).st_blocks * 512 < 400000)
    p(os.ftruncate, fd, 0)
    p(os.fsync, fd)
    p.see("none", os.fstat(fd).st_blocks * 512 < 100000)


@case
def stat_of_an_open_file_is_stat_of_its_name(p):
    p.create("f", b"x")
    fd = p(os.open, "f", os.O_RDWR)
    p(os.write, fd, b"more")
    a, b = os.fstat(fd), os.stat("f")
    p.see("same", [getattr(a, n) == getattr(b, n) for n in
                   ("st_ino", "st_dev", "st_size", "st_mtime_ns", "st_mode",
                    "st_nlink", "st_uid", "st_gid")])
    p.see("not the directory", stat.S_ISREG(a.st_mode))


@pytest.mark.sanitizer
@pytest.mark.parametrize("function, identity", cases_of(globals()),
                         ids=case_id)
def test_attributes(parity, function, identity):
    parity.check(function, identity)
