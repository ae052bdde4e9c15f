# SPDX-License-Identifier: GPL-2.0-or-later
"""Ends a test that hangs.

A thread that is stuck in a system call on a hung FUSE mount hears no signal;
only the death of the daemon sets it free. So at the deadline the daemons of
the test are killed, after a note of where their threads were.
"""

import os
import signal
import threading

from support import mirror as mirror_module


class Watchdog:
    def __init__(self, seconds):
        self._mirrors = []
        self._pids = []
        self._releases = []
        self.report = ""
        self._timer = threading.Timer(seconds * mirror_module.SLOWNESS,
                                      self._expire)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, mirror):
        self._mirrors.append(mirror)

    def watch_pid(self, pid):
        """A child of the test (leader of its own process group)."""
        self._pids.append(pid)

    def at_expiry(self, release):
        """Called at the deadline: ends what a daemon may be waiting for."""
        self._releases.append(release)

    def stop(self):
        self._timer.cancel()

    def _expire(self):
        lines = ["the test took too long; its daemons were killed"]
        for mirror in self._mirrors:
            pid = mirror.daemon_pid
            if not pid or not mirror.alive():
                continue
            lines += [f"daemon {pid}:", mirror_module.thread_states(pid)]
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for release in self._releases:
            release()
        for pid in self._pids:
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.report = "\n".join(lines)
