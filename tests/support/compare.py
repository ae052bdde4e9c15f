# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares directory trees by everything a user could tell them apart by.

Independent of `mirrorfs check` on purpose: the program must not be its own
witness. Also a command: `compare.py TREE TREE...` prints the differences and
exits 1 when there are any.
"""

import ctypes
import errno
import hashlib
import os
import stat
import sys
from dataclasses import dataclass, field

PRIVATE_DIR = b".mirrorfs"
# XFS lists its ACLs a second time under these names; the kernel keeps both in
# step, so that comparing the system.posix_acl_* pair is enough.
XATTRS_IGNORED = (b"trusted.SGI_ACL_",)
# A hole is a whole number of blocks, and file systems place them differently.
HOLE_SLACK = 128 * 1024
CHUNK = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)
_libc.lseek.restype = ctypes.c_int64


def xattr_names(path):
    """Names of the extended attributes of `path` itself, as bytes.

    os.listxattr() decodes and os.getxattr() wants str or bytes; bytes keeps
    names that are no UTF-8.
    """
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENOSYS):
            return []
        raise
    return [n for n in sorted(map(os.fsencode, names))
            if not n.startswith(XATTRS_IGNORED)]


@dataclass
class Entry:
    """One name of a tree."""
    kind: str
    mode: int
    uid: int
    gid: int
    size: int = 0
    mtime_ns: int = 0
    rdev: int = 0
    nlink: int = 1
    target: bytes = b""
    content: str = ""
    hole_bytes: int = 0
    xattrs: dict = field(default_factory=dict)
    identity: tuple = ()


_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory",
          stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo",
          stat.S_IFSOCK: "socket", stat.S_IFCHR: "character device",
          stat.S_IFBLK: "block device"}


def _seek(fd, offset, whence, size):
    at = _libc.lseek(fd, ctypes.c_int64(offset), whence)
    if at == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    # btrfs says 2^63 of the end of a file that is one byte shorter. os.lseek
    # returns that and leaves an error behind for whatever is called next.
    return at if at >= 0 else size


def _hole_bytes(fd, size):
    """Bytes that have no blocks, or blocks that were never written."""
    holes, offset = 0, 0
    while offset < size:
        try:
            data = _seek(fd, offset, os.SEEK_DATA, size)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return holes + size - offset
        holes += data - offset
        offset = _seek(fd, data, os.SEEK_HOLE, size)
    return holes


def _content(name, dir_fd, size, uncached):
    """Hash of the content, and how much of it are holes.

    Holes are not read, so that a file of a terabyte with one byte in it costs
    one byte; its hash is over the offsets and bytes that are not zero.
    """
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME,
                 dir_fd=dir_fd)
    try:
        if uncached:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        holes = _hole_bytes(fd, size)
        digest = hashlib.blake2b(digest_size=16)
        offset = 0
        while offset < size:
            try:
                offset = _seek(fd, offset, os.SEEK_DATA, size)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break
            offset -= offset % CHUNK
            block = os.pread(fd, min(CHUNK, size - offset), offset)
            if not block:
                break
            if block.count(0) != len(block):
                digest.update(b"%d:" % offset)
                digest.update(block)
            offset += CHUNK
        return digest.hexdigest(), holes
    finally:
        os.close(fd)


def _entry(name, dir_fd, proc_path, uncached):
    st = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    entry = Entry(kind=_KINDS[stat.S_IFMT(st.st_mode)],
                  mode=stat.S_IMODE(st.st_mode), uid=st.st_uid, gid=st.st_gid,
                  mtime_ns=st.st_mtime_ns, nlink=st.st_nlink,
                  identity=(st.st_dev, st.st_ino))
    if entry.kind in ("file", "symlink"):
        entry.size = st.st_size
    if entry.kind.endswith("device"):
        entry.rdev = st.st_rdev
    if entry.kind == "directory":
        entry.nlink = 0  # a file system may count subdirectories or not
    if entry.kind == "symlink":
        entry.target = os.readlink(name, dir_fd=dir_fd)
    if entry.kind == "file":
        entry.content, entry.hole_bytes = \
            _content(name, dir_fd, st.st_size, uncached)
    entry.xattrs = {n: os.getxattr(proc_path, n, follow_symlinks=False)
                    for n in xattr_names(proc_path)}
    return entry


def snapshot(root, skip_private=True, uncached=False):
    """All names below `root` ("." is root itself) with what they are.

    Walks by descriptor, so that paths may be longer than PATH_MAX.

    What was read of blocks that were never written lies in the page cache as
    zeros, and XFS and ext4 call it data as long as it is there; XFS allocates
    such blocks ahead of whoever appends. With `uncached` the cache goes first,
    so that only what was written counts as data.
    """
    root = os.fsencode(root)
    entries = {b".": _entry(root, None, root, uncached)}
    _walk(os.open(root, os.O_RDONLY | os.O_DIRECTORY), b"", entries,
          skip_private, uncached)
    return entries


def _walk(dir_fd, prefix, entries, skip_private, uncached):
    try:
        for name in sorted(os.listdir(b"/proc/self/fd/%d" % dir_fd)):
            if skip_private and not prefix and name == PRIVATE_DIR:
                continue
            path = prefix + name
            entry = _entry(name, dir_fd,
                           b"/proc/self/fd/%d/%s" % (dir_fd, name), uncached)
            entries[path] = entry
            if entry.kind == "directory":
                sub = os.open(name, os.O_RDONLY | os.O_DIRECTORY |
                              os.O_NOFOLLOW, dir_fd=dir_fd)
                _walk(sub, path + b"/", entries, skip_private, uncached)
    finally:
        os.close(dir_fd)


def link_groups(entries):
    """The sets of names that are one file each, those with one name left out."""
    groups = {}
    for path, entry in entries.items():
        if entry.kind != "directory":
            groups.setdefault(entry.identity, set()).add(path)
    return {frozenset(group) for group in groups.values() if len(group) > 1}


FIELDS = ("kind", "mode", "uid", "gid", "size", "nlink", "rdev", "target",
          "content", "xattrs")


def _show(path):
    text = path.decode("utf-8", "backslashreplace")
    return ascii(text) if len(text) < 200 else ascii(text[:200]) + "..."


def snapshot_differences(first, second, times=True, root_times=True,
                         holes=True, limit=30):
    """One line for each way in which two snapshots differ.

    `first` is the model where one is needed: `second` may have more holes
    than it, not fewer.
    """
    lines = []
    for path in sorted(first.keys() | second.keys()):
        a, b = first.get(path), second.get(path)
        if a is None or b is None:
            lines.append(f"{_show(path)}: only in the "
                         f"{'second' if a is None else 'first'} "
                         f"({(a or b).kind})")
            continue
        for name in FIELDS:
            x, y = getattr(a, name), getattr(b, name)
            if x != y:
                if name == "mode":
                    x, y = oct(x), oct(y)
                lines.append(f"{_show(path)}: {name} {x!r} != {y!r}"[:400])
        if times and a.mtime_ns != b.mtime_ns and (root_times or path != b"."):
            lines.append(f"{_show(path)}: mtime {a.mtime_ns} != {b.mtime_ns}")
        slack = HOLE_SLACK + a.size // 32
        if holes and a.hole_bytes > b.hole_bytes + slack:
            lines.append(f"{_show(path)}: holes {a.hole_bytes} > "
                         f"{b.hole_bytes} bytes")
    for group in link_groups(first) ^ link_groups(second):
        where = "first" if group in link_groups(first) else "second"
        lines.append(f"one file in the {where} only: "
                     + ", ".join(map(_show, sorted(group)))[:300])
    if len(lines) > limit:
        lines[limit:] = [f"... and {len(lines) - limit} more"]
    return lines


def tree_differences(first, *others, **options):
    """Differences of each tree of `others` to the tree `first`."""
    model = snapshot(first, uncached=True)
    lines = []
    for other in others:
        found = snapshot_differences(model, snapshot(other, uncached=True),
                                     **options)
        lines += [f"{os.fsdecode(first)} and {os.fsdecode(other)}: {line}"
                  for line in found]
    return lines


def main():
    if len(sys.argv) < 3:
        sys.exit("usage: compare.py TREE TREE...")
    lines = tree_differences(*sys.argv[1:])
    print("\n".join(lines))
    sys.exit(1 if lines else 0)


if __name__ == "__main__":
    main()
