# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes wrong before anything is mounted: one line, nothing lost."""

import os
import random
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from support import compare
from support.mirror import CLI, HELPER, MountFailed, mounts_at, run, \
    wait_until
from support.parity import USER, run_in_child


def content(directory):
    """Everything below, private directories too (but for the lock in them,
    which holds nothing)."""
    entries = compare.snapshot(directory, skip_private=False)
    entries.pop(b".mirrorfs/lock", None)
    if b".mirrorfs" in entries:
        entries[b".mirrorfs"].mtime_ns = 0
    for entry in entries.values():
        entry.identity = ()
    return entries


def refused(mirror, *options, legs=None, because=None):
    """The mount is refused with one line; legs are as they were."""
    before = [content(leg) for leg in mirror.legs if leg.is_dir()]
    with pytest.raises(MountFailed) as error:
        mirror.mount(*options, legs=legs, background=True)
    assert error.value.code > 0
    lines = error.value.text.strip().splitlines()
    assert len(lines) == 1, error.value.text
    if because:
        assert re.search(because, lines[0], re.IGNORECASE), lines[0]
    assert not mounts_at(mirror.mnt)
    assert before == [content(leg) for leg in mirror.legs if leg.is_dir()]
    return lines[0]


def create_refused(mirror, *legs, flags=(), because=None):
    result = mirror.cli("create", *flags, *legs, check=False)
    assert result.returncode not in (0, None) and result.returncode > 0
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    if because:
        assert re.search(because, lines[0], re.IGNORECASE), lines[0]
    for leg in legs:
        assert not Path(leg, ".mirrorfs", "label").exists()
    return lines[0]


@pytest.fixture
def made(mirrors):
    mirror = mirrors()
    mirror.create()
    return mirror


# ---- legs

def test_a_leg_with_coarse_times(mirrors, disks):
    """Inodes of 128 bytes hold whole seconds."""
    mirror = mirrors()
    leg = disks("ext4", mkfs=("-I", "128")).where / "leg"
    leg.mkdir()
    create_refused(mirror, mirror.legs[0], leg, because="leg.*nanosecond")
    assert os.listdir(leg) == []


def test_legs_inside_each_other(mirrors):
    mirror = mirrors()
    inner = mirror.legs[0] / "inner"
    inner.mkdir()
    create_refused(mirror, mirror.legs[0], inner, because="inside")
    create_refused(mirror, inner, mirror.legs[0], because="inside")
    refused(mirror, "create", legs=[mirror.legs[0], inner],
            because="inside")


def test_a_leg_inside_another_mirrors_leg(made):
    inner = made.legs[0] / "d/inner"
    inner.mkdir(parents=True)
    other = made.base / "other"
    other.mkdir()
    create_refused(made, other, inner, because="inside .*leg of mirror")
    made.mount()
    result = made.cli("attach", made.mnt, inner, check=False)
    assert result.returncode != 0
    assert "lies inside" in result.stderr


@pytest.mark.parametrize("name", ["a/b", ".", "a\nb", "x" * 256])
def test_names_that_are_refused(mirrors, name):
    mirror = mirrors()
    create_refused(mirror, *mirror.legs, flags=("--name", name),
                   because="name: must be")
    mirror.create()
    mirror.mount()
    spare = mirror.base / "spare"
    spare.mkdir()
    result = mirror.cli("attach", mirror.mnt, spare, "--name", name,
                        check=False)
    assert result.returncode != 0
    assert "name: must be" in result.stderr


def test_a_mount_of_legs_inside_each_other(made):
    inner = made.legs[0] / "inner"
    inner.mkdir()
    refused(made, legs=[made.legs[0], inner], because="inside")


def test_the_same_leg_twice(made):
    refused(made, legs=[made.legs[0], made.legs[0]], because="same|twice")
    link = made.base / "link"
    link.symlink_to(made.legs[0])
    refused(made, legs=[made.legs[0], link], because="same|twice")
    create_refused(made, made.base / "run", made.base / "run",
                   because="same|twice")


def test_the_same_leg_through_a_bind_mount(made):
    other = made.base / "bind"
    other.mkdir()
    run("mount", "--bind", made.legs[0], other)
    try:
        refused(made, legs=[made.legs[0], other], because="same|twice")
    finally:
        run("umount", other)


def test_a_copied_leg_beside_its_original(made):
    """cp -a copies the label too; both at once must not be taken for two."""
    copy = made.base / "copy"
    run("cp", "-a", made.legs[0], copy)
    refused(made, legs=[made.legs[0], copy], because="twice|copy|same")


def test_mount_point_inside_a_leg(made):
    made.mnt = made.legs[0] / "mnt"
    made.mnt.mkdir()
    refused(made, because="inside|mount point")


def test_leg_inside_the_mount_point(made):
    made.mnt = made.base  # holds the legs
    with pytest.raises(MountFailed) as error:
        made.mount()
    assert len(error.value.text.strip().splitlines()) == 1
    assert not [m for m in mounts_at(made.base)
                if m["type"] == "fuse.mirrorfs"]
    made.expect_diagnostics(".")


def test_a_leg_is_the_mount_point(made):
    made.mnt = made.legs[0]
    refused(made, because="leg|inside|same")


def test_a_leg_is_a_file(made):
    file = made.base / "file"
    file.write_text("precious")
    create_refused(made, made.base / "run", file, because="directory")
    refused(made, legs=[made.legs[0], file], because="directory")
    assert file.read_text() == "precious"


def test_a_leg_is_a_device_or_fifo(made):
    fifo = made.base / "fifo"
    os.mkfifo(fifo)
    refused(made, legs=[made.legs[0], fifo], because="directory")
    refused(made, legs=["/dev/null", made.legs[0]], because="directory")


def run_as_user(mirror, program, *words):
    # Users need not be able to reach the build, in /root for one.
    program = shutil.copy(program, mirror.base)

    def as_user():
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
        return run(program, *words, check=False, env=mirror.env)

    return run_in_child(as_user)


def test_a_leg_without_permission(mirrors):
    mirror = mirrors()
    os.chmod(mirror.legs[0], 0o700)
    os.chmod(mirror.legs[1], 0o700)
    result = run_as_user(mirror, CLI, "create", *mirror.legs)
    assert result.returncode == 1
    assert "permission" in result.stderr.lower()
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_mount_without_permission(made):
    for leg in made.legs:
        os.chmod(leg, 0o700)
    result = run_as_user(made, HELPER, made.spec(), made.mnt)
    assert result.returncode > 0
    assert len(result.stderr.strip().splitlines()) == 1
    assert "permission" in result.stderr.lower() or "root" in result.stderr


def test_a_leg_on_a_read_only_file_system(disks, mirrors):
    disk = disks("ext4")
    mirror = mirrors()
    mirror.legs[1] = disk.where / "leg"
    mirror.legs[1].mkdir()
    mirror.create()
    disk.umount()
    disk.mount("ro")
    try:
        try:
            mirror.mount()
        except MountFailed as error:
            assert len(error.text.strip().splitlines()) == 1
            mirror.expect_diagnostics(".")
            return
        # Or it runs on the other leg and says so.
        (mirror.mnt / "f").write_text("x")
        assert mirror.status()["state"] == "degraded"
        mirror.umount()
        mirror.expect_diagnostics("read-only")
    finally:
        mirror.force_end()
        disk.umount()
        disk.mount()


def test_nested_mounts_inside_a_leg(made):
    inside = made.legs[0] / "inside"
    inside.mkdir()
    run("mount", "-t", "tmpfs", "tmpfs", inside)
    try:
        (inside / "precious").write_text("x")
        refused(made, because="mounted inside|mount")
        assert (inside / "precious").read_text() == "x"
    finally:
        run("umount", inside)


def test_something_mounted_inside_a_leg_later(made):
    """Not followed: a leg is one file system."""
    made.mount()
    (made.mnt / "inside").mkdir()
    run("mount", "-t", "tmpfs", "tmpfs", made.legs[0] / "inside")
    try:
        (made.legs[0] / "inside" / "foreign").write_text("x")
        with pytest.raises(OSError):
            (made.mnt / "inside" / "foreign").read_text()
        try:
            (made.mnt / "inside" / "new").write_text("y")
        except OSError:
            pass
        assert os.listdir(made.legs[0] / "inside") == ["foreign"]
        (made.mnt / "outside").write_text("goes on")
    finally:
        run("umount", made.legs[0] / "inside")
    made.expect_diagnostics("mount|inside|EXDEV|cross")
    made.kill9()
    made.mount()
    made.settle_and_compare()


def test_leg_list_syntax(made):
    for spec in ("", ":", str(made.legs[0]), f"{made.legs[0]}:",
                 f":{made.legs[0]}", f"{made.legs[0]}::{made.legs[1]}"):
        result = run(HELPER, spec, made.mnt, check=False, env=made.env)
        assert result.returncode == 1, spec
        assert len(result.stderr.strip().splitlines()) == 1, spec


def test_not_empty_directories_are_not_labelled(mirrors):
    mirror = mirrors()
    (mirror.legs[1] / "precious").write_text("x")
    create_refused(mirror, *mirror.legs, because="empty.*adopt")
    create_refused(mirror, *mirror.legs,
                   flags=["--adopt", mirror.legs[0]], because="empty")
    with pytest.raises(MountFailed):
        mirror.mount("create")
    mirror.expect_diagnostics("empty")
    assert (mirror.legs[1] / "precious").read_text() == "x"
    assert not (mirror.legs[0] / ".mirrorfs" / "label").exists()


def test_labelled_directories_are_not_labelled_again(made):
    spare = made.base / "spare"
    spare.mkdir()
    result = made.cli("create", made.legs[0], spare, check=False)
    assert result.returncode == 1
    assert "belongs to mirror" in result.stderr


# ---- options

@pytest.mark.parametrize("size", ["3000", "4095", "1000000", "0K", "-4096",
                                  "2048", "lots", "", "3M", "1M1", "8P",
                                  "99999999999999999999"])
def test_region_sizes(mirrors, size):
    mirror = mirrors()
    create_refused(mirror, *mirror.legs, flags=["--region-size", size])
    if size != "0K":
        refused(mirror, "create", f"region-size={size}",
                because="region-size")


@pytest.mark.parametrize("size, number", [("4K", 4096), ("4096", 4096),
                                          ("64k", 65536), ("2M", 2 << 20)])
def test_good_region_sizes(mirrors, size, number):
    mirror = mirrors()
    mirror.create("--region-size", size)
    mirror.mount()
    assert mirror.status()["region_size"] == number
    (mirror.mnt / "f").write_bytes(os.urandom(300000))
    mirror.settle_and_compare()


def test_a_log_dir_that_is_not_there(made):
    """Its disk is away; with another one all is compared."""
    dirs = [made.base / name for name in ("log-disk", "other")]
    for path in dirs:
        path.mkdir()
    made.mount(f"log-dir={dirs[0]}")
    (made.mnt / "f").write_text("x")
    made.umount()
    dirs[0].rename(made.base / "away")
    refused(made, f"log-dir={dirs[0]}", because="log-dir.*bring its disk back")
    made.mount(f"log-dir={dirs[1]}")
    assert (made.mnt / "f").read_text() == "x"
    made.umount()


def test_who_is_not_root_is_told_so(made):
    made.mount()
    for words in (("status",), ("status", made.mnt), ("where", made.mnt)):
        result = run_as_user(made, CLI, *words)
        assert result.returncode == 1
        assert "only root" in result.stderr


def test_status_names_a_mount_whose_daemon_is_gone(made):
    made.mount()
    made.kill9()
    result = made.cli("status", check=False)
    assert result.returncode == 3
    assert f"{made.mnt}: its daemon is gone" in result.stderr
    result = made.cli("status", "t", check=False)
    assert result.returncode == 2
    run("umount", made.mnt)


@pytest.mark.parametrize("option", [
    "log=paper", "log=", "log-dir=relative", "log-dir=/nonexistent/dir",
    "min-legs=0", "min-legs=x", "min-legs=99999", "threads=0", "threads=-1",
    "attr-timeout=soon", "cache=sometimes", "read-policy=best", "name=a/b",
    "name=", "allow_other=1", "create=yes", "log=core,log-dir=/tmp"])
def test_bad_values_name_the_option(made, option):
    last = option.split(",")[-1]
    text = refused(made, option)
    assert last.split("=")[0] in text or last.split("=")[1] in text


def test_an_unterminated_quote(made):
    refused(made, 'name="t', because="quote")


def test_another_name_than_the_labels(made):
    refused(made, "name=other", because="name|t")


def test_another_region_size_than_the_labels(made):
    """The label's counts; asking for another is an error or has no effect."""
    try:
        made.mount("region-size=64K")
    except MountFailed as error:
        assert "region" in error.text
        made.expect_diagnostics("region")
        return
    assert made.status()["region_size"] == 1 << 20


# ---- the mount point

def test_mount_point_that_is_no_directory(made):
    for name in ("absent", "file"):
        made.mnt = made.base / name
        if name == "file":
            made.mnt.write_text("x")
        refused(made, because=f"{name}")


def test_mount_point_in_use(made, mirrors):
    made.mount()
    other = mirrors()
    other.create()
    other.mnt = made.mnt
    with pytest.raises(MountFailed) as error:
        other.mount(background=True)
    assert len(error.value.text.strip().splitlines()) == 1
    assert len(mounts_at(made.mnt)) == 1
    (made.mnt / "f").write_text("still ours")
    assert (made.legs[0] / "f").exists()
    other.mnt = other.base / "mnt"


def test_legs_in_use(made):
    """A mirror is mounted once."""
    made.mount()
    (made.mnt / "f").write_text("x")
    second = made.base / "second"
    second.mkdir()
    argv = [HELPER, made.spec(), second, "-o", "log=disk"]
    result = run(*argv, check=False, env=made.env)
    assert result.returncode > 0
    assert len(result.stderr.strip().splitlines()) == 1
    assert re.search("in use|mounted|running", result.stderr), result.stderr
    # Nor half of it, nor with another run directory.
    result = run(HELPER, f"{made.legs[1]}:{made.base}/absent", second, "-o",
                 "log=core", check=False,
                 env={**made.env, "MIRRORFS_RUN_DIR": str(second)})
    assert result.returncode > 0
    assert not mounts_at(second)
    (made.mnt / "g").write_text("unharmed")
    made.settle_and_compare()


def test_check_of_a_mounted_mirror_is_refused(made):
    made.mount()
    result = made.cli("check", *made.legs, check=False)
    assert result.returncode != 0
    assert re.search("in use|mounted", result.stderr), result.stderr
    made.umount()
    made.cli("check", *made.legs)


# ---- labels

def label_of(leg):
    return leg / ".mirrorfs" / "label"


def test_label_of_a_newer_format(made):
    path = label_of(made.legs[1])
    text = path.read_bytes()
    path.write_bytes(text.replace(b"mirrorfs label 1", b"mirrorfs label 9", 1))
    refused(made, because="newer|format|version")


DAMAGE = {
    "truncated": lambda text: text[:len(text) // 2],
    "empty": lambda text: b"",
    "flipped": lambda text: bytes([*text[:200], text[200] ^ 4, *text[201:]]),
    "garbage": lambda text: os.urandom(500),
    "zeroed": lambda text: bytes(len(text)),
    "no checksum": lambda text: text.split(b"\n", 1)[1],
    "huge": lambda text: text + b" " * (10 << 20),
    "not json": lambda text: text.split(b"\n", 1)[0] + b"\n{]",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_one_damaged_label(made, damage):
    """That leg is not used, and nothing is written to it."""
    made.mount()
    (made.mnt / "f").write_text("x")
    made.umount()
    path = label_of(made.legs[1])
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    before = content(made.legs[1])
    made.expect_diagnostics("label")
    try:
        made.mount()
    except MountFailed as error:
        assert len(error.text.strip().splitlines()) == 1
        assert "label" in error.text
    else:
        assert made.status()["state"] == "degraded"
        (made.mnt / "g").write_text("y")
        assert (made.mnt / "f").read_text() == "x"
        made.umount()
    assert content(made.legs[1]) == before


@pytest.mark.parametrize("damage", ["truncated", "garbage"])
def test_all_labels_damaged(made, damage):
    for leg in made.legs:
        path = label_of(leg)
        path.write_bytes(DAMAGE[damage](path.read_bytes()))
    refused(made, because="label")


def test_a_label_that_is_a_directory_or_link(made):
    for replace in (lambda p: p.mkdir(), lambda p: p.symlink_to("/etc/passwd"),
                    lambda p: os.mkfifo(p)):
        path = label_of(made.legs[1])
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
        replace(path)
        made.expect_diagnostics("label")
        try:
            made.mount()
            assert made.status()["state"] == "degraded"
            made.umount()
        except MountFailed as error:
            assert len(error.text.strip().splitlines()) == 1


def test_labels_are_readable_and_checked(made):
    text = label_of(made.legs[0]).read_text()
    assert text.startswith("mirrorfs label 1 ")
    assert '"t"' in text


def test_private_directory_that_is_something_else(mirrors):
    mirror = mirrors()
    (mirror.legs[0] / ".mirrorfs").write_text("a file")
    create_refused(mirror, *mirror.legs)
    assert (mirror.legs[0] / ".mirrorfs").read_text() == "a file"


# ---- the programs themselves

def test_commands_on_what_is_no_mirror(made):
    for words, code in ((["status", "/"], 2), (["status", "/nonexistent"], 2),
                        (["dirty", made.base], 2), (["umount", made.base], 2),
                        (["wait-sync", "nosuchname"], 2)):
        result = made.cli(*words, check=False)
        assert result.returncode == code, (words, result)
        assert len(result.stderr.strip().splitlines()) == 1, words
    for words in (["check", made.base], ["check", made.legs[0], "/nonexist"],
                  ["check", made.base / "run", made.mnt],
                  ["resolve", "--keep", "/nonexistent", made.legs[0]]):
        result = made.cli(*words, check=False)
        assert result.returncode not in (0, -11, -6), (words, result)
        assert result.stderr.strip(), words


def test_status_of_a_hanging_or_rubbish_socket(made):
    """Leftovers in the run directory hurt nobody."""
    made.mount()
    (made.run_dir / "rubbish.sock").write_text("x")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(made.run_dir / "00000000-stale.sock"))
    stale.close()
    assert made.status()["state"] == "healthy"
    made.cli("status")
    made.kill9()
    result = made.cli("status", made.mnt, check=False)
    assert result.returncode == 2
    made.mount()
    assert made.status()["state"] == "healthy"


def connect(client, path):
    """Also to a path that is too long for a socket address."""
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        client.connect(f"/proc/self/fd/{fd}/{path.name}")
    finally:
        os.close(fd)


def test_rubbish_on_the_control_socket(made):
    made.mount()
    sockets = [name for name in os.listdir(made.run_dir)
               if name.endswith(".sock")]
    assert len(sockets) == 1
    path = made.run_dir / sockets[0]
    assert path.stat().st_mode & 0o777 == 0o600
    for text in (b"", b"\n", b"{}\n", b"[]\n", b"null\n", b"{\"command\":5}\n",
                 b"\x00\xff\n", b"x" * 100000 + b"\n",
                 b'{"command":"nonsense"}\n', b'{"command":"status"',
                 b'{"command":"set","options":{"frob":"1"}}\n',
                 b'{"command":"set"}\n', b"[" * 50000 + b"\n",
                 b'{"command":"where","path_hex":"0g"}\n',
                 b'{"command":"attach","path_hex":"2f746d7"}\n',
                 b'{"command":"resync","first_hex":"x"}\n'):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(10)
        connect(client, path)
        try:
            client.sendall(text)
            client.shutdown(socket.SHUT_WR)
            answer = client.recv(1 << 20)
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
        client.close()
        if answer:
            assert b'"ok":false' in answer.replace(b" ", b""), (text, answer)
    clients = []
    for _ in range(100):  # connected, and silent
        client = socket.socket(socket.AF_UNIX)
        try:
            connect(client, path)
        except OSError:
            break
        clients.append(client)
    for client in clients[:90]:
        client.close()
    # The daemon takes a moment to see them go, and has room for so many.
    wait_until(lambda: made.cli("status", made.mnt, check=False).returncode == 0,
               what="an answer")
    assert made.status()["state"] == "healthy"
    for client in clients[90:]:
        client.close()
    made.umount()


def test_an_older_file_lies_in_the_log(made, base, seed):
    """RocksDB may end its process over that, but not the daemon's."""
    rng = random.Random(seed)
    made.expect_diagnostics("log|RocksDB|leg")
    log = made.legs[0] / ".mirrorfs" / "log"
    away = made.legs[1].with_name("away")
    old = base / "old"

    def live(changes):
        made.mount()
        for _ in range(changes):
            d = made.mnt / f"d{rng.randrange(100)}"
            d.mkdir(exist_ok=True)
            (d / f"f{rng.randrange(9)}").write_bytes(rng.randbytes(5000))
        if rng.random() < 0.5:
            made.umount()
        else:
            made.kill9()
            run("umount", "-l", made.mnt, check=False)

    def keep_old():
        shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(log, old)

    live(10)
    for _ in range(10):
        keep_old()
        made.legs[1].rename(away)
        for _ in range(rng.choice((1, 2))):
            live(rng.choice((1, 5, 30)))
            if rng.random() < 0.3:
                keep_old()
        path = rng.choice(list(old.rglob("*.log")))
        if (log / path.relative_to(old)).parent.exists():
            shutil.copyfile(path, log / path.relative_to(old))
        away.rename(made.legs[1])
        made.mount()
        made.wait_sync()
        made.umount()
        made.assert_legs_identical(holes=False)


def test_the_private_directory_is_hidden(made):
    made.mount()
    (made.mnt / "d").mkdir()
    assert os.listdir(made.mnt) == ["d"]
    private = made.mnt / ".mirrorfs"
    before = content(made.legs[1] / ".mirrorfs").keys()
    for attempt in (lambda: os.stat(private), lambda: os.listdir(private),
                    lambda: os.stat(private / "label"),
                    lambda: os.mkdir(private), lambda: os.rmdir(private),
                    lambda: os.rename(private, made.mnt / "x"),
                    lambda: os.rename(made.mnt / "d", private),
                    lambda: os.symlink("x", private),
                    lambda: os.link(private / "label", made.mnt / "l"),
                    lambda: private.write_text("x"),
                    lambda: os.unlink(private / "label")):
        with pytest.raises(OSError):
            attempt()
    # Only at the root: below it is a name like any other.
    (made.mnt / "d" / ".mirrorfs").mkdir()
    (made.mnt / "d" / ".mirrorfs" / "label").write_text("a user's")
    assert os.listdir(made.mnt) == ["d"]
    for leg in made.legs:
        assert (leg / ".mirrorfs" / "label").exists()
        assert (leg / "d" / ".mirrorfs" / "label").read_text() == "a user's"
    assert before <= content(made.legs[1] / ".mirrorfs").keys()
    subprocess.run("rm -rf ./* ./.[!.]*", shell=True, cwd=made.mnt,
                   stderr=subprocess.DEVNULL, check=False)
    made.settle_and_compare()
    for leg in made.legs:
        assert (leg / ".mirrorfs" / "label").exists()
