#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Speed and memory of mirrorfs beside the native limit, bindfs and mergerfs.

All contenders are mounted at once, each with legs of its own on one disk.
Each workload is run by one contender after the other, in another order in
each round, so that what else the machine does falls on all alike. The table
has medians, and the ratio of medians with the lowest and highest ratio of a
round beside the goal.

Needs root, cc, and the packages bindfs and mergerfs; PostgreSQL is measured
where it is installed. Nothing is left behind.
"""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import database

HERE = Path(__file__).resolve().parent
BUILD = Path(os.environ.get("MIRRORFS_BUILD", HERE.parents[1] / "build"))
TAR_FILES = 2000

# Workload, unit, who runs it: mirrorfs and what it has to be compared with.
MIRROR = ["disk", "core"]
CHEAP = MIRROR + ["both", "bindfs"]
WORKLOADS = {
    "seqwrite": ("MiB/s", MIRROR + ["both", "mergerfs", "mergerfs-full"]),
    "rewrite": ("MiB/s", MIRROR + ["both", "mergerfs"]),
    "read": ("MiB/s", MIRROR + ["both", "mergerfs", "mergerfs-full"]),
    "commit1": ("1/s", MIRROR + ["both"]),
    "commit4": ("1/s", MIRROR + ["both"]),
    "create": ("1/s", CHEAP + ["mergerfs"]),
    "rename": ("1/s", CHEAP + ["mergerfs"]),
    "unlink": ("1/s", CHEAP + ["mergerfs"]),
    "untar": ("files/s", CHEAP),
    "random": ("1/s", CHEAP + ["writeback"]),
    "append": ("1/s", CHEAP + ["writeback"]),
}
DATABASE = {
    "pgbench1": ("1/s", MIRROR + ["native"]),
    "pgbench4": ("1/s", MIRROR + ["native"]),
}
if database.programs():
    WORKLOADS |= DATABASE

# Workload, who, against whom, at least which ratio.
GOALS = [
    ("seqwrite", "disk", "both", 0.5),
    ("rewrite", "disk", "mergerfs", 0.85),
    ("read", "disk", "mergerfs", 0.9),
    ("read", "disk", "mergerfs-full", 0.9),
    ("commit1", "disk", "both", 0.75),
    ("commit4", "disk", "both", 0.8),
    ("create", "disk", "bindfs", 0.8),
    ("rename", "disk", "bindfs", 0.8),
    ("unlink", "disk", "bindfs", 0.8),
    ("untar", "disk", "bindfs", 0.8),
    ("random", "disk", "bindfs", 1.2),
    ("append", "disk", "bindfs", 1.2),
    ("random", "writeback", "bindfs", 5),
    ("append", "writeback", "bindfs", 5),
    ("pgbench1", "disk", "native", 0.85),
    ("pgbench4", "disk", "native", 0.6),
] + [(name, "disk", "core", 0.8 if name in ("create", "untar") else 0.95)
     for name in WORKLOADS]


def run(*argv, **options):
    """Runs a command; what it printed. Its failure ends the benchmark."""
    result = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, check=False, **options)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, argv))}: {result.stderr}")
    return result.stdout


def take_priority():
    """A session, and so a scheduling group, of our own with the best nice."""
    try:
        os.setsid()
    except PermissionError:
        pass  # already a leader
    try:
        Path("/proc/self/autogroup").write_text("-20", encoding="ascii")
        return True
    except OSError:
        return False


class Tools:
    """Copies of the programs, so that a build meanwhile does no harm."""

    def __init__(self, work):
        self.dir = work / "bin"
        self.dir.mkdir()
        for path in ("src/mount/mount.mirrorfs", "src/cli/mirrorfs"):
            shutil.copy2(BUILD / path, self.dir)
        self.helper = self.dir / "mount.mirrorfs"
        self.cli = self.dir / "mirrorfs"
        self.load = self.dir / "load"
        run("cc", "-O2", "-o", self.load, HERE / "load.c")
        run_dir = work / "run"
        run_dir.mkdir()
        os.environ["MIRRORFS_RUN_DIR"] = str(run_dir)


class Contender:
    """Two directories and a daemon in front of them, or none."""

    def __init__(self, name, work, tools, command, options=""):
        self.name, self.tools = name, tools
        self.command, self.options = command, options
        base = work / name
        self.legs = [base / "a", base / "b"]
        self.mount_point = base / "mnt"
        for path in (*self.legs, self.mount_point):
            path.mkdir(parents=True)
        self.log = (base / "daemon.log").open("w")
        self.daemon = self.database = None

    def argv(self):
        """The daemon in the foreground: thus it stays in our session."""
        first = self.legs[0]
        if self.command == "mirrorfs":
            both = f"{self.legs[0]}:{self.legs[1]}"
            return [self.tools.helper, "--foreground", both, self.mount_point,
                    "-o", f"create,name=bench-{self.name},{self.options}"]
        words = ["-o", self.options] if self.options else []
        return [self.command, "-f", *words, first, self.mount_point]

    def start(self):
        """Mounts; returns how many seconds it took."""
        if not self.command:
            return 0.0
        begin = time.monotonic()
        self.daemon = subprocess.Popen(
            [str(a) for a in self.argv()], stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log)
        while not os.path.ismount(self.mount_point):
            if self.daemon.poll() is not None or time.monotonic() > begin + 30:
                raise RuntimeError(f"{self.name} does not mount, see "
                                   f"{self.log.name}")
            time.sleep(0.002)
        return time.monotonic() - begin

    def stop(self):
        """Unmounts and waits for the daemon."""
        if self.daemon is None:
            return
        if self.command == "mirrorfs" and self.daemon.poll() is None:
            run(self.tools.cli, "umount", self.mount_point)
        elif os.path.ismount(self.mount_point):
            run("umount", self.mount_point)
        self.daemon.wait(timeout=60)
        self.daemon = None

    def dirs(self):
        """What the workloads are given."""
        if self.name == "native":
            return self.legs[:1]
        return [self.mount_point] if self.command else self.legs

    def measure(self, workload, seconds, tarball):
        """One figure of one workload."""
        if workload == "untar":
            return self.untar(tarball)
        if workload in DATABASE:
            return self.transactions(int(workload[-1]), seconds)
        return float(run(self.tools.load, workload, seconds, *self.dirs()))

    def transactions(self, clients, seconds):
        """Transactions in a second, of a database in the directory."""
        if self.database is None:
            self.database = database.Database(
                self.dirs()[0] / "data", self.mount_point.parent / "sockets")
        return self.database.measure(clients, seconds)

    def untar(self, tarball):
        """Files in a second, of tar unpacking into all directories."""
        trees = [path / "tree" for path in self.dirs()]
        begin = time.monotonic()
        for tree in trees:
            tree.mkdir()
            run("tar", "xf", tarball, "-C", tree, "--no-same-owner")
        took = time.monotonic() - begin
        for tree in trees:
            shutil.rmtree(tree)
        return TAR_FILES / took


def contenders(work, tools):
    """All of them, by name."""
    merger = "category.create=ff,minfreespace=0,dropcacheonclose=false,"
    rows = [
        ("disk", "mirrorfs", "log=disk"),
        ("core", "mirrorfs", "log=core"),
        ("writeback", "mirrorfs", "log=disk,cache=writeback"),
        ("both", "", ""),
        ("native", "", ""),
        ("bindfs", "bindfs", ""),
        ("mergerfs", "mergerfs", merger + "cache.files=partial"),
        ("mergerfs-full", "mergerfs", merger + "cache.files=auto-full"),
    ]
    return {name: Contender(name, work, tools, command, options)
            for name, command, options in rows}


def make_tarball(path):
    """A tar of small files whose sizes are like those of sources."""
    dice = random.Random(1)
    source = path.with_suffix(".d")
    for number in range(TAR_FILES):
        file = source / f"m{number % 40:02d}" / f"file{number:04d}.c"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"y" * min(60000, int(dice.expovariate(1 / 5000))))
    with tarfile.open(path, "w") as archive:
        archive.add(source, "tree")
    shutil.rmtree(source)


def one_round(number, field, results, args, tarball):
    """Every workload once by everyone who takes part in it."""
    for workload, (_, names) in WORKLOADS.items():
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            begin = time.monotonic()
            value = field[name].measure(workload, args.seconds, tarball)
            if args.verbose:
                print(f"{workload} {name}: {value:.0f}, "
                      f"{time.monotonic() - begin:.1f} s", flush=True)
            results.setdefault((workload, name), []).append(value)


def speed(work, tools, args):
    """All rounds; the figures by workload and contender."""
    field = contenders(work, tools)
    tarball = work / "small.tar"
    make_tarball(tarball)
    results, begin = {}, time.monotonic()
    try:
        for name, one in field.items():
            one.start()
            one.measure("setup", 0, tarball)
        for number in range(args.rounds):
            at = time.monotonic()
            one_round(number, field, results, args, tarball)
            print(f"round {number + 1}: {time.monotonic() - at:.0f} s, load "
                  f"{os.getloadavg()[0]:.1f}", flush=True)
            if args.json:
                save(results, args.json)
            if args.budget and time.monotonic() - begin > args.budget:
                break
    finally:
        for one in field.values():
            one.stop()
    return results


def save(results, path):
    """All single figures, for a later look."""
    rows = {f"{load} {name}": v for (load, name), v in results.items()}
    Path(path).write_text(json.dumps(rows, indent=1), encoding="ascii")


def spread(values):
    """How far the rounds lie apart: (max - min) / median, in percent."""
    middle = statistics.median(values)
    return f"{100 * (max(values) - min(values)) / middle:.0f} %"


def load_figures(path):
    """What save() wrote."""
    rows = json.loads(Path(path).read_text(encoding="ascii"))
    return {tuple(key.split()): values for key, values in rows.items()}


def goal_row(results, workload, who, other, goal):
    """One line of the table."""
    ours, theirs = results[workload, who], results[workload, other]
    ratio = statistics.median(ours) / statistics.median(theirs)
    single = [a / b for a, b in zip(ours, theirs)]
    unit = WORKLOADS[workload][0]
    return [workload, who, f"{statistics.median(ours):.0f} {unit}",
            spread(ours), other, f"{statistics.median(theirs):.0f} {unit}",
            spread(theirs), f"{ratio:.2f}",
            f"{min(single):.2f} - {max(single):.2f}", f"{goal}",
            "yes" if ratio >= goal else f"no ({100 * ratio / goal - 100:.0f} %)"]


def print_table(head, rows):
    """Markdown, so that it can go into RESULTS.md as it is."""
    print("| " + " | ".join(head) + " |")
    print("|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def report(results):
    """The goals and all medians."""
    goals = [goal for goal in GOALS if (goal[0], goal[1]) in results]
    print_table(["workload", "who", "value", "spread", "reference", "value",
                 "spread", "ratio", "single rounds", "goal", "met"],
                [goal_row(results, *goal) for goal in goals])
    names = CHEAP + ["mergerfs", "mergerfs-full", "writeback", "native"]
    print_table(["median", "unit"] + names, [
        [load, unit] + [
            f"{statistics.median(results[load, n]):.0f}"
            if (load, n) in results else "" for n in names]
        for load, (unit, _) in WORKLOADS.items()
        if any((load, n) in results for n in names)])


def resident(pid):
    """RSS in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("no VmRSS")


def clean_mirror(work, tools, count):
    """An unmounted mirror in sync, with `count` files.

    Both legs get the same files natively, which a clean mirror does not
    notice; to let it fill a leg would take many times longer.
    """
    one = Contender("memory", work, tools, "mirrorfs", "log=disk")
    one.start()
    one.stop()
    run(tools.load, "plant", count, *one.legs)
    return one


def memory(work, tools, count):
    """Time of mounting and size of the daemon, before and after find."""
    one = clean_mirror(work, tools, count)
    times = []
    for _ in range(5):
        times.append(one.start())
        one.stop()
    one.start()
    try:
        before = resident(one.daemon.pid)
        begin = time.monotonic()
        run("sh", "-c", 'find "$1" -printf "%s\\n" | wc -l', "sh",
            one.mount_point)
        took, after = time.monotonic() - begin, resident(one.daemon.pid)
        fds = len(os.listdir(f"/proc/{one.daemon.pid}/fd"))
    finally:
        one.stop()
    print_table(
        ["files", "mount, median of 5", "slowest", "find", "RSS before",
         "RSS after", "bytes per inode", "descriptors"],
        [[str(count), f"{statistics.median(times):.3f} s",
          f"{max(times):.3f} s", f"{took:.1f} s", f"{before / 1024:.1f} MiB",
          f"{after / 1024:.1f} MiB", f"{(after - before) * 1024 / count:.0f}",
          str(fds)]])


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", default="/var/tmp",
                        help="where the legs are made, on the disk to measure")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", metavar="LOAD,...",
                        help="of the workloads; rename needs create before it, "
                        "unlink rename, and rewrite and read seqwrite")
    parser.add_argument("--seconds", type=float, default=2,
                        help="of each workload that is bounded by time")
    parser.add_argument("--budget", type=float, default=0,
                        help="begin no further round after so many seconds")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--json", help="write all single figures there")
    parser.add_argument("--table", metavar="JSON",
                        help="print the table of saved figures, no more")
    parser.add_argument("--memory", type=int, metavar="FILES",
                        help="measure memory and mount time instead")
    return parser.parse_args()


def main():
    """Measures and prints."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    args = arguments()
    if args.only:
        for name in set(WORKLOADS) - set(args.only.split(",")):
            del WORKLOADS[name]
    if args.table:
        report(load_figures(args.table))
        return 0
    if not take_priority():
        print("no priority over other work: figures will be noisier")
    work = Path(tempfile.mkdtemp(prefix="mirrorfs-bench.", dir=args.dir))
    work.chmod(0o755)  # for the database's user
    try:
        tools = Tools(work)
        if args.memory:
            memory(work, tools, args.memory)
        else:
            report(speed(work, tools, args))
    finally:
        if not any(os.path.ismount(m) for m in work.glob("*/mnt")):
            shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
