# SPDX-License-Identifier: GPL-2.0-or-later
"""What a mirror says of what happens to it: events, and who hears of them."""

import json
import os
import subprocess
import threading
import time

import pytest

from support.mirror import (CLI, EXIT_NOT_MOUNTED, process_exists,
                            wait_until)

MIB = 1 << 20


def events(mirror):
    document = json.loads(mirror.cli("events", mirror.mnt, "--json").stdout)
    assert document["schema"] == 1
    assert document["name"] == mirror.name
    return document["events"]


def names(mirror, leg=None):
    return [event["name"] for event in events(mirror)
            if leg is None or event["leg"] == leg]


class Follower:
    """`mirrorfs events -f --json`, line by line as they come."""

    def __init__(self, mirror):
        self.lines = []
        self.process = subprocess.Popen(
            [CLI, "events", mirror.mnt, "-f", "--json"], env=mirror.env,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def names(self):
        return [line["name"] for line in list(self.lines)]

    def end(self, timeout=30):
        code = self.process.wait(timeout)
        self.thread.join()
        return code, self.process.stderr.read()


@pytest.fixture
def degraded(mirrors):
    """A mirror that is mounted without its second leg, which is put aside."""
    mirror = mirrors()
    mirror.create()
    mirror.away = mirror.legs[1].with_name("b-away")
    mirror.legs[1].rename(mirror.away)
    mirror.legs[1].mkdir()
    return mirror.mount()


def bring_back(mirror):
    mirror.umount()
    mirror.legs[1].rmdir()
    mirror.away.rename(mirror.legs[1])


def test_nothing_happens_to_a_healthy_mirror(mirror):
    (mirror.mnt / "f").write_text("x")
    assert events(mirror) == []
    assert "no events" in mirror.cli("events", mirror.name).stdout


def test_a_degraded_start_and_the_return(degraded):
    assert names(degraded) == ["leg-missing", "degraded"]
    missing = events(degraded)[0]
    assert missing["leg"] == "b"
    assert missing["mirror"] == "t"
    assert str(degraded.legs[1]) in missing["detail"]
    assert missing["number"] == 1
    assert missing["time"].endswith("Z")
    text = degraded.cli("events", degraded.mnt).stdout
    assert len(text.splitlines()) == 2
    assert "leg-missing" in text and "degraded" in text

    (degraded.mnt / "f").write_bytes(os.urandom(3 * MIB))
    bring_back(degraded)
    degraded.mount()
    degraded.wait_sync()
    wait_until(lambda: "leg-in-sync" in names(degraded, "b"), what="an event")
    assert names(degraded) == ["degraded", "resync-started", "resync-finished",
                               "leg-in-sync"]
    degraded.settle_and_compare()


def test_following(degraded):
    (degraded.mnt / "f").write_bytes(os.urandom(MIB))
    bring_back(degraded)
    degraded.mount()
    follower = Follower(degraded)
    wait_until(lambda: "leg-in-sync" in follower.names(), what="events")
    assert follower.lines[0]["schema"] == 1
    assert follower.names()[0] == "degraded", "older ones come first"
    degraded.umount()
    code, said = follower.end()
    assert code == EXIT_NOT_MOUNTED
    assert "was unmounted" in said
    degraded.assert_legs_identical()


def test_who_follows_holds_nobody_up(degraded):
    """Followers that are stopped or gone, more than there are places."""
    followers = []
    try:
        for _ in range(20):
            followers.append(subprocess.Popen(
                [CLI, "events", degraded.mnt, "-f"], env=degraded.env,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        # The first are let in, the last are told that they are too many.
        wait_until(lambda: sum(f.poll() is not None for f in followers) == 4,
                   what="those that are too many")
        refused = [f for f in followers if f.poll() is not None]
        for process in refused:
            assert process.returncode == 1
            assert "too many" in process.stderr.read()
        for process in followers:
            if process.poll() is None:
                os.kill(process.pid, 19)  # SIGSTOP
        assert degraded.status()["state"] == "degraded"
        bring_back(degraded)
        degraded.mount()
        degraded.wait_sync()
        degraded.settle_and_compare()
    finally:
        for process in followers:
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()


def test_events_of_what_is_no_mirror(degraded):
    result = degraded.cli("events", "/nonexistent", check=False)
    assert result.returncode == EXIT_NOT_MOUNTED
    assert "/nonexistent" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_crash_is_repaired_with_events(mirror):
    with open(mirror.mnt / "f", "wb") as file:
        file.write(os.urandom(MIB))
        file.flush()
        mirror.kill9()
        try:
            file.close()
        except OSError:
            pass
    mirror.mount()
    mirror.wait_sync()
    wait_until(lambda: "leg-in-sync" in names(mirror, "b"), what="an event")
    assert names(mirror, "b") == ["resync-started", "resync-finished",
                                  "leg-in-sync"]
    mirror.settle_and_compare()


# ---- hooks

@pytest.fixture
def hooked(mirrors):
    """A mirror that will be degraded, and a directory for its hooks."""
    mirror = mirrors()
    mirror.create()
    mirror.hooks = mirror.base / "hooks.d"
    mirror.hooks.mkdir()
    mirror.env["MIRRORFS_HOOKS_DIR"] = str(mirror.hooks)
    mirror.away = mirror.legs[1].with_name("b-away")
    mirror.legs[1].rename(mirror.away)
    return mirror


def write_hook(mirror, name, body):
    path = mirror.hooks / name
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(0o755)


def test_hooks_are_run(hooked):
    out = hooked.base / "out"
    write_hook(hooked, "10-note",
               f'echo "$MIRRORFS_EVENT:$MIRRORFS_MIRROR:$MIRRORFS_LEG:'
               f'$MIRRORFS_MOUNTPOINT" >> {out}\n')
    # It may use the mirror that it is told of.
    write_hook(hooked, "20-use", 'echo "$MIRRORFS_EVENT" >> '
               '"$MIRRORFS_MOUNTPOINT/seen"; echo said something\n')
    hooked.mount()
    wait_until(lambda: (hooked.mnt / "seen").exists() and
               len((hooked.mnt / "seen").read_text().split()) == 2)
    assert out.read_text().splitlines() == [
        f"leg-missing:t:b:{hooked.mnt}", f"degraded:t::{hooked.mnt}"]
    wait_until(lambda: hooked.said().count("hook 20-use: said something") == 2)
    hooked.umount()


def test_a_hook_that_fails_or_hangs_is_nobodys_business(hooked):
    write_hook(hooked, "1-fails", "exit 7\n")
    write_hook(hooked, "2-hangs", f"echo $$ > {hooked.base}/pid; exec sleep 1000\n")
    (hooked.hooks / "3-broken").write_text("#!/no/such/thing\n")
    (hooked.hooks / "3-broken").chmod(0o755)
    hooked.mount()
    wait_until(lambda: (hooked.base / "pid").exists())
    for n in range(100):
        (hooked.mnt / f"f{n}").write_text("x")
        assert (hooked.mnt / f"f{n}").read_text() == "x"
    assert hooked.status()["state"] == "degraded"
    assert "hook 1-fails: ended with exit status 7" in hooked.said()
    start = time.monotonic()
    hooked.umount()
    assert time.monotonic() - start < 15
    assert "hook 2-hangs: took too long" in hooked.said()
    pid = int((hooked.base / "pid").read_text())
    wait_until(lambda: not process_exists(pid), what="the hook's end")
