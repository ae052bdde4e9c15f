# SPDX-License-Identifier: GPL-2.0-or-later
"""Somebody removes what lies on the primary behind our back while another leg
catches up from it. The leg in sync that has it all is believed."""

import contextlib
import errno
import os
import shutil
import threading

import pytest

from support.faulty_leg import EVERYTHING
from support.hold import Hold
from support.mirror import MountFailed, wait_until

pytestmark = pytest.mark.timeout_s(400)

NEVER = "probe-interval=0"  # nobody looks after the legs but requests


def remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def read_anew(path):
    """Not what the kernel has of it."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file.read()


def with_files(scene, *kinds, options=(NEVER,), env=None):
    it = scene(*kinds, options=list(options), mount=False)
    it.mirror.mount(env=env)
    mnt = it.mirror.mnt
    (mnt / "dir").mkdir()
    for n in range(5):
        (mnt / f"dir/file{n}").write_bytes(b"content")
    it.mirror.wait_sync()
    it.mirror.umount()  # so that the log is empty
    it.mirror.mount(env=env)
    for n in range(5):
        os.lstat(mnt / f"dir/file{n}")
    return it


def with_a_third_leg_away(scene, options=(NEVER,)):
    """What is known of the first leg is removed from it by the caller."""
    return with_files(scene, "plain", "plain", "plain", options=options)


def empty_while_away(it, away):
    """The leg misses a name, and the primary loses others meanwhile."""
    mnt = it.mirror.mnt
    it.mirror.cli("offline", mnt, it.names[away])
    (mnt / "dir/new").write_bytes(b"new")
    for n in range(5):
        remove(it.stores[0] / f"dir/file{n}")
    it.mirror.cli("online", mnt, it.names[away])
    it.wait_back(away)


def whole_again(it):
    for n, name in enumerate(it.names):
        if it.state(n) == "failed":
            it.mirror.cli("online", it.mirror.mnt, name)
    it.wait_back()
    assert (it.mirror.mnt / "dir/file0").read_bytes() == b"content"
    it.finish()


@pytest.mark.parametrize("away", [1, 2])
def test_what_is_removed_is_not_removed_from_a_leg_that_returns(scene, away):
    it = with_a_third_leg_away(scene)
    empty_while_away(it, away)
    assert read_anew(it.mirror.mnt / "dir/file0") == b"content"
    assert it.primary() == 3 - away
    whole_again(it)


@pytest.mark.parametrize("how", ["asked for", "label"])
def test_every_leg_has_been_away(scene, how):
    """The one that has been in sync for the longest time is believed."""
    it = with_a_third_leg_away(scene)
    mnt = it.mirror.mnt
    it.mirror.cli("offline", mnt, it.names[2])
    os.unlink(mnt / "dir/file4")
    it.mirror.cli("online", mnt, it.names[2])
    it.wait_back(2)
    (mnt / "dir/file4").write_bytes(b"content")
    empty_while_away(it, 1)
    if how == "label":
        shutil.rmtree(it.stores[0] / ".mirrorfs", ignore_errors=True)
        os.listdir(mnt)
        it.wait_out(0)
    assert read_anew(mnt / "dir/file0") == b"content"
    it.mirror.wait_sync()
    for store in it.stores[1:]:
        assert (store / "dir/file0").read_bytes() == b"content"


@pytest.mark.parametrize("away", [1, 2])
def test_what_was_never_copied(scene, away):
    it = with_a_third_leg_away(scene)
    mnt = it.mirror.mnt
    it.mirror.cli("offline", mnt, it.names[away])
    (mnt / "dir/new").write_bytes(b"new")
    remove(it.stores[0] / "dir/new")
    it.mirror.cli("online", mnt, it.names[away])
    it.wait_back(away)
    assert read_anew(mnt / "dir/new") == b"new"
    assert it.primary() == 3 - away
    whole_again(it)


def test_an_emptied_primary_fails_later(scene):
    it = with_files(scene, "faulty", "plain", "plain")
    mnt = it.mirror.mnt
    empty_while_away(it, 1)
    (mnt / "dir/new2").write_bytes(b"new")
    it.things[0].fail(EVERYTHING, errno.EIO)
    (mnt / "dir/new3").write_bytes(b"new")
    it.wait_out(0)
    it.mirror.wait_sync()
    it.things[0].clear()
    for store in it.stores[1:]:
        assert (store / "dir/file0").read_bytes() == b"content"
    whole_again(it)


@pytest.mark.parametrize("how", ["hangs", "error", "dies"])
def test_the_first_leg_that_is_asked_cannot_tell(scene, how):
    it = with_files(scene, "plain", "faulty", "plain")
    remove(it.stores[0] / "dir/file0")
    if how == "hangs":
        it.things[1].hang(EVERYTHING)
    elif how == "error":
        it.things[1].fail(EVERYTHING, errno.EIO)
    else:
        it.things[1].die()
    assert read_anew(it.mirror.mnt / "dir/file0") == b"content"
    assert it.primary() == 2
    if how == "dies":
        it.things[1].restart()
    else:
        it.things[1].clear()
    whole_again(it)


@pytest.mark.parametrize("action", ["rmdir", "rename"])
def test_a_directory_that_only_the_third_leg_has_files_in(scene, action):
    it = with_a_third_leg_away(scene)
    mnt = it.mirror.mnt
    for name in ("dir2", "empty"):
        (mnt / name).mkdir()
    it.mirror.cli("offline", mnt, it.names[1])
    (mnt / "dir2/file").write_bytes(b"content")
    remove(it.stores[0] / "dir2/file")
    it.mirror.cli("online", mnt, it.names[1])
    it.wait_back(1)
    with pytest.raises(OSError) as refused:
        if action == "rmdir":
            os.rmdir(mnt / "dir2")
        else:
            os.rename(mnt / "empty", mnt / "dir2")
    assert refused.value.errno == errno.ENOTEMPTY
    whole_again(it)


def test_a_leg_to_be_compared_is_not_whole(scene, base):
    """It says so itself, before anything else happens."""
    hold = Hold(base / "hold", "leg-failed")
    it = scene("plain", "plain", "plain", options=[NEVER], mount=False)
    mirror, mnt = it.mirror, it.mirror.mnt
    mirror.mount(env=hold.env)
    (mnt / "dir").mkdir()
    (mnt / "dir/file").write_bytes(b"content")
    mirror.wait_sync()
    os.lstat(mnt / "dir/file")
    remove(it.stores[0] / "dir/file")

    def ask():
        with contextlib.suppress(OSError):
            os.listxattr(mnt / "dir/file")

    with hold:
        asking = threading.Thread(target=ask)
        asking.start()
        hold.wait_reached()
        mirror.kill9()
        asking.join()
    with pytest.raises(MountFailed, match="up-to-date|up to date"):
        mirror.mount(legs=[it.stores[2], base / "away"])
    mirror.mount(legs=it.stores[1:])
    assert (mnt / "dir/file").read_bytes() == b"content"
    mirror.wait_sync()


@pytest.mark.parametrize("what", ["content", "attributes", "names"])
@pytest.mark.parametrize("away", [1, 2])
def test_a_leg_that_lacks_something_of_what_is_removed(scene, away, what):
    """It is not believed to have it."""
    it = with_a_third_leg_away(scene)
    mnt = it.mirror.mnt
    it.mirror.cli("offline", mnt, it.names[away])
    if what == "content":
        with open(mnt / "dir/file1", "r+b") as file:
            file.write(b"CONTENT")
            os.fsync(file.fileno())
        remove(it.stores[0] / "dir/file1")
    elif what == "attributes":
        os.chmod(mnt / "dir/file1", 0o604)
        remove(it.stores[0] / "dir/file1")
    else:
        (mnt / "dir/file1").rename(mnt / "dir/renamed")
        remove(it.stores[0] / "dir")
    it.mirror.cli("online", mnt, it.names[away])
    it.mirror.wait_sync()
    name = "renamed" if what == "names" else "file1"
    assert read_anew(mnt / "dir" / name).lower() == b"content"
    assert it.state(0) == "failed"
    it.mirror.cli("online", mnt, it.names[0])
    it.finish()
    path = it.stores[away] / "dir" / name
    if what == "content":
        assert path.read_bytes() == b"CONTENT"
    elif what == "attributes":
        assert path.stat().st_mode & 0o777 == 0o604


def test_a_primary_is_emptied_while_a_leg_returns(scene):
    it = with_a_third_leg_away(scene, [])
    mnt = it.mirror.mnt
    it.mirror.cli("offline", mnt, it.names[2])
    (mnt / "dir/new").write_bytes(b"new")
    shutil.rmtree(it.stores[0] / "dir")  # at first; the label last
    it.mirror.cli("online", mnt, it.names[2])
    it.wait_back(2)
    shutil.rmtree(it.stores[0] / ".mirrorfs", ignore_errors=True)
    it.wait_out(0)
    it.mirror.wait_sync()
    assert len(os.listdir(mnt / "dir")) == 6
    it.mirror.umount()
    it.assert_legs_identical(1, 2)


def test_a_leg_without_a_label_empties_no_other(scene):
    """It is the last in sync, so it cannot fail; but it is not believed when it
    lacks something."""
    it = scene("plain", "plain", options=[NEVER], mount=False)
    mirror, mnt = it.mirror, it.mirror.mnt
    hold = Hold(mirror.base / "hold", "recovery-names")
    mirror.mount(env=hold.env)
    (mnt / "dir").mkdir()
    (mnt / "dir/file").write_bytes(b"content")
    mirror.wait_sync()
    mirror.cli("offline", mnt, it.names[1])
    (mnt / "dir/new").write_bytes(b"new")
    with hold:
        mirror.cli("online", mnt, it.names[1])
        hold.wait_reached()
        remove(it.stores[0] / "dir/file")
        (it.stores[0] / ".mirrorfs/label").unlink()
    wait_until(lambda: "nothing is removed" in mirror.said(), 30)
    assert (it.stores[1] / "dir/file").read_bytes() == b"content"
    assert it.state(1) == "resync"
