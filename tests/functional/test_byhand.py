# SPDX-License-Identifier: GPL-2.0-or-later
"""A leg that was changed by hand while it was away: what is there is settled
from the primary, and the foreign version is kept on the leg. What the mirror
itself has written is never taken for such a change."""

import json
import os
import time
from pathlib import Path

import pytest

from support.mirror import wait_until

# What is under way when a leg goes may reach it that much later.
GRACE = 2.2


def kept(leg):
    """path in the mirror -> contents of the versions that are kept."""
    root = Path(leg) / ".mirrorfs/conflicts"
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not path.is_dir():
            name = "/".join(path.relative_to(root).parts[1:])
            found.setdefault(name, []).append(
                os.readlink(path) if path.is_symlink() else path.read_bytes())
    return found


def events(mirror, name):
    said = json.loads(mirror.cli("events", mirror.mnt, "--json").stdout)
    return [event for event in said["events"] if event["name"] == name]


class Scene:
    """A mirror with a few files whose leg b is taken offline."""

    def __init__(self, mirror, *flags):
        self.mirror = mirror
        self.mnt = mirror.mnt
        self.a, self.b = mirror.legs
        mirror.create(*flags)
        mirror.mount()
        (self.mnt / "dir/sub").mkdir(parents=True)
        (self.mnt / "other").mkdir()
        for name in ("file", "dir/file", "dir/sub/file", "dir/gone",
                     "dir/moved", "dir/still", "other/file"):
            (self.mnt / name).write_bytes(name.encode() * 100)
        mirror.wait_sync()
        mirror.expect_diagnostics("leg|conflict|kept")

    def clean(self):
        """Nothing is dirty any more: a leg that goes lacks what is changed
        then, and no more."""
        self.mirror.wait_sync()
        os.sync()
        self.mirror.umount()
        self.mirror.mount()

    def leave(self):
        self.mirror.cli("offline", self.mnt, self.b.name)
        time.sleep(GRACE)

    def come_back_slowly(self):
        time.sleep(0.05)  # clocks of file systems tick every few milliseconds
        self.mirror.cli("online", self.mnt, self.b.name)

    def come_back(self):
        self.come_back_slowly()
        self.mirror.wait_sync()

    def conflicts(self):
        return self.mirror.leg_status(self.b.name)["conflicts"]

    def finish(self, expected):
        assert kept(self.b) == expected
        count = sum(len(versions) for versions in expected.values())
        assert self.conflicts() == {
            "kept": count, "waiting": False,
            "path": str(self.b / ".mirrorfs/conflicts")}
        text = self.mirror.cli("status", self.mnt, check=False).stdout
        assert ("keeps" in text) == (count > 0)
        assert ".mirrorfs" not in os.listdir(self.mnt)
        self.mirror.settle_and_compare()
        assert kept(self.b) == expected


@pytest.fixture
def scene(mirrors):
    return Scene(mirrors())


def test_a_file_changed_on_both_sides(scene):
    scene.leave()
    path = scene.b / "file"
    path.write_bytes(b"by hand")
    path.chmod(0o640)
    os.setxattr(path, "user.mine", b"yes")
    before = path.stat()
    (scene.mnt / "file").write_bytes(b"by the mirror")
    scene.come_back()
    assert (scene.b / "file").read_bytes() == b"by the mirror"
    version, = (scene.b / ".mirrorfs/conflicts").rglob("file")
    after = version.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_uid) == \
        (before.st_mode, before.st_mtime_ns, before.st_uid)
    assert os.getxattr(version, "user.mine") == b"yes"
    event, = events(scene.mirror, "conflict-kept")
    assert event["leg"] == scene.b.name
    assert event["detail"].startswith("file: kept as .mirrorfs/conflicts/")
    scene.finish({"file": [b"by hand"]})


def test_the_rest_of_a_large_file_is_settled_too(mirrors):
    """Another part of it was changed by hand than through the mirror."""
    scene = Scene(mirrors(), "--region-size", "64K")
    data = os.urandom(1 << 20)
    (scene.mnt / "large").write_bytes(data)
    scene.clean()
    scene.leave()
    mtime = (scene.b / "large").stat().st_mtime_ns
    with open(scene.b / "large", "r+b") as file:
        file.seek(900000)
        file.write(b"by hand")
    os.utime(scene.b / "large", ns=(mtime, mtime))
    foreign = (scene.b / "large").read_bytes()
    with open(scene.mnt / "large", "r+b") as file:
        file.write(b"by the mirror")
    scene.come_back()
    scene.finish({"large": [foreign]})


def test_removed_and_moved_on_the_mirror(scene):
    scene.leave()
    (scene.b / "dir/gone").write_bytes(b"edited, and removed there")
    (scene.b / "dir/moved").write_bytes(b"edited, and moved there")
    os.unlink(scene.mnt / "dir/gone")
    os.rename(scene.mnt / "dir/moved", scene.mnt / "other/moved")
    scene.come_back()
    assert (scene.b / "other/moved").read_bytes() == b"dir/moved" * 100
    scene.finish({"dir/gone": [b"edited, and removed there"],
                  "dir/moved": [b"edited, and moved there"]})


def test_replaced_on_the_mirror(scene):
    scene.leave()
    (scene.b / "dir/gone").write_bytes(b"edited")
    (scene.b / "dir/sub/file").write_bytes(b"edited, too")
    os.unlink(scene.mnt / "dir/gone")
    os.symlink("somewhere", scene.mnt / "dir/gone")
    os.rename(scene.mnt / "dir/still", scene.mnt / "dir/sub/file")
    scene.come_back()
    scene.finish({"dir/gone": [b"edited"], "dir/sub/file": [b"edited, too"]})


def test_a_directory_moved_on_the_mirror(scene):
    scene.leave()
    (scene.b / "dir/file").write_bytes(b"edited")
    (scene.b / "dir/sub/new").write_bytes(b"new")
    os.rename(scene.mnt / "dir", scene.mnt / "renamed")
    scene.come_back()
    assert (scene.b / "renamed/file").read_bytes() == b"dir/file" * 100
    scene.finish({"renamed/file": [b"edited"], "renamed/sub/new": [b"new"]})


def test_made_by_hand_in_a_directory_that_changed(scene):
    old = scene.b.with_name("old")
    old.mkdir()
    (old / "inside").write_bytes(b"older than all of it")
    scene.leave()
    (scene.b / "dir/new").write_bytes(b"new")
    os.symlink("target", scene.b / "dir/link")
    os.rename(old, scene.b / "dir/tree")
    (scene.mnt / "dir/more").write_bytes(b"more")
    scene.come_back()
    scene.finish({"dir/new": [b"new"], "dir/link": ["target"],
                  "dir/tree/inside": [b"older than all of it"]})


def test_hard_links(scene):
    os.link(scene.mnt / "file", scene.mnt / "dir/name")
    scene.mirror.wait_sync()
    scene.leave()
    (scene.b / "file").write_bytes(b"edited by one name")
    (scene.mnt / "file").write_bytes(b"by the mirror")
    os.unlink(scene.mnt / "dir/name")
    scene.come_back()
    assert [b"edited by one name"] in kept(scene.b).values()
    scene.mirror.settle_and_compare()
    assert all(versions == [b"edited by one name"]
               for versions in kept(scene.b).values())


def test_twice(scene):
    """An earlier version is never overwritten."""
    for n in range(2):
        scene.leave()
        (scene.b / "file").write_bytes(b"by hand %d" % n)
        (scene.mnt / "file").write_bytes(b"by the mirror %d" % n)
        scene.come_back()
    scene.leave()
    # What was a file is a directory now.
    os.unlink(scene.b / "file")
    (scene.b / "file").mkdir()
    (scene.b / "file/inner").write_bytes(b"by hand")
    (scene.mnt / "file").write_bytes(b"by the mirror again")
    (scene.mnt / "more").write_bytes(b"")
    scene.come_back()
    scene.finish({"file": [b"by hand 0", b"by hand 1"],
                  "file/inner": [b"by hand"]})


def test_the_same_by_hand_is_no_conflict(scene):
    scene.leave()
    for where in (scene.b, scene.mnt):
        (where / "file").write_bytes(b"the same")
    (scene.b / "dir/file").touch()
    (scene.mnt / "dir/more").write_bytes(b"more")
    scene.come_back()
    scene.finish({})


def test_a_clean_part_is_found_by_resync(scene):
    scene.clean()
    scene.leave()
    (scene.b / "other/file").write_bytes(b"by hand")
    (scene.mnt / "dir/more").write_bytes(b"more")
    scene.come_back()
    assert kept(scene.b) == {}
    scene.mirror.cli("resync", scene.mnt, scene.b.name)
    scene.mirror.wait_sync()
    scene.finish({"other/file": [b"by hand"]})


def test_changed_while_nothing_was_mounted(scene):
    scene.mirror.umount()
    time.sleep(GRACE)
    (scene.b / "other/file").write_bytes(b"by hand")
    scene.mirror.mount()
    (scene.mnt / "dir/more").write_bytes(b"more")
    assert kept(scene.b) == {}
    scene.mirror.cli("resync", scene.mnt, scene.b.name)
    scene.mirror.wait_sync()
    scene.finish({"other/file": [b"by hand"]})


@pytest.mark.parametrize("end", ["orderly", "killed"])
def test_missing_at_the_mount(scene, end):
    if end == "orderly":
        scene.mirror.umount()
    else:
        (scene.mnt / "file").write_bytes(b"just before")
        scene.mirror.kill9()
    away = scene.b.with_name("away")
    scene.b.rename(away)
    scene.mirror.remount()
    (scene.mnt / "file").write_bytes(b"by the mirror")
    time.sleep(GRACE)
    (away / "file").write_bytes(b"by hand")
    time.sleep(0.05)
    away.rename(scene.b)
    wait_until(lambda: scene.mirror.leg_status(scene.b.name)["state"]
               == "in-sync", 30)
    scene.finish({"file": [b"by hand"]})


@pytest.mark.parametrize("both_sides", [True, False])
def test_a_second_name_is_made_on_the_mirror(scene, both_sides):
    """The name that is made on the leg, too, gives the file a new ctime."""
    scene.leave()
    (scene.b / "dir/file").write_bytes(b"by hand")
    if both_sides:
        (scene.mnt / "dir/file").write_bytes(b"by the mirror")
    os.link(scene.mnt / "dir/file", scene.mnt / "dir/name")
    scene.come_back()
    assert os.path.samefile(scene.b / "dir/file", scene.b / "dir/name")
    versions = [one for found in kept(scene.b).values() for one in found]
    assert versions == [b"by hand"]
    scene.mirror.settle_and_compare()


def test_one_of_two_names_is_replaced_by_hand(scene):
    (scene.mnt / "aaa").mkdir()
    os.link(scene.mnt / "dir/file", scene.mnt / "aaa/name")
    scene.clean()
    scene.leave()
    (scene.mnt / "aaa/new").write_bytes(b"new")
    (scene.b / "temporary").write_bytes(b"by hand")
    os.rename(scene.b / "temporary", scene.b / "dir/file")
    scene.come_back()
    scene.mirror.cli("resync", scene.mnt, scene.b.name)
    scene.mirror.wait_sync()
    scene.mirror.settle_and_compare()
    versions = [one for found in kept(scene.b).values() for one in found]
    # The other name's ctime changed, too.
    assert b"by hand" in versions
    assert set(versions) <= {b"by hand", b"dir/file" * 100}


def resync_rate(scene, rate):
    scene.mirror.cli("set", scene.mnt, f"resync-rate-max={rate}")


@pytest.mark.parametrize("moves", ["dir/large", "dir"])
def test_renamed_while_it_is_compared(scene, moves):
    data = bytearray(os.urandom(16 << 20))
    (scene.mnt / "dir/large").write_bytes(data)
    scene.clean()
    scene.leave()
    for where, what, at in ((scene.b, b"by hand", 15 << 20),
                            (scene.mnt, b"by the mirror", 12 << 20)):
        with open(where / "dir/large", "r+b") as file:
            file.seek(at)
            file.write(what)
    foreign = (scene.b / "dir/large").read_bytes()
    resync_rate(scene, "4M")
    scene.come_back_slowly()
    time.sleep(1)
    assert kept(scene.b) == {}
    os.rename(scene.mnt / moves, scene.mnt / "renamed")
    time.sleep(0.5)
    resync_rate(scene, "1G")
    scene.mirror.wait_sync()
    versions = [one for found in kept(scene.b).values() for one in found]
    assert versions == [foreign]
    scene.mirror.settle_and_compare()


def rename(mnt):
    os.rename(mnt / "dir/file", mnt / "other/renamed")


def rename_its_directory(mnt):
    os.rename(mnt / "dir", mnt / "renamed")


def link(mnt):
    os.link(mnt / "dir/file", mnt / "other/name")


def unlink_another(mnt):
    os.unlink(mnt / "other/another")


@pytest.mark.parametrize("change", [rename, rename_its_directory, link,
                                    unlink_another])
@pytest.mark.parametrize("killed", [False, True])
def test_renamed_before_recovery_comes_to_it(scene, change, killed):
    (scene.mnt / "aaa").write_bytes(os.urandom(4 << 20))
    if change is unlink_another:
        os.link(scene.mnt / "dir/file", scene.mnt / "other/another")
    scene.clean()
    scene.leave()
    (scene.b / "dir/file").write_bytes(b"by hand")
    (scene.mnt / "aaa").write_bytes(os.urandom(4 << 20))
    (scene.mnt / "dir/file").write_bytes(b"by the mirror")
    resync_rate(scene, "4K")
    scene.come_back_slowly()
    change(scene.mnt)
    assert kept(scene.b) == {}
    if killed:
        scene.mirror.kill9()
        scene.mirror.remount()
        scene.mirror.cli("online", scene.mnt, scene.b.name)
    resync_rate(scene, "1G")
    scene.mirror.wait_sync()
    versions = [one for found in kept(scene.b).values() for one in found]
    assert versions == [b"by hand"]
    scene.mirror.settle_and_compare()


@pytest.fixture
def old_directory(mirrors):
    """A scene, and a directory elsewhere on the disk of leg b that is older
    than all of it."""
    mirror = mirrors()
    old = mirror.legs[1].with_name("old")
    (old / "sub").mkdir(parents=True)
    for name in ("file", "extra", "sub/file", "sub/extra"):
        (old / name).write_bytes(b"old " + name.encode())
    return Scene(mirror), old


def replace_directory(scene, old):
    os.rename(scene.b / "dir", scene.b.with_name("was there"))
    os.rename(old, scene.b / "dir")


def test_a_directory_replaced_by_hand(old_directory):
    scene, old = old_directory
    scene.leave()
    replace_directory(scene, old)
    (scene.mnt / "dir/file").write_bytes(b"by the mirror")
    (scene.mnt / "dir/new").write_bytes(b"new")
    (scene.mnt / "dir/sub/new").write_bytes(b"new")
    scene.come_back()
    scene.finish({f"dir/{name}": [f"old {name}".encode()] for name in
                  ("file", "extra", "sub/file", "sub/extra")})


def test_a_directory_replaced_by_hand_is_renamed(old_directory):
    scene, old = old_directory
    scene.leave()
    replace_directory(scene, old)
    os.rename(scene.mnt / "dir", scene.mnt / "renamed")
    scene.come_back()
    scene.finish({"renamed/file": [b"old file"],
                  "renamed/extra": [b"old extra"],
                  "renamed/sub/file": [b"old sub/file"],
                  "renamed/sub/extra": [b"old sub/extra"]})


def test_a_directory_with_other_attributes_is_no_conflict(scene):
    before = (scene.b / "dir").stat().st_ino
    scene.leave()
    (scene.b / "dir").chmod(0o700)
    os.rename(scene.mnt / "dir", scene.mnt / "renamed")
    scene.come_back()
    assert (scene.b / "renamed").stat().st_ino == before
    scene.finish({})


@pytest.mark.parametrize("point", ["foreign-kept:1", "foreign-kept:3"])
def test_killed_while_a_directory_is_kept(old_directory, point):
    scene, old = old_directory
    scene.leave()
    os.rename(old, scene.b / "dir/tree")
    (scene.mnt / "dir/new").write_bytes(b"new")
    scene.mirror.umount()
    scene.mirror.mount(env={"MIRRORFS_KILL_AT": point})
    scene.mirror.cli("online", scene.mnt, scene.b.name, check=False)
    scene.mirror.wait_daemon_end()
    scene.mirror.remount()
    scene.mirror.cli("online", scene.mnt, scene.b.name)
    scene.mirror.wait_sync()
    scene.finish({f"dir/tree/{name}": [f"old {name}".encode()] for name in
                  ("file", "extra", "sub/file", "sub/extra")})


def test_holes_are_not_compared(scene):
    """At this pace it would take an hour."""
    with open(scene.mnt / "sparse", "wb") as file:
        file.truncate(4 << 30)
        file.seek(1 << 30)
        file.write(b"in the middle")
    scene.mirror.wait_sync()
    scene.leave()
    (scene.b / "sparse").touch()
    (scene.mnt / "sparse").chmod(0o600)
    resync_rate(scene, "1M")
    scene.come_back()
    scene.finish({})


# ---- no false conflicts

def churn(mnt, tag):
    for n in range(30):
        path = mnt / f"dir/churn{n}"
        path.write_bytes(os.urandom(100000))
        if n % 3 == 0:
            os.unlink(path)
        elif n % 3 == 1:
            os.rename(path, mnt / f"other/{tag}{n}")
        with open(mnt / "file", "r+b") as file:
            file.seek(n * 5000)
            file.write(tag.encode() * 1000)


def test_coming_and_going_under_writes(scene):
    for n in range(3):
        churn(scene.mnt, f"up{n}")
        scene.mirror.cli("offline", scene.mnt, scene.b.name)
        churn(scene.mnt, f"away{n}")
        time.sleep(1)
        scene.mirror.cli("online", scene.mnt, scene.b.name)
        churn(scene.mnt, f"back{n}")
    scene.mirror.wait_sync()
    scene.finish({})


@pytest.mark.parametrize("point", ["recovery-copy:3", "recovery-copy:20",
                                   "recovery-names:2", "moved-brought:1"])
def test_an_interrupted_resync(scene, point):
    churn(scene.mnt, "before")
    scene.leave()
    churn(scene.mnt, "away")
    os.rename(scene.mnt / "dir/sub", scene.mnt / "aaa")
    scene.mirror.umount()
    scene.mirror.mount(env={"MIRRORFS_KILL_AT": point})
    try:
        scene.mirror.cli("online", scene.mnt, scene.b.name)
    except AssertionError:
        pass  # it died before it could answer
    scene.mirror.wait_daemon_end()
    scene.mirror.remount()
    churn(scene.mnt, "after")
    # It goes again in the middle, for longer than what it was given takes.
    scene.leave()
    churn(scene.mnt, "away again")
    scene.come_back()
    scene.mirror.wait_sync()
    scene.finish({})


def test_a_crash_of_the_daemon(scene):
    """What was written last is newer than any label."""
    for n in range(2):
        churn(scene.mnt, f"life{n}")
        time.sleep(GRACE)
        churn(scene.mnt, f"late{n}")
        scene.mirror.kill9()
        time.sleep(GRACE)
        scene.mirror.remount()
    scene.mirror.cli("resync", scene.mnt, scene.b.name)
    scene.mirror.wait_sync()
    scene.finish({})
