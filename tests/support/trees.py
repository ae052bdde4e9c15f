# SPDX-License-Identifier: GPL-2.0-or-later
"""Trees that hold something of everything."""

import os
import random
import shutil
from pathlib import Path

from support.mirror import run
from support.syscalls import RENAME_EXCHANGE, fallocate, renameat2

MIB = 1 << 20


def make_tree(root, seed=1, files=60):
    """Something of everything, reproducibly."""
    rng = random.Random(seed)
    root = Path(root)
    for d in range(6):
        (root / f"dir{d}" / "sub").mkdir(parents=True)
    for n in range(files):
        path = root / f"dir{n % 6}" / f"file{n}"
        path.write_bytes(rng.randbytes(rng.choice((0, 10, 5000, 100000))))
        if n % 7 == 0:
            os.link(path, root / f"dir{(n + 1) % 6}" / "sub" / f"link{n}")
        if n % 5 == 0:
            os.setxattr(path, "user.number", str(n).encode())
        if n % 11 == 0:
            os.chown(path, 11001, 11002)
            os.chmod(path, 0o4750)
    with open(root / "sparse", "wb") as file:
        file.truncate(50 * MIB)
        for at in (0, 20 * MIB, 33 * MIB + 5):
            file.seek(at)
            file.write(rng.randbytes(10000))
    os.symlink("dir0/file0", root / "symlink")
    os.symlink("t" * 1000, root / "long symlink")
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "socket", 0o140600)
    os.mknod(root / "null", 0o020666, os.makedev(1, 3))
    os.mknod(root / "block", 0o060600, os.makedev(7, 255))
    (root / b"new\nline".decode()).write_text("odd")
    (root / ("n" * 255)).write_text("long")
    (root / "empty").mkdir(mode=0o711)
    (root / "restricted").mkdir()
    run("setfacl", "-m", "u:11001:rwx,d:u:11001:rx,d:m:rwx",
        root / "restricted")
    (root / "restricted" / "inherits").write_text("x")
    os.setxattr(root / "dir0", "trusted.note", b"of root")
    for path in (root / "dir0/file0", root / "dir1", root / "symlink"):
        os.utime(path, ns=(10**18, 10**18 + 7), follow_symlinks=False)


def change_everything(root, rng):
    """Every kind of change that a leg can miss."""
    def path(n):
        return root / f"dir{n % 6}" / f"file{n}"
    # Content: changed, grown, shrunk, punched, made sparse.
    with open(path(3), "r+b") as file:
        file.write(b"changed")
    with open(path(4), "ab") as file:
        file.write(rng.randbytes(3 * MIB))
    os.truncate(path(5), 1)
    with open(root / "sparse", "r+b") as file:
        file.seek(40 * MIB)
        file.write(b"more")
        fallocate(file.fileno(), 3, 20 * MIB, 2 * MIB)
    with open(path(8), "r+b") as file:
        file.truncate(30 * MIB)
    # New things of all kinds.
    (root / "new tree" / "deep" / "er").mkdir(parents=True)
    (root / "new tree" / "deep" / "er" / "f").write_bytes(rng.randbytes(MIB))
    os.mkfifo(root / "new tree" / "fifo")
    os.mknod(root / "new tree" / "dev", 0o060600, os.makedev(7, 3))
    os.symlink("nowhere", root / "new tree" / "link")
    # Gone and moved.
    os.unlink(path(9))
    shutil.rmtree(root / "dir5" / "sub")
    path(10).rename(root / "moved")
    (root / "dir2").rename(root / "dir0" / "was dir2")
    (root / "dir0" / "was dir2" / "inside").write_text("x")
    path(12).rename(path(6))  # over another
    # Replaced by another type.
    os.unlink(path(7))
    path(7).mkdir()
    (path(7) / "inside").write_text("x")
    (root / "empty").rmdir()
    (root / "empty").write_text("now a file")
    os.unlink(root / "symlink")
    os.mkfifo(root / "symlink")
    os.unlink(root / "fifo")
    os.symlink("dir1", root / "fifo")
    renameat2(root / "dir3", root / "new tree", RENAME_EXCHANGE)
    # Hard links made and unmade.
    os.link(path(13), root / "twin of 13")
    with open(root / "twin of 13", "ab") as file:
        file.write(b"through the twin")
    os.unlink(root / "dir1" / "sub" / "link0")
    # Recreated under its old name; swapped names.
    os.unlink(path(16))
    path(16).write_text("another inode")
    path(18).rename(root / "tmp")
    path(24).rename(path(18))
    (root / "tmp").rename(path(24))
    # Attributes.
    os.chmod(path(19), 0o4711)
    os.chown(path(22), 11005, 11006)
    os.setxattr(path(25), "user.number", b"other")
    os.setxattr(path(28), "user.added", b"x" * 500)
    os.removexattr(root / "dir0", "trusted.note")
    run("setfacl", "-m", "u:11009:r", root / "restricted")
    run("setfacl", "-k", root / "restricted")
    os.utime(path(31), ns=(3, 10**17 + 3))
    os.utime(root / "dir4", ns=(3, 10**17 + 3))
    os.utime(root / "long symlink", ns=(3, 10**17 + 3), follow_symlinks=False)
    os.chmod(root, 0o751)
