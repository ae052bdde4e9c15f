# SPDX-License-Identifier: GPL-2.0-or-later
"""A mirror under test: its legs, its daemon, its mount, and a sure end."""

import glob
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from support import compare

REPO = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("MIRRORFS_BUILD", REPO / "build")).resolve()
HELPER = BUILD / "src/mount/mount.mirrorfs"
CLI = BUILD / "src/cli/mirrorfs"

# Sanitizer builds are several times slower.
SLOWNESS = float(os.environ.get("MIRRORFS_TEST_SLOWNESS", "1"))

# For a run of the tests in another mode, such as cache=writeback.
EXTRA_OPTIONS = os.environ.get("MIRRORFS_TEST_OPTIONS", "").split()

# Where the last leg of each mirror is put, if anywhere.
LAST_LEG_BASE = None

# Words that a daemon in good order never says. A test that provokes one
# declares it with Mirror.expect_diagnostics().
SUSPICIOUS = re.compile(
    r"\berror\b|Sanitizer|runtime error|assert|terminate called|"
    r"Segmentation fault|core dumped|fuse: |corrupt", re.IGNORECASE)

EXIT_OK = 0
EXIT_USAGE = 1
EXIT_NOT_MOUNTED = 2
EXIT_DEGRADED = 3
EXIT_RESYNCING = 4
EXIT_CONFLICT = 5
EXIT_ERRORS_RECORDED = 64


class CommandFailed(AssertionError):
    def __init__(self, argv, result):
        self.result = result
        super().__init__(
            f"exit code {result.returncode} of: {' '.join(map(str, argv))}\n"
            f"{result.stdout}{result.stderr}")


def run(*argv, check=True, timeout=120, **options):
    """Runs a command, text in and out, and fails with what it said."""
    argv = [str(a) if not isinstance(a, bytes) else a for a in argv]
    options.setdefault("stdin", subprocess.DEVNULL)
    if "input" in options:
        options.pop("stdin")
    result = subprocess.run(argv, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, timeout=timeout * SLOWNESS,
                            encoding="utf-8", errors="backslashreplace",
                            check=False, **options)
    if check and result.returncode != 0:
        raise CommandFailed(argv, result)
    return result


def _unescape(text):
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), text)


def mounts_at(path):
    """The mounts at `path`, bottom first: dicts with id, type, source, ..."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8",
              errors="surrogateescape") as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            fields, tail = left.split(), right.split()
            if _unescape(fields[4]) == os.fspath(path):
                found.append({"id": int(fields[0]), "device": fields[2],
                              "options": fields[5].split(","),
                              "type": tail[0],
                              "source": _unescape(tail[1]),
                              "super_options": tail[2].split(",")})
    return found


class TimedOut(AssertionError):
    """What was waited for did not come."""


def wait_until(condition, timeout=20.0, what="a condition", interval=0.02):
    deadline = time.monotonic() + timeout * SLOWNESS
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimedOut(f"timed out waiting for {what}")
        time.sleep(interval)


def process_exists(pid):
    """Whether `pid` runs (a zombie does not)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii",
                  errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def users_of(directory):
    """Who keeps something beneath `directory` open, for the report that it
    cannot be unmounted."""
    beneath = os.fspath(directory)
    lines = []
    for links in ("fd/*", "cwd", "exe", "map_files/*"):
        for link in glob.glob(f"/proc/[0-9]*/{links}"):
            try:
                target = os.readlink(link)
                if f"{target}/".startswith(f"{beneath}/"):
                    with open(f"/proc/{link.split('/')[2]}/comm",
                              encoding="utf-8", errors="replace") as comm:
                        lines.append(f"{link} {comm.read().strip()} {target}")
            except OSError:
                pass  # it has ended
    return "\n".join(lines)


def thread_states(pid):
    """Where each thread of `pid` is, for the report of a hang."""
    lines = []
    try:
        for task in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
            base = f"/proc/{pid}/task/{task}"
            texts = []
            for name in ("comm", "wchan", "syscall"):
                try:
                    texts.append(Path(base, name).read_text().strip())
                except OSError:
                    texts.append("?")
            lines.append(" ".join([task] + texts))
    except OSError:
        pass
    return "\n".join(lines)


class Mirror:
    """Legs under `base`, a mount point, a run directory, and the daemon.

    The daemon normally runs in the foreground as our own child: its exit
    status is seen, it is killed by its own pid, and what it says goes to a
    file. `mount(background=True)` does what a user would do.
    """

    def __init__(self, base, legs=2, name="t", log="disk", options=()):
        self.base = Path(base)
        self.name = name
        self.log = log
        self.options = [*EXTRA_OPTIONS, *options]
        if isinstance(legs, int):
            legs = [self.base / chr(ord("a") + i) for i in range(legs)]
            if LAST_LEG_BASE is not None:
                apart = Path(tempfile.mkdtemp(dir=LAST_LEG_BASE))
                apart.chmod(0o755)
                legs[-1] = apart / legs[-1].name
        self.legs = [Path(leg) for leg in legs]
        self.mnt = self.base / "mnt"
        self.run_dir = self.base / "run"
        self.diagnostics = self.base / "diagnostics"
        self.env = dict(os.environ)
        self.env["MIRRORFS_RUN_DIR"] = str(self.run_dir)
        self.env["PATH"] = f"{HELPER.parent}:{CLI.parent}:" + self.env["PATH"]
        self.daemon = None     # Popen of a foreground daemon
        self.daemon_pid = 0
        self.exit_status = None
        self._expected = []
        for directory in [*self.legs, self.mnt, self.run_dir]:
            directory.mkdir(parents=True, exist_ok=True)

    # ---- commands

    def cli(self, *words, check=True, timeout=120):
        return run(CLI, *words, check=check, timeout=timeout, env=self.env)

    def spec(self, legs=None):
        return ":".join(map(str, legs or self.legs))

    def create(self, *flags, adopt=None, legs=None):
        words = ["create", "--name", self.name, *flags]
        if adopt is not None:
            words += ["--adopt", adopt]
        return self.cli(*words, *(legs or self.legs))

    def option_text(self, options=()):
        words = [f"log={self.log}", *self.options, *options]
        return ",".join(words)

    def mount(self, *options, legs=None, background=False, env=None,
              timeout=30):
        """Mounts; returns when the mount is usable, or raises MountFailed."""
        argv = [HELPER, self.spec(legs), self.mnt, "-o"]
        environment = {**self.env, **(env or {})}
        self.exit_status = None
        if background:
            environment["MIRRORFS_DIAG"] = str(self.diagnostics)
            # A file and not a pipe: a daemon that kept our pipe open would
            # keep us waiting for its end.
            output = self.base / "helper-output"
            with open(output, "wb") as file:
                code = subprocess.run(
                    [*argv, self.option_text(options)], env=environment,
                    stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                    timeout=timeout * SLOWNESS, check=False).returncode
            if code != 0:
                raise MountFailed(code, output.read_text())
            self.daemon_pid = self.status()["pid"]
            return self
        with open(self.diagnostics, "ab") as log:
            start = log.tell()
            self.daemon = subprocess.Popen(
                [*argv, self.option_text((*options, "foreground"))],
                env=environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True)
        self.daemon_pid = self.daemon.pid
        deadline = time.monotonic() + timeout * SLOWNESS
        while True:
            if self.daemon.poll() is not None:
                self._daemon_ended(self.daemon.returncode)
                text = self._said_since(start)
                raise MountFailed(self.exit_status, "".join(
                    line for line in text.splitlines(keepends=True)
                    if not line.startswith("mirrorfs: ")))
            if self._usable():
                return self
            if time.monotonic() > deadline:
                raise MountFailed(None, "not usable in time\n"
                                  + thread_states(self.daemon_pid)
                                  + self._said_since(start))
            time.sleep(0.005)

    def _usable(self):
        """Whether a live mount of ours is there; not the dead one that the
        helper is about to clear, whose numbers the new one may get again."""
        try:
            os.statvfs(self.mnt)  # answered by a daemon, after FUSE_INIT
            device = os.stat(self.mnt).st_dev
        except OSError:
            return False
        mounts = mounts_at(self.mnt)
        return bool(mounts) and mounts[-1]["type"] == "fuse.mirrorfs" and \
            mounts[-1]["device"] == f"{os.major(device)}:{os.minor(device)}"

    def _said_since(self, start):
        with open(self.diagnostics, "rb") as log:
            log.seek(start)
            return log.read().decode("utf-8", "backslashreplace")

    def said(self):
        try:
            return self.diagnostics.read_text("utf-8", "backslashreplace")
        except FileNotFoundError:
            return ""

    def status(self, check_schema=True):
        """The mirror's element of `mirrorfs status --json`."""
        result = self.cli("status", self.mnt, "--json", check=False)
        assert result.returncode in (0, 3, 4, 5, 64), \
            f"status: exit code {result.returncode}: {result.stderr}"
        document = json.loads(result.stdout)
        if check_schema:
            assert document["schema"] == 1
            assert len(document["mirrors"]) == 1
        return document["mirrors"][0]

    def leg_status(self, name):
        return next(leg for leg in self.status()["legs"]
                    if leg["name"] == name)

    def dirty(self):
        return json.loads(self.cli("dirty", self.mnt, "--json").stdout)

    def tail_offset(self, path):
        """From where on the log says that a leg lacks the file's content; 0
        where it says nothing of the kind."""
        return max([region.get("offset", 0)
                    for region in self.dirty()["regions"]
                    if region["path"] == path
                    and region["kind"] == "attributes"] or [0])

    def wait_sync(self, timeout=180):
        self.cli("wait-sync", self.mnt, "--timeout",
                 f"{int(timeout * SLOWNESS)}s", timeout=timeout + 30)

    def umount(self, timeout=60):
        """Unmounts and waits for the daemon's orderly end."""
        try:
            self.cli("umount", self.mnt, timeout=timeout)
        except CommandFailed as error:
            error.args = (f"{error}{users_of(self.mnt)}",)
            raise
        self.wait_daemon_end(timeout)
        if self.exit_status is not None:
            assert self.exit_status == 0, \
                f"the daemon ended with {self.exit_status}\n{self.said()}"
        assert not mounts_at(self.mnt)

    def wait_daemon_end(self, timeout=30):
        if self.daemon is not None:
            try:
                code = self.daemon.wait(timeout * SLOWNESS)
            except subprocess.TimeoutExpired:
                raise AssertionError(
                    "the daemon does not end\n"
                    + thread_states(self.daemon_pid)) from None
            self._daemon_ended(code)
        elif self.daemon_pid:
            pid = self.daemon_pid
            wait_until(lambda: not process_exists(pid), timeout,
                       "the daemon's end")
            self.daemon_pid = 0

    def _daemon_ended(self, code):
        self.exit_status = code
        self.daemon = None
        self.daemon_pid = 0

    def kill9(self):
        """SIGKILL to the daemon; the dead mount stays where it is."""
        if self.daemon_pid:
            try:
                os.kill(self.daemon_pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.wait_daemon_end()

    def remount(self, *options, **keywords):
        """After kill9: the helper has to clear the dead mount by itself."""
        return self.mount(*options, **keywords)

    def alive(self):
        if self.daemon is not None:
            return self.daemon.poll() is None
        return bool(self.daemon_pid) and process_exists(self.daemon_pid)

    # ---- checks

    def leg_differences(self, legs=None, **options):
        return compare.tree_differences(*(legs or self.legs), **options)

    def assert_legs_identical(self, legs=None, **options):
        lines = self.leg_differences(legs, **options)
        assert not lines, "legs differ:\n" + "\n".join(lines)

    def assert_legs_soon_identical(self, timeout=10, **options):
        """For a mounted mirror: times may be made equal a moment later."""
        deadline = time.monotonic() + timeout * SLOWNESS
        while self.leg_differences(**options):
            if time.monotonic() > deadline:
                self.assert_legs_identical(**options)
                return
            time.sleep(0.1)

    def settle_and_compare(self, timeout=60):
        """The end of most tests: everything synced, stopped and equal."""
        self.wait_sync(timeout)
        self.umount()
        self.assert_legs_identical()
        result = self.cli("check", *self.legs, check=False)
        assert result.returncode == 0, \
            f"check disagrees: {result.stdout}{result.stderr}"

    def expect_diagnostics(self, pattern):
        """The daemon may say what matches `pattern`, and still be fine."""
        self._expected.append(re.compile(pattern, re.IGNORECASE))

    def suspicious_diagnostics(self):
        return [line for line in self.said().splitlines()
                if SUSPICIOUS.search(line)
                and not any(p.search(line) for p in self._expected)]

    # ---- the end

    def force_end(self):
        """Whatever state things are in: no daemon, no mount."""
        if self.alive():
            try:
                os.kill(self.daemon_pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.daemon is not None:
            try:
                self._daemon_ended(self.daemon.wait(20))
            except subprocess.TimeoutExpired:
                pass
        for _ in range(20):
            if not mounts_at(self.mnt):
                break
            subprocess.run(["umount", "-l", str(self.mnt)],
                           stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, check=False)


class MountFailed(AssertionError):
    """The helper's exit code and what it said."""

    def __init__(self, code, text):
        self.code = code
        self.text = text
        super().__init__(f"mount failed with exit code {code}: {text}")
