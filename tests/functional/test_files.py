# SPDX-License-Identifier: GPL-2.0-or-later
"""What parity with one file system cannot show: concurrency, and many legs."""

import concurrent.futures
import contextlib
import os
import random
import subprocess
import threading
import time

import pytest

from support.mirror import REPO, run, wait_until
from support.syscalls import RENAME_EXCHANGE, fallocate, renameat2

pytestmark = pytest.mark.sanitizer

MIB = 1 << 20


def fill(directory, count, size=0):
    for n in range(count):
        with open(directory / f"entry-{n:05}", "wb") as file:
            if size:
                file.write(os.urandom(size))


# ---- directories

def test_ten_thousand_entries(mirror):
    big = mirror.mnt / "big"
    big.mkdir()
    fill(big, 10000)
    names = [f"entry-{n:05}" for n in range(10000)]
    assert sorted(os.listdir(big)) == names
    with os.scandir(big) as entries:
        listed = {e.name: e.inode() for e in entries}
    assert sorted(listed) == names
    assert len(set(listed.values())) == 10000
    for name in random.sample(names, 50):
        assert os.stat(big / name).st_ino == listed[name]
    assert len(run("ls", "-lU", big).stdout.splitlines()) == 10001
    for name in names[::2]:
        os.unlink(big / name)
    assert sorted(os.listdir(big)) == names[1::2]
    mirror.settle_and_compare()


def test_listing_while_it_changes(mirror):
    """Names that stay are listed exactly once, whatever happens to others."""
    big = mirror.mnt / "big"
    big.mkdir()
    for n in range(3000):
        (big / f"stays-{n:05}").touch()
    stop = threading.Event()

    def churn():
        rng = random.Random(1)
        while not stop.is_set():
            name = big / f"comes-and-goes-{rng.randrange(500)}"
            try:
                if rng.random() < 0.5:
                    name.touch()
                elif rng.random() < 0.5:
                    name.unlink()
                else:
                    name.rename(big / f"moved-{rng.randrange(500)}")
            except FileNotFoundError:
                pass

    worker = threading.Thread(target=churn)
    worker.start()
    try:
        for _ in range(20):
            listed = [e.name for e in os.scandir(big)]
            stays = [n for n in listed if n.startswith("stays-")]
            assert len(stays) == 3000
            assert len(set(stays)) == 3000
    finally:
        stop.set()
        worker.join()
    mirror.settle_and_compare()


def test_rewinding_and_seeking_a_directory(mirror):
    """telldir, seekdir and rewinddir, by a C program that uses nothing else."""
    big = mirror.mnt / "big"
    big.mkdir()
    fill(big, 500)
    source = mirror.base / "seekdir.c"
    source.write_text(r"""
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static char names[600][256]; static long offsets[600];
int main(int argc, char **argv) {
  DIR *dir = opendir(argv[1]); struct dirent *e; int n = 0;
  for (;;) {
    offsets[n] = telldir(dir);
    if (!(e = readdir(dir))) break;
    strcpy(names[n++], e->d_name);
  }
  if (n != 502) { printf("%d entries\n", n); return 1; }
  for (int round = 0; round < 2000; ++round) {
    int i = rand() % n;
    seekdir(dir, offsets[i]);
    e = readdir(dir);
    if (!e || strcmp(e->d_name, names[i])) {
      printf("at %d: %s, not %s\n", i, e ? e->d_name : "end", names[i]);
      return 1;
    }
  }
  rewinddir(dir);
  int again = 0; while (readdir(dir)) ++again;
  return again == n ? 0 : 1;
}
""")
    program = mirror.base / "seekdir"
    run("cc", "-O1", "-o", program, source)
    result = run(program, big, check=False)
    assert result.returncode == 0, result.stdout


def test_removing_while_listing(mirror):
    """rm -r of a directory that is larger than one buffer."""
    big = mirror.mnt / "big"
    big.mkdir()
    fill(big, 4000)
    run("rm", "-r", big)
    assert os.listdir(mirror.mnt) == []
    mirror.settle_and_compare()


# ---- writes that overlap

@pytest.mark.parametrize("engine", ["libaio", "io_uring"])
def test_overlapping_asynchronous_writes(mirror, needs, engine):
    """Asynchronous O_DIRECT writes reach the daemon side by side."""
    needs("fio")
    result = run(
        "fio", "--name=overlap", f"--filename={mirror.mnt}/f",
        f"--ioengine={engine}", "--direct=1", "--rw=randwrite", "--bs=4k",
        "--size=64k", "--norandommap", "--randrepeat=0", "--iodepth=16",
        "--numjobs=4", "--loops=150", "--group_reporting",
        "--refill_buffers", check=False)
    if "not loadable" in result.stderr or "not implemented" in result.stderr:
        pytest.skip(f"fio cannot use {engine} here")
    assert result.returncode == 0, result.stdout + result.stderr
    mirror.settle_and_compare()


def test_overlapping_writes_of_threads(mirror):
    """Many opens of one file, writes across each other and region ends."""
    path = mirror.mnt / "f"
    path.touch()

    def writer(salt):
        rng = random.Random(salt)
        fd = os.open(path, os.O_RDWR)
        for _ in range(150):
            size = rng.choice((1, 100, 4096, 5000, 70000))
            at = rng.choice((0, 1000, MIB - 3000, MIB, 2 * MIB - 1))
            action = rng.random()
            if action < 0.85:
                os.pwrite(fd, bytes([salt + 1]) * size, at)
            elif action < 0.9:
                os.ftruncate(fd, rng.randrange(2 * MIB))
            elif action < 0.95:
                fallocate(fd, 3, at, size)
            else:
                os.fdatasync(fd)
        os.close(fd)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(writer, range(8)))
    mirror.settle_and_compare()


def test_direct_and_mapped_writes_at_once(mirror, needs):
    needs("fio")
    common = [f"--filename={mirror.mnt}/f", "--size=2m", "--bs=4k",
              "--norandommap", "--rw=randrw", "--loops=3"]
    jobs = [subprocess.Popen(
        ["fio", f"--name={name}", *common, *more], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
        for name, more in (("mapped", ["--ioengine=mmap"]),
                           ("direct", ["--ioengine=psync", "--direct=1"]),
                           ("plain", ["--ioengine=psync"]))]
    for job in jobs:
        out, _ = job.communicate(timeout=100)
        assert job.returncode == 0, out.decode()
    mirror.settle_and_compare()


def test_namespace_storm(mirror):
    """Several processes fight over the same few names."""
    for d in "xyz":
        (mirror.mnt / d).mkdir()
    script = r"""
import os, random, sys
sys.path.insert(0, sys.argv[3])
from support.syscalls import renameat2, RENAME_EXCHANGE
rng = random.Random(int(sys.argv[2])); os.chdir(sys.argv[1])
def name(): return "%s/%s" % (rng.choice("xyz"), rng.choice("abcdef"))
for _ in range(int(sys.argv[4])):
    a, b = name(), name()
    action = rng.choice([
        lambda: os.close(os.open(a, os.O_CREAT | os.O_WRONLY, 0o644)),
        lambda: os.mkdir(a), lambda: os.rename(a, b), lambda: os.link(a, b),
        lambda: os.unlink(a), lambda: os.rmdir(a),
        lambda: os.symlink(b, a), lambda: renameat2(a, b, RENAME_EXCHANGE),
        lambda: os.chmod(a, rng.choice((0o600, 0o755))),
        lambda: os.setxattr(a, "user.x", b"%d" % rng.randrange(9)),
        lambda: os.truncate(a, rng.randrange(100000)),
        lambda: os.mkdir(a + "/sub"), lambda: os.rename(a, b + "/sub"),
        lambda: os.utime(a, (1, rng.randrange(10**9))),
        lambda: os.listdir(rng.choice("xyz"))])
    try: action()
    except OSError as error:
        assert error.errno not in (5, 107, 103, 116), error
"""
    workers = [subprocess.Popen(
        ["/usr/bin/python3", "-c", script, str(mirror.mnt), str(n),
         os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "600"])
        for n in range(4)]
    for worker in workers:
        assert worker.wait(100) == 0
    mirror.settle_and_compare()


def test_renaming_directories_under_load(mirror):
    """Operations below a directory that is being renamed."""
    root = mirror.mnt
    (root / "a" / "deep" / "er").mkdir(parents=True)
    stop = threading.Event()

    def mover():
        here, there = root / "a", root / "b"
        while not stop.is_set():
            here.rename(there)
            here, there = there, here
        if here.name == "b":
            here.rename(root / "a")

    def writer(n):
        done = 0
        while not stop.is_set():
            for top in "ab":
                try:
                    path = root / top / "deep" / "er" / f"f{n}"
                    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
                    os.pwrite(fd, b"%d" % done, done % 5000)
                    os.close(fd)
                    os.rename(path, root / top / "deep" / f"g{n}")
                    done += 1
                except (FileNotFoundError, NotADirectoryError):
                    pass
        return done

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(writer, n) for n in range(4)]
        moving = pool.submit(mover)
        time.sleep(3)
        stop.set()
        moving.result()
        assert sum(job.result() for job in jobs) > 0
    mirror.settle_and_compare()


def test_exchange_with_open_files(mirror):
    (mirror.mnt / "a").write_text("was a")
    (mirror.mnt / "b").write_text("was b")
    with open(mirror.mnt / "a", "r+", encoding="utf-8") as file:
        renameat2(mirror.mnt / "a", mirror.mnt / "b", RENAME_EXCHANGE)
        file.write("WAS")
    assert (mirror.mnt / "b").read_text() == "WAS a"
    mirror.settle_and_compare()


# ---- times and numbers

def test_times_are_equal_on_all_legs(mirrors):
    mirror = mirrors(legs=3)
    mirror.create()
    mirror.mount()
    root = mirror.mnt
    (root / "d").mkdir()
    (root / "d" / "f").write_bytes(b"x" * 100000)
    (root / "d" / "link").symlink_to("f")
    os.link(root / "d" / "f", root / "hard")
    os.mkfifo(root / "fifo")
    time.sleep(0.05)
    with open(root / "d" / "f", "ab") as file:
        file.write(b"y")
    os.truncate(root / "d" / "f", 77)
    time.sleep(0.05)
    (root / "d" / "f").rename(root / "d" / "g")
    os.unlink(root / "hard")
    mirror.assert_legs_soon_identical()
    seen = {p: os.lstat(p).st_mtime_ns
            for p in (root, root / "d", root / "d" / "g", root / "fifo",
                      root / "d" / "link")}
    mirror.settle_and_compare()
    mirror.mount()
    assert seen == {p: os.lstat(p).st_mtime_ns for p in seen}


def test_times_set_while_a_file_is_closed(mirror):
    """close(2) does not wait for the daemon, which makes times equal then."""
    def worker(n):
        for k in range(400):
            path = mirror.mnt / f"f{n}-{k}"
            path.write_bytes(b"x")
            os.utime(path, ns=(1, k * 10**9 + n))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(worker, range(4)))
    mirror.settle_and_compare()


def test_times_of_directories_that_move(mirrors):
    """Before their times have been made equal, which takes a moment."""
    mirror = mirrors()
    mirror.create()
    mirror.mount()
    root = mirror.mnt
    places = ["d", "d/sub", "other", "other/sub", "stays"]
    for place in places:
        (root / place).mkdir()
    mirror.assert_legs_soon_identical()
    for place in places:
        # Clocks of file systems are coarse: legs mostly stamp alike. And setting
        # the access time makes the mirror look at the other one.
        os.utime(mirror.legs[1] / place, (1, 1))
    run("touch", "-a", *[root / place for place in places])
    (root / "d").rename(root / "moved")
    renameat2(root / "moved", root / "other", RENAME_EXCHANGE)
    mirror.assert_legs_soon_identical()
    mirror.settle_and_compare()


def test_inode_numbers(mirror):
    """Unique, stable, shared by hard links, and the same in a listing."""
    root = mirror.mnt
    (root / "d").mkdir()
    (root / "f").write_text("x")
    os.link(root / "f", root / "d" / "g")
    before = os.stat(root / "f")
    assert os.stat(root / "d" / "g").st_ino == before.st_ino
    assert before.st_nlink == 2
    run("sh", "-c", f"ls -lR {root} >/dev/null")
    (root / "f").rename(root / "d" / "h")
    assert os.stat(root / "d" / "h").st_ino == before.st_ino
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("2\n")
    assert os.stat(root / "d" / "h").st_ino == before.st_ino
    assert os.stat(root / "d" / "g").st_ino == before.st_ino
    same = run("find", root, "-samefile", root / "d" / "h").stdout.split()
    assert len(same) == 2
    numbers = set()
    for n in range(100):
        (root / f"n{n}").touch()
        numbers.add(os.stat(root / f"n{n}").st_ino)
    assert len(numbers) == 100
    assert os.stat(root).st_ino not in numbers


def test_space_is_the_smallest_legs(disks, mirrors):
    small, large = disks("ext4", 64 << 20), disks("ext4", 256 << 20)
    mirror = mirrors()
    mirror.legs = [large.where / "a", small.where / "b"]
    for leg in mirror.legs:
        leg.mkdir()
    mirror.create()
    mirror.mount()
    mounted, least = os.statvfs(mirror.mnt), os.statvfs(small.where)
    assert mounted.f_bavail * mounted.f_frsize <= \
        least.f_bavail * least.f_frsize
    assert mounted.f_blocks * mounted.f_frsize <= \
        least.f_blocks * least.f_frsize
    assert mounted.f_favail <= least.f_favail
    mirror.umount()


def test_a_full_leg(disks, mirrors):
    """No space on one leg is the caller's error, and the legs stay equal."""
    small, large = disks("ext4", 64 << 20), disks("ext4", 256 << 20)
    mirror = mirrors()
    mirror.legs = [large.where / "a", small.where / "b"]
    for leg in mirror.legs:
        leg.mkdir()
    mirror.create()
    mirror.mount()
    mirror.expect_diagnostics("no space|ENOSPC")
    (mirror.mnt / "keep").write_text("x")
    fd = os.open(mirror.mnt / "big", os.O_CREAT | os.O_WRONLY, 0o644)
    block, error = os.urandom(MIB), None
    for n in range(200):
        try:
            assert os.pwrite(fd, block, n * MIB) == MIB
        except OSError as failed:
            error = failed
            break
    assert error is not None and error.errno == 28, error
    with pytest.raises(OSError):
        for n in range(100000):
            (mirror.mnt / f"small{n}").write_bytes(block[:8192])
    os.close(fd)
    assert (mirror.mnt / "keep").read_text() == "x"
    os.unlink(mirror.mnt / "big")
    (mirror.mnt / "again").write_bytes(block)
    assert (mirror.mnt / "again").read_bytes() == block
    mirror.settle_and_compare()


def test_different_file_systems(disks, mirrors):
    """Legs that differ in nearly everything hold the same."""
    mirror = mirrors(legs=2)
    mirror.legs = []
    for fs in ("ext4", "xfs", "btrfs"):
        leg = disks(fs, 256 << 20).where / "leg"
        leg.mkdir()
        mirror.legs.append(leg)
    mirror.create()
    mirror.mount()
    root = mirror.mnt
    (root / "d").mkdir()
    os.setxattr(root / "d", "user.x", b"1")
    run("setfacl", "-m", "u:11001:rwx,d:u:11001:rx", root / "d")
    (root / "d" / "f").write_bytes(os.urandom(300000))
    os.link(root / "d" / "f", root / "g")
    with open(root / "sparse", "wb") as file:
        file.truncate(20 * MIB)
        file.seek(10 * MIB)
        file.write(b"x")
    os.symlink("t" * 1000, root / "l")
    os.mknod(root / "null", 0o020666, os.makedev(1, 3))
    for leg in mirror.legs:
        fd = os.open(root / "sparse", os.O_RDWR)
        fallocate(fd, 3, 5 * MIB, MIB)
        os.close(fd)
    run("cp", "-a", REPO / "src", root / "copy")
    mirror.settle_and_compare()


def test_leg_descriptors_carry_no_append(mirror):
    """pwrite on an O_APPEND descriptor appends: not on the legs."""
    fd = os.open(mirror.mnt / "f", os.O_CREAT | os.O_WRONLY | os.O_APPEND,
                 0o644)
    for n in range(100):
        os.write(fd, b"%04d\n" % n)
    assert (mirror.legs[0] / "f").read_bytes() == \
        (mirror.legs[1] / "f").read_bytes() == \
        b"".join(b"%04d\n" % n for n in range(100))
    os.close(fd)


def test_data_reaches_all_legs_at_once(mirror):
    """In the default mode an acknowledged write is on every leg."""
    fd = os.open(mirror.mnt / "f", os.O_CREAT | os.O_RDWR, 0o644)
    os.write(fd, b"written, not closed")
    for leg in mirror.legs:
        assert (leg / "f").read_bytes() == b"written, not closed"
    os.close(fd)


def test_descriptors_do_not_run_out(mirror):
    """More cached inodes than descriptors; and no leak."""
    for n in range(60):
        (mirror.mnt / f"d{n}").mkdir()
        fill(mirror.mnt / f"d{n}", 100)
    run("find", mirror.mnt, "-newer", mirror.legs[0])
    time.sleep(0.2)
    count = len(os.listdir(f"/proc/{mirror.daemon_pid}/fd"))
    assert count < 1500, count
    for _ in range(5):
        run("find", mirror.mnt, "-type", "f", "-exec", "cat", "{}", "+")
    time.sleep(0.2)
    assert len(os.listdir(f"/proc/{mirror.daemon_pid}/fd")) < count + 200
    limits = f"--nofile={1024}"
    mirror.umount()
    # And with few to have: our own limit is no failure of a leg.
    mirror.mount()
    run("prlimit", "--pid", str(mirror.daemon_pid), limits)
    handles = []
    try:
        for d in range(60):
            for n in range(0, 100, 8):
                handles.append(open(mirror.mnt / f"d{d}" / f"entry-{n:05}",
                                    "rb"))
    except OSError as error:
        assert error.errno in (24, 23), error
    mirror.expect_diagnostics("too many open files|descriptor")
    for handle in handles:
        handle.close()
    assert mirror.status()["state"] == "healthy"
    (mirror.mnt / "still").write_text("works")
    mirror.settle_and_compare()


def test_an_interrupted_writer(mirror):
    """A process killed in its write leaves nothing half done on one leg."""
    for n in range(10):
        child = subprocess.Popen(
            ["dd", "if=/dev/urandom", f"of={mirror.mnt}/f{n}", "bs=1M",
             "count=500"], stderr=subprocess.DEVNULL)
        time.sleep(0.05 + n * 0.02)
        child.kill()
        child.wait()
    mirror.settle_and_compare()


# ---- space

def free_blocks(directory):
    return os.statvfs(directory).f_bfree


def test_the_space_of_removed_files(disks, mirrors):
    """It comes back at once where space is short, and soon where it is not."""
    mirror = mirrors()
    mirror.legs = [disks("ext4", 64 << 20, name=f"disk-{n}").where / n
                   for n in "ab"]
    for leg in mirror.legs:
        leg.mkdir()
    mirror.create()
    mirror.mount()
    mirror.expect_diagnostics("space")
    kept = mirror.mnt / "kept"
    kept.mkdir()
    run("sync", "-f", mirror.mnt)
    before = [free_blocks(leg) for leg in mirror.legs]
    fill(kept, 300, 40000)
    run("sync", "-f", mirror.mnt)
    descriptors = len(os.listdir(f"/proc/{mirror.daemon_pid}/fd"))
    for name in os.listdir(kept):
        os.unlink(kept / name)
    kept.rmdir()
    wait_until(lambda: all(free_blocks(leg) >= was - 16 for leg, was in
                           zip(mirror.legs, before)), what="the space")
    assert len(os.listdir(f"/proc/{mirror.daemon_pid}/fd")) <= descriptors
    full = mirror.mnt / "full"
    full.mkdir()
    with contextlib.suppress(OSError):
        fill(full, 1000, 100000)
    # Names and extents may take blocks of their own, less than one more file.
    os.unlink(full / "entry-00200")
    for n in range(100):
        os.unlink(full / f"entry-{n:05}")
        (full / f"instead-{n:05}").write_bytes(os.urandom(100000))
    mirror.settle_and_compare()
