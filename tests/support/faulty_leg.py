# SPDX-License-Identifier: GPL-2.0-or-later
"""A leg that fails when it is told to.

A directory, the store, passed through by a FUSE file system of our own
(tests/support/faulty_leg). Give its `root` to a mirror as a leg. What is in the
store is what is on the leg, whatever the leg answers.

    leg.fail("write", errno.EIO)                     every write
    leg.fail(CHANGES, errno.EROFS)                   read-only
    leg.fail("fsync", errno.EIO, count=1, lose=True) once, and it lost the data
    leg.add(ops=["read"], limit=10)                  short reads
    leg.hang(EVERYTHING); ...; leg.clear()
    with leg.failing("read", errno.EIO, path="*.db", rate=0.5): ...
    leg.stop(); leg.go_on()                          SIGSTOP, SIGCONT
    leg.die()                                        ENOTCONN from now on
    leg.restart()                                    in its place again
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
from pathlib import Path

from support.mirror import BUILD, mounts_at, run, wait_until

PROGRAM = BUILD / "tests/support/faulty_leg/faulty_leg"

NAMES = ["mknod", "mkdir", "symlink", "unlink", "rmdir", "rename", "link",
         "create", "tmpfile"]
ATTRIBUTES = ["chmod", "chown", "utimens", "setxattr", "removexattr"]
CONTENT = ["write", "truncate", "fallocate", "copy"]
SYNCS = ["fsync", "fsyncdir"]
CHANGES = NAMES + ATTRIBUTES + CONTENT
READS = ["read", "lseek"]
LOOKS = ["lookup", "getattr", "readlink", "opendir", "readdir", "statfs",
         "getxattr", "listxattr"]
EVERYTHING = CHANGES + SYNCS + READS + LOOKS + ["open"]


class FaultyLeg:
    def __init__(self, root, store=None, track=False):
        self.root = Path(root)
        self.store = Path(store) if store else \
            self.root.with_name(self.root.name + ".store")
        self.socket = self.root.with_name(self.root.name + ".control")
        self.output = self.root.with_name(self.root.name + ".said")
        self.process = None
        self._rules = []
        for directory in (self.root, self.store):
            directory.mkdir(parents=True, exist_ok=True)
        self.start()
        if track:
            self.track()

    # ---- the process

    def start(self):
        with open(self.output, "ab") as output:
            self.process = subprocess.Popen(
                [PROGRAM, self.store, self.root, self.socket],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True)
        wait_until(self._usable, what=f"the faulty leg at {self.root}: "
                   f"{self.output.read_text()}")

    def _usable(self):
        if self.process.poll() is not None:
            raise AssertionError("faulty_leg: " + self.output.read_text())
        mounts = mounts_at(self.root)
        return bool(mounts) and mounts[-1]["type"] == "fuse.faulty_leg" \
            and self._listens()

    def _listens(self):
        """The socket may be that of a process before this one."""
        try:
            self.stats()
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    @property
    def pid(self):
        return self.process.pid

    def stop(self):
        """The process stands still: every request on the leg hangs."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self):
        os.kill(self.pid, signal.SIGCONT)

    def die(self):
        """The leg answers ENOTCONN, as a dead connection does."""
        self.process.kill()
        self.process.wait(20)

    def detach(self):
        """The leg is gone from its place (umount -l); those who have it open
        still have it."""
        run("umount", "-l", self.root)

    def restart(self):
        """In its place again, without faults."""
        if self.process.poll() is None:
            self.die()
        self._unmount()
        self.start()

    def release(self):
        """Nobody waits for it any more, whatever state it is in."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()  # also one that is stopped

    def destroy(self):
        self.release()
        if self.process is not None:
            self.process.wait(20)
        self._unmount()

    def _unmount(self):
        for _ in range(20):
            if not mounts_at(self.root):
                return
            subprocess.run(["umount", "-l", str(self.root)], check=False,
                           stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)

    # ---- what goes wrong

    def command(self, **request):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            # The path of a socket may have 107 bytes; ours may be longer.
            directory = os.open(self.socket.parent, os.O_PATH)
            try:
                connection.connect(f"/proc/self/fd/{directory}/"
                                   f"{self.socket.name}")
            finally:
                os.close(directory)
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as lines:
                answer = json.loads(lines.readline())
        assert answer["ok"], answer
        return answer.get("result")

    def add(self, ops, **rule):
        """A rule; see struct Rule in faulty_leg/faults.h. Returns its id."""
        if isinstance(ops, str):
            ops = [ops]
        return self.command(command="add", rule={"ops": ops, **rule})

    def fail(self, ops, number, **rule):
        return self.add(ops, errno=int(number), **rule)

    def hang(self, ops, **rule):
        return self.add(ops, hang=True, **rule)

    @contextlib.contextmanager
    def failing(self, ops, number, **rule):
        rule_id = self.fail(ops, number, **rule)
        try:
            yield
        finally:
            self.remove(rule_id)

    def remove(self, rule_id):
        self.command(command="remove", id=rule_id)

    def clear(self):
        """No faults from now on; what hangs goes on."""
        self.command(command="clear")

    def space(self, size):
        """So many bytes more, then ENOSPC; None: no limit."""
        self.command(command="space", bytes=-1 if size is None else size)

    def split_names(self):
        """Each name of a file looks like a file of its own from now on."""
        self.command(command="split-names")

    def track(self, on=True):
        """Remembers what is not synced, so that lose() can undo it."""
        self.command(command="track", on=on)

    def lose(self, younger_ms=2**31 - 1):
        """The disk forgets the content that was not fsynced, as far as it is
        younger than that. Returns how many changes were lost."""
        return self.command(command="lose", younger_ms=younger_ms)

    def stats(self):
        return self.command(command="stats")

    def struck(self, rule_id):
        """How many requests the rule has hit."""
        return self.stats()["rules"][str(rule_id)]

    def hanging(self):
        return self.stats()["hanging"]
