# SPDX-License-Identifier: GPL-2.0-or-later
"""Trees that hold something of everything."""

import os
import random
from pathlib import Path

from support.mirror import run

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
