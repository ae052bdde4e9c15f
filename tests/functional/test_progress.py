# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a repair is, and how fast it may go."""

import json
import os
import pty
import re
import subprocess
import threading
import time

import pytest

from support.mirror import CLI, wait_until

MIB = 1 << 20


def write_at(path, offset, size):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(os.urandom(size))


@pytest.fixture
def away(mirrors):
    """A mirror with a few files whose second leg is put aside."""
    mirror = mirrors()
    mirror.create()
    mirror.mount()
    for name, size in (("even", 4 * MIB), ("odd", 3 * MIB + 500),
                       ("shrinks", 4 * MIB), ("small", 10)):
        (mirror.mnt / name).write_bytes(os.urandom(size))
    # A directory's record says that everything in it is new that is no older
    # than this before it.
    time.sleep(0.5)
    mirror.umount()
    mirror.away = mirror.legs[1].with_name("b-away")
    mirror.legs[1].rename(mirror.away)
    return mirror.mount()


def test_what_a_leg_lacks_is_counted_exactly(away):
    assert away.leg_status("b")["dirty"] == {
        "bytes": 0, "regions": 0, "files": 0, "directories": 0}
    write_at(away.mnt / "even", 1 * MIB + 7, 10)
    dirty = away.leg_status("b")["dirty"]
    assert dirty["bytes"] == 1 * MIB
    assert dirty["files"] == 1
    # The last region of a file is as long as the file.
    write_at(away.mnt / "odd", 3 * MIB + 100, 10)
    assert away.leg_status("b")["dirty"]["bytes"] == 1 * MIB + 500
    # Two regions, one of them twice.
    write_at(away.mnt / "even", 2 * MIB - 5, 10)
    assert away.leg_status("b")["dirty"]["bytes"] == 2 * MIB + 500
    # A tail, and a region in it.
    write_at(away.mnt / "shrinks", 3 * MIB, 10)
    os.truncate(away.mnt / "shrinks", 2 * MIB + 30)
    dirty = away.leg_status("b")["dirty"]
    assert dirty["bytes"] == 2 * MIB + 500 + 30
    assert dirty["files"] == 3
    text = away.cli("status", away.mnt, check=False).stdout
    assert "leg b lacks 2.0 MiB" in text, text
    assert "3 files" in text

    away.umount()
    away.away.rename(away.legs[1])
    away.mount()
    away.wait_sync()
    leg = away.leg_status("b")
    assert leg["dirty"] == {
        "bytes": 0, "regions": 0, "files": 0, "directories": 0}
    # A region that two records speak of is compared twice.
    assert leg["resync"]["done_bytes"] in (2 * MIB + 530, 2 * MIB + 560)
    assert leg["resync"]["total_bytes"] == leg["resync"]["done_bytes"]
    assert 0 < leg["resync"]["copied_bytes"] <= leg["resync"]["done_bytes"]
    assert away.leg_status("a")["resync"]["done_bytes"] == 0
    away.settle_and_compare()


def test_new_files_count_as_lacked(away):
    """They are known by their directory's record only."""
    (away.mnt / "new").write_bytes(os.urandom(3 * MIB + 5))
    (away.mnt / "d").mkdir()
    (away.mnt / "d/new").write_bytes(os.urandom(MIB))
    assert away.leg_status("b")["dirty"]["bytes"] == 4 * MIB + 5
    # With a record of its own it is counted once.
    write_at(away.mnt / "new", MIB, 10)
    os.chmod(away.mnt / "new", 0o600)
    os.truncate(away.mnt / "new", 2 * MIB)
    assert away.leg_status("b")["dirty"]["bytes"] == 3 * MIB
    (away.mnt / "d/new").unlink()
    assert away.leg_status("b")["dirty"]["bytes"] == 2 * MIB


def test_a_repair_that_is_over_has_no_time_left(away):
    (away.mnt / "new").write_bytes(os.urandom(5 * MIB))
    away.umount()
    away.away.rename(away.legs[1])
    away.mount()
    away.wait_sync()
    resync = away.leg_status("b")["resync"]
    assert resync["eta_s"] == 0
    assert resync["done_bytes"] >= 5 * MIB
    assert resync["rate"] > 0, "of the last seconds"
    away.settle_and_compare()


# ---- pace

@pytest.fixture
def filling(mirrors):
    """A mirror whose second leg is being filled, held at a crawl."""
    mirror = mirrors()
    for n in range(8):
        (mirror.legs[0] / f"f{n}").write_bytes(os.urandom(4 * MIB))
    mirror.create(adopt=mirror.legs[0])
    return mirror.mount("resync-rate-max=1")


def set_rates(mirror, **rates):
    mirror.cli("set", mirror.mnt, *(f"resync-rate-{name}={value}"
                                    for name, value in rates.items()))


def done(mirror):
    return mirror.leg_status("b")["resync"]["done_bytes"]


def test_recovery_keeps_to_its_pace(filling):
    time.sleep(1)
    assert done(filling) <= MIB, "a byte a second"
    set_rates(filling, max="8M")
    start, before = time.monotonic(), done(filling)
    wait_until(lambda: done(filling) >= before + 12 * MIB, 60)
    took = time.monotonic() - start
    assert took > 1.2, f"12 MiB at 8 MiB/s in {took} s"
    resync = filling.leg_status("b")["resync"]
    assert 0 < resync["done_bytes"] < resync["total_bytes"]
    # Of the file in work a part may be seen on both sides.
    assert 28 * MIB <= resync["total_bytes"] <= 36 * MIB
    assert 0 < resync["rate"] < 11 * MIB
    left = resync["total_bytes"] - resync["done_bytes"]
    assert resync["eta_s"] == -(-left // resync["rate"])
    text = filling.cli("status", "t", check=False).stdout
    assert re.search(r"^  b .* resync .*[0-9.]+%  [0-9.]+ MB/s  ~[0-9]+s left$",
                     text, re.MULTILINE), text
    set_rates(filling, max=0)
    filling.settle_and_compare()


def test_a_slow_recovery_holds_nobody_up(filling):
    """Not a program that writes where it would copy, nor the end."""
    start = time.monotonic()
    for n in range(8):
        write_at(filling.mnt / f"f{n}", MIB, 100)
    filling.umount()
    assert time.monotonic() - start < 10
    filling.mount()
    filling.settle_and_compare()


@pytest.mark.parametrize("end", ["umount", "kill"])
def test_a_repair_goes_on_where_it_was(mirrors, end):
    """Inside of a file."""
    mirror = mirrors()
    size = 160 * MIB
    with open(mirror.legs[0] / "big", "wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
    (mirror.legs[0] / "small").write_bytes(os.urandom(10))
    mirror.create(adopt=mirror.legs[0])
    mirror.mount("resync-rate-max=200M", env={"MIRRORFS_TICK_MS": "50"})
    wait_until(lambda: done(mirror) >= 100 * MIB, 60)
    set_rates(mirror, max=1)
    if end == "kill":
        wait_until(lambda: mirror.tail_offset("big") >= 64 * MIB, 60)
        left = size - mirror.tail_offset("big")
        # What the log says is in its store once a later mark is, and that one
        # is suspect after the kill.
        write_at(mirror.mnt / "small", 0, 10)
        left += 10
        mirror.kill9()
    else:
        left = mirror.leg_status("b")["dirty"]["bytes"]
        mirror.umount()
    assert left < 100 * MIB
    mirror.mount("resync-rate-max=1")
    assert mirror.leg_status("b")["dirty"]["bytes"] <= left
    set_rates(mirror, max=0)
    mirror.wait_sync()
    assert done(mirror) <= left
    mirror.settle_and_compare()


def test_recovery_gives_way_to_applications(filling):
    stop = threading.Event()

    def use():
        n = 0
        while not stop.is_set():
            (filling.mnt / "used").write_text(str(n))
            n += 1

    user = threading.Thread(target=use)
    user.start()
    try:
        wait_until(lambda: (filling.mnt / "used").exists())
        set_rates(filling, min="1M", max=0)
        time.sleep(1)
        before = done(filling)
        time.sleep(3)
        assert done(filling) - before <= 6 * MIB
        assert filling.status()["state"] == "resyncing"
    finally:
        stop.set()
        user.join()
    # Alone it need not.
    start = time.monotonic()
    filling.wait_sync()
    assert time.monotonic() - start < 15
    filling.settle_and_compare()


def test_waiting_says_how_far_it_is(filling):
    process = subprocess.Popen(
        [CLI, "wait-sync", filling.mnt, "--every", "200ms"], env=filling.env,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    set_rates(filling, max="16M")
    out, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out == "t: 2 of 2 legs in sync\n"
    lines = said.splitlines()
    assert len(lines) >= 2
    shares = [float(match[1]) for match in
              re.finditer(r"^t: .* of [0-9.]+ MiB  ([0-9.]+)%", said,
                          re.MULTILINE)]
    assert shares and shares[0] < shares[-1]
    assert "\r" not in said and "\x1b" not in said
    filling.settle_and_compare()


def test_with_json_waiting_is_silent(filling):
    result = filling.cli("wait-sync", "t", "--json", "--every", "0",
                         "--timeout", "1s", check=False)
    assert result.returncode == 4
    assert not json.loads(result.stdout)["in_sync"]
    assert result.stderr == ""
    set_rates(filling, max=0)
    filling.settle_and_compare()


def test_a_terminal_gets_a_bar(filling):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [CLI, "wait-sync", filling.mnt], env=filling.env, stdin=theirs,
        stdout=theirs, stderr=theirs)
    os.close(theirs)
    set_rates(filling, max="16M")
    said = b""
    while True:
        try:
            more = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        said += more
    os.close(ours)
    assert process.wait(60) == 0
    bars = re.findall(rb"\rt: \[(#*)-*\]  [^\r]* of 32 MiB", said)
    assert len(bars) >= 2, said
    assert len(bars[-1]) > 0
    # The line is free again for the answer.
    assert said.endswith(b"\r\x1b[Kt: 2 of 2 legs in sync\r\n"), said
    filling.settle_and_compare()
