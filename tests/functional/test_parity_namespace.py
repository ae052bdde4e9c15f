# SPDX-License-Identifier: GPL-2.0-or-later
"""Names: making, linking, renaming, removing and listing them."""

import errno
import os
import socket
import stat
import subprocess

import pytest

from support.parity import OTHER, USER, case, case_id, cases_of
from support.syscalls import (RENAME_EXCHANGE, RENAME_NOREPLACE,
                              RENAME_WHITEOUT, renameat2)

# One maker for each kind of thing that a name can be.
KINDS = {
    "file": lambda p, name: p.create(name, name.encode()),
    "empty": lambda p, name: p(os.mkdir, name),
    "full": lambda p, name: (p(os.mkdir, name), p(os.mkdir, name + "/in")),
    "symlink": lambda p, name: p(os.symlink, "target-of-" + name, name),
    "fifo": lambda p, name: p(os.mkfifo, name),
    "socket": lambda p, name: bind_socket(p, name),
    "absent": lambda p, name: None,
}


def bind_socket(p, name):
    sock = socket.socket(socket.AF_UNIX)
    p(sock.bind, name)
    sock.close()


def look(p, *names):
    for name in names:
        p(os.lstat, name)
    p.listing()


# ---- making

@case
def make_directories(p):
    p(os.mkdir, "d")
    p(os.mkdir, "d/e", 0o700)
    p(os.mkdir, "d")
    p(os.mkdir, "absent/x")
    p.create("f")
    p(os.mkdir, "f/x")
    p(os.mkdir, "f")
    p(os.mkdir, "slash/")
    p(os.mkdir, "d/.")
    p(os.mkdir, "d/..")
    p(os.mkdir, "")
    look(p, "d", "d/e", "slash", ".")


@case
def make_directories_with_modes(p):
    for mode in (0o777, 0o7777, 0o000, 0o1777, 0o2755, 0o111):
        p(os.mkdir, f"d{mode:o}", mode)
        p(os.stat, f"d{mode:o}")


@case
def make_files_with_modes(p):
    for mask in (0o000, 0o022, 0o077, 0o777, 0o027):
        with p.umask(mask):
            for mode in (0o777, 0o7777, 0o000, 0o4755, 0o2755, 0o666):
                name = f"f{mask:o}-{mode:o}"
                p.create(name, b"x", mode)
                p(os.stat, name)
            p(os.mkdir, f"d{mask:o}", 0o777)
            p(os.stat, f"d{mask:o}")
            p(os.mkfifo, f"p{mask:o}", 0o666)
            p(os.stat, f"p{mask:o}")


@case
def make_nodes(p):
    for kind, device in ((stat.S_IFIFO, 0), (stat.S_IFSOCK, 0),
                         (stat.S_IFREG, 0),
                         (stat.S_IFCHR, os.makedev(1, 3)),
                         (stat.S_IFCHR, os.makedev(300, 70000)),
                         (stat.S_IFBLK, os.makedev(7, 200)),
                         (stat.S_IFCHR, 0), (stat.S_IFDIR, 0)):
        name = f"n{kind:o}-{device}"
        p(os.mknod, name, kind | 0o640, device)
        p(os.lstat, name)
        p(os.mknod, name, kind | 0o640, device)
    p(os.mkfifo, "absent/fifo")


@case(users=False)
def devices_work(p):
    p(os.mknod, "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    p(os.mknod, "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    fd = p(os.open, "null", os.O_RDWR)
    p(os.write, fd, b"gone")
    p(os.read, fd, 10)
    p(os.close, fd)
    fd = p(os.open, "zero", os.O_RDONLY)
    p(os.read, fd, 10)
    p(os.close, fd)
    p(os.mknod, "nothing", stat.S_IFCHR | 0o666, os.makedev(240, 77))
    p(os.open, "nothing", os.O_RDONLY)
    p(os.stat, "null")


@case
def fifos_work(p):
    p(os.mkfifo, "fifo")
    p(os.open, "fifo", os.O_WRONLY | os.O_NONBLOCK)
    reader = p(os.open, "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = p(os.open, "fifo", os.O_WRONLY | os.O_NONBLOCK)
    p(os.write, writer, b"through the mirror")
    p(os.read, reader, 100)
    p(os.lseek, reader, 0, os.SEEK_SET)
    p(os.link, "fifo", "other")
    other = p(os.open, "other", os.O_WRONLY | os.O_NONBLOCK)
    p(os.write, other, b"the same pipe")
    p(os.read, reader, 100)
    p(os.unlink, "fifo")
    p(os.unlink, "other")


@case
def sockets_work(p):
    server = socket.socket(socket.AF_UNIX)
    p(server.bind, "sock")
    p(server.listen, 1)
    client = socket.socket(socket.AF_UNIX)
    p(client.connect, "sock")
    accepted, _ = server.accept()
    p(client.send, b"hello")
    p(accepted.recv, 10)
    p(os.open, "sock", os.O_RDWR)
    again = socket.socket(socket.AF_UNIX)
    p(again.bind, "sock")
    p(os.lstat, "sock")
    server.close()
    refused = socket.socket(socket.AF_UNIX)
    p(refused.connect, "sock")
    p(os.unlink, "sock")


# ---- symlinks

@case
def symlinks(p):
    p.create("f", b"content")
    p(os.symlink, "f", "l")
    p(os.symlink, "absent", "dangling")
    p(os.symlink, "self", "self")
    p(os.symlink, "b", "a")
    p(os.symlink, "a", "b")
    p(os.symlink, "f", "l")
    p(os.symlink, "", "empty")
    p(os.symlink, "..", "up")
    for name in ("l", "dangling", "self", "a", "up", "f"):
        p(os.readlink, name)
        p(os.lstat, name)
    for name in ("l", "dangling", "self", "a"):
        p(os.stat, name)
        p(os.open, name, os.O_RDONLY)
    p(os.open, "l", os.O_RDONLY | os.O_NOFOLLOW)
    p(os.open, "dangling", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    p(os.open, "dangling", os.O_WRONLY | os.O_CREAT, 0o600)
    p(os.lstat, "absent")
    p(os.mkdir, "l/x")
    p(os.rmdir, "l")
    p(os.unlink, "l")
    p.listing()


@case
def symlink_lengths(p):
    for length in (1, 59, 60, 61, 255, 256, 1023, 1024, 4094, 4095, 4096):
        name = f"l{length}"
        p(os.symlink, "t" * length, name)
        p(os.readlink, name)
        p(os.lstat, name)
    p(os.symlink, "x/" * 2000, "deep")
    p(os.stat, "deep")


@case
def symlink_chains(p):
    p.create("l0", b"end")
    for n in range(1, 45):
        p(os.symlink, f"l{n - 1}", f"l{n}")
    for n in (1, 39, 40, 41, 44):
        p(os.stat, f"l{n}")


@case
def symlinked_directories(p):
    p(os.mkdir, "d")
    p(os.symlink, "d", "l")
    p.create("l/f", b"x")
    p(os.rename, "l/f", "l/g")
    p(os.open, "l", os.O_RDONLY | os.O_DIRECTORY)
    p(os.open, "l", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    p(os.rmdir, "l/")
    p(os.unlink, "l/")
    p(os.rename, "l", "m")
    p.listing("d")
    p.listing("m")


@case(root=False)
def symlink_of_others(p):
    p(os.symlink, "x", "l")
    p(os.chown, "l", -1, USER, follow_symlinks=False)
    p(os.chown, "l", OTHER, -1, follow_symlinks=False)
    p(os.lstat, "l")


# ---- hard links

@case
def hard_links(p):
    p.create("f", b"one")
    p(os.link, "f", "g")
    p(os.mkdir, "d")
    p(os.link, "g", "d/h")
    look(p, "f", "g", "d/h")
    p.see("one inode", len({os.stat(n).st_ino for n in ("f", "g", "d/h")}))
    fd = p(os.open, "d/h", os.O_WRONLY | os.O_APPEND)
    p(os.write, fd, b" two")
    p(os.fstat, fd)
    p.read("f")
    p(os.unlink, "f")
    p(os.fstat, fd)
    p(os.stat, "g")
    p(os.write, fd, b" three")
    p(os.close, fd)
    p.read("g")
    p(os.truncate, "g", 2)
    p.read("d/h")
    p(os.chmod, "g", 0o600)
    p(os.stat, "d/h")


@case
def hard_link_errors(p):
    p.create("f")
    p(os.mkdir, "d")
    p(os.link, "d", "e")
    p(os.link, "absent", "e")
    p(os.link, "f", "f")
    p(os.link, "f", "d")
    p(os.link, "f", "absent/e")
    p(os.link, "f", "d/")
    p(os.link, "f", "x" * 256)
    p.listing()


@case
def hard_links_to_all_kinds(p):
    for kind in ("symlink", "fifo", "socket"):
        KINDS[kind](p, kind)
        p(os.link, kind, kind + "2", follow_symlinks=False)
        p(os.lstat, kind)
        p(os.lstat, kind + "2")
        p.see("one inode",
              os.lstat(kind).st_ino == os.lstat(kind + "2").st_ino)


@case
def many_hard_links(p):
    p.create("f", b"x")
    for n in range(200):
        os.link("f", f"l{n}")
    p(os.stat, "f")
    for n in range(0, 200, 2):
        os.unlink(f"l{n}")
    p(os.stat, "l1")
    p.listing()


@case
def rename_between_links_of_one_file(p):
    p.create("a", b"same")
    p(os.link, "a", "b")
    p(os.rename, "a", "b")
    look(p, "a", "b")
    p(renameat2, "a", "b", RENAME_NOREPLACE)
    p(renameat2, "a", "b", RENAME_EXCHANGE)
    look(p, "a", "b")


@case
def rename_over_a_linked_file(p):
    p.create("a", b"new")
    p.create("b", b"old")
    p(os.link, "b", "c")
    p(os.rename, "a", "b")
    p.read("b")
    p.read("c")
    look(p, "b", "c")


@case
def links_across_directories(p):
    p(os.mkdir, "d")
    p(os.mkdir, "e")
    p.create("d/f", b"1")
    p(os.link, "d/f", "e/g")
    p(os.rename, "d", "d2")
    fd = p(os.open, "e/g", os.O_WRONLY | os.O_TRUNC)
    p(os.write, fd, b"changed through the other name")
    p(os.close, fd)
    p.read("d2/f")
    p(os.stat, "d2/f")
    p(os.unlink, "d2/f")
    p.read("e/g")
    p(os.stat, "e/g")


# ---- removing

@case
def remove(p):
    for kind, make in KINDS.items():
        make(p, kind)
        p(os.unlink, kind)
        p(os.rmdir, kind)
        p.listing()
    p(os.rmdir, ".")
    p(os.rmdir, "..")
    p(os.unlink, ".")
    p(os.unlink, "")
    p(os.mkdir, "d")
    p(os.rmdir, "d/.")
    p(os.unlink, "d/..")
    p(os.unlink, "d/")
    p(os.rmdir, "d/")
    p.create("f")
    p(os.unlink, "f/")
    p(os.rmdir, "f/")
    p(os.unlink, "f/x")
    p(os.rmdir, "absent")
    p.listing()


@case
def unlink_while_open(p):
    p.create("f", b"0123456789")
    fd = p(os.open, "f", os.O_RDWR)
    p(os.unlink, "f")
    p(os.fstat, fd)
    p(os.pwrite, fd, b"abc", 3)
    p(os.pread, fd, 20, 0)
    p(os.ftruncate, fd, 1 << 20)
    p(os.fchmod, fd, 0o600)
    p(os.fsync, fd)
    p(os.fstat, fd)
    p.create("f", b"another")
    p(os.pread, fd, 20, 0)
    p(os.close, fd)
    p.read("f")
    p.listing()


@case
def rename_over_an_open_file(p):
    p.create("old", b"old content")
    p.create("new", b"new content")
    fd = p(os.open, "old", os.O_RDWR)
    p(os.rename, "new", "old")
    p(os.fstat, fd)
    p(os.pread, fd, 20, 0)
    p(os.pwrite, fd, b"OLD", 0)
    p(os.pread, fd, 20, 0)
    p(os.close, fd)
    p.read("old")
    p.listing()


@case
def rename_an_open_file(p):
    p(os.mkdir, "d")
    p.create("f", b"0123456789")
    fd = p(os.open, "f", os.O_RDWR)
    p(os.rename, "f", "d/g")
    p(os.pwrite, fd, b"abc", 0)
    p(os.rename, "d", "e")
    p(os.pwrite, fd, b"def", 4)
    p(os.fsync, fd)
    p(os.fchmod, fd, 0o640)
    p(os.ftruncate, fd, 8)
    p(os.fstat, fd)
    p(os.close, fd)
    p.read("e/g")


@case
def remove_a_directory_in_use(p):
    p(os.mkdir, "d")
    fd = p(os.open, "d", os.O_RDONLY)
    p(os.rmdir, "d")
    p(os.fstat, fd)
    p(os.listdir, fd)
    p(os.open, "x", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd)
    p(os.mkdir, "x", dir_fd=fd)
    p(os.stat, "..", dir_fd=fd)
    p(os.close, fd)
    p.listing()


@case
def unlink_one_name_while_open_by_another(p):
    p.create("a", b"shared")
    p(os.link, "a", "b")
    fd = p(os.open, "a", os.O_RDWR)
    p(os.unlink, "a")
    p(os.pwrite, fd, b"SHARED and more", 0)
    p(os.fstat, fd)
    p(os.close, fd)
    p.read("b")
    p(os.stat, "b")


# ---- renaming

def rename_matrix(flags):
    def body(p):
        for source, make_source in KINDS.items():
            for target, make_target in KINDS.items():
                where = f"{source}-{target}"
                p(os.mkdir, where)
                make_source(p, f"{where}/s")
                make_target(p, f"{where}/t")
                p(renameat2, f"{where}/s", f"{where}/t", flags)
                p.listing(where)
    return body


@case
def rename_all_kinds(p):
    rename_matrix(0)(p)


@case
def rename_all_kinds_noreplace(p):
    rename_matrix(RENAME_NOREPLACE)(p)


@case
def rename_all_kinds_exchange(p):
    rename_matrix(RENAME_EXCHANGE)(p)


@case
def rename_flags_that_exclude_each_other(p):
    p.create("a")
    p.create("b")
    p(renameat2, "a", "b", RENAME_NOREPLACE | RENAME_EXCHANGE)
    p(renameat2, "a", "b", RENAME_EXCHANGE | RENAME_WHITEOUT)
    p(renameat2, "a", "b", 1 << 10)
    p.listing()


@case
def rename_directories(p):
    p(os.makedirs, "a/b/c")
    p.create("a/b/c/f", b"deep")
    p(os.rename, "a", "a/b/x")
    p(os.rename, "a", "a")
    p(os.rename, "a/b", "a")
    p(os.rename, "a/b", "z")
    p.read("z/c/f")
    p(os.rename, "z", "a/b")
    p.read("a/b/c/f")
    p(os.rename, "a/.", "q")
    p(os.rename, "a", "a/..")
    p(os.rename, "a/", "q/")
    p(os.stat, "q")
    p(os.rename, "q", "absent/q")
    p(os.stat, "q/b")
    p(os.mkdir, "e")
    p(os.rename, "e", "q/b/c")
    p(os.rename, "e", "q/b/d/")
    p(renameat2, "q/b/d", "q", RENAME_EXCHANGE)
    p(renameat2, "q/b/d", "q/b/c/f", RENAME_EXCHANGE)
    p.listing("q/b")


@case
def exchange_directories(p):
    p(os.makedirs, "a/in-a")
    p(os.makedirs, "b/in-b/deeper")
    p.create("a/f", b"of a")
    p.create("b/f", b"of b")
    fd = p(os.open, "a/f", os.O_RDWR)
    p(renameat2, "a", "b/in-b/deeper", RENAME_EXCHANGE)
    p(os.pwrite, fd, b"OF", 0)
    p.read("b/in-b/deeper/f")
    p.read("b/f")
    p(os.stat, "a")
    p(os.stat, "b")
    p(renameat2, "a", "b", RENAME_EXCHANGE)
    p.listing("a")
    p.listing("b")
    p(os.close, fd)


@case
def rename_slashes(p):
    p.create("f")
    p(os.mkdir, "d")
    p(os.rename, "f", "g/")
    p(os.rename, "f/", "g")
    p(os.rename, "d/", "e/")
    p(os.rename, "f", "e/")
    p(os.rename, "e", "f/")
    p.listing()


@case
def rename_updates_parents(p):
    p(os.mkdir, "from")
    p(os.mkdir, "to")
    p(os.mkdir, "from/d")
    p.create("from/f")
    with p.stamps("from", "to", "from/f"):
        p(os.rename, "from/f", "to/f")
    with p.stamps("from", "to", "to/f"):
        p(os.rename, "from/d", "to/d")
    p(os.stat, "from")
    p(os.stat, "to")


@case
def times_of_parents(p):
    p(os.mkdir, "d")
    p.create("d/f")
    p(os.mkdir, "d/sub")
    steps = [(os.mkdir, "d/a"), (os.rmdir, "d/a"), (os.link, "d/f", "d/g"),
             (os.unlink, "d/g"), (os.symlink, "x", "d/l"),
             (os.mkfifo, "d/p"), (os.rename, "d/f", "d/h"),
             (os.chmod, "d/h", 0o600), (os.mkdir, "d"), (os.rmdir, "d"),
             (os.listdir, "d")]
    for step in steps:
        with p.stamps("d", "d/h", "d/sub"):
            p(*step)


# ---- names

@case
def odd_names(p):
    names = [b"new\nline", b"\n", b"tab\t", b" ", b"  lead", b"trail ",
             b"back\\slash", b"quote'\"", b"\xff\xfe", b"\x01\x7f",
             "süß".encode(), "日本語".encode(), b"-rf", b"*", b"...", b".hid",
             b"a:b", b"a,b", b"%s%n", b"$(x)", b"n" * 255,
             "é".encode() * 127, b"\xe9" * 255]
    for name in names:
        p.create(name, name)
        p(os.lstat, name)
        p.read(name)
    for name in names:
        p(os.rename, name, b"r" + name[:254])
    p.listing(b".")
    for name in names:
        p(os.mkdir, name)
        p(os.setxattr, name, "user.k", name)
        p.create(name + b"/" + name, b"x")
    p.listing(b".")


@case
def names_too_long(p):
    long, longer = "n" * 255, "n" * 256
    p.create(long)
    p(os.stat, longer)
    p(os.mkdir, longer)
    p(os.symlink, "x", longer)
    p(os.mkfifo, longer)
    p(os.link, long, longer)
    p(os.rename, long, longer)
    p(os.unlink, longer)
    p(os.rmdir, longer)
    p(os.open, longer, os.O_CREAT | os.O_WRONLY)
    p(os.readlink, longer)
    p(os.stat, f"{long}/{longer}")
    p.listing()


@case
def paths_near_path_max(p):
    # A tree whose paths from here are longer than PATH_MAX; only steps that
    # are short each get there.
    name = "d" * 250
    here = os.getcwd()
    room = 4095 - len(here) - 1
    path = "/".join([name] * 20)
    p.see("too long", p.errno_of(os.stat, path) == errno.ENAMETOOLONG)
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(20):
        p(os.mkdir, name, dir_fd=fd)
        sub = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = sub
    file = p(os.open, "leaf", os.O_CREAT | os.O_RDWR, 0o644, dir_fd=fd)
    p(os.write, file, b"far down")
    p(os.close, file)
    p(os.rename, "leaf", "blatt", src_dir_fd=fd, dst_dir_fd=fd)
    p(os.link, "blatt", "twin", src_dir_fd=fd, dst_dir_fd=fd)
    p(os.symlink, "x", "link", dir_fd=fd)
    p(os.chmod, "blatt", 0o600, dir_fd=fd)
    p(os.stat, "twin", dir_fd=fd)
    # Anew: btrfs shows through a descriptor what was there when it was opened.
    again = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
    p(os.listdir, again)
    os.close(again)
    p(os.unlink, "twin", dir_fd=fd)
    p(os.mkdir, "sub", dir_fd=fd)
    p(os.rmdir, "sub", dir_fd=fd)
    p(os.setxattr, f"/proc/self/fd/{fd}", "user.deep", b"1")
    os.close(fd)
    # And the longest path that the kernel takes in one piece.
    depth = room // 251
    shallow = "/".join([name] * (depth - 1))
    p(os.stat, shallow)


# ---- listing

@case
def list_many(p):
    p(os.mkdir, "d")
    for n in range(1500):
        os.close(os.open(f"d/entry-{n:05}", os.O_CREAT | os.O_WRONLY, 0o644))
    p.listing("d")
    for n in range(0, 1500, 3):
        os.unlink(f"d/entry-{n:05}")
    p.listing("d")


@case
def list_kinds(p):
    for kind, make in KINDS.items():
        make(p, kind)
    p.listing()
    p(os.listdir, "full")
    p(os.listdir, "absent")
    p(os.listdir, "file")
    p(os.listdir, "symlink")


@case
def dot_entries(p):
    p(os.mkdir, "d")
    p(os.mkdir, "d/e")
    out = subprocess.run(["ls", "-a", "d", "d/e", "."], capture_output=True,
                         check=False)
    p.see("ls -a", out.stdout)
    p.see("dot", os.stat("d/e/..").st_ino == os.stat("d").st_ino)
    p.see("dots", os.stat("d/e/../.").st_ino == os.stat("d").st_ino)
    fd = p(os.open, "d/e", os.O_RDONLY)
    p(os.fchdir, fd)
    p(os.stat, "..")
    p.see("cwd", os.getcwd().endswith("/d/e"))
    p(os.chdir, "../..")
    p(os.close, fd)


@case
def directories_count_their_subdirectories(p):
    p(os.mkdir, "d")
    for n in range(5):
        p(os.mkdir, f"d/{n}")
        p(os.stat, "d")
    p(os.rename, "d/0", "moved")
    p(os.stat, "d")
    p(os.rmdir, "d/1")
    p(os.stat, "d")
    p.create("d/f")
    p(os.stat, "d")


# ---- permissions of directories

@case(root=False)
def directories_without_permission(p):
    p(os.mkdir, "d")
    p.create("d/f", b"x")
    for mode in (0o000, 0o100, 0o200, 0o300, 0o400, 0o500, 0o600):
        p(os.chmod, "d", mode)
        p(os.listdir, "d")
        p(os.stat, "d/f")
        p(os.open, "d/f", os.O_RDONLY)
        p(os.mkdir, "d/new")
        p(os.rmdir, "d/new")
        p(os.rename, "d/f", "d/g")
        p(os.rename, "d/g", "d/f")
        p(os.chdir, "d")
        os.chdir(os.path.dirname(os.getcwd())) if os.path.basename(
            os.getcwd()) == "d" else None
        p(os.access, "d", os.R_OK | os.W_OK | os.X_OK)
    p(os.chmod, "d", 0o700)


@case(users=False)
def others_and_the_sticky_bit(p):
    p(os.mkdir, "tmp")
    p(os.chmod, "tmp", 0o1777)
    p(os.chmod, ".", 0o755)
    with p.user(USER):
        p.create("tmp/mine", b"x")
        p(os.mkdir, "tmp/dir")
        p(os.stat, "tmp/mine")
    with p.user(OTHER):
        p(os.unlink, "tmp/mine")
        p(os.rename, "tmp/mine", "tmp/theirs")
        p(os.rmdir, "tmp/dir")
        p(os.open, "tmp/mine", os.O_RDWR)
        p.create("tmp/other", b"y")
        p(os.rename, "tmp/other", "tmp/mine")
        p(renameat2, "tmp/other", "tmp/mine", RENAME_EXCHANGE)
        p(os.link, "tmp/mine", "tmp/link")
    p.listing("tmp")
    with p.user(USER):
        p(os.unlink, "tmp/other")
        p(os.unlink, "tmp/mine")
    p.listing("tmp")


@case(users=False)
def set_group_directories(p):
    p(os.mkdir, "d")
    p(os.chown, "d", USER, OTHER)
    p(os.chmod, "d", 0o2775)
    for who, groups in ((USER, ()), (USER, (OTHER,))):
        with p.user(who, groups=groups):
            tag = len(groups)
            p.create(f"d/f{tag}", b"x", 0o644)
            p.create(f"d/s{tag}", b"x", 0o2755)
            p(os.mkdir, f"d/d{tag}", 0o755)
            p(os.mkdir, f"d/e{tag}", 0o2700)
            p(os.symlink, "x", f"d/l{tag}")
            p(os.mkfifo, f"d/p{tag}", 0o2644)
            for letter in "fsdelp":
                p(os.lstat, f"d/{letter}{tag}")
    p.create("d/of-root", b"x", 0o2755)
    p(os.stat, "d/of-root")
    p(os.mkdir, "d/dir-of-root")
    p(os.stat, "d/dir-of-root")


@case(users=False)
def owners_of_new_things(p):
    p(os.chmod, ".", 0o777)
    for uid, gid in ((USER, USER), (OTHER, USER), (0, OTHER), (65534, 65534)):
        with p.user(uid, gid):
            for kind, make in KINDS.items():
                name = f"{kind}-{uid}-{gid}"
                make(p, name)
                p(os.lstat, name)


@case(users=False)
def walking_through_what_others_closed(p):
    p(os.makedirs, "a/b")
    p.create("a/b/f", b"x")
    p(os.chmod, "a", 0o700)
    with p.user(USER):
        p(os.stat, "a/b/f")
        p(os.listdir, "a")
        p(os.stat, "a")
    p(os.chmod, "a", 0o711)
    with p.user(USER):
        p.read("a/b/f")
        p(os.listdir, "a")
        p(os.listdir, "a/b")


@case(root=False)
def things_only_root_may_do(p):
    p.create("f", b"x")
    p(os.chown, "f", OTHER, -1)
    p(os.chown, "f", -1, OTHER)
    p(os.mknod, "dev", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    p(os.setxattr, "f", "trusted.x", b"1")
    p(os.setxattr, "f", "security.x", b"1")
    p(os.listxattr, "f")
    p(os.chmod, "f", 0o6755)
    p(os.stat, "f")
    p(os.chroot, ".")


@case(users=False)
def protected_links(p):
    p(os.chmod, ".", 0o755)
    p(os.mkdir, "d")
    p(os.chmod, "d", 0o1777)
    p.create("d/roots", b"x", 0o600)
    with p.user(USER):
        p(os.link, "d/roots", "d/stolen")
        p(os.symlink, "roots", "d/l")
    p.listing("d")


@case
def programs_run(p):
    p.create("script", b"#!/bin/sh\necho ran $1\n", 0o755)
    run = subprocess.run
    p(run, ["./script", "here"], capture_output=True, check=False)
    with open("/bin/true", "rb") as source:
        p.create("binary", source.read(), 0o755)
    p(run, ["./binary"], capture_output=True, check=False)
    p(os.chmod, "script", 0o644)
    p(run, ["./script"], capture_output=True, check=False)
    p(os.access, "script", os.X_OK)


@case
def busy_program_text(p):
    with open("/bin/sleep", "rb") as source:
        p.create("prog", source.read(), 0o755)
    child = subprocess.Popen(["./prog", "30"])
    p(os.open, "prog", os.O_WRONLY)
    p(os.truncate, "prog", 0)
    p(os.unlink, "prog")
    child.kill()
    child.wait()
    p.listing()


@pytest.mark.sanitizer
@pytest.mark.parametrize("function, identity", cases_of(globals()),
                         ids=case_id)
def test_namespace(parity, function, identity):
    parity.check(function, identity)
