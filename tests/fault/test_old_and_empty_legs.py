# SPDX-License-Identifier: GPL-2.0-or-later
"""Legs that are not what their place in the mirror says: put back from an old
copy, emptied; labels read too early; what is made on a leg half healed."""

import contextlib
import errno
import os
import shutil
import subprocess

import pytest

from support import compare
from support.faulty_leg import CHANGES
from support.mirror import HELPER, MountFailed, run, wait_until

pytestmark = pytest.mark.timeout_s(400)


def put_back(leg, backup):
    if leg.exists():
        shutil.rmtree(leg)
    run("cp", "-a", backup, leg)


def used_twice(it, number):
    """Copies the leg between two mounts; the second changes more."""
    mirror, mnt = it.mirror, it.mirror.mnt
    (mnt / "f").write_text("old")
    (mnt / "gone").write_text("x")
    mirror.umount()
    backup = mirror.base / "backup"
    run("cp", "-a", mirror.legs[number], backup)
    mirror.mount()
    (mnt / "f").write_text("acknowledged")
    (mnt / "later").write_text("x")
    (mnt / "gone").unlink()
    return backup


@pytest.mark.parametrize("log", ["disk", "core"])
@pytest.mark.parametrize("number", [0, 1])
def test_put_back_between_two_mounts(scene, number, log):
    """The set of legs has not changed since the copy."""
    it = scene("plain", "plain", log=log)
    backup = used_twice(it, number)
    it.mirror.umount()
    put_back(it.mirror.legs[number], backup)
    it.mirror.mount()
    it.wait_back()
    assert (it.mirror.mnt / "f").read_text() == "acknowledged"
    assert sorted(os.listdir(it.mirror.mnt)) == ["f", "later"]
    it.finish()


@pytest.mark.parametrize("how", ["late", "late, and changed", "offline"])
def test_put_back_while_mounted(scene, how):
    it = scene("plain", "plain")
    mirror, mnt = it.mirror, it.mirror.mnt
    backup = used_twice(it, 1)
    if how == "offline":
        mirror.cli("offline", mnt, "b")
    else:
        mirror.umount()
        mirror.legs[1].rename(mirror.base / "dead")
        mirror.mount()
    if how != "late":
        (mnt / "during").write_text("x")
    put_back(mirror.legs[1], backup)
    if how == "offline":
        mirror.cli("online", mnt, "b")
    it.wait_back()
    assert (it.stores[1] / "f").read_text() == "acknowledged"
    it.finish()


@pytest.mark.parametrize("log", ["disk", "core"])
@pytest.mark.parametrize("how", ["promote another", "promote it", "failover"])
def test_an_emptied_leg_gets_no_label(scene, how, log):
    """With one it was whole again; as the primary it emptied all others."""
    it = scene("faulty", "plain", "plain", log=log,
               options=["probe-interval=0"])
    mirror, mnt = it.mirror, it.mirror.mnt
    names = [f"f{n}" for n in range(20)]
    for name in names:
        (mnt / name).write_text("precious")
    wait_until(lambda: not mirror.dirty()["regions"])
    run("find", mirror.legs[1], "-mindepth", "1", "-delete")
    if how == "promote another":
        mirror.cli("promote", mnt, "c", check=False)
    elif how == "promote it":
        refused = mirror.cli("promote", mnt, "b", check=False)
        assert refused.returncode == 1
    else:
        it.things[0].fail(CHANGES, errno.EIO)
        (mnt / "more").write_text("x")
        it.things[0].clear()
    it.wait_state(1, "failed")
    assert it.primary() != 1
    assert set(names) <= set(os.listdir(mnt))
    assert set(names) <= set(os.listdir(it.stores[2]))
    mirror.umount()


def test_a_mount_that_begins_with_a_promotion_is_counted(scene):
    it = scene("plain", "plain")
    mirror, mnt = it.mirror, it.mirror.mnt
    (mnt / "f").write_text("old")
    mirror.umount()
    backup = mirror.base / "backup"
    run("cp", "-a", mirror.legs[0], backup)
    mirror.mount()
    mirror.cli("promote", mnt, "b")
    (mnt / "f").write_text("acknowledged")
    mirror.umount()
    put_back(mirror.legs[0], backup)
    mirror.mount()
    it.wait_back()
    assert (it.stores[0] / "f").read_text() == "acknowledged"
    it.finish()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_each_alone_after_a_crash_between_their_labels(scene, count):
    """One may have been told that both are up to date, and the other not."""
    it = scene("plain", "plain")
    mirror, mnt = it.mirror, it.mirror.mnt
    a, b = mirror.legs
    absent = mirror.base / "absent"

    def alone(leg, text):
        mirror.mount(legs=[leg, absent])
        (mnt / "f").write_text(text)
        mirror.umount()

    (mnt / "f").write_text("x")
    mirror.umount()
    alone(b, "b")
    with contextlib.suppress(AssertionError, MountFailed):
        mirror.mount(env={"MIRRORFS_KILL_AT": f"label-write:{count}"})
        wait_until(lambda: not mirror.alive(), 3)
    mirror.kill9()
    with contextlib.suppress(MountFailed):  # it may be not whole
        alone(a, "a alone")
        alone(b, "b alone")
        with pytest.raises(MountFailed) as refused:
            mirror.mount()
        assert "conflict" in str(refused.value)
        return
    mirror.mount()
    it.wait_back()
    it.finish()


@pytest.mark.parametrize("what", ["setgid", "acl"])
def test_made_before_its_directory_has_its_attributes(scene, what):
    """It inherits from the primary's directory, on all legs."""
    it = scene("plain", "plain", options=["resync-rate-max=2M", "suid"])
    mirror, mnt = it.mirror, it.mirror.mnt
    shared = mnt / "shared"
    shared.mkdir()
    (mnt / "big").write_bytes(b"x")
    mirror.wait_sync()
    mirror.cli("offline", mnt, "b")
    (mnt / "big").write_bytes(os.urandom(16 << 20))
    if what == "setgid":
        os.chown(shared, 0, 1234)
        os.chmod(shared, 0o2775)
    else:
        run("setfacl", "-d", "-m", "u:1234:rwx,g:4321:r-x", shared)
    mirror.cli("online", mnt, "b")
    wait_until(lambda: not [region for region in mirror.dirty()["regions"]
                            if region["missing"]
                            and region["kind"] == "entries"])
    assert it.state(1) == "resync"
    (shared / "file").write_text("secret")
    (shared / "dir").mkdir()
    os.mkfifo(shared / "fifo")
    os.symlink("file", shared / "link")
    mirror.cli("set", mnt, "resync-rate-max=0")
    it.finish()


def test_labels_are_read_again_under_the_lock(scene):
    """The first mount reads one label and waits for the other leg; meanwhile
    the mirror is mounted without that, changed, and unmounted."""
    it = scene("plain", "faulty", mount=False)
    mirror, other = it.mirror, it.mirror.base / "other"
    mirror.mount()
    (mirror.mnt / "f").write_text("old")
    mirror.umount()
    other.mkdir()
    it.things[1].hang(["statfs", "open", "read"])
    argv = [HELPER, mirror.spec(), other, "-o",
            "log=disk,leg-timeout=60s,foreground"]
    with open(mirror.base / "first", "ab") as log, subprocess.Popen(
            argv, env=mirror.env, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True) as first:
        try:
            wait_until(lambda: it.things[1].hanging())
            mirror.mount(legs=[mirror.legs[0], mirror.base / "absent"])
            (mirror.mnt / "f").write_text("acknowledged")
            mirror.umount()
            it.things[1].clear()
            wait_until(lambda: (other / "f").exists())
            mirror.cli("wait-sync", other)
            assert (it.stores[1] / "f").read_text() == "acknowledged"
            assert not compare.tree_differences(*it.stores)
        finally:
            mirror.cli("umount", other, check=False)
            first.wait(timeout=60)


@pytest.mark.parametrize("at", ["mount", "probe"])
def test_away_for_more_generations_than_a_label_remembers(scene, at):
    it = scene("plain", "plain", "plain", options=["probe-interval=1s"])
    mirror, mnt = it.mirror, it.mirror.mnt
    (mnt / "f").write_text("x")
    mirror.umount()
    mirror.legs[2].rename(mirror.base / "off-site")
    mirror.mount()
    (mnt / "g").write_text("x")
    before = mirror.status()["generation"]
    while mirror.status()["generation"] < before + 260:
        mirror.cli("offline", mnt, "b")
        mirror.cli("online", mnt, "b")
        it.wait_state(1, "in-sync")
    if at == "mount":
        mirror.umount()
    (mirror.base / "off-site").rename(mirror.legs[2])
    if at == "mount":
        mirror.mount()
    it.wait_back()
    assert "compared whole" not in mirror.cli("events", mnt).stdout
    it.finish()


@pytest.mark.parametrize("end", ["killed", "ended in order"])
def test_old_legs_that_were_only_looked_at(scene, end):
    """One of them catches up meanwhile; that changes nothing either."""
    it = scene("plain", "plain", "plain")
    mirror, mnt = it.mirror, it.mirror.mnt
    (mnt / "f").write_text("x")
    mirror.kill9() if end == "killed" else mirror.umount()
    away = [mirror.base / f"away{i}" for i in range(3)]
    for i in (0, 2):
        mirror.legs[i].rename(away[i])
    mirror.mount()
    (mnt / "f").write_text("newer")
    mirror.umount()
    mirror.legs[1].rename(away[1])
    for i in (0, 2):
        away[i].rename(mirror.legs[i])
    mirror.mount()
    assert (mnt / "f").read_text() == "x"
    it.wait_state(2, "in-sync")
    mirror.umount()
    away[1].rename(mirror.legs[1])
    mirror.mount()
    it.wait_back()
    assert (mnt / "f").read_text() == "newer"
    it.finish()


def test_a_resolved_conflict_does_not_come_back(scene):
    """Whose labels remember as much as they can, and which is away for the
    next generations, too."""
    it = scene("plain", "plain", "plain")
    mirror, mnt = it.mirror, it.mirror.mnt
    a, b, c = mirror.legs
    absent = mirror.base / "absent"
    (mnt / "f").write_text("x")
    while mirror.status()["generation"] < 260:
        mirror.cli("offline", mnt, "c")
        mirror.cli("online", mnt, "c")
        it.wait_state(2, "in-sync")
    mirror.umount()
    for legs in ([absent, b, absent], [a, absent, c]):
        mirror.mount(legs=legs)
        (mnt / "f").write_text(str(legs[0]))
        mirror.umount()
    with pytest.raises(MountFailed):
        mirror.mount()
    mirror.cli("resolve", "--keep", a, a, b, c)
    mirror.mount(legs=[a, absent, c])
    it.wait_state(2, "in-sync")
    for _ in range(2):
        mirror.cli("offline", mnt, "c")
        (mnt / "f").write_text("kept")
        mirror.cli("online", mnt, "c")
        it.wait_state(2, "in-sync")
    mirror.umount()
    mirror.mount()
    it.wait_back()
    assert (mnt / "f").read_text() == "kept"
    it.finish()
