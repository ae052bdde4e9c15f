# SPDX-License-Identifier: GPL-2.0-or-later
"""Loads on a mirror: some workers, each with a directory of it, and their
judges."""

import json
import os
import pickle
import signal
import subprocess
import time
from pathlib import Path

from support import durable_load, verified_load
from support.mirror import SLOWNESS, TimedOut, thread_states, wait_until

PYTHON = "/usr/bin/python3"
WORKERS = 3


class Load:
    """What all loads have: processes that write journals outside the mirror."""

    def __init__(self, mirror, seed, kind, directories):
        self.mirror = mirror
        self.seed = seed
        self.directories = directories
        self.outside = Path(mirror.base) / f"{kind}-journals"
        self.outside.mkdir(exist_ok=True)
        self.processes = {}

    def journal(self, d):
        return self.outside / f"{d}.journal"

    def _spawn(self, d, *argv):
        with open(self.outside / f"{d}.out", "ab") as out:
            self.processes[d] = subprocess.Popen(
                [PYTHON, *argv], stdout=out, stderr=out,
                start_new_session=True)

    def _complain(self, d, what):
        text = (self.outside / f"{d}.out").read_text()
        tail = self.journal(d).read_text()[-1500:]
        raise AssertionError(f"worker {d} {what}: {text}\n{tail}")

    def _wait(self, seconds, good):
        for d, process in self.processes.items():
            try:
                code = process.wait(seconds * SLOWNESS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise AssertionError(f"worker {d} does not stop") from None
            if code not in good:
                self._complain(d, f"ended with {code}")

    def end(self):
        """After the daemon is dead: the workers notice and stop."""
        # A page of a mapping that cannot be had any more is a SIGBUS.
        self._wait(10, (0, -signal.SIGBUS))

    def stop(self, seconds=60):
        """The workers finish what they are at, and nothing went wrong."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        self._wait(seconds, (0,))

    def kill(self):
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                pass  # on a mount that hangs; its daemon is killed later

    def done(self, d):
        """How many steps were acknowledged to worker `d`."""
        with open(self.journal(d), "rb") as file:
            return sum(line[:1] in b"AN" for line in file)

    def check_alive(self):
        for d, process in self.processes.items():
            if process.poll() is not None:
                self._complain(d, f"ended with {process.returncode}")

    def progress(self, steps=20, timeout=60):
        """Waits until each worker has done so many more steps."""
        goals = {d: self.done(d) + steps for d in self.directories}

        def reached():
            self.check_alive()
            return all(self.done(d) >= goal for d, goal in goals.items())

        try:
            wait_until(reached, timeout, interval=0.05)
        except TimedOut:
            raise AssertionError(
                f"not {steps} more steps of each worker in {timeout} s; "
                f"the daemon:\n{thread_states(self.mirror.daemon_pid)}"
            ) from None

    def slowest(self):
        """(seconds, what it was) of the slowest step."""
        worst = (0.0, None)
        for d in self.directories:
            with open(self.journal(d), encoding="utf-8") as lines:
                for line in lines:
                    if line.startswith("S ") and line.endswith("\n"):
                        seconds, what = json.loads(line[2:])
                        worst = max(worst, (seconds, f"{d}: {what}"))
        return worst


class VerifiedLoad(Load):
    """Every acknowledged operation must be there, synced or not."""

    # `allowed`: what is not taken amiss, see verified_load.
    def __init__(self, mirror, seed, workers=WORKERS, allowed=()):
        super().__init__(mirror, seed, "verified",
                         [f"w{n}" for n in range(workers)])
        self.round = 0
        self.allowed = allowed
        self.models = {d: verified_load.Model() for d in self.directories}
        for d in self.directories:
            (mirror.mnt / d).mkdir(exist_ok=True)

    def start(self):
        self.round += 1
        for d in self.directories:
            baseline = self.outside / f"{d}.baseline"
            baseline.write_bytes(pickle.dumps(self.models[d]))
            self.journal(d).write_bytes(b"")
            self._spawn(d, verified_load.__file__, self.mirror.mnt / d,
                        self.journal(d), baseline,
                        f"{self.seed}-{self.round}-{d}", *self.allowed)

    def judge(self, keep=True):
        """Compares; the state found is the next round's beginning."""
        problems, total = [], 0
        for d in self.directories:
            lines, actual, count = verified_load.judge(
                self.models[d], self.journal(d), self.mirror.mnt / d)
            problems += [f"{d}: {line}" for line in lines]
            total += count
            if keep:
                self.models[d] = actual
                self.journal(d).write_bytes(b"")
        assert not problems, "\n".join(problems)
        return total


class DurableLoad(Load):
    """What was synced must be there, also after a leg lost the rest."""

    def __init__(self, mirror, seed, workers=2):
        super().__init__(mirror, seed, "durable",
                         [f"d{n}" for n in range(workers)])

    def start(self):
        for d in self.directories:
            self.journal(d).write_bytes(b"")
            self._spawn(d, durable_load.__file__, str(self.mirror.mnt / d),
                        str(self.journal(d)), f"{self.seed}-{d}", "strict")

    def judge(self):
        total = 0
        for d in self.directories:
            wrong, count = durable_load.judge(self.mirror.mnt / d,
                                              self.journal(d))
            assert not wrong, f"{d}: " + "\n".join(wrong[:20])
            total += count
        return total
