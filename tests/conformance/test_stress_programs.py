# SPDX-License-Identifier: GPL-2.0-or-later
"""fsx, fsstress and fio's verification, when they are here.

fsx and fsstress are found on PATH, or as the files FSX and FSSTRESS.
"""

import os
import random
import shutil
import subprocess
import time

import pytest

from support.mirror import run


def program(name, variable):
    found = os.environ.get(variable) or shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not here; set {variable} to its path")
    return found


@pytest.mark.sanitizer
@pytest.mark.timeout_s(240)
@pytest.mark.parametrize("flags", [
    [], ["-W", "-R"], ["-r", "4096", "-w", "4096", "-Z"], ["-c", "200"]],
    ids=["mapped", "unmapped", "direct", "reopened"])
def test_fsx(mirror, seed, flags):
    """Reads, writes, truncation, mappings, holes, each read back."""
    fsx = program("fsx", "FSX")
    result = run(fsx, "-q", "-N", "6000", "-S", seed % 2**31, *flags,
                 mirror.mnt / "fsx", check=False, timeout=220)
    if "usage" in (result.stdout + result.stderr).lower():
        pytest.skip("this fsx does not know the flags")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr
    mirror.settle_and_compare()


@pytest.mark.timeout_s(240)
def test_several_fsx_on_several_files(mirror, seed):
    fsx = program("fsx", "FSX")
    children = [subprocess.Popen(
        [fsx, "-q", "-N", "3000", "-S", str(seed % 2**30 + n),
         str(mirror.mnt / f"fsx{n}")], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT) for n in range(3)]
    for child in children:
        out, _ = child.communicate(timeout=220)
        assert child.returncode == 0, out[-2000:]
    mirror.settle_and_compare()


@pytest.mark.sanitizer
@pytest.mark.timeout_s(240)
def test_fsstress(mirror, seed):
    """Every operation there is, by several processes, wild."""
    fsstress = program("fsstress", "FSSTRESS")
    run(fsstress, "-d", mirror.mnt / "stress", "-n", "1500", "-p", "4",
        "-s", seed % 2**31, timeout=220)
    mirror.settle_and_compare()


@pytest.mark.timeout_s(240)
def test_fsstress_killed(mirror, seed):
    """The daemon dies under it."""
    fsstress = program("fsstress", "FSSTRESS")
    for n in range(3):
        child = subprocess.Popen(
            [fsstress, "-d", str(mirror.mnt / f"stress{n}"), "-n", "100000",
             "-p", "3", "-s", str(seed % 2**30 + n)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(random.Random(seed + n).uniform(0.5, 2))
        mirror.kill9()
        child.terminate()
        child.wait(60)
        mirror.mount()
        mirror.wait_sync()
    mirror.settle_and_compare()


FIO = {
    "sequential": ["--rw=write", "--bs=128k", "--ioengine=psync"],
    "random": ["--rw=randwrite", "--bs=4k", "--ioengine=psync"],
    "direct": ["--rw=randwrite", "--bs=8k", "--direct=1",
               "--ioengine=libaio", "--iodepth=8"],
    "uring": ["--rw=randwrite", "--bs=4k", "--direct=1",
              "--ioengine=io_uring", "--iodepth=16"],
    "mapped": ["--rw=randwrite", "--bs=4k", "--ioengine=mmap"],
    "synced": ["--rw=randwrite", "--bs=4k", "--ioengine=psync",
               "--fdatasync=8"],
    "odd sizes": ["--rw=randrw", "--bsrange=512-70000", "--bs_unaligned",
                  "--ioengine=psync"],
}


@pytest.mark.parametrize("kind", FIO)
def test_fio_verifies(mirror, needs, kind):
    needs("fio")
    result = run("fio", "--name=verify", f"--directory={mirror.mnt}",
                 "--size=24m", "--numjobs=2", "--verify=crc32c",
                 "--do_verify=1", "--verify_fatal=1", "--randrepeat=0",
                 "--verify_state_save=0",
                 *FIO[kind], check=False)
    if result.returncode != 0 and "engine" in result.stderr:
        pytest.skip(f"fio cannot do {kind} here")
    assert result.returncode == 0, result.stdout + result.stderr
    mirror.settle_and_compare()
