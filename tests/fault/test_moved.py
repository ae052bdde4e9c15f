# SPDX-License-Identifier: GPL-2.0-or-later
"""Directories that were moved while a leg was away are moved there, too, and
not copied: what lies in them keeps its inodes on that leg.

MIRRORFS_KILLS as for tests/crash."""

import os
import random
import shutil

import pytest

from support.mirror import MountFailed, wait_until
from support.scene import fails_legs
from support.syscalls import RENAME_EXCHANGE, renameat2

pytestmark = [pytest.mark.timeout_s(400), fails_legs]

MIB = 1 << 20
FILE_BYTES = 50000
KILLS = max(2, int(os.environ.get("MIRRORFS_KILLS", "6")) // 2)


def make_tree(root):
    for n in range(6):
        (root / f"d{n}" / "sub").mkdir(parents=True)
        for m in range(6):
            (root / f"d{n}" / f"f{m}").write_bytes(os.urandom(FILE_BYTES))
    (root / "d0" / "sub" / "f").write_bytes(os.urandom(FILE_BYTES))
    os.link(root / "d1" / "f1", root / "d2" / "twin")


def inodes(root):
    """Of all files, by path beneath `root`."""
    found = {}
    for directory, _, files in os.walk(root):
        for name in files:
            path = os.path.join(directory, name)
            found[os.path.relpath(path, root)] = os.stat(path).st_ino
    return found


# Each is given the mount, changes it while the leg is away, and says what was
# moved: from where, and to where.

def renamed(mnt):
    (mnt / "tree").rename(mnt / "zz")
    return {"tree": "zz"}


def renamed_and_refused(mnt):
    """Where it was refused, it is not looked for."""
    (mnt / "tree").rename(mnt / "zz")
    with pytest.raises(OSError, match="not empty"):
        (mnt / "zz").rename(mnt / "second")
    return {"tree": "zz", "second": "second"}


def renamed_to_the_front(mnt):
    (mnt / "tree").rename(mnt / "aa")
    return {"tree": "aa"}


def renamed_twice(mnt):
    (mnt / "tree").rename(mnt / "once")
    (mnt / "other" / "deep").mkdir()
    (mnt / "once").rename(mnt / "other" / "deep" / "twice")
    return {"tree": "other/deep/twice"}


def renamed_back(mnt):
    (mnt / "tree").rename(mnt / "other" / "there")
    (mnt / "other" / "there").rename(mnt / "tree")
    return {"tree": "tree"}


def partly_changed_beneath(mnt):
    (mnt / "tree").rename(mnt / "moved")
    with open(mnt / "moved" / "d3" / "f3", "r+b") as file:
        file.write(b"changed")
    (mnt / "moved" / "d4" / "new").write_text("new")
    (mnt / "moved" / "d5" / "f5").unlink()
    (mnt / "moved" / "d2").rename(mnt / "moved" / "renamed")
    return {"tree/d0": "moved/d0", "tree/d3": "moved/d3",
            "tree/d2": "moved/renamed"}


def swapped(mnt):
    renameat2(mnt / "tree", mnt / "second", RENAME_EXCHANGE)
    return {"tree": "second", "second": "tree"}


def swapped_by_hand(mnt):
    (mnt / "tree").rename(mnt / "tmp")
    (mnt / "second").rename(mnt / "tree")
    (mnt / "tmp").rename(mnt / "second")
    return {"tree": "second", "second": "tree"}


def over_an_empty_directory(mnt):
    (mnt / "tree").rename(mnt / "empty")
    return {"tree": "empty"}


def parents_after_the_child(mnt):
    (mnt / "tree").rename(mnt / "other" / "child")
    (mnt / "other").rename(mnt / "parent")
    (mnt / "parent").rename(mnt / "second" / "grown")
    (mnt / "second").rename(mnt / "a")
    return {"tree": "a/grown/child", "second/d1": "a/d1"}


def into_where_it_was(mnt):
    (mnt / "tree").rename(mnt / "tmp")
    (mnt / "tree" / "a").mkdir(parents=True)
    (mnt / "tmp").rename(mnt / "tree" / "a" / "b")
    return {"tree": "tree/a/b"}


def child_takes_the_place(mnt):
    (mnt / "tree" / "d1").rename(mnt / "tmp")
    (mnt / "tree").rename(mnt / "tmp2")
    (mnt / "tmp").rename(mnt / "tree")
    return {"tree/d1": "tree", "tree/d2": "tmp2/d2"}


def out_of_what_is_removed(mnt):
    (mnt / "tree" / "d3").rename(mnt / "kept")
    (mnt / "tree" / "d4" / "f4").rename(mnt / "other" / "alone")
    shutil.rmtree(mnt / "tree")
    return {"tree/d3": "kept"}


def then_made_anew(mnt):
    (mnt / "tree").rename(mnt / "other" / "old")
    make_tree(mnt / "tree")
    return {"tree": "other/old"}


def then_deleted(mnt):
    (mnt / "tree").rename(mnt / "gone")
    shutil.rmtree(mnt / "gone")
    return {}


def deleted_and_made_anew(mnt):
    (mnt / "tree").rename(mnt / "gone")
    shutil.rmtree(mnt / "gone")
    make_tree(mnt / "gone")
    return {}


CHANGES = [renamed, renamed_and_refused, renamed_to_the_front, renamed_twice,
           renamed_back, partly_changed_beneath, swapped, swapped_by_hand,
           over_an_empty_directory, parents_after_the_child, into_where_it_was,
           child_takes_the_place, out_of_what_is_removed, then_made_anew,
           then_deleted, deleted_and_made_anew]

# What has to be copied all the same.
NEW_TREES = (then_made_anew, deleted_and_made_anew)

by_change = pytest.mark.parametrize("change", CHANGES,
                                    ids=lambda change: change.__name__)


def change_while_away(it, change):
    """The inodes that the leg must have when it is back, by path."""
    mnt = it.mirror.mnt
    for name in ("tree", "second"):
        make_tree(mnt / name)
    (mnt / "other").mkdir()
    (mnt / "empty").mkdir()
    store = it.stores[1]
    before = {name: inodes(store / name)
              for name in ("tree", "second")}
    it.things[1].die()
    it.wait_state(1, "failed", "missing")
    wanted = {}
    for source, target in change(mnt).items():
        top, _, rest = source.partition("/")
        for path, ino in before[top].items():
            # The twins have several names.
            if path in ("d1/f1", "d2/twin"):
                continue
            if rest and not path.startswith(rest + "/"):
                continue
            wanted[os.path.join(target, os.path.relpath(path, rest or "."))] \
                = ino
    return {path: ino for path, ino in wanted.items()
            if os.path.exists(mnt / path)}


def leftovers(it):
    return [name for name in os.listdir(it.stores[1] / ".mirrorfs")
            if name.startswith("moved.")]


def check(it, wanted, change):
    it.wait_back(1)
    copied = it.copied(1)
    it.finish()
    for path, ino in wanted.items():
        assert os.stat(it.stores[1] / path).st_ino == ino, \
            f"{path} is another file than before"
    assert not leftovers(it)
    if change not in NEW_TREES:
        assert copied < MIB / 2, "it was copied again"


@by_change
def test_moved_and_not_copied(scene, change):
    it = scene("plain", "faulty")
    wanted = change_while_away(it, change)
    it.things[1].restart()
    check(it, wanted, change)


def heal_and_die(it, point):
    """The mirror is mounted and dies at the point; False if it never comes
    there."""
    try:
        it.mirror.mount(env={"MIRRORFS_KILL_AT": point})
    except MountFailed:
        return True

    def over():
        try:
            return it.state(1) == "in-sync"
        except AssertionError:
            return not it.mirror.alive()

    wait_until(over, 60)
    return not it.mirror.alive()


POINTS = ["recovery-names:1", "recovery-names:2", "recovery-names:4",
          "recovery-copy:1", "moved-aside:1", "moved-aside:2",
          "moved-brought:1", "moved-brought:2"]


@by_change
def test_killed_while_it_is_moved(scene, change, seed):
    it = scene("plain", "faulty")
    points = random.Random(seed).choices(POINTS, k=KILLS)
    heal_through(it, change_while_away(it, change), points)


def test_killed_again_after_it_was_put_aside(scene):
    """What has its old name by then was made since."""
    it = scene("plain", "faulty")
    wanted = change_while_away(it, into_where_it_was)
    heal_through(it, wanted, ["moved-aside:1", "recovery-copy:1",
                              "moved-aside:1"])


def test_killed_when_a_directory_with_others_that_moved_was_put_aside(scene):
    it = scene("plain", "faulty")
    wanted = change_while_away(it, partly_changed_beneath)
    heal_through(it, wanted, ["moved-aside:1", "recovery-copy:1"])


def heal_through(it, wanted, points):
    it.mirror.umount()
    it.things[1].restart()
    for point in points:
        killed = heal_and_die(it, point)
        print(f"{point}: {'killed' if killed else 'not reached'}")
        if not killed:
            break
        it.mirror.kill9()
    else:
        it.mirror.mount()
    it.finish()
    assert not leftovers(it)
    lost = [path for path, ino in wanted.items()
            if os.stat(it.stores[1] / path).st_ino != ino]
    # Between the move and the log's knowing of it nothing says any more where
    # what was moved comes from, and it is copied.
    if not any(point.startswith("moved-brought") for point in points):
        assert not lost, f"{lost} were copied again"


def test_two_legs_that_missed_different_moves(scene):
    it = scene("plain", "faulty", "faulty")
    mnt = it.mirror.mnt
    make_tree(mnt / "tree")
    before = [inodes(it.stores[number] / "tree") for number in (1, 2)]
    it.things[1].die()
    it.wait_state(1, "failed", "missing")
    (mnt / "tree").rename(mnt / "first")
    it.things[2].die()
    it.wait_state(2, "failed", "missing")
    (mnt / "first").rename(mnt / "second")
    for number in (1, 2):
        it.things[number].restart()
    it.wait_back(1, 2)
    it.finish()
    for number in (1, 2):
        after = inodes(it.stores[number] / "second")
        assert after["d3/f3"] == before[number - 1]["d3/f3"]
