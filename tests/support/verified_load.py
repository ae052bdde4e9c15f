# SPDX-License-Identifier: GPL-2.0-or-later
"""A load whose every acknowledged step is known, and its judge.

A worker owns one directory of the mirror. Before each operation it writes
what it is about to do to a journal outside the mirror, and after it that it
was done; so when the daemon is killed the journal says which operations were
acknowledged, and which one was in flight. The judge replays the journal on a
model and compares: all that was acknowledged is there, and the one in flight
happened, or not, or (for content) in part.

The worker is this file run as a program:
  verified_load.py DIRECTORY JOURNAL BASELINE SEED [full] [loses-nameless]
With "full" a disk may be full: what did not fit did not happen, but for
content, which may have changed in part. With "loses-nameless" all legs that
had an open file without a name may have failed, one after the other: it gives
errors from then on. SIGTERM ends it in order.
"""

import copy
import errno
import json
import mmap
import os
import pickle
import random
import signal
import stat
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from support.syscalls import RENAME_EXCHANGE, fallocate, renameat2  # noqa: E402

# What a caller sees when the daemon dies under it.
GONE = (errno.ENOTCONN, errno.ECONNABORTED)

SIZE_MAX = 400_000


def noise(salt, size):
    return random.Random(salt).randbytes(size)


class Node:
    def __init__(self, kind, content=b"", mode=0o644):
        self.kind = kind              # "file", "dir", "link"
        self.content = bytearray(content)
        self.mode = mode
        self.xattrs = {}
        self.unknown = False  # the content, after a change that failed


class Model:
    """Names and what they are, as they must be on the mirror."""

    def __init__(self):
        self.names = {}
        self.held = {}

    def apply(self, op):
        getattr(self, "do_" + op["op"])(op)

    def failed(self, op):
        """There was no space for it."""
        if op["op"] in CONTENT_OPS:
            self.node(op).unknown = True

    def node(self, op):
        return self.held[op["slot"]] if "slot" in op else \
            self.names[op["path"]]

    @staticmethod
    def _put(node, at, data):
        if len(node.content) < at:
            node.content.extend(bytes(at - len(node.content)))
        node.content[at:at + len(data)] = data

    def do_create(self, op):
        self.names[op["path"]] = Node("file", mode=op["mode"])

    def do_write(self, op):
        self._put(self.names[op["path"]], op["at"],
                  noise(op["salt"], op["size"]))

    do_mmap = do_write

    def do_append(self, op):
        node = self.names[op["path"]]
        self._put(node, len(node.content), noise(op["salt"], op["size"]))

    def do_truncate(self, op):
        content = self.names[op["path"]].content
        size = op["size"]
        if size == 0:
            self.names[op["path"]].unknown = False
        if size < len(content):
            del content[size:]
        else:
            content.extend(bytes(size - len(content)))

    def do_punch(self, op):
        content = self.names[op["path"]].content
        end = min(op["at"] + op["size"], len(content))
        if op["at"] < end:
            content[op["at"]:end] = bytes(end - op["at"])

    def do_fsync(self, op):
        pass

    def do_hold(self, op):
        self.held[op["slot"]] = self.names[op["path"]]

    def do_drop(self, op):
        self.held.pop(op["slot"])

    def do_hwrite(self, op):
        self._put(self.held[op["slot"]], op["at"],
                  noise(op["salt"], op["size"]))

    def do_hfsync(self, op):
        pass

    def do_mkdir(self, op):
        self.names[op["path"]] = Node("dir", mode=op["mode"])

    def do_symlink(self, op):
        self.names[op["path"]] = Node("link", op["target"].encode(), 0o777)

    def do_rmdir(self, op):
        del self.names[op["path"]]

    do_unlink = do_rmdir

    def do_link(self, op):
        self.names[op["to"]] = self.names[op["path"]]

    def _subtree(self, path):
        return [n for n in self.names
                if n == path or n.startswith(path + "/")]

    def do_rename(self, op):
        a, b = op["path"], op["to"]
        if self.names.get(b) is self.names[a]:
            return  # two names of one file: nothing happens
        self.names.pop(b, None)
        moved = {b + n[len(a):]: self.names.pop(n) for n in self._subtree(a)}
        self.names.update(moved)

    def do_exchange(self, op):
        a, b = op["path"], op["to"]
        moved = {b + n[len(a):]: self.names[n] for n in self._subtree(a)}
        moved.update({a + n[len(b):]: self.names[n]
                      for n in self._subtree(b)})
        for n in self._subtree(a) + self._subtree(b):
            self.names.pop(n, None)
        self.names.update(moved)

    def do_chmod(self, op):
        self.names[op["path"]].mode = op["mode"]

    def do_setxattr(self, op):
        self.names[op["path"]].xattrs["user." + op["name"]] = \
            op["value"].encode()


def scan(directory):
    """The model of what is there now."""
    model, by_inode = Model(), {}

    def visit(relative):
        for entry in os.scandir(os.path.join(directory, relative)):
            path = os.path.join(relative, entry.name)
            full = os.path.join(directory, path)
            st = os.lstat(full)
            key = (st.st_dev, st.st_ino)
            if stat.S_ISDIR(st.st_mode):
                node = Node("dir", mode=stat.S_IMODE(st.st_mode))
            elif stat.S_ISLNK(st.st_mode):
                node = Node("link", os.readlink(full).encode(), 0o777)
            elif key in by_inode:
                node = by_inode[key]
            else:
                with open(full, "rb") as file:
                    node = Node("file", file.read(),
                                stat.S_IMODE(st.st_mode))
                by_inode[key] = node
                if len(node.content) != st.st_size:
                    raise AssertionError(
                        f"{path}: {len(node.content)} bytes read, size "
                        f"{st.st_size}")
            if node.kind != "link" and not node.xattrs:
                for name in os.listxattr(full, follow_symlinks=False):
                    if name.startswith("user."):
                        node.xattrs[name] = os.getxattr(full, name)
            model.names[path] = node
            if node.kind == "dir":
                visit(path)

    visit("")
    return model


# ---- the worker

class Worker:
    """Works in the current directory."""

    def __init__(self, journal, model, seed, allowed=()):
        self.model = model
        self.full = "full" in allowed
        self.loses_nameless = "loses-nameless" in allowed
        self.rng = random.Random(seed)
        self.journal = os.open(journal, os.O_CREAT | os.O_WRONLY | os.O_APPEND
                               | os.O_TRUNC, 0o644)
        self.fds = {}
        self.count = 0
        self.slowest = 0.0
        self.stopping = False
        signal.signal(signal.SIGTERM, self.stop)

    def stop(self, *_):
        self.stopping = True

    def note(self, text):
        os.write(self.journal, text.encode() + b"\n")

    def pick(self, kind):
        names = [n for n, node in self.model.names.items()
                 if node.kind == kind]
        return self.rng.choice(names) if names else None

    def fresh(self):
        """A name that may or may not exist; its directory does."""
        parent = self.pick("dir") if self.rng.random() < 0.6 else None
        name = f"n{self.rng.randrange(25)}"
        return f"{parent}/{name}" if parent else name

    def choose(self):
        rng, names = self.rng, self.model.names
        self.count += 1
        salt = f"{self.count}-{rng.random()}"
        file, new = self.pick("file"), self.fresh()
        if file and names[file].unknown:
            return {"op": "truncate", "path": file, "size": 0}
        what = rng.choices(
            ["create", "write", "append", "mmap", "truncate", "punch",
             "fsync", "hold", "drop", "hwrite", "hfsync", "mkdir", "rmdir",
             "symlink", "unlink", "link", "rename", "exchange", "chmod",
             "setxattr", "read"],
            [8, 20, 6, 3, 5, 3, 5, 3, 2, 8, 2, 4, 2, 2, 6, 5, 9, 2, 3, 3,
             4])[0]
        size = rng.choice((1, 7, 100, 4096, 5000, 20000, 150000))
        at = rng.randrange(SIZE_MAX)
        if what == "create" and new not in names:
            return {"op": what, "path": new,
                    "mode": rng.choice((0o600, 0o644, 0o755))}
        if what == "mkdir" and new not in names and new.count("/") < 4:
            return {"op": what, "path": new,
                    "mode": rng.choice((0o700, 0o755))}
        if what == "symlink" and new not in names:
            return {"op": what, "path": new,
                    "target": "t" * rng.choice((1, 100, 1000))}
        if what == "link" and file and new not in names:
            return {"op": what, "path": file, "to": new}
        if what == "rmdir":
            empty = [n for n, node in names.items() if node.kind == "dir"
                     and not any(m.startswith(n + "/") for m in names)]
            return {"op": what, "path": rng.choice(empty)} if empty else None
        if what == "unlink":
            victim = file if rng.random() < 0.8 else self.pick("link")
            return {"op": what, "path": victim} if victim else None
        if what == "rename":
            source = self.pick(rng.choice(("file", "file", "dir", "link")))
            return self.renaming(source, new) if source else None
        if what == "exchange" and file:
            other = self.pick(rng.choice(("file", "dir")))
            if other and other != file and \
                    not file.startswith(other + "/"):
                return {"op": what, "path": file, "to": other}
            return None
        if what == "hold" and file and len(self.fds) < 3:
            slot = next(s for s in range(3) if s not in self.fds)
            return {"op": what, "path": file, "slot": slot}
        if what in ("drop", "hwrite", "hfsync") and self.fds:
            op = {"op": what, "slot": rng.choice(sorted(self.fds))}
            if what == "hwrite":
                op.update(at=at, size=size, salt=salt)
            return op
        if not file or what not in ("write", "append", "mmap", "truncate",
                                    "punch", "fsync", "chmod", "setxattr",
                                    "read"):
            return None
        op = {"op": what, "path": file}
        length = len(names[file].content)
        if what == "write":
            op.update(at=at, size=size, salt=salt)
        elif what == "append":
            if length > SIZE_MAX:
                return None
            op.update(size=size, salt=salt)
        elif what == "mmap":
            if length < 2:
                return None
            at = rng.randrange(length - 1)
            op.update(at=at, size=min(size, length - at), salt=salt)
        elif what == "truncate":
            op.update(size=rng.choice((0, at, length // 2, length + 1000)))
        elif what == "punch":
            op.update(at=at // 2, size=size)
        elif what == "chmod":
            op.update(mode=rng.choice((0o600, 0o640, 0o777)))
        elif what == "setxattr":
            op.update(name=rng.choice("abc"), value=str(self.count))
        return op

    def renaming(self, source, new):
        names = self.model.names
        if new == source or new.startswith(source + "/"):
            return None
        target = names.get(new)
        if target is not None:
            if source.startswith(new + "/"):
                return None
            if (target.kind == "dir") != (names[source].kind == "dir"):
                return None
            if target.kind == "dir" and any(n.startswith(new + "/")
                                            for n in names):
                return None
        return {"op": "rename", "path": source, "to": new}

    def perform(self, op):
        kind, path = op["op"], op.get("path")
        if kind == "create":
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY,
                             op["mode"]))
        elif kind in ("write", "append", "fsync", "mmap", "punch"):
            flags = os.O_APPEND if kind == "append" else 0
            fd = os.open(path, os.O_RDWR | flags)
            try:
                self.perform_on(fd, op)
            finally:
                os.close(fd)
        elif kind == "truncate":
            os.truncate(path, op["size"])
        elif kind == "hold":
            self.fds[op["slot"]] = os.open(path, os.O_RDWR)
        elif kind == "drop":
            os.close(self.fds.pop(op["slot"]))
        elif kind in ("hwrite", "hfsync"):
            self.perform_on(self.fds[op["slot"]], op)
        elif kind == "mkdir":
            os.mkdir(path, op["mode"])
        elif kind == "rmdir":
            os.rmdir(path)
        elif kind == "symlink":
            os.symlink(op["target"], path)
        elif kind == "unlink":
            os.unlink(path)
        elif kind == "link":
            os.link(path, op["to"])
        elif kind == "rename":
            os.rename(path, op["to"])
        elif kind == "exchange":
            renameat2(path, op["to"], RENAME_EXCHANGE)
        elif kind == "chmod":
            os.chmod(path, op["mode"])
        elif kind == "setxattr":
            os.setxattr(path, "user." + op["name"], op["value"].encode())

    @staticmethod
    def perform_on(fd, op):
        kind = op["op"]
        if kind in ("write", "append", "hwrite"):
            data, at = noise(op["salt"], op["size"]), op.get("at", 0)
            while data:  # a short write is no error
                n = os.pwrite(fd, data, at)
                data, at = data[n:], at + n
        elif kind in ("fsync", "hfsync"):
            os.fsync(fd)
        elif kind == "punch":
            fallocate(fd, 3, op["at"], op["size"])
        elif kind == "mmap":
            page = op["at"] - op["at"] % mmap.ALLOCATIONGRANULARITY
            with mmap.mmap(fd, op["at"] + op["size"] - page,
                           offset=page) as view:
                view[op["at"] - page:] = noise(op["salt"], op["size"])
                view.flush()

    def check_read(self, path):
        node = self.model.names[path]
        if node.unknown:
            return
        with open(path, "rb") as file:
            found = file.read()
        if found != node.content:
            raise AssertionError(f"read of {path} is not what was written: "
                                 + first_difference(node.content, found))

    @staticmethod
    def mount_is_dead():
        """Pages that could not be written back any more answer EIO."""
        try:
            os.listdir(".")
        except OSError as error:
            return error.errno in GONE
        return False

    def took(self, since, op):
        """Notes what was slower than all before, for how long a mount may
        keep one waiting."""
        seconds = time.monotonic() - since
        if seconds > max(self.slowest, 0.5):
            self.slowest = seconds
            self.note("S " + json.dumps([seconds, str(op)]))

    def is_lost(self, op, error):
        """Whether it is an open file without a name, and may be."""
        return self.loses_nameless and error.errno == errno.EIO and \
            "slot" in op and op["slot"] in self.fds and \
            self.model.node(op) not in self.model.names.values()

    def drop(self, slot):
        """Closes it, whatever that answers."""
        op = {"op": "drop", "slot": slot}
        self.note("B " + json.dumps(op))
        try:
            self.perform(op)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        self.note("A")
        self.model.apply(op)

    def run(self):
        """Until the daemon is gone, or SIGTERM. Exit code 0, or 1 for a wrong
        answer."""
        os.umask(0)
        while not self.stopping:
            op = self.choose()
            if op is None:
                continue
            since = time.monotonic()
            try:
                if op["op"] == "read":
                    self.check_read(op["path"])
                    self.took(since, op)
                    continue
                self.note("B " + json.dumps(op))
                self.perform(op)
            except OSError as error:
                if self.full and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    self.note("N")
                    self.model.failed(op)
                    continue
                if error.errno in GONE or self.mount_is_dead():
                    return 0
                if self.is_lost(op, error):
                    self.note("N")
                    self.model.failed(op)
                    self.drop(op["slot"])
                    continue
                self.note(f"E {error} in {op}")
                return 1
            except AssertionError as error:
                self.note(f"E {error}")
                return 1
            self.note("A")
            self.took(since, op)
            self.model.apply(op)
        return 0


# ---- the judge

def first_difference(expected, found):
    for index, (a, b) in enumerate(zip(expected, found)):
        if a != b:
            return (f"sizes {len(expected)} and {len(found)}, first "
                    f"difference at {index}: expected "
                    f"{bytes(expected[index:index + 8]).hex()}, found "
                    f"{bytes(found[index:index + 8]).hex()}")
    return f"sizes {len(expected)} and {len(found)}"


def differences(model, actual, loose=None):
    """How `actual` is not `model`. `loose` is a pair of nodes (before,
    after) of a file whose content may be any mixture of the two."""
    lines = []
    for path in sorted(model.names.keys() | actual.names.keys()):
        a, b = model.names.get(path), actual.names.get(path)
        if a is None or b is None:
            lines.append(f"{path}: " + ("should not be there" if a is None
                                        else "is missing"))
            continue
        if a.kind != b.kind or a.mode != b.mode or a.xattrs != b.xattrs:
            lines.append(f"{path}: expected {a.kind} {a.mode:o} {a.xattrs}, "
                         f"found {b.kind} {b.mode:o} {b.xattrs}")
        if loose and a is loose[1]:
            if not is_mixture(loose[0].content, a.content, b.content):
                lines.append(f"{path}: content is neither old, new nor a "
                             "mixture")
        elif a.content != b.content and not a.unknown:
            lines.append(f"{path}: " + first_difference(a.content, b.content))
    for name in model.names:
        for other in model.names:
            if name < other and name in actual.names and other in \
                    actual.names:
                together = model.names[name] is model.names[other]
                if together != (actual.names[name] is actual.names[other]):
                    lines.append(f"{name} and {other}: one file "
                                 + ("no more" if together else "now"))
    return lines


def is_mixture(before, after, found):
    if not min(len(before), len(after)) <= len(found) <= \
            max(len(before), len(after)):
        return False
    longest = len(found)
    a = bytes(before[:longest]).ljust(longest, b"\0")
    b = bytes(after[:longest]).ljust(longest, b"\0")
    if found == a or found == b:
        return True
    # Between: what was not reached yet of a growing file reads as zeros.
    return all(z in (x, y) for x, y, z in zip(a, b, found))


CONTENT_OPS = ("write", "append", "mmap", "hwrite", "punch", "truncate")


def read_journal(path):
    """((operation, whether it was done)..., the one in flight or None)."""
    done, flying = [], None
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            tag, _, rest = line.rstrip("\n").partition(" ")
            if tag == "B":
                flying = json.loads(rest)
            elif tag in ("A", "N"):
                done.append((flying, tag == "A"))
                flying = None
            elif tag == "S":
                pass  # how slow it was
            else:
                raise AssertionError(f"worker: {rest}")
    return done, flying


def judge(baseline, journal, directory):
    """What is wrong in `directory`; an empty list is good. Also the model of
    what is there, the baseline of the next round."""
    done, flying = read_journal(journal)
    before = copy.deepcopy(baseline)
    for op, happened in done:
        if happened:
            before.apply(op)
        else:
            before.failed(op)
    actual = scan(directory)
    lines = differences(before, actual)
    if flying and lines:
        after = copy.deepcopy(before)
        after.apply(flying)
        loose = None
        if flying["op"] in CONTENT_OPS:
            loose = (before.node(flying), after.node(flying))
        other = differences(after, actual, loose)
        if len(other) < len(lines) or not other:
            lines = other
        lines = [f"{line} (in flight: {flying})" for line in lines]
    last = [str(op) for op, _ in done[-3:]]
    return lines and lines[:20] + ["last acknowledged: " + "; ".join(last)], \
        actual, len(done)


def main():
    directory, journal, baseline, seed = sys.argv[1:5]
    with open(baseline, "rb") as file:
        model = pickle.load(file)
    try:
        os.chdir(directory)
    except OSError as error:
        # Killed before the load had begun.
        sys.exit(0 if error.errno in GONE else str(error))
    sys.exit(Worker(journal, model, seed, sys.argv[5:]).run())


if __name__ == "__main__":
    # Under its own name, so that what was pickled by a test is found.
    from support import verified_load
    verified_load.main()
