# SPDX-License-Identifier: GPL-2.0-or-later
"""Parity: the same calls natively and through the mount must answer the same.

A case is a function `case(p)`. It runs twice in a child process of its own,
in an empty directory: once on the file system that the legs lie on, once on
the mirror. Every call made through `p(function, arguments...)` is recorded
with its result or errno; p.see(...) records anything else. Then the records,
and the trees that were left on the native side, through the mount and on
every leg, are compared.
"""

import errno
import os
import pickle
import select
import signal
import stat
import struct
import subprocess
import time
import traceback
from contextlib import contextmanager

from support import compare
from support.mirror import SLOWNESS

# Two users that exist nowhere and share nothing.
USER, OTHER = 11001, 11002
GROUP_EXTRA = 11100


class Place:
    """What a case sees: the current directory is its own."""

    def __init__(self):
        self.record = []

    def __call__(self, function, *args, **keywords):
        """Calls, records, and returns the result, or None after an OSError."""
        name = function.__name__
        try:
            result = function(*args, **keywords)
        except OSError as error:
            code = errno.errorcode.get(error.errno, error.errno)
            self.record.append((name, _show_args(args), code))
            return None
        self.record.append((name, _show_args(args),
                            self._comparable(function, result)))
        return result

    def errno_of(self, function, *args, **keywords):
        """The same, but returns the errno (0: none)."""
        before = len(self.record)
        self(function, *args, **keywords)
        outcome = self.record[before][2]
        if isinstance(outcome, str):
            return getattr(errno, outcome, 0)
        return 0

    @staticmethod
    def _comparable(function, result):
        if function in (os.open, os.dup) or hasattr(result, "fileno"):
            return "descriptor"
        if isinstance(result, os.stat_result):
            return _stat_fields(result)
        if isinstance(result, os.statvfs_result):
            return (result.f_bsize > 0, result.f_namemax)
        if isinstance(result, subprocess.CompletedProcess):
            return (result.returncode, result.stdout, result.stderr)
        if isinstance(result, bytes) and len(result) > 256:
            return (len(result), hash_of(result))
        if isinstance(result, list):
            return sorted(result)
        return result

    def see(self, label, value):
        self.record.append(("see", label, value))

    # ---- more than one call

    def create(self, path, content=b"", mode=0o644, flags=0):
        """A new file with content; returns nothing."""
        fd = self(os.open, path, os.O_WRONLY | os.O_CREAT | flags, mode)
        if fd is not None:
            if content:
                self(os.write, fd, content)
            self(os.close, fd)

    def read(self, path):
        fd = self(os.open, path, os.O_RDONLY)
        if fd is None:
            return None
        parts = []
        while True:
            block = os.read(fd, 1 << 20)
            if not block:
                break
            parts.append(block)
        os.close(fd)
        content = b"".join(parts)
        self.see(f"content of {path!r}", (len(content), hash_of(content)))
        return content

    def listing(self, path="."):
        """Names, their types as readdir tells, and whether d_ino is st_ino."""
        try:
            with os.scandir(path) as entries:
                found = sorted(
                    (os.fsencode(e.name), e.is_dir(follow_symlinks=False),
                     e.is_file(follow_symlinks=False), e.is_symlink(),
                     e.inode() == e.stat(follow_symlinks=False).st_ino)
                    for e in entries)
        except OSError as error:
            found = errno.errorcode[error.errno]
        self.see(f"listing of {path!r}", found)

    @contextmanager
    def user(self, uid=USER, gid=None, groups=()):
        """Effective ids of an ordinary user for a while."""
        gid = uid if gid is None else gid
        os.setgroups(list(groups))
        os.setegid(gid)
        os.seteuid(uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups([])

    @contextmanager
    def umask(self, mask):
        old = os.umask(mask)
        try:
            yield
        finally:
            os.umask(old)

    @contextmanager
    def stamps(self, *paths):
        """Records which times of the paths are changed by the body."""
        before = {path: self._times(path) for path in paths}
        time.sleep(0.012)  # more than a tick of the coarse clock
        yield
        for path in paths:
            after = self._times(path)
            if before[path] is None or after is None:
                changed = (before[path] is None, after is None)
            else:
                changed = [name for name, x, y
                           in zip(("mtime", "ctime"), before[path], after)
                           if x != y]
            self.see(f"changed times of {path!r}", changed)

    @staticmethod
    def _times(path):
        try:
            st = os.lstat(path)
        except OSError:
            return None
        return st.st_mtime_ns, st.st_ctime_ns


def hash_of(content):
    import hashlib
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _show_args(args):
    shown = []
    for arg in args:
        if isinstance(arg, (bytes, bytearray, memoryview)) and len(arg) > 40:
            shown.append(f"<{len(arg)} bytes>")
        elif isinstance(arg, int) and arg > 2 and arg < 1 << 16:
            shown.append(arg)
        else:
            text = repr(arg)
            shown.append(text if len(text) < 120 else text[:100] + "...")
    return tuple(shown)


def _stat_fields(st):
    fields = {"type": stat.S_IFMT(st.st_mode), "mode": oct(st.st_mode & 0o7777),
              "uid": st.st_uid, "gid": st.st_gid, "nlink": st.st_nlink}
    if not stat.S_ISDIR(st.st_mode):
        fields["size"] = st.st_size
    if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
        fields["rdev"] = st.st_rdev
    return fields


# ---- cases

def case(function=None, *, users=True, root=True, only_fs=None, not_fs=()):
    """Marks a case. It runs as root and as an ordinary user, if not told."""
    def mark(function):
        function.parity = {"identities": (["root"] if root else [])
                           + (["user"] if users else []),
                           "only_fs": only_fs, "not_fs": not_fs}
        return function
    return mark(function) if function else mark


def cases_of(namespace):
    """(case, identity) pairs of a module, for pytest.parametrize."""
    pairs = []
    for function in namespace.values():
        if hasattr(function, "parity"):
            for identity in function.parity["identities"]:
                pairs.append((function, identity))
    return pairs


def case_id(value):
    return value if isinstance(value, str) else value.__name__


def run_in_child(body, timeout=60):
    """Runs `body` in a child process; returns what it returned."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            try:
                answer = (True, body())
            except BaseException:  # the parent shows it
                answer = (False, traceback.format_exc())
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(pickle.dumps(answer))
        finally:
            os._exit(0)
    os.close(writer)
    parts, deadline = [], time.monotonic() + timeout * SLOWNESS
    try:
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([reader], [], [], left)[0]:
                raise AssertionError("the case hangs")
            block = os.read(reader, 1 << 16)
            if not block:
                break
            parts.append(block)
    finally:
        os.close(reader)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        _, status = os.waitpid(pid, 0)
    if not parts:
        raise AssertionError(f"the case's process died: status {status}")
    good, value = pickle.loads(b"".join(parts))
    if not good:
        raise AssertionError(value)
    return value


def run_case(function, identity, directory):
    """Runs a case in `directory`; its record and the tree it left."""
    uid = USER if identity == "user" else 0
    os.mkdir(directory, 0o755)
    os.chown(directory, uid, uid)

    def body():
        os.chdir(directory)
        os.umask(0o022)
        if identity == "user":
            os.setgroups([GROUP_EXTRA])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        place = Place()
        function(place)
        return place.record

    return run_in_child(body)


def record_differences(native, mirrored):
    lines = []
    for index, (a, b) in enumerate(zip(native, mirrored)):
        if a != b:
            lines.append(f"call {index}: {a[0]}{a[1]}: native {a[2]!r}, "
                         f"mirror {b[2]!r}" if a[:2] == b[:2] else
                         f"call {index}: native {a!r}, mirror {b!r}")
    if len(native) != len(mirrored):
        lines.append(f"{len(native)} calls natively, {len(mirrored)} on the "
                     "mirror")
    return lines


class Parity:
    """A native directory and a mirror on the same file system."""

    def __init__(self, fs, native, mounted, legs, ensure_alive):
        self.fs = fs
        self.native = native
        self.mounted = mounted
        self.legs = legs
        self.ensure_alive = ensure_alive
        self._count = 0

    def check(self, function, identity="root"):
        import pytest
        marks = function.parity
        if marks["only_fs"] and self.fs not in marks["only_fs"]:
            pytest.skip(f"not for {self.fs}")
        if self.fs in marks["not_fs"]:
            pytest.skip(f"not for {self.fs}")
        self._count += 1
        name = f"{self._count}-{function.__name__}-{identity}"
        native = run_case(function, identity, self.native / name)
        mirrored = run_case(function, identity, self.mounted / name)
        lines = record_differences(native, mirrored)
        lines += self._tree_differences(name)
        # Not left for the next case to trip over.
        for parent in (self.native, self.mounted):
            subprocess.run(["rm", "-rf", str(parent / name)], check=False)
        assert not lines, "not as the native file system:\n" + "\n".join(lines)

    def _tree_differences(self, name):
        model = compare.snapshot(self.native / name)
        lines = [f"through the mount: {line}" for line
                 in compare.snapshot_differences(
                     model, compare.snapshot(self.mounted / name),
                     times=False)]
        deadline = time.monotonic() + 3 * SLOWNESS
        while True:
            trees = [compare.snapshot(leg / name) for leg in self.legs]
            found = []
            for leg, tree in zip(self.legs, trees):
                found += [f"on leg {leg.name}: {line}" for line
                          in compare.snapshot_differences(model, tree,
                                                          times=False)]
            for leg, tree in zip(self.legs[1:], trees[1:]):
                found += [f"legs {self.legs[0].name} and {leg.name}: {line}"
                          for line in compare.snapshot_differences(trees[0],
                                                                   tree)]
            # Releases are asynchronous: a moment for the last one.
            if not found or time.monotonic() > deadline:
                return lines + found
            time.sleep(0.05)


# ---- ACLs as bytes, so that no tool stands between

ACL_ACCESS = "system.posix_acl_access"
ACL_DEFAULT = "system.posix_acl_default"
_TAGS = {"u": 0x01, "U": 0x02, "g": 0x04, "G": 0x08, "m": 0x10, "o": 0x20}


def acl(*entries):
    """acl("u:7", "U11001:6", "g:5", "m:7", "o:0") to the xattr's bytes."""
    data = struct.pack("<I", 2)
    parsed = []
    for entry in entries:
        head, permissions = entry.split(":")
        number = int(head[1:]) if head[1:] else 0xFFFFFFFF
        parsed.append((_TAGS[head[0]], int(permissions), number))
    for tag, permissions, number in sorted(parsed,
                                           key=lambda e: (e[0], e[2])):
        data += struct.pack("<HHI", tag, permissions, number)
    return data


def show_acl(data):
    if data is None:
        return None
    names = {value: key for key, value in _TAGS.items()}
    shown = []
    for offset in range(4, len(data), 8):
        tag, permissions, number = struct.unpack_from("<HHI", data, offset)
        who = "" if number == 0xFFFFFFFF else str(number)
        shown.append(f"{names[tag]}{who}:{permissions}")
    return shown
