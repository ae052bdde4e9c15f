# SPDX-License-Identifier: GPL-2.0-or-later
"""A load that knows what it has been promised to find after a power cut.

Only what fsync(2) or fdatasync(2) acknowledged is promised. Each step is
written to a journal outside the mirror before it is begun ("B") and after
its sync was acknowledged ("A"); the judge demands what was acknowledged and
allows what was begun.

The worker is this file run as a program:
  durable_load.py DIRECTORY JOURNAL SEED [strict]
With "strict" no error is taken for the end of the daemon.
"""

import errno
import json
import os
import random
import signal
import sys
import time

BLOCK = 4096
SLOTS = 64
GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)


def record(number):
    head = b"record %08d " % number
    return head + random.Random(number).randbytes(200 - len(head))


def block(slot, version):
    return b"%04d %08d " % (slot, version) + random.Random(
        slot * 1000003 + version).randbytes(BLOCK - 14)


def body(name, version):
    rng = random.Random(f"{name} {version}")
    return b"%08d" % version + rng.randbytes(rng.choice((0, 3000, 60000)))


class Worker:
    def __init__(self, directory, journal, seed):
        os.makedirs(directory, exist_ok=True)
        os.chdir(directory)
        self.rng = random.Random(seed)
        self.journal = os.open(journal, os.O_CREAT | os.O_WRONLY
                               | os.O_APPEND, 0o644)
        self.records = 0
        self.versions = [0] * SLOTS
        self.unsynced = {}
        self.replaced = 0
        self.files = 0
        self.kept = []
        self.slowest = 0.0
        self.stopping = False
        signal.signal(signal.SIGTERM, self.stop)

    def stop(self, *_):
        self.stopping = True

    def begin(self, **step):
        os.write(self.journal, b"B " + json.dumps(step).encode() + b"\n")

    def promised(self, **step):
        os.write(self.journal, b"A " + json.dumps(step).encode() + b"\n")

    @staticmethod
    def sync_directory(path="."):
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)

    def prepare(self):
        with open("slots", "wb") as file:
            for slot in range(SLOTS):
                file.write(block(slot, 0))
            file.flush()
            os.fsync(file.fileno())
        self.log = os.open("log", os.O_CREAT | os.O_WRONLY | os.O_APPEND,
                           0o644)
        self.slots = os.open("slots", os.O_RDWR)
        os.mkdir("noise")
        os.mkdir("kept")
        self.sync_directory()
        self.sync_directory("..")
        self.promised(what="prepared")

    def append_record(self):
        self.begin(what="record", number=self.records)
        os.write(self.log, record(self.records))
        os.fsync(self.log)
        self.promised(what="record", number=self.records)
        self.records += 1

    def write_slot(self):
        slot = self.rng.randrange(SLOTS)
        self.versions[slot] += 1
        version = self.versions[slot]
        self.begin(what="slot", slot=slot, version=version)
        os.pwrite(self.slots, block(slot, version), slot * BLOCK)
        self.unsynced[slot] = version

    def sync_slots(self):
        covered = dict(self.unsynced)
        os.fdatasync(self.slots)
        self.unsynced.clear()
        self.promised(what="slots", versions=covered)

    def replace(self):
        self.replaced += 1
        self.begin(what="replace", version=self.replaced)
        with open("replaced.tmp", "wb") as file:
            file.write(body("replaced", self.replaced))
            file.flush()
            os.fsync(file.fileno())
        os.rename("replaced.tmp", "replaced")
        self.sync_directory()
        self.promised(what="replace", version=self.replaced)

    def keep(self):
        self.files += 1
        name = f"f{self.files}"
        self.begin(what="keep", name=name)
        with open("kept/" + name, "wb") as file:
            file.write(body(name, 1))
            file.flush()
            os.fsync(file.fileno())
        self.sync_directory("kept")
        self.promised(what="keep", name=name)
        self.kept.append(name)

    def remove(self):
        if not self.kept:
            return
        name = self.kept.pop(self.rng.randrange(len(self.kept)))
        self.begin(what="remove", name=name)
        os.unlink("kept/" + name)
        if self.rng.random() < 0.7:
            self.sync_directory("kept")
            self.promised(what="remove", name=name)

    def rename_kept(self):
        if not self.kept:
            return
        old = self.kept.pop(self.rng.randrange(len(self.kept)))
        new = f"{old.split('.')[0]}.{self.rng.randrange(10**9)}"
        self.begin(what="rename", name=old, to=new)
        os.rename("kept/" + old, "kept/" + new)
        self.sync_directory("kept")
        self.promised(what="rename", name=old, to=new)
        self.kept.append(new)

    def noise(self):
        """Things nobody was promised; only the legs have to be equal."""
        rng = self.rng
        name, other = (f"noise/n{rng.randrange(20)}" for _ in range(2))
        action = rng.choice((
            lambda: self.scribble(name), lambda: self.scribble(name),
            lambda: os.unlink(name), lambda: os.rename(name, other),
            lambda: os.mkdir(name), lambda: os.rmdir(name),
            lambda: os.link(name, other), lambda: os.symlink("x", name),
            lambda: os.truncate(name, rng.randrange(300000)),
            lambda: os.chmod(name, rng.choice((0o600, 0o750))),
            lambda: os.setxattr(name, "user.x", b"%d" % rng.randrange(9)),
            lambda: os.chown(name, rng.randrange(5), -1)))
        try:
            action()
        except OSError as error:
            if error.errno in GONE:
                raise  # the others are those of names that are not there

    def scribble(self, name):
        fd = os.open(name, os.O_CREAT | os.O_RDWR, 0o644)
        os.pwrite(fd, self.rng.randbytes(self.rng.choice((10, 9000, 200000))),
                  self.rng.randrange(500000))
        os.close(fd)

    def run(self):
        self.prepare()
        steps = (self.append_record, self.write_slot, self.sync_slots,
                 self.replace, self.keep, self.remove, self.rename_kept,
                 self.noise)
        while not self.stopping:
            since = time.monotonic()
            step = self.rng.choices(steps, (2, 10, 1, 1, 3, 1, 1, 12))[0]
            step()
            self.took(since, step.__name__)

    def took(self, since, what):
        seconds = time.monotonic() - since
        if seconds > max(self.slowest, 0.5):
            self.slowest = seconds
            os.write(self.journal, b"S " + json.dumps(
                [seconds, what]).encode() + b"\n")


def judge(directory, journal):
    """What is missing of what was promised; and how much was promised."""
    begun, promised = {}, {}
    slots = {s: [0, 0] for s in range(SLOTS)}  # promised, begun
    kept = {}          # name -> must, may, must not
    count, torn = 0, 0
    with open(journal, encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                break
            if line[0] == "S":
                continue  # how slow it was
            step = json.loads(line[2:])
            what = step["what"]
            if line[0] == "A":
                count += 1
            if what in ("record", "replace"):
                (begun if line[0] == "B" else promised)[what] = \
                    step.get("number", step.get("version"))
            elif what == "slot":
                slots[step["slot"]][1] = step["version"]
            elif what == "slots":
                for slot, version in step["versions"].items():
                    slots[int(slot)][0] = version
            elif what in ("keep", "remove", "rename"):
                if line[0] == "B":
                    kept[step["name"]] = "may"
                    if what == "rename":
                        kept[step["to"]] = "may"
                elif what == "keep":
                    kept[step["name"]] = "must"
                else:
                    kept[step["name"]] = "must not"
                    if what == "rename":
                        kept[step["to"]] = "must"
            elif what == "prepared":
                promised[what] = True
    if "prepared" not in promised:
        return [], 0
    wrong = []

    def content(name):
        try:
            with open(os.path.join(directory, name), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    log = content("log") or b""
    for number in range(promised.get("record", -1) + 1):
        if log[number * 200:(number + 1) * 200] != record(number):
            wrong.append(f"log: record {number} is not there")
            break
    data = content("slots") or b""
    for slot, (least, most) in slots.items():
        found = data[slot * BLOCK:(slot + 1) * BLOCK]
        versions = [block(slot, v) for v in range(least, most + 1)]
        if found in versions:
            continue
        # Writes that nobody waited for may be torn, but of nothing else.
        if len(found) == BLOCK and len(versions) > 1 and all(
                any(v[i] == byte for v in versions)
                for i, byte in enumerate(found)):
            torn += 1
            continue
        wrong.append(f"slots: {slot} holds {found[:14]!r}, not version "
                     f"{least}..{most}")
    if "replace" in promised:
        found = content("replaced")
        allowed = [body("replaced", v) for v in
                   range(promised["replace"], begun["replace"] + 1)]
        if found not in allowed:
            wrong.append(f"replaced: {found and found[:8]}, not version "
                         f"{promised['replace']}..{begun['replace']}")
    for name, state in kept.items():
        found = content("kept/" + name)
        if state == "must" and found is None:
            wrong.append(f"kept/{name}: is gone")
        elif state == "must not" and found is not None:
            wrong.append(f"kept/{name}: is back")
        elif state == "must" and found != body(name.split(".")[0], 1):
            wrong.append(f"kept/{name}: has another content")
    return wrong, count


def main():
    directory, journal, seed = sys.argv[1:4]
    strict = sys.argv[4:] == ["strict"]
    try:
        Worker(directory, journal, seed).run()
    except OSError as error:
        if strict or error.errno not in GONE:
            raise


if __name__ == "__main__":
    main()
