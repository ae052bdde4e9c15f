# SPDX-License-Identifier: GPL-2.0-or-later
"""PostgreSQL in a directory to be measured, and pgbench against it."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

SCALE = 5  # 75 MiB


def programs():
    """Where the newest installed server's programs are; None without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"),
                   key=lambda path: float(path.parts[-3]))
    return found[-1].parent if found and shutil.which("setpriv") else None


class Database:
    """A cluster of its own, that does not listen on the network."""

    def __init__(self, data, sockets):
        self.programs, self.user = programs(), pwd.getpwnam("postgres")
        self.data, self.sockets = data, sockets
        self.server = None
        for path in (data, sockets):
            path.mkdir()
            os.chown(path, self.user.pw_uid, self.user.pw_gid)
        os.chmod(data, 0o700)
        self.run("initdb", "-D", data, "-A", "trust", "--no-instructions")
        self.start()
        self.run("pgbench", "-h", sockets, "-i", "-q", "-s", SCALE, "postgres")
        self.stop()

    def argv(self, program, *words):
        """As the user that the server insists on."""
        return ["setpriv", f"--reuid={self.user.pw_uid}",
                f"--regid={self.user.pw_gid}", "--clear-groups",
                str(self.programs / program), *map(str, words)]

    def run(self, program, *words):
        """Runs one of the programs; what it printed."""
        return subprocess.run(self.argv(program, *words), check=True, text=True,
                              cwd="/tmp", stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE).stdout

    def start(self):
        """Returns when it answers."""
        self.server = subprocess.Popen(
            self.argv("postgres", "-D", self.data, "-k", self.sockets, "-c",
                      "listen_addresses="), cwd="/tmp",
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ready = self.argv("pg_isready", "-q", "-h", self.sockets)
        for _ in range(600):
            if subprocess.run(ready, check=False, cwd="/tmp").returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError(f"PostgreSQL does not start in {self.data}")

    def stop(self):
        """A "fast" shutdown, with a checkpoint."""
        if self.server is None:
            return
        self.server.send_signal(signal.SIGINT)
        self.server.wait(timeout=120)
        self.server = None

    def measure(self, clients, seconds):
        """Transactions in a second."""
        self.start()
        try:
            # The checkpoint keeps the last round's writing back out of it.
            self.run("psql", "-h", self.sockets, "-d", "postgres", "-c",
                     "CHECKPOINT")
            text = self.run("pgbench", "-h", self.sockets, "-n", "-c", clients,
                            "-j", clients, "-T", max(1, round(seconds)),
                            "postgres")
        finally:
            self.stop()
        return float(re.search(r"tps = ([0-9.]+)", text).group(1))
