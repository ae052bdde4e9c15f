# SPDX-License-Identifier: GPL-2.0-or-later
"""Somebody removes what lies on a leg behind our back. What programs have seen
there, another leg has still."""

import errno
import os
import shutil
import threading

import pytest

from support.syscalls import RENAME_EXCHANGE, fallocate, renameat2

pytestmark = pytest.mark.timeout_s(400)

NEVER = "probe-interval=0"  # nobody looks after the legs but requests
CACHES = {"cached": [], "revalidated": ["entry-timeout=0", "attr-timeout=0"]}


@pytest.fixture(params=CACHES)
def emptied(request, scene):
    it = scene("plain", "plain", options=[NEVER, *CACHES[request.param]])
    mnt = it.mirror.mnt
    (mnt / "dir").mkdir()
    (mnt / "dir/file").write_bytes(b"content")
    (mnt / "dir/sub").mkdir()
    os.symlink("target", mnt / "dir/link")
    os.link(mnt / "dir/file", mnt / "other")
    os.setxattr(mnt / "dir/file", "user.x", b"value")
    it.mirror.wait_sync()
    for name in ("dir", "dir/file", "dir/sub", "dir/link", "other"):
        os.lstat(mnt / name)  # so that the kernel knows it
    return it


def remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


# What is removed by hand, what a program does then, and what it shall see.
ACTIONS = {
    "open": ("dir/file", lambda p: (p / "dir/file").read_bytes(), b"content"),
    "write": ("dir/file", lambda p: (p / "dir/file").write_bytes(b"new"), 3),
    "stat": ("dir", lambda p: os.stat(p / "dir/file").st_size, 7),
    "list": ("dir", lambda p: sorted(os.listdir(p / "dir")),
             ["file", "link", "sub"]),
    "chmod": ("dir/file", lambda p: os.chmod(p / "dir/file", 0o600), None),
    "truncate": ("dir/file", lambda p: os.truncate(p / "dir/file", 3), None),
    "utime": ("dir/file", lambda p: os.utime(p / "dir/file", (1, 1)), None),
    "getxattr": ("dir/file", lambda p: os.getxattr(p / "dir/file", "user.x"),
                 b"value"),
    "listxattr": ("dir/file", lambda p: os.listxattr(p / "dir/file"),
                  ["user.x"]),
    "setxattr": ("dir/file",
                 lambda p: os.setxattr(p / "dir/file", "user.x", b"v"), None),
    "readlink": ("dir/link", lambda p: os.readlink(p / "dir/link"), "target"),
    "unlink": ("dir/file", lambda p: os.unlink(p / "dir/file"), None),
    "rmdir": ("dir/sub", lambda p: os.rmdir(p / "dir/sub"), None),
    "link": ("dir/file", lambda p: os.link(p / "dir/file", p / "more"), None),
    "rename": ("dir/file", lambda p: os.rename(p / "dir/file", p / "n"), None),
    "rename a directory": ("dir", lambda p: os.rename(p / "dir", p / "n"),
                           None),
    "exchange": ("dir/file", lambda p: renameat2(
        p / "other", p / "dir/link", RENAME_EXCHANGE) or os.rename(
            p / "dir/file", p / "n"), None),
    "create in": ("dir", lambda p: (p / "dir/new").write_bytes(b"1"), 1),
    "mkdir in": ("dir", lambda p: os.mkdir(p / "dir/new"), None),
    "symlink in": ("dir", lambda p: os.symlink("t", p / "dir/new"), None),
    "another name": ("other", lambda p: (p / "other").read_bytes(),
                     b"content"),
}

# Nobody knows which of them is right but the kernel.
@pytest.mark.parametrize("action", ["rmdir", "rename"])
def test_a_directory_is_not_empty_because_it_was_emptied(emptied, action):
    it = emptied
    mnt = it.mirror.mnt
    (mnt / "empty").mkdir()
    for name in ("file", "link", "sub"):
        remove(it.stores[0] / "dir" / name)
    with pytest.raises(OSError) as refused:
        if action == "rmdir":
            os.rmdir(mnt / "dir")
        else:
            os.rename(mnt / "empty", mnt / "dir")
    assert refused.value.errno == errno.ENOTEMPTY
    assert (mnt / "dir/file").read_bytes() == b"content"
    it.mirror.cli("online", mnt, it.names[0])
    it.finish()


# What the kernel may know, or do by another name.
UNNOTICED = {"stat", "another name"}


@pytest.mark.parametrize("action", ACTIONS)
def test_a_name_is_removed_from_the_primary(emptied, action):
    """Undone, like what is removed by hand from a leg that is away."""
    gone, act, expected = ACTIONS[action]
    it = emptied
    mnt = it.mirror.mnt
    remove(it.stores[0] / gone)
    assert act(mnt) == expected
    if action in UNNOTICED and it.state(0) == "in-sync":
        return
    assert it.state(0) == "failed"
    assert "removed" in it.leg(0)["reason"]
    it.mirror.cli("online", mnt, it.names[0])
    it.finish()


def copy_to(mnt, fd):
    other = os.open(mnt / "other", os.O_WRONLY)
    try:
        return os.copy_file_range(fd, other, 7, 0, 0)
    finally:
        os.close(other)


def fsync_dir(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# By a descriptor, of which the primary has none yet.
HELD = {
    "read": (lambda mnt, fd: os.pread(fd, 7, 0), b"Content"),
    "write": (lambda mnt, fd: os.pwrite(fd, b"x", 3), 1),
    "fsync": (lambda mnt, fd: os.fsync(fd), None),
    "seek": (lambda mnt, fd: os.lseek(fd, 0, os.SEEK_HOLE), 7),
    "allocate": (lambda mnt, fd: fallocate(fd, 0, 7, 100), None),
    "copy": (copy_to, 7),
    "fstat": (lambda mnt, fd: os.fstat(fd).st_size, 7),
    "truncate": (lambda mnt, fd: os.ftruncate(fd, 3), None),
    "chmod": (lambda mnt, fd: os.fchmod(fd, 0o600), None),
    "link": (lambda mnt, fd: os.link(mnt / "dir/file", mnt / "more"), None),
    "fsync the directory": (lambda mnt, fd: fsync_dir(mnt / "dir"), None),
}


@pytest.mark.parametrize("action", HELD)
def test_a_file_that_is_open_is_removed_from_the_primary(scene, action):
    act, expected = HELD[action]
    it = scene("plain", "plain", options=[NEVER])
    mnt = it.mirror.mnt
    (mnt / "dir").mkdir()
    (mnt / "dir/file").write_bytes(b"content")
    (mnt / "other").touch()
    it.mirror.cli("offline", mnt, it.names[1])
    fd = os.open(mnt / "dir/file", os.O_RDWR)
    try:
        os.pwrite(fd, b"C", 0)
        it.mirror.cli("online", mnt, it.names[1])
        it.wait_back(1)
        it.mirror.cli("promote", mnt, it.names[1])
        shutil.rmtree(it.stores[1] / "dir")
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert act(mnt, fd) == expected
    finally:
        os.close(fd)
    if it.state(1) == "failed":
        assert "removed" in it.leg(1)["reason"]
        it.mirror.cli("online", mnt, it.names[1])
        it.finish()
    else:
        assert action in ("fstat", "seek"), "the kernel may know"


def test_an_open_file_has_a_link_still(scene):
    it = scene("plain", "plain", options=[NEVER, "attr-timeout=0"])
    mnt = it.mirror.mnt
    (mnt / "file").write_bytes(b"x")
    it.mirror.wait_sync()
    with open(mnt / "file", "r+b") as file:
        os.pwrite(file.fileno(), b"y", 0)
        (it.stores[0] / "file").unlink()
        assert os.fstat(file.fileno()).st_nlink == 1
        os.link(mnt / "file", mnt / "more")
        assert os.fstat(file.fileno()).st_nlink == 2
    it.mirror.cli("online", mnt, it.names[0])
    it.finish()


def test_a_number_that_is_given_again_is_shown_once(scene):
    """What was removed lives on; what gets its number is another file."""
    it = scene("plain", "plain", options=[NEVER])
    mnt = it.mirror.mnt
    (mnt / "old").write_bytes(b"old")
    it.mirror.wait_sync()
    number = (it.stores[0] / "old").stat().st_ino
    (it.stores[0] / "old").unlink()
    for n in range(20):
        (mnt / f"new{n}").write_bytes(b"new")
        if (it.stores[0] / f"new{n}").stat().st_ino == number:
            break
    else:
        pytest.skip("this file system does not give it again")
    assert (mnt / "old").read_bytes() == b"old"
    shown = [os.stat(entry).st_ino for entry in mnt.iterdir()]
    assert len(shown) == len(set(shown))
    it.mirror.cli("online", mnt, it.names[0])
    it.finish()


@pytest.mark.parametrize("emptied", ["cached"], indirect=True)
def test_all_is_removed_but_nothing_of_it_was_known(emptied):
    """The label tells."""
    it = emptied
    mnt = it.mirror.mnt
    it.mirror.umount()
    it.mirror.mount()
    shutil.rmtree(it.stores[0], ignore_errors=True)
    assert (mnt / "dir/file").read_bytes() == b"content"
    assert it.state(0) == "failed"
    assert "label" in it.leg(0)["reason"]


@pytest.mark.parametrize("emptied", ["cached"], indirect=True)
def test_the_list_of_an_emptied_leg(emptied):
    it = emptied
    for entry in it.stores[0].iterdir():
        remove(entry)
    assert sorted(os.listdir(it.mirror.mnt)) == ["dir", "other"]
    assert it.state(0) == "failed"


def test_what_was_removed_through_the_mount_stays_so(emptied):
    it = emptied
    mnt = it.mirror.mnt
    os.unlink(mnt / "dir/file")
    os.rename(mnt / "other", mnt / "renamed")
    os.rmdir(mnt / "dir/sub")
    for name in ("dir/file", "other", "dir/sub", "never"):
        with pytest.raises(FileNotFoundError):
            os.stat(mnt / name)
    assert it.state(0) == "in-sync"
    it.finish()


def test_what_no_leg_has_is_gone(emptied):
    it = emptied
    for store in it.stores:
        remove(store / "dir/link")
    with pytest.raises(FileNotFoundError):
        os.chown(it.mirror.mnt / "dir/link", 0, 0, follow_symlinks=False)
        os.readlink(it.mirror.mnt / "dir/link")
        os.unlink(it.mirror.mnt / "dir/link")
    assert it.state(0) == "in-sync"


def test_the_last_leg_is_not_failed(emptied):
    it = emptied
    it.mirror.cli("offline", it.mirror.mnt, it.names[1])
    remove(it.stores[0] / "dir/link")
    with pytest.raises(FileNotFoundError):
        os.unlink(it.mirror.mnt / "dir/link")
    assert it.state(0) == "in-sync"
    it.mirror.cli("online", it.mirror.mnt, it.names[1])
    it.wait_back()


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_names_that_come_and_go_are_no_sign(scene, kind):
    """One thread makes and removes a name, others ask for it all the time."""
    it = scene("plain", "faulty", options=["entry-timeout=0",
                                           "attr-timeout=0"])
    it.things[1].add(["create", "unlink", "rename", "mkdir", "rmdir"],
                     delay_ms=3)
    mnt = it.mirror.mnt
    stop = threading.Event()
    wrong = []

    def ask(what):
        while not stop.is_set():
            try:
                what(mnt / "name")
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ESTALE,
                                       errno.ENOTDIR):
                    wrong.append(error)

    threads = [threading.Thread(target=ask, args=(what,)) for what in
               (os.stat, os.listxattr, os.listdir,
                lambda path: os.close(os.open(path, os.O_RDONLY)),
                lambda path: os.chmod(path, 0o755))]
    for thread in threads:
        thread.start()
    try:
        for _ in range(150):
            if kind == "file":
                (mnt / "name").write_bytes(b"x")
                os.rename(mnt / "name", mnt / "moved")
                os.rename(mnt / "moved", mnt / "name")
                os.unlink(mnt / "name")
            else:
                os.mkdir(mnt / "name")
                os.rename(mnt / "name", mnt / "moved")
                os.rename(mnt / "moved", mnt / "name")
                os.rmdir(mnt / "name")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert [leg["state"] for leg in it.mirror.status()["legs"]] == \
        ["in-sync", "in-sync"]
    it.finish()
