# SPDX-License-Identifier: GPL-2.0-or-later
"""After the daemon died, or ended well: what is copied, and what it costs."""

import os
import random
import re
import signal
import subprocess
import threading
import time

import pytest

from support import compare
from support.mirror import HELPER, MountFailed, run, wait_until
from support.syscalls import fallocate
from support.trees import make_tree

pytestmark = pytest.mark.sanitizer

MIB = 1 << 20


class Load:
    """A process that writes to the mount until it is stopped."""

    SCRIPT = r"""
import os, random, sys
os.chdir(sys.argv[1]); rng = random.Random(int(sys.argv[2]))
n = 0
while True:
    try:
        n += 1
        name = "load%d-%d" % (int(sys.argv[2]), rng.randrange(40))
        what = rng.random()
        if what < .5:
            fd = os.open(name, os.O_CREAT | os.O_RDWR, 0o644)
            os.pwrite(fd, rng.randbytes(rng.choice((10, 5000, 200000))),
                      rng.randrange(3 << 20))
            if rng.random() < .2: os.fsync(fd)
            os.close(fd)
        elif what < .6: os.unlink(name)
        elif what < .7: os.rename(name, name + "-moved")
        elif what < .75: os.truncate(name, rng.randrange(1 << 20))
        elif what < .8: os.mkdir(name + "-d")
        elif what < .85: os.rmdir(name + "-d")
        elif what < .9: os.link(name, name + "-link%d" % rng.randrange(3))
        elif what < .95: os.chmod(name, rng.choice((0o600, 0o644)))
        else: os.setxattr(name, "user.n", b"%d" % n)
    except (FileNotFoundError, FileExistsError): pass
    except OSError as error:
        if error.errno in (107, 103, 5, 4): sys.exit(0)
        raise
"""

    def __init__(self, mirror, count=3, seed=0):
        self.processes = [subprocess.Popen(
            ["/usr/bin/python3", "-c", self.SCRIPT, str(mirror.mnt),
             str(seed + n)], stderr=subprocess.DEVNULL) for n in range(count)]

    def stop(self):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()


def resync_totals(mirror):
    return [leg["resync"]["copied_bytes"] for leg in mirror.status()["legs"]]


# ---- after SIGKILL

def test_killed_under_load(mirrors, log_type, seed):
    mirror = mirrors(log=log_type)
    mirror.create()
    mirror.mount()
    make_tree(mirror.mnt)
    rng = random.Random(seed)
    for n in range(3):
        load = Load(mirror, seed=n * 10)
        time.sleep(0.3 + rng.random())
        mirror.kill9()
        load.stop()
        mirror.mount()
        # Serving already, recovered or not.
        (mirror.mnt / f"round{n}").write_text("x")
        assert (mirror.mnt / f"round{n}").read_text() == "x"
        mirror.wait_sync()
    mirror.settle_and_compare()


def test_writes_in_flight_do_not_leave_legs_apart(mirrors, log_type):
    mirror = mirrors(log=log_type)
    mirror.create()
    mirror.mount()
    writer = subprocess.Popen(
        ["dd", "if=/dev/urandom", f"of={mirror.mnt}/big", "bs=4M",
         "count=200"], stderr=subprocess.DEVNULL)
    wait_until(lambda: (mirror.legs[0] / "big").exists()
               and (mirror.legs[0] / "big").stat().st_size > 20 * MIB, 30,
               "data")
    mirror.kill9()
    writer.wait()
    mirror.mount()
    mirror.wait_sync()
    mirror.settle_and_compare()


def test_nothing_to_do_after_an_orderly_end(mirrors, log_type):
    mirror = mirrors(log=log_type)
    mirror.create()
    mirror.mount()
    make_tree(mirror.mnt)
    mirror.umount()
    mirror.mount()
    status = mirror.status()
    assert status["state"] == "healthy"
    assert all(leg["state"] == "in-sync" for leg in status["legs"])
    assert status["log"]["dirty_regions"] == 0
    mirror.wait_sync()
    assert resync_totals(mirror) == [0, 0]
    mirror.umount()
    mirror.assert_legs_identical()


def test_nothing_is_read_after_an_orderly_end(mirrors, log_type):
    """The next mount looks at no file: access times tell."""
    mirror = mirrors(log=log_type)
    mirror.create()
    mirror.mount()
    for n in range(50):
        (mirror.mnt / f"f{n}").write_text("x")
    mirror.umount()
    for leg in mirror.legs:
        for n in range(50):
            os.utime(leg / f"f{n}", ns=(1000, 1000))
    start = time.monotonic()
    mirror.mount()
    assert time.monotonic() - start < 5
    mirror.wait_sync()
    mirror.umount()
    for leg in mirror.legs:
        assert {os.stat(leg / f"f{n}").st_atime_ns for n in range(50)} == \
            {1000}


def test_cost_follows_dirt(mirrors):
    """With log=disk a crash costs what was being written, not the mirror."""
    mirror = mirrors()
    mirror.create()
    mirror.mount()
    block = os.urandom(MIB)
    for n in range(40):
        (mirror.mnt / f"big{n}").write_bytes(block * 4)
    (mirror.mnt / "d").mkdir()
    for n in range(300):
        (mirror.mnt / "d" / f"small{n}").write_text(str(n))
    mirror.umount()
    mirror.mount()
    with open(mirror.mnt / "big7", "r+b") as file:
        file.seek(2 * MIB + 1234)
        file.write(b"changed")
        file.flush()
        mirror.kill9()
        try:
            file.close()
        except OSError:
            pass
    # What a crash can do: the change is on the primary alone.
    with open(mirror.legs[1] / "big7", "r+b") as file:
        file.seek(2 * MIB + 1234)
        file.write(b"not it!")
    mirror.mount()
    mirror.wait_sync()
    total = sum(leg["resync"]["total_bytes"]
                for leg in mirror.status()["legs"])
    done = sum(resync_totals(mirror))
    assert max(total, done) <= 8 * MIB, (total, done)
    mirror.settle_and_compare()


def test_a_core_log_compares_everything(mirrors):
    """After a crash with log=core any difference is found, old ones too."""
    mirror = mirrors(log="core")
    mirror.create()
    mirror.mount()
    make_tree(mirror.mnt)
    mirror.umount()
    mirror.mount()
    (mirror.mnt / "one").write_text("x")
    mirror.kill9()
    second = mirror.legs[1]
    with open(second / "dir1/file1", "r+b") as file:
        file.write(b"?")
    os.unlink(second / "dir2/file2")
    (second / "extra").mkdir()
    os.chmod(second / "dir3", 0o700)
    mirror.mount()
    mirror.wait_sync()
    mirror.settle_and_compare()
    assert not (second / "extra").exists()


def test_the_log_type_may_change(mirrors):
    mirror = mirrors(log="core")
    mirror.create()
    for n, log in enumerate(("core", "disk", "core", "disk", "disk")):
        mirror.log = log
        mirror.mount()
        assert mirror.status()["log"]["type"] == log
        (mirror.mnt / f"f{n}").write_bytes(os.urandom(100000))
        if n % 2:
            mirror.kill9()
        else:
            mirror.umount()
    mirror.mount()
    mirror.settle_and_compare()


@pytest.mark.parametrize("difference", [
    "content", "longer", "shorter", "mode", "owner", "xattr", "xattr-extra",
    "mtime", "missing-name", "extra-name", "extra-tree", "other-kind",
    "kind-directory", "symlink", "device", "split-links", "joined-links",
    "hole", "acl", "root-mode", "case"])
def test_every_difference_is_repaired(mirrors, difference):
    """The secondary differs in one way; recovery makes it the primary."""
    mirror = mirrors(log="core")
    mirror.create()
    mirror.mount()
    root = mirror.mnt
    (root / "d").mkdir()
    (root / "d" / "f").write_bytes(os.urandom(200000))
    os.link(root / "d" / "f", root / "d" / "g")
    (root / "d" / "other").write_bytes(b"other")
    os.setxattr(root / "d" / "f", "user.x", b"1")
    os.symlink("f", root / "d" / "l")
    os.mknod(root / "d" / "dev", 0o020600, os.makedev(1, 3))
    with open(root / "d" / "holes", "wb") as file:
        file.truncate(10 * MIB)
    (root / "d" / "sub").mkdir()
    mirror.kill9()
    d = mirror.legs[1] / "d"
    f = d / "f"
    if difference == "content":
        with open(f, "r+b") as file:
            file.seek(150000)
            file.write(b"!")
    elif difference == "longer":
        with open(f, "ab") as file:
            file.write(b"more")
    elif difference == "shorter":
        os.truncate(f, 5)
    elif difference == "mode":
        os.chmod(f, 0o4711)
        os.chmod(d, 0o1700)
    elif difference == "owner":
        os.chown(f, 5, 6)
        os.chown(d / "l", 5, 6, follow_symlinks=False)
    elif difference == "xattr":
        os.setxattr(f, "user.x", b"2")
    elif difference == "xattr-extra":
        os.setxattr(f, "user.y", b"2")
        os.setxattr(d, "user.y", b"2")
    elif difference == "mtime":
        os.utime(f, ns=(1, 1))
        os.utime(d / "l", ns=(1, 1), follow_symlinks=False)
        os.utime(d / "sub", ns=(1, 1))
    elif difference == "missing-name":
        os.unlink(d / "g")
        (d / "sub").rmdir()
    elif difference == "extra-name":
        os.link(f, d / "h")
        (d / "sub" / "new").write_text("x")
    elif difference == "extra-tree":
        make_tree(d / "tree")
    elif difference == "other-kind":
        os.unlink(d / "other")
        (d / "other").mkdir()
        (d / "other" / "inside").write_text("x")
    elif difference == "kind-directory":
        (d / "sub").rmdir()
        os.symlink("/etc", d / "sub")
    elif difference == "symlink":
        os.unlink(d / "l")
        os.symlink("elsewhere", d / "l")
    elif difference == "device":
        os.unlink(d / "dev")
        os.mknod(d / "dev", 0o020600, os.makedev(1, 5))
    elif difference == "split-links":
        os.unlink(d / "g")
        run("cp", "-p", f, d / "g")
    elif difference == "joined-links":
        os.unlink(d / "other")
        os.link(f, d / "other")
    elif difference == "hole":
        (d / "holes").write_bytes(bytes(10 * MIB))
        os.utime(d / "holes", ns=(1, os.stat(
            mirror.legs[0] / "d" / "holes").st_mtime_ns))
    elif difference == "acl":
        run("setfacl", "-m", "u:7:rwx", f)
        run("setfacl", "-d", "-m", "u:7:rwx", d)
    elif difference == "root-mode":
        os.chmod(mirror.legs[1], 0o1770)
        os.setxattr(mirror.legs[1], "user.root", b"x")
    elif difference == "case":
        (d / "other").rename(d / "OTHER")
    model = compare.snapshot(mirror.legs[0])
    mirror.mount()
    mirror.wait_sync()
    mirror.umount()
    lines = mirror.leg_differences(holes=difference != "hole")
    assert not lines, lines
    assert not compare.snapshot_differences(
        model, compare.snapshot(mirror.legs[0])), "the source was changed"
    if difference != "hole":
        mirror.cli("check", *mirror.legs)


def test_a_link_is_not_overwritten_through_the_wrong_name(mirrors):
    """The secondary joins two files that the primary keeps apart."""
    mirror = mirrors(log="core")
    mirror.create()
    mirror.mount()
    (mirror.mnt / "a").write_text("content of a")
    (mirror.mnt / "b").write_text("content of b")
    mirror.kill9()
    os.unlink(mirror.legs[1] / "b")
    os.link(mirror.legs[1] / "a", mirror.legs[1] / "b")
    mirror.mount()
    mirror.settle_and_compare()
    for leg in mirror.legs:
        assert (leg / "a").read_text() == "content of a"
        assert (leg / "b").read_text() == "content of b"


def test_reading_and_writing_while_it_recovers(mirrors):
    """What is not recovered yet is served right, and stays right."""
    mirror = mirrors(log="core")
    mirror.create()
    mirror.mount("read-policy=round-robin")
    rng = random.Random(5)
    content = {}
    for n in range(60):
        content[f"f{n}"] = rng.randbytes(MIB)
        (mirror.mnt / f"f{n}").write_bytes(content[f"f{n}"])
    mirror.kill9()
    for n in range(60):
        (mirror.legs[1] / f"f{n}").write_bytes(b"stale" * 1000)
    mirror.mount("read-policy=round-robin")
    for n in range(59, -1, -1):
        name = f"f{n}"
        assert (mirror.mnt / name).read_bytes() == content[name], name
        if n % 3 == 0:
            data = bytearray(content[name])
            data[500000:500100] = rng.randbytes(100)
            content[name] = bytes(data)
            with open(mirror.mnt / name, "r+b") as file:
                file.seek(500000)
                file.write(data[500000:500100])
        if n % 7 == 1:
            os.unlink(mirror.mnt / name)
            content.pop(name)
        elif n % 10 == 0:
            (mirror.mnt / name).rename(mirror.mnt / f"moved{n}")
            content[f"moved{n}"] = content.pop(name)
    mirror.wait_sync()
    mirror.settle_and_compare()
    for name, data in content.items():
        assert (mirror.legs[1] / name).read_bytes() == data


def test_killed_while_it_recovers(mirrors, log_type):
    """Recovery is resumed, not believed finished."""
    mirror = mirrors(log=log_type)
    (mirror.legs[0] / "tree").mkdir()
    for n in range(150):
        (mirror.legs[0] / "tree" / f"f{n}").write_bytes(os.urandom(300000))
    mirror.create(adopt=mirror.legs[0])
    for n in range(5):
        mirror.mount()
        time.sleep(0.05 * n)
        mirror.kill9()
    mirror.mount()
    mirror.wait_sync()
    mirror.settle_and_compare()


def test_killed_when_what_lay_above_was_cleared(mirrors):
    """The names of a directory are healed and forgotten long before what lies
    in it, about which nobody asked the log to be durable."""
    mirror = mirrors()
    deep = mirror.legs[0] / "tree" / "deep"
    deep.mkdir(parents=True)
    for n in range(60):
        (deep / f"f{n}").write_bytes(os.urandom(300000))
    mirror.create(adopt=mirror.legs[0])
    mirror.mount("resync-rate-max=300K", env={"MIRRORFS_TICK_MS": "50"})

    def cleared():
        names = [region for region in mirror.dirty()["regions"]
                 if region["kind"] == "entries"]
        return not any(region["path"] == "" for region in names)

    wait_until(cleared)
    assert mirror.leg_status("b")["state"] == "resync"
    mirror.kill9()
    mirror.mount()
    mirror.wait_sync()
    mirror.settle_and_compare()


def test_an_orderly_end_while_it_recovers(mirrors, log_type):
    mirror = mirrors(log=log_type)
    for n in range(150):
        (mirror.legs[0] / f"f{n}").write_bytes(os.urandom(300000))
    mirror.create(adopt=mirror.legs[0])
    mirror.mount()
    mirror.umount()
    mirror.mount()
    mirror.wait_sync()
    mirror.settle_and_compare()


@pytest.mark.parametrize("legs", [3, 4])
def test_more_legs(mirrors, log_type, legs):
    mirror = mirrors(log=log_type, legs=legs)
    mirror.create()
    mirror.mount()
    make_tree(mirror.mnt)
    load = Load(mirror)
    time.sleep(0.7)
    mirror.kill9()
    load.stop()
    mirror.mount()
    mirror.wait_sync()
    assert len(mirror.status()["legs"]) == legs
    mirror.settle_and_compare()


def test_log_in_its_own_directory(mirrors):
    mirror = mirrors()
    log_dir = mirror.base / "logs"
    log_dir.mkdir()
    mirror.create()
    mirror.options.append(f"log-dir={log_dir}")
    mirror.mount()
    make_tree(mirror.mnt)
    assert os.listdir(log_dir)
    load = Load(mirror)
    time.sleep(0.5)
    mirror.kill9()
    load.stop()
    mirror.mount()
    assert str(log_dir) in mirror.status()["log"]["location"]
    mirror.wait_sync()
    mirror.settle_and_compare()


def test_log_dir_lost(mirrors):
    """A log that is gone means everything may differ."""
    mirror = mirrors()
    log_dir = mirror.base / "logs"
    log_dir.mkdir()
    mirror.create()
    mirror.mount(f"log-dir={log_dir}")
    make_tree(mirror.mnt)
    mirror.kill9()
    with open(mirror.legs[1] / "dir1/file1", "ab") as file:
        file.write(b"?")
    run("rm", "-rf", log_dir)
    log_dir.mkdir()
    mirror.expect_diagnostics("log")
    mirror.mount(f"log-dir={log_dir}")
    mirror.wait_sync()
    mirror.settle_and_compare()


# ---- the log is damaged

def store_of(mirror):
    """The directory of the disk log, on the first leg."""
    (store,) = [p.parent.parent for p in
                mirror.legs[0].glob(".mirrorfs/*/*/CURRENT")
                if not p.parent.parent.name.endswith(".old")]
    return store


def log_files(mirror, what):
    found = [p for p in store_of(mirror).glob("**/*") if p.is_file()]
    return [p for p in found if re.search(what, p.name)]


LOG_DAMAGE = ["wal-flipped", "wal-truncated", "wal-deleted", "sst-flipped",
              "manifest-deleted", "manifest-flipped", "current-garbage",
              "all-deleted", "directory-is-file", "tail-garbage",
              "other-mirrors", "older"]


# Damage that may be so slight that the log is still good, or that it had
# nothing to lose there; marks that count must not be lost all the same.
STILL_TRUSTED = ("sst-flipped", "tail-garbage")


def damage_log(mirror, how, spare):
    """Damages the disk log of a mirror that is not running."""
    store = store_of(mirror)

    def flip(path, part=0.5):
        data = bytearray(path.read_bytes())
        if data:
            data[int((len(data) - 1) * part)] ^= 0x10
        path.write_bytes(data)

    wals = log_files(mirror, r"^\d+\.log$")
    if how == "wal-flipped":
        for path in wals:
            flip(path, 0.3)
    elif how == "wal-truncated":
        for path in wals:
            os.truncate(path, path.stat().st_size // 2)
    elif how == "wal-deleted":
        for path in wals:
            path.unlink()
    elif how == "sst-flipped":
        for path in log_files(mirror, r"\.sst$"):
            flip(path, 0.1)
            flip(path, 0.5)
    elif how == "manifest-deleted":
        for path in log_files(mirror, "^MANIFEST"):
            path.unlink()
    elif how == "manifest-flipped":
        for path in log_files(mirror, "^MANIFEST"):
            flip(path)
    elif how == "current-garbage":
        for path in log_files(mirror, "^CURRENT$"):
            path.write_text("MANIFEST-999999\n")
    elif how == "all-deleted":
        run("rm", "-rf", store)
    elif how == "directory-is-file":
        run("rm", "-rf", store)
        store.write_text("not a log")
    elif how == "tail-garbage":
        for path in log_files(mirror, "tail"):
            path.write_bytes(b"\xa5" * 333)
    elif how in ("other-mirrors", "older"):
        run("rm", "-rf", store)
        run("cp", "-a", spare, store)


@pytest.mark.parametrize("how", LOG_DAMAGE)
def test_a_damaged_log_means_everything_is_dirty(mirrors, how):
    """Never clean: an old difference that no mark tells of is found."""
    mirror = mirrors()
    mirror.create()
    mirror.mount()
    make_tree(mirror.mnt)
    mirror.umount()
    spare = mirror.base / "spare"
    if how == "older":
        run("cp", "-a", store_of(mirror), spare)
    if how == "other-mirrors":
        other = mirrors(name="other")
        other.create()
        other.mount()
        (other.mnt / "x").write_text("x")
        other.kill9()
        run("cp", "-a", store_of(other), spare)
    mirror.mount()
    for n in range(30):
        (mirror.mnt / f"dir{n % 6}" / f"late{n}").write_bytes(
            os.urandom(100000))
    mirror.kill9()
    # An old file too: only a comparison of everything finds it. What a log
    # in good order would never have to look at.
    with open(mirror.legs[1] / "dir1" / "late1", "r+b") as file:
        file.write(b"difference")
    with open(mirror.legs[1] / "dir5" / "file5", "r+b") as file:
        file.write(b"difference")
    damage_log(mirror, how, spare)
    mirror.expect_diagnostics("log|store|rocksdb|corrupt|everything")
    try:
        mirror.mount()
    except MountFailed as error:
        # A file of the user's in the log's place is not thrown away.
        assert how == "directory-is-file" and "log" in error.text
        assert len(error.text.strip().splitlines()) == 1
        return
    mirror.wait_sync()
    mirror.umount()
    lines = mirror.leg_differences()
    if how in STILL_TRUSTED:
        lines = [line for line in lines if "dir5/file5" not in line]
    assert not lines, "\n".join(lines)


def test_the_log_survives_a_torn_tail(mirrors):
    """The last record half written: marks before it count."""
    mirror = mirrors()
    mirror.create()
    mirror.mount()
    make_tree(mirror.mnt)
    mirror.kill9()
    for path in log_files(mirror, r"^\d+\.log$"):
        if path.stat().st_size > 10:
            with open(path, "ab") as file:
                file.write(b"\x01\x02\x03")
    with open(mirror.legs[1] / "dir1" / "file1", "ab") as file:
        file.write(b"difference")
    mirror.expect_diagnostics("log|store|rocksdb|corrupt|everything")
    mirror.mount()
    mirror.settle_and_compare()


def test_debris_of_a_crash_in_the_private_directory(mirrors):
    """Temporary copies that a crash left are swept away."""
    mirror = mirrors()
    mirror.create()
    for leg in mirror.legs:
        (leg / ".mirrorfs" / "tmp").mkdir(exist_ok=True)
        (leg / ".mirrorfs" / "tmp" / "debris").write_text("x")
        (leg / ".mirrorfs" / "label.new").write_text("half a label")
    mirror.mount()
    (mirror.mnt / "f").write_text("x")
    mirror.settle_and_compare()


def test_mount_while_the_old_daemon_is_dying(mirrors):
    """SIGKILL and mount in one breath, as a supervisor does."""
    mirror = mirrors()
    mirror.create()
    mirror.mount()
    for n in range(5):
        load = Load(mirror, count=2)
        time.sleep(0.2)
        os.kill(mirror.daemon_pid, signal.SIGKILL)
        old, mirror.daemon = mirror.daemon, None
        for attempt in range(20):
            try:
                mirror.mount()
                break
            except MountFailed as error:
                # Allowed: the old one still holds the legs. Never a mess.
                assert re.search("in use|busy|mounted|running", error.text)
                assert attempt < 19
                time.sleep(0.1)
        old.wait()
        load.stop()
        assert (mirror.mnt).is_dir()
    mirror.expect_diagnostics("in use|busy|mounted|running")
    mirror.wait_sync()
    mirror.settle_and_compare()


def test_mount_while_the_old_daemon_does_not_answer(mirrors):
    """It dies when the new one has asked it already."""
    mirror = mirrors()
    mirror.create()
    mirror.mount()
    (mirror.mnt / "file").write_bytes(b"content")
    old, mirror.daemon = mirror.daemon, None
    os.kill(old.pid, signal.SIGSTOP)
    timer = threading.Timer(1.5, old.kill)
    timer.start()
    try:
        mirror.mount()
    except MountFailed as error:
        assert re.search("in use|mounted", error.text)
        old.wait()
        mirror.mount()
    finally:
        timer.join()
        old.wait()
    assert (mirror.mnt / "file").read_bytes() == b"content"
    mirror.expect_diagnostics("in use|mounted")
    mirror.wait_sync()
    mirror.settle_and_compare()


@pytest.mark.parametrize("spelling", ["{}", "{}/", "{}/.", "{}/../mnt"])
def test_mount_where_a_dead_mount_is(mirrors, spelling):
    mirror = mirrors()
    mirror.create()
    mirror.mount()
    (mirror.mnt / "file").write_bytes(b"content")
    mirror.kill9()
    run(HELPER, mirror.spec(), spelling.format(mirror.mnt), "-o",
        mirror.option_text(), env=mirror.env)
    assert (mirror.mnt / "file").read_bytes() == b"content"
    mirror.wait_sync()
    mirror.cli("umount", mirror.mnt)


# ---- a leg edited by hand

def test_a_leg_edited_by_hand_while_unmounted(mirrors):
    """Not noticed by itself (it is not a scrub), but nothing breaks, and
    `check` sees it; a write through the mount lands on both."""
    mirror = mirrors()
    mirror.create()
    mirror.mount()
    make_tree(mirror.mnt)
    mirror.umount()
    second = mirror.legs[1]
    with open(second / "dir1/file1", "r+b") as file:
        file.write(b"edited")
    os.unlink(second / "dir2/file2")
    os.unlink(second / "dir3/file3")
    (second / "dir3/file3").mkdir()
    (second / "stranger").write_text("x")
    run("rm", "-r", second / "dir4")
    assert mirror.cli("check", *mirror.legs, check=False).returncode != 0
    mirror.expect_diagnostics("differ|diverge|leg")
    mirror.mount()
    for path in ("dir1/file1", "dir2/file2", "dir3/file3", "dir4/file4"):
        with open(mirror.mnt / path, "ab") as file:
            file.write(b"through the mount")
    os.chmod(mirror.mnt / "dir2/file2", 0o600)
    (mirror.mnt / "stranger").write_text("ours")
    (mirror.mnt / "dir4" / "new").write_text("x")
    (mirror.mnt / "dir3/file3").rename(mirror.mnt / "dir3/moved")
    os.unlink(mirror.mnt / "dir4/file10")
    assert (mirror.mnt / "stranger").read_text() == "ours"
    mirror.wait_sync()
    mirror.umount()
    for path in ("dir1/file1", "dir2/file2", "dir3/moved", "dir4/file4",
                 "stranger", "dir4/new"):
        assert (mirror.legs[0] / path).read_bytes()[-10:] == \
            (second / path).read_bytes()[-10:], path


def test_a_leg_edited_by_hand_while_mounted(mirrors):
    """A leg that answers otherwise than the primary is healed at once."""
    mirror = mirrors()
    mirror.create()
    mirror.mount()
    (mirror.mnt / "d").mkdir()
    for n in range(10):
        (mirror.mnt / "d" / f"f{n}").write_text(f"content {n}")
    second = mirror.legs[1] / "d"
    mirror.expect_diagnostics("differ|diverge|leg")
    os.unlink(second / "f1")
    (mirror.mnt / "d" / "f1").write_text("again")
    os.unlink(second / "f2")
    os.unlink(mirror.mnt / "d" / "f2")
    (second / "new").write_text("in the way")
    (mirror.mnt / "d" / "new").write_text("ours")
    (second / "dir").write_text("in the way")
    (mirror.mnt / "d" / "dir").mkdir()
    (second / "f3").rename(second / "elsewhere")
    (mirror.mnt / "d" / "f3").rename(mirror.mnt / "d" / "g3")
    os.unlink(second / "f4")
    os.chmod(mirror.mnt / "d" / "f4", 0o600)
    os.unlink(second / "f5")
    os.truncate(mirror.mnt / "d" / "f5", 3)
    os.unlink(second / "f6")
    os.setxattr(mirror.mnt / "d" / "f6", "user.x", b"1")
    mirror.wait_sync()
    mirror.umount()
    names = ["f1", "new", "dir", "g3", "f4", "f5", "f6"]
    for name in names:
        assert (second / name).exists(), name
    assert not (second / "f2").exists()
    for name in ("f1", "new", "g3", "f4", "f5", "f6"):
        assert (second / name).read_bytes() == \
            (mirror.legs[0] / "d" / name).read_bytes(), name
    assert (second / "f4").stat().st_mode & 0o777 == 0o600


def test_a_primary_edited_by_hand_while_mounted(mirrors):
    """Whatever the answer is, it is an answer, and the legs end up equal."""
    mirror = mirrors()
    mirror.create()
    mirror.mount("attr-timeout=0", "entry-timeout=0")
    mirror.expect_diagnostics("differ|diverge|leg")
    (mirror.mnt / "d").mkdir()
    for n in range(5):
        (mirror.mnt / "d" / f"f{n}").write_text(f"content {n}")
    primary = mirror.legs[0] / "d"
    os.unlink(primary / "f1")
    for attempt in (lambda: (mirror.mnt / "d" / "f1").read_text(),
                    lambda: (mirror.mnt / "d" / "f1").write_text("new"),
                    lambda: os.unlink(mirror.mnt / "d" / "f1"),
                    lambda: (mirror.mnt / "d" / "f1").write_text("new")):
        try:
            attempt()
        except OSError:
            pass
    run("rm", "-r", primary)
    for attempt in (lambda: (mirror.mnt / "d" / "f2").read_text(),
                    lambda: (mirror.mnt / "d" / "f3").write_text("new"),
                    lambda: os.listdir(mirror.mnt / "d"),
                    lambda: (mirror.mnt / "d").rename(mirror.mnt / "e"),
                    lambda: (mirror.mnt / "d").mkdir()):
        try:
            attempt()
        except OSError:
            pass
    (mirror.mnt / "alive").write_text("x")
    mirror.wait_sync()
    mirror.umount()


def test_status_answers_while_it_recovers(mirrors):
    mirror = mirrors()
    for n in range(200):
        (mirror.legs[0] / f"f{n}").write_bytes(os.urandom(200000))
    mirror.create(adopt=mirror.legs[0])
    mirror.mount()
    seen = set()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        status = mirror.status()
        seen.add(status["state"])
        second = status["legs"][1]
        assert second["state"] in ("resync", "in-sync")
        resync = second["resync"]
        assert 0 <= resync["done_bytes"]
        if status["state"] == "healthy":
            break
    assert "healthy" in seen
    assert mirror.status()["legs"][1]["state"] == "in-sync"
    mirror.settle_and_compare()


def test_concurrent_use_during_recovery(mirrors, log_type):
    """A load that never stops while legs are made equal under it."""
    mirror = mirrors(log=log_type)
    make_tree(mirror.legs[0], files=200)
    mirror.create(adopt=mirror.legs[0])
    mirror.mount()
    stop = threading.Event()

    def use():
        rng = random.Random(3)
        while not stop.is_set():
            n = rng.randrange(200)
            path = mirror.mnt / f"dir{n % 6}" / f"file{n}"
            try:
                if rng.random() < 0.5:
                    with open(path, "r+b") as file:
                        file.seek(rng.randrange(50000))
                        file.write(rng.randbytes(3000))
                elif rng.random() < 0.4:
                    path.rename(path.with_name(f"moved{n}"))
                elif rng.random() < 0.4:
                    os.link(path, path.with_name(f"twin{n}"))
                else:
                    fd = os.open(path, os.O_RDWR)
                    fallocate(fd, 3, 1000, 5000)
                    os.close(fd)
            except (FileNotFoundError, FileExistsError):
                pass

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    mirror.wait_sync()
    mirror.settle_and_compare()
