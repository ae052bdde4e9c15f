#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast a leg that was away is made equal again, beside cp and rsync, and
what applications notice of it.

    resync.py large     8 files of 128 MiB, against cp -a and sync -f
    resync.py small     100,000 files of 2,000 bytes, against rsync -aHAX and
                        sync -f
    resync.py back      100 files written among N clean ones, for several N
    resync.py paced     4 KiB writes, random and synced, during a paced resync
    resync.py failed    writes with one leg offline, both logs, beside bindfs

Each is repeated --rounds times; all single figures are printed. Needs root, cc,
and the packages rsync and bindfs. Nothing is left behind.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bench

MIB = 1 << 20


def timed(call, *args):
    """How many seconds the call took."""
    begin = time.monotonic()
    call(*args)
    return time.monotonic() - begin


class Mirror(bench.Contender):
    """A mirror whose second leg goes and comes."""

    def __init__(self, work, tools, options="log=disk"):
        super().__init__("mirror", work, tools, "mirrorfs", options)

    def cli(self, *words):
        return bench.run(self.tools.cli, *words)

    def offline(self):
        self.cli("offline", self.mount_point, self.legs[1])

    def online(self):
        self.cli("online", self.mount_point, self.legs[1])

    def wait(self):
        self.cli("wait-sync", self.mount_point)

    def state(self):
        """Of the second leg."""
        argv = [self.tools.cli, "status", self.mount_point, "--json"]
        status = json.loads(subprocess.run(  # its exit code tells the state
            argv, check=False, stdout=subprocess.PIPE).stdout)
        return next(leg["state"] for leg in status["mirrors"][0]["legs"]
                    if leg["path"] == str(self.legs[1]))

    def back(self):
        """Until all that it missed is durable there."""
        self.online()
        self.wait()


def copied(program, source, target):
    """Durable when it returns."""
    target.mkdir()
    bench.run(*program, *source.iterdir(), target)
    bench.run("sync", "-f", target)


def compared(mirror, program, make, rounds):
    """Resync against `program` for what make(directory) leaves."""
    ratios = []
    for number in range(rounds):
        mirror.offline()
        make(mirror.mount_point / f"r{number}")
        bench.run("sync")
        ours = timed(mirror.back)
        bench.run("sync")
        target = mirror.legs[0].parent / "copy"
        theirs = timed(copied, program, mirror.legs[0] / f"r{number}", target)
        shutil.rmtree(target)
        shutil.rmtree(mirror.mount_point / f"r{number}")
        bench.run("sync")
        ratios.append(theirs / ours)
        print(f"resync {ours:.2f} s, {program[0]} {theirs:.2f} s, ratio "
              f"{ratios[-1]:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}")


def large_files(directory):
    directory.mkdir()
    for number in range(8):
        with open(directory / f"f{number}", "wb") as file:
            for _ in range(128):
                file.write(os.urandom(MIB))


def small_files(directory):
    directory.mkdir()
    for number in range(1000):
        sub = directory / f"d{number}"
        sub.mkdir()
        for name in range(100):
            (sub / f"f{name}").write_bytes(os.urandom(2000))


def clean_files(leg, count):
    for number in range(count // 1000):
        sub = leg / f"d{number}"
        sub.mkdir()
        for name in range(1000):
            (sub / f"f{name}").touch()


def back(work, tools, rounds):
    """What it costs depends on what was missed, not on what is there."""
    for count in (10_000, 100_000, 1_000_000):
        mirror = Mirror(work / str(count), tools)
        clean_files(mirror.legs[0], count)
        mirror.cli("create", "--name", "bench-mirror", "--adopt",
                   mirror.legs[0], *mirror.legs)
        try:
            mirror.start()
            mirror.wait()
            time.sleep(5)  # until the marks of the last copies are cleared
            mirror.stop()
            mounting = mirror.start()
            times = []
            for number in range(rounds):
                mirror.offline()
                for i in range(100):
                    sub = mirror.mount_point / f"d{i % (count // 1000)}"
                    (sub / f"f{i}").write_text(f"{number}")
                times.append(timed(mirror.back))
            print(f"{count} files: mount {mounting:.3f} s, back in " +
                  ", ".join(f"{one:.3f} s" for one in times), flush=True)
        finally:
            mirror.stop()
        shutil.rmtree(work / str(count))


def load(who, workload, seconds):
    return who.measure(workload, seconds, None)


def paced(mirror, rounds, seconds):
    """With resync-rate-min, so that recovery gives way. The resync lasts
    longer than the load."""
    mirror.cli("set", mirror.mount_point, "resync-rate-min=8M")
    load(mirror, "setup", 0)
    missed = mirror.mount_point / "missed"
    for workload in ("random", "append", "commit1", "commit4"):
        alone, during = [], []
        for _ in range(rounds):
            alone.append(load(mirror, workload, seconds))
            mirror.offline()
            large_files(missed)
            bench.run("sync")
            mirror.online()
            during.append(load(mirror, workload, seconds))
            if mirror.state() != "resync":
                raise RuntimeError("the resync was over before the load")
            mirror.wait()
            shutil.rmtree(missed)
        ratio = statistics.median(during) / statistics.median(alone)
        print(f"{workload}: alone {alone}, during {during}, ratio {ratio:.2f}",
              flush=True)


def failed(work, tools, rounds, seconds):
    """What marking costs, and how the mirror does on one leg."""
    field = [Mirror(work / name, tools, f"log={name}")
             for name in ("disk", "core")]
    field.append(bench.Contender("bindfs", work, tools, "bindfs"))
    results = {}
    try:
        for who in field:
            who.start()
            load(who, "setup", 0)
        for mirror in field[:2]:
            mirror.offline()
        for number in range(rounds):
            for workload in ("rewrite", "random", "append", "commit1",
                             "create"):
                for who in field[number % 3:] + field[:number % 3]:
                    key = (workload, who.options or who.name)
                    results.setdefault(key, []).append(
                        load(who, workload, seconds))
    finally:
        for who in field:
            who.stop()
    for (workload, who), values in results.items():
        print(f"{workload} {who}: {statistics.median(values):.0f} of {values}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.
                                     RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("large", "small", "back", "paced",
                                         "failed"))
    parser.add_argument("--dir", type=Path, default=Path.cwd(),
                        help="on the disk to be measured")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    args = parser.parse_args()
    bench.take_priority()
    work = Path(tempfile.mkdtemp(prefix="mirrorfs-resync-", dir=args.dir))
    try:
        tools = bench.Tools(work)
        if args.what == "back":
            return back(work, tools, args.rounds)
        if args.what == "failed":
            return failed(work, tools, args.rounds, args.seconds)
        mirror = Mirror(work, tools)
        mirror.start()
        try:
            if args.what == "paced":
                paced(mirror, args.rounds, args.seconds)
            elif args.what == "large":
                compared(mirror, ["cp", "-a"], large_files, args.rounds)
            else:
                compared(mirror, ["rsync", "-aHAX"], small_files, args.rounds)
        finally:
            mirror.stop()
    finally:
        mounts = [*work.glob("*/mnt"), *work.glob("*/*/mnt")]
        if not any(os.path.ismount(m) for m in mounts):
            shutil.rmtree(work)
    return None


if __name__ == "__main__":
    sys.exit(main())
