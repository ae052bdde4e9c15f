# SPDX-License-Identifier: GPL-2.0-or-later
"""The mount helper as mount(8), fstab, service managers and people call it."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from support.mirror import (CLI, HELPER, REPO, MountFailed, mounts_at,
                            process_exists, run, wait_until)
from support.parity import USER, run_in_child


def one_line(text):
    """The one line that a failing command has to say."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    assert len(lines) == 1, f"not one line: {text!r}"
    return lines[0]


def mount8(mirror, *words, spec=None, check=True, env=None):
    """mount(8); it runs our helper, found in /sbin."""
    return run("mount", "-t", "mirrorfs", *words,
               spec if spec is not None else mirror.spec(), mirror.mnt,
               check=check, env={**mirror.env, **(env or {})})


@pytest.fixture
def unmounted(mirrors, as_mount_helper):
    mirror = mirrors()
    mirror.create()
    return mirror


def adopt_pid(mirror):
    """The daemon of a mount that mount(8) made, so that it is cleaned up."""
    mirror.daemon_pid = mirror.status()["pid"]


# ---- mount(8)

def test_mount_command(unmounted):
    mount8(unmounted, "-o", "log=disk")
    adopt_pid(unmounted)
    (unmounted.mnt / "f").write_text("x")
    (entry,) = mounts_at(unmounted.mnt)
    assert entry["type"] == "fuse.mirrorfs"
    assert entry["source"] not in ("", "none", "/dev/fuse")
    assert {"nosuid", "nodev", "relatime"} <= set(entry["options"])
    out = run("findmnt", "-n", "-t", "fuse.mirrorfs", "-o", "TARGET").stdout
    assert str(unmounted.mnt) in out.split()
    unmounted.umount()
    unmounted.assert_legs_identical()
    assert (unmounted.legs[1] / "f").read_text() == "x"


def test_usable_at_once(unmounted):
    """The helper returns only when the mount is usable: no waiting here."""
    for n in range(3):
        mount8(unmounted)
        (unmounted.mnt / f"f{n}").write_text("at once")
        assert (unmounted.legs[1] / f"f{n}").exists()
        adopt_pid(unmounted)
        unmounted.umount()


def test_plain_umount(unmounted):
    mount8(unmounted)
    adopt_pid(unmounted)
    (unmounted.mnt / "f").write_text("x" * 100000)
    run("umount", unmounted.mnt)
    unmounted.wait_daemon_end()
    unmounted.assert_legs_identical()
    unmounted.mount()
    assert unmounted.status()["state"] == "healthy"


@pytest.mark.parametrize("kind", ["mirrorfs", "fuse.mirrorfs"])
def test_fstab(unmounted, base, kind):
    fstab = base / "fstab"
    fstab.write_text(
        f"{unmounted.spec()} {unmounted.mnt} {kind} name=t,log=disk,"
        "min-legs=1,wait-legs=1s,nofail,_netdev,noauto,x-systemd.after=/a,"
        "comment=none,noatime 0 0\n")
    run("mount", "-T", fstab, unmounted.mnt, env=unmounted.env)
    adopt_pid(unmounted)
    (unmounted.mnt / "f").write_text("x")
    assert mounts_at(unmounted.mnt)[0]["type"] == "fuse.mirrorfs"
    run("umount", unmounted.mnt)
    unmounted.wait_daemon_end()
    unmounted.assert_legs_identical()


def test_fstab_with_blanks(mirrors, as_mount_helper, base):
    mirror = mirrors(where=base / "with blank")
    mirror.create()
    fstab = base / "fstab"
    text = f"{mirror.spec()}\t{mirror.mnt}\tmirrorfs\tuser,log=disk 0 0\n"
    fstab.write_text(text.replace(" ", "\\040").replace("\\0400\\0400", " 0 0"))
    run("mount", "-T", fstab, mirror.mnt, env=mirror.env)
    adopt_pid(mirror)
    entry = mounts_at(mirror.mnt)[0]
    assert {"nosuid", "nodev", "noexec"} <= set(entry["options"])
    mirror.umount()


def test_fake_mounts_nothing(unmounted):
    mount8(unmounted, "-f")
    assert not mounts_at(unmounted.mnt)
    run(HELPER, unmounted.spec(), unmounted.mnt, "-f", "-n", "-v", "-o", "rw",
        env=unmounted.env)
    assert not mounts_at(unmounted.mnt)


def test_unknown_option_is_named(unmounted):
    result = mount8(unmounted, "-o", "frobnicate=7", check=False)
    assert result.returncode != 0
    assert "frobnicate" in one_line(result.stderr.splitlines()[0])
    assert not mounts_at(unmounted.mnt)
    result = run(HELPER, unmounted.spec(), unmounted.mnt, "-o", "frobnicate",
                 check=False, env=unmounted.env)
    assert result.returncode == 1
    assert "frobnicate" in one_line(result.stderr)


def test_sloppy_ignores_unknown_options(unmounted):
    mount8(unmounted, "-s", "-o", "frobnicate=7")
    adopt_pid(unmounted)
    assert mounts_at(unmounted.mnt)


def test_verbose_and_no_mtab(unmounted):
    mount8(unmounted, "-v", "-n", "-o", "rw")
    adopt_pid(unmounted)
    assert mounts_at(unmounted.mnt)


@pytest.mark.parametrize("options, expected, missing", [
    ("ro", "ro", "rw"),
    ("noexec", "noexec", None),
    ("nosuid,nodev,noexec", "noexec", None),
])
def test_generic_options(unmounted, options, expected, missing):
    mount8(unmounted, "-o", options)
    adopt_pid(unmounted)
    entry = mounts_at(unmounted.mnt)[0]
    if expected:
        assert expected in entry["options"]
    if missing:
        assert missing not in entry["options"]


def test_suid_and_dev(unmounted):
    """By hand: mount(8) drops these words, as they are its own default."""
    unmounted.mount("suid", "dev")
    options = mounts_at(unmounted.mnt)[0]["options"]
    assert "nosuid" not in options and "nodev" not in options


def test_read_only(unmounted):
    unmounted.mount()
    (unmounted.mnt / "f").write_text("x")
    unmounted.umount()
    before = {leg: sorted(os.listdir(leg / ".mirrorfs"))
              for leg in unmounted.legs}
    unmounted.mount("ro")
    assert (unmounted.mnt / "f").read_text() == "x"
    for attempt in (lambda: (unmounted.mnt / "g").write_text("y"),
                    lambda: os.unlink(unmounted.mnt / "f"),
                    lambda: os.chmod(unmounted.mnt / "f", 0o600)):
        with pytest.raises(OSError) as error:
            attempt()
        assert error.value.errno == 30  # EROFS
    unmounted.umount()
    assert before == {leg: sorted(os.listdir(leg / ".mirrorfs"))
                      for leg in unmounted.legs}
    unmounted.assert_legs_identical()


def test_remount(unmounted):
    """mount(8) hands back all words of the mount table with it. An option
    that cannot change while mounted is refused in one line."""
    mount8(unmounted)
    adopt_pid(unmounted)
    (unmounted.mnt / "f").write_text("x")
    for options, word in (("read-policy=round-robin", "option"),
                          ("frobnicate=1", "frobnicate")):
        result = run("mount", "-o", f"remount,{options}", unmounted.mnt,
                     check=False, env=unmounted.env)
        if result.returncode != 0:
            assert word in one_line(result.stderr)
    assert result.returncode != 0
    assert (unmounted.mnt / "f").read_text() == "x"
    unmounted.settle_and_compare()


def test_remount_changes_what_can_change(unmounted):
    unmounted.mount()

    def policy():
        return unmounted.cli("get", unmounted.mnt, "read-policy").stdout

    def remount(options):
        return run(HELPER, "mirror", unmounted.mnt, "-o", f"remount,{options}",
                   check=False, env=unmounted.env)

    assert policy() == "primary\n"
    assert remount("rw,read-policy=prefer=b").returncode == 0
    assert policy() == "prefer=b\n"
    # fstab's words come along; what they say is so already.
    assert remount("log=disk,name=t,region-size=1M,min-legs=1,nofail,"
                   "read_policy=round-robin").returncode == 0
    assert policy() == "round-robin\n"
    for options, word in (("log=core", '"log"'),
                          ("region-size=4K,read-policy=primary",
                           '"region-size"'),
                          ("threads=3", '"threads"'),
                          ("read-policy=prefer=nobody", "nobody")):
        result = remount(options)
        assert result.returncode == 32
        assert word in one_line(result.stderr)
    assert policy() == "round-robin\n", "changed in part"
    unmounted.settle_and_compare()


def test_remount_changes_what_the_kernel_keeps(unmounted):
    unmounted.mount()
    path = unmounted.mnt / "f"
    path.write_text("x")

    def remount(options):
        return run(HELPER, "mirror", unmounted.mnt, "-o", f"remount,{options}",
                   check=False, env=unmounted.env)

    def flags():
        return run("findmnt", "-no", "OPTIONS", unmounted.mnt).stdout.split(",")

    assert remount("ro,nosuid,nodev").returncode == 0
    with pytest.raises(OSError) as refused:
        path.write_text("y")
    assert refused.value.errno == errno.EROFS
    assert remount("rw,noexec,suid").returncode == 0
    path.write_text("y")
    assert "noexec" in flags() and "nodev" in flags()
    assert "nosuid" not in flags()
    # The same as it is now, or about the start only.
    assert remount("async,relatime,create").returncode == 0
    for options in ("sync", "noatime", "user-only"):
        result = remount(options)
        assert result.returncode == 32
        assert f'"{options}"' in one_line(result.stderr)
    unmounted.umount()
    unmounted.mount("ro")
    result = remount("rw")
    assert result.returncode == 32
    assert "read-only" in one_line(result.stderr)


def test_get_and_set(unmounted):
    unmounted.mount("region-size=1M", "attr-timeout=90s")

    def get(*words):
        document = json.loads(
            unmounted.cli("get", "t", "--json", *words).stdout)
        assert document["schema"] == 1 and document["name"] == "t"
        return {option["name"]: option for option in document["options"]}

    options = get()
    assert options["log"] == {"name": "log", "value": "disk", "live": False}
    assert options["region-size"]["value"] == "1M"
    assert options["attr-timeout"]["value"] == "1m30s"
    assert options["read-policy"]["live"]
    assert list(get("read_policy")) == ["read-policy"]
    text = unmounted.cli("get", "t").stdout
    assert re.search(r"^read-policy +primary +can be set$", text, re.MULTILINE)
    assert re.search(r"^log +disk$", text, re.MULTILINE)

    unmounted.cli("set", "t", "read-policy=round-robin", "-n")
    assert get()["read-policy"]["value"] == "primary"
    document = json.loads(unmounted.cli(
        "set", "t", "read-policy=round-robin", "--json").stdout)
    assert document["set"] == {"read-policy": "round-robin"}
    assert not document["dry_run"]
    assert get()["read-policy"]["value"] == "round-robin"

    for change, word in (("log=core", '"log"'), ("frob=1", '"frob"'),
                         ("read-policy=wrong", '"read-policy"'),
                         ("read-policy=prefer=zz", "zz"), ("ro=1", '"ro"'),
                         ("read-policy", "OPTION=VALUE")):
        result = unmounted.cli("set", "t", "read-policy=primary", change,
                               check=False)
        assert result.returncode == 1, change
        assert word in one_line(result.stderr)
    result = unmounted.cli("get", "t", "frob", check=False)
    assert result.returncode == 1 and '"frob"' in one_line(result.stderr)
    assert get()["read-policy"]["value"] == "round-robin", "changed in part"
    unmounted.umount()
    assert unmounted.cli("get", "t", check=False).returncode == 2
    unmounted.mount()
    assert get()["read-policy"]["value"] == "primary", "outlived the mount"
    unmounted.settle_and_compare()


# ---- by hand

def test_the_command_line_names_legs_and_mount_point(unmounted):
    unmounted.mount(background=True)
    with open(f"/proc/{unmounted.daemon_pid}/cmdline", "rb") as file:
        words = file.read().decode().split("\0")
    assert unmounted.spec() in words
    assert str(unmounted.mnt) in words
    assert "mount.mirrorfs" in words[0]


def test_background_daemon_is_no_ones_child(unmounted):
    unmounted.mount(background=True)
    pid = unmounted.daemon_pid
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    assert int(fields[1]) != os.getpid()
    assert int(fields[3]) != os.getsid(0), "still in our session"
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    for number in (0, 1, 2):
        target = os.readlink(f"/proc/{pid}/fd/{number}")
        assert not target.startswith(("pipe:", "/dev/pts")), target
    unmounted.umount()


def test_the_helper_closes_what_it_was_given(unmounted):
    """A shell that waits for the end of our output must not wait for ever."""
    argv = [str(HELPER), unmounted.spec(), str(unmounted.mnt), "-o",
            "log=disk"]
    child = subprocess.Popen(argv, env=unmounted.env, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT,
                             stdin=subprocess.DEVNULL)
    out, _ = child.communicate(timeout=20)
    assert child.returncode == 0, out
    adopt_pid(unmounted)
    unmounted.umount()


def test_foreground_ends_on_sigterm(unmounted):
    """A service manager stops it with SIGTERM, and it ends in good order."""
    unmounted.mount()
    (unmounted.mnt / "f").write_text("x")
    unmounted.daemon.send_signal(signal.SIGTERM)
    unmounted.wait_daemon_end()
    assert unmounted.exit_status == 0
    wait_until(lambda: not mounts_at(unmounted.mnt), 5, "the mount to go")
    unmounted.assert_legs_identical()
    unmounted.mount()
    assert unmounted.status()["state"] == "healthy"


def test_foreground_flag_before_the_legs(unmounted):
    child = subprocess.Popen(
        [HELPER, "-f", unmounted.spec(), unmounted.mnt], env=unmounted.env,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    unmounted.daemon, unmounted.daemon_pid = child, child.pid
    wait_until(lambda: mounts_at(unmounted.mnt), 10, "the mount")
    assert child.poll() is None
    unmounted.umount()


def test_the_callers_limits_are_not_the_daemons(unmounted):
    """A limit on the size of files or on descriptors in the shell that
    mounted must not end up as EFBIG or EMFILE in everybody's writes. (A hard
    limit can be lifted with CAP_SYS_RESOURCE only, which not every root has.)"""
    may_lift = run("prlimit", "--fsize=1000000", "prlimit",
                   "--fsize=unlimited:unlimited", "true", check=False)
    hard = "" if may_lift.returncode == 0 else ":unlimited"
    run("prlimit", f"--fsize=1000000{hard}", "--nofile=256:4096", HELPER,
        unmounted.spec(), unmounted.mnt, "-o", "log=disk", env=unmounted.env)
    adopt_pid(unmounted)
    (unmounted.mnt / "f").write_bytes(os.urandom(3 << 20))
    handles = []
    for n in range(600):
        handles.append(open(unmounted.mnt / f"f{n}", "wb"))
    for handle in handles:
        handle.close()
    unmounted.settle_and_compare()


def test_help_and_version(unmounted):
    text = run(HELPER, "--help").stdout
    for word in ("log=", "log-dir=", "region-size=", "name=", "min-legs=",
                 "create", "read-policy=", "threads=", "attr-timeout=",
                 "entry-timeout=", "cache=", "foreground"):
        assert word in text, word
    version = run(HELPER, "--version").stdout
    assert run(CLI, "version").stdout.split()[-1] in version
    help_text = run(CLI, "help").stdout
    for word in ("create", "status", "dirty", "wait-sync", "umount", "check"):
        assert word in help_text, word


def test_options_may_be_quoted_and_underscored(unmounted, base):
    log_dir = base / "log,with:odd chars"
    log_dir.mkdir()
    unmounted.mount(f'log-dir="{log_dir}"', "attr_timeout=2s",
                    "entry-timeout=500ms", "threads=4", "min_legs=2",
                    "cache=writethrough")
    (unmounted.mnt / "f").write_text("x")
    assert os.listdir(log_dir)
    unmounted.settle_and_compare()


@pytest.mark.parametrize("cache", ["writethrough", "writeback", "none"])
def test_cache_modes(unmounted, cache):
    unmounted.mount(f"cache={cache}")
    data = os.urandom(300000)
    with open(unmounted.mnt / "f", "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        for leg in unmounted.legs:
            assert (leg / "f").read_bytes() == data
        file.seek(1000)
        file.write(b"in the middle")
    with open(unmounted.mnt / "f", "ab") as file:
        file.write(b"the end")
    data = data[:1000] + b"in the middle" + data[1013:] + b"the end"
    assert (unmounted.mnt / "f").read_bytes() == data
    unmounted.settle_and_compare()
    assert (unmounted.legs[0] / "f").read_bytes() == data


def test_read_policies(mirrors, as_mount_helper):
    mirror = mirrors(legs=3)
    mirror.create()
    mirror.mount()
    data = os.urandom(3 << 20)
    (mirror.mnt / "f").write_bytes(data)
    for policy in ("primary", "round-robin", "least-pending", "prefer=b"):
        mirror.umount()
        mirror.mount(f"read-policy={policy}")
        for _ in range(3):
            assert (mirror.mnt / "f").read_bytes() == data


def test_create_by_option(mirrors):
    mirror = mirrors(name="fresh")
    mirror.mount("create", "name=fresh", "region-size=64K")
    status = mirror.status()
    assert status["name"] == "fresh"
    assert status["region_size"] == 65536
    (mirror.mnt / "f").write_text("x")
    mirror.umount()
    mirror.mount("create", "name=fresh")  # now it is there: no harm
    assert (mirror.mnt / "f").read_text() == "x"
    assert mirror.status()["region_size"] == 65536
    mirror.settle_and_compare()


def test_a_plain_mount_makes_no_mirror(mirrors):
    mirror = mirrors()
    with pytest.raises(MountFailed) as error:
        mirror.mount()
    assert error.value.code not in (0, None)
    assert "create" in one_line(error.value.text)
    for leg in mirror.legs:
        assert os.listdir(leg) == []


def test_exit_code_of_a_failed_mount(mirrors, as_mount_helper):
    mirror = mirrors()
    result = mount8(mirror, check=False)
    assert result.returncode == 32, result
    assert result.stderr.count("mirrorfs") >= 1


# ---- a dead mount

def test_dead_mount_is_cleared(unmounted):
    mount8(unmounted)
    adopt_pid(unmounted)
    (unmounted.mnt / "f").write_text("x")
    unmounted.kill9()
    with pytest.raises(OSError) as error:
        os.listdir(unmounted.mnt)
    # ENOTCONN; ECONNABORTED for what is under way while the daemon dies.
    assert error.value.errno in (103, 107)
    mount8(unmounted)
    adopt_pid(unmounted)
    assert (unmounted.mnt / "f").read_text() == "x"
    assert len(mounts_at(unmounted.mnt)) == 1
    unmounted.umount()


def test_dead_mount_in_use_is_cleared(unmounted):
    unmounted.mount()
    (unmounted.mnt / "f").write_text("x")
    held = open(unmounted.mnt / "f", encoding="utf-8")
    sleeper = subprocess.Popen(["sleep", "60"], cwd=unmounted.mnt)
    try:
        unmounted.kill9()
        unmounted.mount()
        assert (unmounted.mnt / "f").read_text() == "x"
        with pytest.raises(OSError):
            os.read(held.fileno(), 1 << 20)
    finally:
        sleeper.kill()
        sleeper.wait()
        try:
            held.close()
        except OSError:
            pass
    unmounted.settle_and_compare()


# ---- the other program

def test_status_text_and_exit_codes(unmounted):
    result = unmounted.cli("status", unmounted.mnt, check=False)
    assert result.returncode == 2
    one_line(result.stderr)
    unmounted.mount()
    text = unmounted.cli("status").stdout
    assert "t" in text.split()
    assert str(unmounted.mnt) in text
    assert "in-sync" in text
    for word in (unmounted.mnt, "t", unmounted.legs[0]):
        assert unmounted.cli("status", word).stdout == \
            unmounted.cli("status", word).stdout
    for words in (["frobnicate"], ["status", "--frobnicate"],
                  ["wait-sync"], ["create"]):
        result = unmounted.cli(*words, check=False)
        assert result.returncode == 1, (words, result)
        assert result.stderr
    unmounted.umount()
    result = unmounted.cli("wait-sync", unmounted.mnt, check=False)
    assert result.returncode == 2


def test_status_json(unmounted):
    unmounted.mount()
    mirror = unmounted.status()
    assert mirror["name"] == "t"
    assert mirror["mountpoint"] == str(unmounted.mnt)
    assert mirror["state"] == "healthy"
    assert mirror["region_size"] == 1 << 20
    assert mirror["pid"] == unmounted.daemon_pid
    assert isinstance(mirror["generation"], int)
    assert mirror["log"]["type"] == "disk"
    assert isinstance(mirror["log"]["dirty_regions"], int)
    names = [leg["name"] for leg in mirror["legs"]]
    assert mirror["primary"] in names
    for leg, path in zip(mirror["legs"], unmounted.legs):
        assert leg["path"] == str(path)
        assert leg["state"] == "in-sync"
        assert leg["primary"] == (leg["name"] == mirror["primary"])
        assert leg["errors"] == {"read": 0, "write": 0, "checksum": 0}
        assert {"bytes", "regions", "files", "directories"} <= set(
            leg["dirty"])
        assert {"done_bytes", "total_bytes", "rate", "eta_s"} <= set(
            leg["resync"])
    assert "scrub" in mirror


def test_status_of_several_mirrors(mirrors):
    one, two = mirrors(name="one"), mirrors(name="two")
    two.env["MIRRORFS_RUN_DIR"] = one.env["MIRRORFS_RUN_DIR"]
    for mirror in (one, two):
        mirror.create()
        mirror.mount()
    document = json.loads(one.cli("status", "--json").stdout)
    assert sorted(m["name"] for m in document["mirrors"]) == ["one", "two"]
    text = one.cli("status").stdout
    assert str(one.mnt) in text and str(two.mnt) in text
    two.umount()
    document = json.loads(one.cli("status", "--json").stdout)
    assert [m["name"] for m in document["mirrors"]] == ["one"]


def test_dirty_tells_what_is_written(unmounted):
    unmounted.mount()
    with open(unmounted.mnt / "f", "wb") as file:
        file.write(os.urandom(3 << 20))
        file.flush()
        result = unmounted.dirty()
        regions = result.get("regions", result)
        if isinstance(regions, dict):
            regions = regions["regions"]
        # The directory is covered by its mark; the file may be too.
        assert regions, result
        assert {r["kind"] for r in regions} <= {"data", "attributes",
                                               "entries"}
    assert unmounted.cli("dirty", unmounted.mnt).stdout
    unmounted.settle_and_compare()


def test_umount_waits_for_the_daemon(unmounted):
    unmounted.mount(background=True)
    pid = unmounted.daemon_pid
    (unmounted.mnt / "f").write_bytes(os.urandom(20 << 20))
    unmounted.cli("umount", unmounted.mnt)
    assert not process_exists(pid)
    assert not mounts_at(unmounted.mnt)


def test_umount_of_a_busy_mount_is_refused(unmounted):
    unmounted.mount()
    (unmounted.mnt / "f").write_text("x")
    with open(unmounted.mnt / "f", encoding="utf-8"):
        result = unmounted.cli("umount", unmounted.mnt, check=False)
        assert result.returncode != 0
        assert "busy" in one_line(result.stderr)
        assert unmounted.alive()
    unmounted.umount()


def test_many_mounts_and_unmounts(unmounted):
    for n in range(10):
        unmounted.mount("log=core" if n % 2 else "log=disk")
        (unmounted.mnt / f"f{n}").write_text(str(n))
        unmounted.umount()
        assert unmounted.exit_status == 0
    unmounted.assert_legs_identical()


def test_legs_in_another_order(unmounted):
    unmounted.mount()
    (unmounted.mnt / "f").write_text("x")
    unmounted.umount()
    unmounted.mount(legs=list(reversed(unmounted.legs)))
    assert unmounted.status()["state"] == "healthy"
    names = {leg["name"]: leg["path"] for leg in unmounted.status()["legs"]}
    assert names == {leg.name: str(leg) for leg in unmounted.legs}
    (unmounted.mnt / "g").write_text("y")
    unmounted.settle_and_compare()


@pytest.mark.legs_side_by_side
def test_relative_paths(unmounted):
    argv = [HELPER, f"{unmounted.legs[0].name}:{unmounted.legs[1].name}",
            unmounted.mnt.name, "-o", "log=disk"]
    run(*argv, cwd=unmounted.base, env=unmounted.env)
    adopt_pid(unmounted)
    (unmounted.mnt / "f").write_text("x")
    assert (unmounted.legs[1] / "f").read_text() == "x"
    unmounted.umount()


@pytest.mark.legs_side_by_side
def test_moved_legs_are_still_known(unmounted):
    """A leg is known by its label, never by its path."""
    unmounted.mount()
    (unmounted.mnt / "f").write_text("x")
    unmounted.umount()
    moved = unmounted.base / "elsewhere"
    unmounted.legs[1].rename(moved)
    unmounted.legs[1] = moved
    unmounted.mount()
    assert unmounted.status()["state"] == "healthy"
    unmounted.settle_and_compare()


def test_another_user_may_use_the_mount(unmounted):
    unmounted.mount()
    os.chmod(unmounted.mnt, 0o777)

    def as_user():
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
        with open(unmounted.mnt / "mine", "w", encoding="utf-8") as file:
            file.write("x")
        return os.stat(unmounted.mnt / "mine").st_uid

    assert run_in_child(as_user) == USER
    for leg in unmounted.legs:
        assert (leg / "mine").stat().st_uid == USER


def test_no_allow_other(unmounted):
    unmounted.mount("no-allow-other")
    os.chmod(unmounted.mnt, 0o777)

    def as_user():
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
        try:
            os.listdir(unmounted.mnt)
        except PermissionError:
            return "refused"
        return "let in"

    assert run_in_child(as_user) == "refused"


def test_a_clean_mirror_mounts_fast(unmounted):
    """Not a benchmark: nothing that depends on what is on the legs."""
    unmounted.mount()
    for n in range(2000):
        (unmounted.mnt / f"f{n}").touch()
    unmounted.umount()
    start = time.monotonic()
    unmounted.mount()
    assert time.monotonic() - start < 5


# ---- for a service manager

class NotifySocket:
    """What sd_notify(3) would tell a service manager."""

    def __init__(self, name):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(name)
        self.socket.settimeout(20)

    def next(self):
        return self.socket.recv(4096).decode()


@pytest.mark.parametrize("kind", ["file", "abstract"])
def test_a_service_manager_is_told(unmounted, kind):
    name = str(unmounted.base / "notify")
    if kind == "abstract":
        name = f"@mirrorfs-test-{os.getpid()}"
    listener = NotifySocket("\0" + name[1:] if kind == "abstract" else name)
    unmounted.mount(env={"NOTIFY_SOCKET": name})
    assert listener.next() == "STATUS=t: healthy, 2 of 2 legs in sync"
    assert listener.next() == "READY=1"
    unmounted.umount()
    assert listener.next() == "STOPPING=1"
    listener.socket.close()


def test_a_service_manager_hears_of_a_change(unmounted):
    away = unmounted.legs[1].with_name("b-away")
    unmounted.legs[1].rename(away)
    unmounted.mount()
    (unmounted.mnt / "f").write_bytes(os.urandom(3 << 20))
    unmounted.umount()
    away.rename(unmounted.legs[1])
    name = str(unmounted.base / "notify")
    listener = NotifySocket(name)
    unmounted.mount("resync-rate-max=1",
                    env={"NOTIFY_SOCKET": name, "MIRRORFS_TICK_MS": "50"})
    assert "1 of 2 legs in sync" in listener.next()
    assert listener.next() == "READY=1"
    unmounted.cli("set", "t", "resync-rate-max=0")
    while (said := listener.next()) != "STATUS=t: healthy, 2 of 2 legs in sync":
        assert said.startswith("STATUS=t: resyncing")
    unmounted.umount()
    listener.socket.close()


def test_a_daemon_in_the_background_is_no_service(unmounted):
    name = str(unmounted.base / "notify")
    listener = NotifySocket(name)
    unmounted.mount(background=True, env={"NOTIFY_SOCKET": name})
    unmounted.umount()
    listener.socket.settimeout(0)
    with pytest.raises(BlockingIOError):
        listener.next()
    listener.socket.close()


def test_every_line_names_the_mirror(mirrors):
    mirror = mirrors(name="100% mine")
    mirror.create()
    away = mirror.legs[1].with_name("b-away")
    mirror.legs[1].rename(away)
    mirror.mount()
    (mirror.mnt / "f").write_text("x")
    mirror.umount()
    away.rename(mirror.legs[1])
    mirror.mount()
    mirror.wait_sync()
    mirror.settle_and_compare()
    lines = mirror.said().splitlines()
    assert len(lines) >= 5
    for line in lines:
        assert re.match(r"mirrorfs: (info|warning): 100% mine: ", line), line
    assert any('leg "b" is in sync' in line for line in lines)


def test_the_service_template(needs):
    """systemd takes it, and it makes no mount namespace."""
    needs("systemd-analyze")
    text = (REPO / "data/systemd/mirrorfs@.service.in").read_text()
    with tempfile.TemporaryDirectory() as directory:
        unit = Path(directory, "mirrorfs@keep.service")
        unit.write_text(text.replace("@helperdir@", str(HELPER.parent)))
        result = run("systemd-analyze", "verify", "--man=no", unit,
                     check=False)
    assert not result.stderr.strip(), result.stderr
    assert result.returncode == 0
    settings = re.findall(r"^([A-Z]\w+)=", text, re.MULTILINE)
    for word in settings:
        assert not word.startswith(("Protect", "Private", "ReadOnly",
                                    "ReadWrite", "Inaccessible", "Bind"))
