# SPDX-License-Identifier: GPL-2.0-or-later
"""Legs that are missing at the mount, and what they get when they are back;
new legs filled from an existing tree; legs that were changed apart."""

import os
import random
import shutil
import time

import pytest

from support import compare
from support.mirror import MountFailed, run, wait_until
from support.trees import change_everything, make_tree

pytestmark = pytest.mark.sanitizer

MIB = 1 << 20


def content(directory):
    entries = compare.snapshot(directory, skip_private=False)
    for entry in entries.values():
        entry.identity = ()
    return entries


@pytest.fixture
def populated(mirrors, log_type):
    mirror = mirrors(log=log_type)
    mirror.create()
    mirror.mount()
    make_tree(mirror.mnt)
    mirror.umount()
    mirror.expect_diagnostics("missing|stale|leg")
    return mirror


def take_away(mirror, how, number=1):
    """Makes leg `number` missing; returns a function that brings it back."""
    leg = mirror.legs[number]
    away = leg.with_name(leg.name + ".away")
    leg.rename(away)
    if how == "empty":
        leg.mkdir()  # the mount point of a disk that is not there
    elif how == "foreign files":
        leg.mkdir()
        (leg / "somebody's").write_text("precious")
    elif how == "file":
        pass
    elif how == "other mirror":
        leg.mkdir()
        spare = leg.with_name("spare")
        spare.mkdir()
        mirror.cli("create", "--name", "other", leg, spare)
    before = content(leg) if leg.exists() else None

    def bring_back():
        if before is not None:
            assert content(leg) == before, "the stand-in was written to"
            shutil.rmtree(leg)
        else:
            assert not leg.exists(), "something was made in its place"
        away.rename(leg)

    return bring_back


ABSENCES = ["absent", "empty", "foreign files", "other mirror"]


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("how", ABSENCES)
def test_a_missing_leg(populated, how, number):
    mirror = populated
    back = take_away(mirror, how, number)
    # Which mirror is meant has to be said where the labels speak of two.
    mirror.mount("name=t")
    status = mirror.status()
    assert status["state"] == "degraded"
    name = mirror.legs[number].name
    assert mirror.leg_status(name)["state"] == "missing"
    other = mirror.legs[1 - number].name
    assert mirror.leg_status(other)["state"] == "in-sync"
    assert status["primary"] == other
    result = mirror.cli("status", mirror.mnt, check=False)
    assert result.returncode == 3 and name in result.stdout
    assert (mirror.mnt / "dir0/file0").exists()
    (mirror.mnt / "new").write_bytes(os.urandom(100000))
    os.unlink(mirror.mnt / "dir1/file1")
    mirror.umount()
    back()
    mirror.mount()
    mirror.wait_sync()
    assert mirror.status()["state"] == "healthy"
    mirror.settle_and_compare()
    for leg in mirror.legs:
        assert (leg / "new").stat().st_size == 100000
        assert not (leg / "dir1/file1").exists()


def test_labels_of_two_mirrors(populated):
    """The first path is another mirror's leg: not that one is served."""
    mirror = populated
    back = take_away(mirror, "other mirror", 0)
    try:
        mirror.mount()
    except MountFailed as error:
        assert len(error.text.strip().splitlines()) == 1
        mirror.expect_diagnostics("mirror")
    else:
        assert mirror.status()["name"] == "t"
        (mirror.mnt / "new").write_text("x")
        mirror.umount()
    back()


@pytest.mark.parametrize("end", ["orderly", "killed"])
def test_a_leg_gets_exactly_what_it_missed(populated, end, seed):
    mirror = populated
    back = take_away(mirror, "absent")
    mirror.mount()
    change_everything(mirror.mnt, random.Random(seed))
    if end == "killed":
        mirror.kill9()
        # Killed, and again mounted without it, and again killed.
        mirror.mount()
        (mirror.mnt / "after the crash").write_text("x")
        mirror.kill9()
    else:
        mirror.umount()
    back()
    model = compare.snapshot(mirror.legs[0])
    mirror.mount()
    mirror.wait_sync()
    mirror.umount()
    mirror.assert_legs_identical()
    assert not compare.snapshot_differences(
        model, compare.snapshot(mirror.legs[0])), "the source was changed"
    mirror.cli("check", *mirror.legs)


def test_only_what_it_missed_is_copied(mirrors):
    """With log=disk a return costs the difference, not the leg."""
    mirror = mirrors()
    mirror.create()
    mirror.mount()
    for n in range(40):
        (mirror.mnt / f"big{n}").write_bytes(os.urandom(2 * MIB))
    mirror.umount()
    mirror.expect_diagnostics("missing|stale|leg")
    # A directory's mark covers what is younger than itself, give or take the
    # two seconds that clocks may be apart.
    time.sleep(2.5)
    back = take_away(mirror, "absent")
    mirror.mount()
    with open(mirror.mnt / "big3", "r+b") as file:
        file.seek(MIB + 5)
        file.write(b"x")
    os.unlink(mirror.mnt / "big4")
    (mirror.mnt / "new").write_bytes(os.urandom(MIB))
    mirror.umount()
    back()
    # Untouched files are not even read.
    for n in range(10, 40):
        os.utime(mirror.legs[1] / f"big{n}", ns=(
            1000, os.stat(mirror.legs[0] / f"big{n}").st_mtime_ns))
    mirror.mount()
    mirror.wait_sync()
    resync = mirror.leg_status(mirror.legs[1].name)["resync"]
    assert resync["copied_bytes"] <= 5 * MIB, resync
    mirror.umount()
    for n in range(10, 40):
        assert os.stat(mirror.legs[1] / f"big{n}").st_atime_ns == 1000
    mirror.assert_legs_identical()


def test_dirty_tells_what_a_leg_lacks(populated):
    mirror = populated
    take_away(mirror, "absent")
    mirror.mount()
    (mirror.mnt / "new").write_bytes(os.urandom(3 * MIB))
    os.unlink(mirror.mnt / "dir1/file1")
    text = mirror.cli("dirty", mirror.mnt).stdout
    assert text.strip()
    dirty = mirror.leg_status(mirror.legs[1].name)["dirty"]
    assert dirty["regions"] > 0
    assert str(mirror.leg_status(mirror.legs[1].name)["path"]) == \
        str(mirror.legs[1])


def test_missing_over_several_mounts(populated):
    """What is missed adds up, also over crashes."""
    mirror = populated
    back = take_away(mirror, "empty")
    for n in range(4):
        mirror.mount()
        (mirror.mnt / f"round{n}").write_bytes(os.urandom(50000))
        if n:
            os.unlink(mirror.mnt / f"round{n - 1}")
        with open(mirror.mnt / f"dir{n}/file{n}", "ab") as file:
            file.write(b"grown")
        if n % 2:
            mirror.kill9()
        else:
            mirror.umount()
    back()
    mirror.mount()
    mirror.wait_sync()
    mirror.settle_and_compare()


def test_missing_with_nothing_changed(populated):
    """A leg that missed nothing is in sync at once."""
    mirror = populated
    back = take_away(mirror, "absent")
    mirror.mount()
    assert (mirror.mnt / "dir0/file0").exists()
    mirror.umount()
    back()
    mirror.mount()
    mirror.wait_sync()
    assert mirror.status()["state"] == "healthy"
    assert mirror.leg_status("b")["resync"]["done_bytes"] == 0
    mirror.umount()
    mirror.assert_legs_identical()


def test_one_leg_after_the_other(mirrors, log_type):
    """b misses a while, comes back and is synced; then a is away."""
    mirror = mirrors(log=log_type)
    mirror.create()
    mirror.mount()
    make_tree(mirror.mnt)
    mirror.umount()
    mirror.expect_diagnostics("missing|stale|leg")
    for n, number in enumerate((1, 0, 1, 0)):
        back = take_away(mirror, "absent", number)
        mirror.mount()
        (mirror.mnt / f"only on {1 - number} {n}").write_text(str(n))
        with open(mirror.mnt / "dir1/file1", "ab") as file:
            file.write(b"%d" % n)
        mirror.umount()
        back()
        mirror.mount()
        mirror.wait_sync()
        assert (mirror.mnt / f"only on {1 - number} {n}").exists()
        mirror.umount()
        mirror.assert_legs_identical()


def test_the_stale_leg_alone_is_refused_or_a_choice(populated):
    """b missed changes; a is gone: b alone is old, and says so."""
    mirror = populated
    back_b = take_away(mirror, "absent", 1)
    mirror.mount()
    (mirror.mnt / "newer").write_text("x")
    mirror.umount()
    back_b()
    back_a = take_away(mirror, "absent", 0)
    # b does not know that it is old: nobody could write that to it. So it
    # mounts; and when a is back they were changed apart only if b changed.
    try:
        mirror.mount()
        assert not (mirror.mnt / "newer").exists()
        mirror.umount()
    except MountFailed:
        pass
    back_a()
    mirror.mount()
    mirror.wait_sync()
    assert (mirror.mnt / "newer").read_text() == "x"
    mirror.settle_and_compare()


@pytest.fixture
def conflict(populated):
    """Two legs, each changed without the other."""
    mirror = populated
    for number in (1, 0):
        back = take_away(mirror, "absent", number)
        mirror.mount()
        (mirror.mnt / f"only on {1 - number}").write_text("x")
        (mirror.mnt / "both").write_text(f"by {1 - number}")
        mirror.umount()
        back()
    return mirror


def test_a_conflict_is_refused(conflict):
    mirror = conflict
    before = [content(leg) for leg in mirror.legs]
    with pytest.raises(MountFailed) as error:
        mirror.mount()
    lines = error.value.text.strip().splitlines()
    assert len(lines) == 1, lines
    assert "conflict" in lines[0] and "resolve" in lines[0]
    mirror.expect_diagnostics("conflict")
    assert [content(leg) for leg in mirror.legs] == before
    result = mirror.cli("check", *mirror.legs, check=False)
    assert result.returncode != 0


@pytest.mark.parametrize("number", [0, 1])
def test_a_conflict_is_resolved(conflict, number):
    mirror = conflict
    keep = mirror.legs[number]
    model = compare.snapshot(keep)
    mirror.cli("resolve", "--keep", keep, *mirror.legs)
    assert not compare.snapshot_differences(model, compare.snapshot(keep))
    mirror.mount()
    assert (mirror.mnt / "both").read_text() == f"by {number}"
    mirror.wait_sync()
    mirror.settle_and_compare()
    assert not compare.snapshot_differences(model, compare.snapshot(keep))
    for leg in mirror.legs:
        assert (leg / f"only on {number}").exists()
        assert not (leg / f"only on {1 - number}").exists()


def test_one_side_of_a_conflict_can_be_looked_at(conflict):
    mirror = conflict
    before = content(mirror.legs[1])
    mirror.mount("ro", legs=[mirror.legs[1], mirror.base / "nowhere"])
    assert (mirror.mnt / "only on 1").exists()
    mirror.umount()
    assert content(mirror.legs[1]) == before


def test_resolve_of_what_is_no_conflict(populated):
    """It would throw nothing away; whatever it says, the legs stay good."""
    mirror = populated
    mirror.cli("resolve", "--keep", mirror.legs[0], *mirror.legs, check=False)
    mirror.mount()
    mirror.wait_sync()
    mirror.settle_and_compare()
    result = mirror.cli("resolve", "--keep", mirror.base, *mirror.legs,
                        check=False)
    assert result.returncode == 1 and result.stderr.strip()


def test_resolve_of_a_mounted_mirror_is_refused(populated):
    mirror = populated
    mirror.mount()
    result = mirror.cli("resolve", "--keep", mirror.legs[0], *mirror.legs,
                        check=False)
    assert result.returncode != 0
    (mirror.mnt / "f").write_text("x")
    mirror.settle_and_compare()


def mount_alone(mirror, number):
    """One leg; the other one is away meanwhile."""
    other = take_away(mirror, "absent", 1 - number)
    mirror.mount()
    return other


def killed_in_sync(mirror):
    """Nothing differs, but the labels do not say so."""
    mirror.mount()
    (mirror.mnt / "f").write_text("x")
    mirror.wait_sync()
    mirror.kill9()
    mirror.expect_diagnostics("missing|stale|leg|compared")


def test_each_leg_alone_without_a_change_is_no_conflict(populated):
    mirror = populated
    killed_in_sync(mirror)
    for number in (0, 1, 0):
        back = mount_alone(mirror, number)
        os.listdir(mirror.mnt)
        mirror.umount()
        back()
    mirror.mount()
    mirror.wait_sync()
    (mirror.mnt / "g").write_text("x")
    mirror.settle_and_compare()


def test_each_leg_alone_and_one_is_changed_is_no_conflict(populated):
    mirror = populated
    killed_in_sync(mirror)
    for number in (0, 1):
        back = mount_alone(mirror, number)
        if number == 1:
            (mirror.mnt / "f").write_text("y")
        mirror.umount()
        back()
    mirror.mount()
    mirror.wait_sync()
    assert (mirror.mnt / "f").read_text() == "y"
    mirror.settle_and_compare()


def test_each_leg_alone_with_a_change_is_a_conflict(populated):
    mirror = populated
    killed_in_sync(mirror)
    for number in (0, 1):
        back = mount_alone(mirror, number)
        (mirror.mnt / "f").write_text(str(number))
        mirror.umount()
        back()
    with pytest.raises(MountFailed, match="conflict"):
        mirror.mount()
    mirror.expect_diagnostics("conflict")


@pytest.mark.parametrize("log_type", ["disk"], indirect=True)
def test_a_late_leg_after_a_crash_gets_what_may_differ(populated):
    """It comes before anything was changed: the log knows, and not all of it
    is compared."""
    mirror = populated
    mirror.mount()
    (mirror.mnt / "big").write_bytes(os.urandom(8 << 20))
    mirror.wait_sync()
    mirror.umount()
    killed_in_sync(mirror)
    back = take_away(mirror, "absent", 1)
    mirror.mount("probe-interval=200ms")
    back()
    wait_until(lambda: mirror.leg_status("b")["state"] == "in-sync")
    events = mirror.cli("events", mirror.mnt).stdout
    assert "leg-back" in events and "compared whole" not in events
    mirror.settle_and_compare()


# ---- three legs

def test_two_of_three(mirrors, log_type):
    mirror = mirrors(log=log_type, legs=3)
    mirror.create()
    mirror.mount()
    make_tree(mirror.mnt)
    mirror.umount()
    mirror.expect_diagnostics("missing|stale|leg")
    back_c = take_away(mirror, "absent", 2)
    mirror.mount()
    (mirror.mnt / "without c").write_text("x")
    mirror.umount()
    back_b = take_away(mirror, "absent", 1)
    mirror.mount()
    (mirror.mnt / "without b and c").write_text("x")
    os.unlink(mirror.mnt / "dir0/file0")
    mirror.kill9()
    back_c()
    mirror.mount()  # c catches up with both, b is still away
    (mirror.mnt / "without b").write_text("x")
    mirror.wait_sync()
    assert mirror.leg_status("c")["state"] == "in-sync"
    assert mirror.leg_status("b")["state"] == "missing"
    mirror.umount()
    mirror.assert_legs_identical([mirror.legs[0], mirror.legs[2]])
    back_b()
    # The leg that stayed all the time is away now: c knows enough for b.
    back_a = take_away(mirror, "absent", 0)
    mirror.mount()
    mirror.wait_sync()
    assert mirror.leg_status("b")["state"] == "in-sync"
    mirror.umount()
    mirror.assert_legs_identical([mirror.legs[1], mirror.legs[2]])
    back_a()
    mirror.mount()
    mirror.wait_sync()
    mirror.settle_and_compare()


def test_min_legs(populated):
    mirror = populated
    back = take_away(mirror, "absent")
    with pytest.raises(MountFailed) as error:
        mirror.mount("min-legs=2")
    assert len(error.value.text.strip().splitlines()) >= 1
    assert "min-legs" in error.value.text
    mirror.expect_diagnostics("min-legs")
    mirror.mount("min-legs=1")
    mirror.umount()
    back()
    mirror.mount("min-legs=2")
    mirror.umount()


def test_wait_legs(populated):
    """A leg that appears while the mount waits for it is there."""
    mirror = populated
    back = take_away(mirror, "absent")
    start = time.monotonic()
    mirror.mount("wait-legs=500ms")
    assert time.monotonic() - start >= 0.4
    assert mirror.status()["state"] == "degraded"
    mirror.umount()
    import threading
    timer = threading.Timer(1, back)
    timer.start()
    mirror.mount("wait-legs=20s")
    assert mirror.leg_status("b")["state"] in ("in-sync", "resync")
    timer.join()
    mirror.wait_sync()
    mirror.settle_and_compare()


def test_no_leg_at_all(populated):
    mirror = populated
    backs = [take_away(mirror, "absent", n) for n in (0, 1)]
    with pytest.raises(MountFailed) as error:
        mirror.mount()
    assert len(error.value.text.strip().splitlines()) == 1
    mirror.expect_diagnostics(".")
    for back in backs:
        back()


@pytest.mark.legs_side_by_side
def test_an_older_copy_of_a_leg(populated):
    """A leg restored from a backup is old: it gets what it lacks."""
    mirror = populated
    backup = mirror.base / "backup"
    run("cp", "-a", mirror.legs[1], backup)
    back = take_away(mirror, "absent")
    mirror.mount()
    (mirror.mnt / "one").write_text("x")
    mirror.umount()
    back()
    mirror.mount()
    mirror.wait_sync()
    os.unlink(mirror.mnt / "dir1/file1")
    (mirror.mnt / "two").write_text("x")
    mirror.umount()
    shutil.rmtree(mirror.legs[1])
    backup.rename(mirror.legs[1])
    mirror.mount()
    mirror.wait_sync()
    mirror.settle_and_compare()
    assert not (mirror.legs[1] / "dir1/file1").exists()


def test_a_primary_restored_from_a_backup(populated):
    """The other leg is newer, and it is the one that counts."""
    mirror = populated
    backup = mirror.base / "backup"
    run("cp", "-a", mirror.legs[0], backup)
    back = take_away(mirror, "absent")
    mirror.mount()
    (mirror.mnt / "one").write_text("x")
    mirror.umount()
    back()
    mirror.mount()
    mirror.wait_sync()
    (mirror.mnt / "two").write_text("x")
    mirror.umount()
    shutil.rmtree(mirror.legs[0])
    backup.rename(mirror.legs[0])
    mirror.mount()
    assert (mirror.mnt / "two").read_text() == "x"
    mirror.wait_sync()
    mirror.settle_and_compare()


# ---- adopting a tree

@pytest.mark.parametrize("number", [0, 1])
def test_adopt(mirrors, log_type, number):
    mirror = mirrors(log=log_type)
    tree = mirror.legs[number]
    make_tree(tree, files=150)
    model = compare.snapshot(tree)
    mirror.create(adopt=tree)
    mirror.mount()
    # Served at once.
    lines = compare.snapshot_differences(model, compare.snapshot(mirror.mnt),
                                         root_times=False)
    assert not lines, lines
    mirror.wait_sync()
    assert mirror.status()["state"] == "healthy"
    mirror.settle_and_compare()
    assert not compare.snapshot_differences(
        model, compare.snapshot(tree), root_times=False), \
        "the adopted tree was changed"


def test_adopt_on_other_file_systems(disks, mirrors):
    mirror = mirrors()
    mirror.legs = []
    for fs in ("ext4", "xfs", "btrfs"):
        leg = disks(fs).where / "leg"
        leg.mkdir()
        mirror.legs.append(leg)
    make_tree(mirror.legs[0])
    mirror.create(adopt=mirror.legs[0])
    mirror.mount()
    mirror.wait_sync()
    mirror.settle_and_compare()


def test_adopt_from_xfs(disks, mirrors):
    """Whose ACLs are listed twice."""
    mirror = mirrors()
    mirror.legs = [disks(fs).where / "leg" for fs in ("xfs", "ext4")]
    for leg in mirror.legs:
        leg.mkdir()
    make_tree(mirror.legs[0])
    mirror.create(adopt=mirror.legs[0])
    mirror.mount()
    mirror.wait_sync()
    assert not [n for n in os.listxattr(mirror.legs[1] / "restricted")
                if "SGI" in n]
    mirror.settle_and_compare()


def test_adopt_deep_and_odd_names(mirrors):
    mirror = mirrors()
    fd = os.open(mirror.legs[0], os.O_RDONLY)
    for n in range(30):
        os.mkdir("d" * 200, dir_fd=fd)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    file = os.open("far down", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.write(file, b"x")
    os.close(file)
    os.close(fd)
    for name in (b"new\nline", b"\xff\xfe", b" ", b"n" * 255, b"-rf", b"\\"):
        with open(os.fsencode(mirror.legs[0]) + b"/" + name, "wb") as out:
            out.write(name)
    (mirror.legs[0] / "lost+found").mkdir()
    mirror.create(adopt=mirror.legs[0])
    mirror.mount()
    mirror.wait_sync()
    mirror.settle_and_compare()


def test_adopt_holds_a_huge_sparse_file(mirrors):
    mirror = mirrors()
    with open(mirror.legs[0] / "sparse", "wb") as file:
        file.truncate(1 << 40)
        file.seek(700 << 30)
        file.write(b"needle")
    mirror.create(adopt=mirror.legs[0])
    mirror.mount()
    mirror.wait_sync(30)
    mirror.settle_and_compare()
    assert (mirror.legs[1] / "sparse").stat().st_blocks * 512 < MIB


def test_adopt_under_load(mirrors, log_type):
    """Changed while it is filled: renamed, removed, written, linked."""
    mirror = mirrors(log=log_type)
    make_tree(mirror.legs[0], files=60)
    mirror.create(adopt=mirror.legs[0])
    mirror.mount()
    change_everything(mirror.mnt, random.Random(1))
    mirror.wait_sync()
    mirror.settle_and_compare()


def test_status_says_why_a_leg_is_down(mirrors):
    mirror = mirrors(options=["probe-interval=1s"])
    mirror.expect_diagnostics("leg")
    mirror.create()
    label = mirror.legs[1] / ".mirrorfs/label"
    kept = label.read_bytes()
    label.write_bytes(b"what is this")
    mirror.mount()
    assert "damaged" in mirror.leg_status("b")["reason"]
    label.unlink()
    wait_until(lambda: "no mirrorfs label" in mirror.leg_status("b")["reason"])
    label.write_bytes(kept)
    wait_until(lambda: mirror.leg_status("b")["state"] == "in-sync")
    assert "reason" not in mirror.leg_status("b")
    mirror.legs[1].rename(mirror.base / "elsewhere")
    wait_until(lambda: mirror.leg_status("b")["state"] == "failed")
    assert "No such file" in mirror.leg_status("b")["reason"]
    assert "No such file" in mirror.cli("status", mirror.mnt,
                                        check=False).stdout


def test_the_longest_file_there_is(mirrors, disks):
    """Its end is where offsets end, and btrfs says more than that of it."""
    mirror = mirrors()
    mirror.legs = [disks("btrfs").where / "leg" for _ in range(2)]
    for leg in mirror.legs:
        leg.mkdir()
    with open(mirror.legs[0] / "f", "wb") as file:
        os.pwrite(file.fileno(), b"last", (1 << 63) - 5)
        os.fsync(file.fileno())
    mirror.create(adopt=mirror.legs[0])
    mirror.mount()
    mirror.settle_and_compare()
