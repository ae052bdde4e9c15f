# SPDX-License-Identifier: GPL-2.0-or-later
"""Real programs on the mount; afterwards the legs hold the same."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from support import compare
from support.mirror import REPO, run, wait_until
from support.trees import make_tree

PYTHON = "/usr/bin/python3"


# ---- sqlite3

@pytest.mark.sanitizer
@pytest.mark.parametrize("mode", ["delete", "truncate", "persist", "wal"])
def test_sqlite(mirror, mode):
    path = mirror.mnt / "db"
    connection = sqlite3.connect(path)
    assert connection.execute(f"PRAGMA journal_mode={mode}").fetchone() == \
        (mode,)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB)")
    for batch in range(20):
        with connection:
            connection.executemany(
                "INSERT INTO t VALUES (?, ?)",
                [(batch * 100 + n, os.urandom(500)) for n in range(100)])
        connection.execute("DELETE FROM t WHERE n % 7 = ?", (batch % 7,))
        connection.commit()
    other = sqlite3.connect(path)
    assert other.execute("SELECT count(*) FROM t").fetchone() == \
        connection.execute("SELECT count(*) FROM t").fetchone()
    other.close()
    connection.execute("VACUUM")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    mirror.settle_and_compare()
    for leg in mirror.legs:
        check = sqlite3.connect(leg / "db")
        assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        check.close()


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_sqlite_shared_by_processes(mirror, mode):
    path = mirror.mnt / "db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode={mode}")
    connection.execute("CREATE TABLE t (who INTEGER, n INTEGER)")
    connection.commit()
    script = ("import sqlite3, sys\n"
              "c = sqlite3.connect(sys.argv[1], timeout=60)\n"
              "for n in range(40):\n"
              "    with c: c.execute('INSERT INTO t VALUES (?, ?)',"
              " (int(sys.argv[2]), n))\n")
    workers = [subprocess.Popen([PYTHON, "-c", script, path, str(n)])
               for n in range(4)]
    assert [w.wait(100) for w in workers] == [0] * 4
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (160,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    mirror.settle_and_compare()


def test_sqlite_survives_a_killed_daemon(mirror):
    path = mirror.mnt / "db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=wal")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE t (n INTEGER)")
    connection.commit()
    for n in range(50):
        with connection:
            connection.execute("INSERT INTO t VALUES (?)", (n,))
    mirror.kill9()
    try:
        connection.close()
    except sqlite3.Error:
        pass
    mirror.mount()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (50,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    mirror.settle_and_compare()


# ---- git

@pytest.fixture
def git(needs, base):
    needs("git")
    env = {**os.environ, "HOME": str(base), "GIT_CONFIG_NOSYSTEM": "1",
           "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org",
           "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org"}

    def call(*words, cwd):
        return run("git", "-c", "safe.directory=*", *words, cwd=cwd, env=env)

    return call


def make_repository(git, where):
    where.mkdir()
    git("init", "-q", cwd=where)
    for n in range(12):
        for f in range(12):
            path = where / f"d{f % 4}" / f"f{f}"
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(f"line {k * (n + 1) % (97 + f)}\n"
                                    for k in range(200 + n)))
        (where / f"only-{n}").write_bytes(os.urandom(5000))
        git("add", "-A", cwd=where)
        git("commit", "-q", "-m", f"commit {n}", cwd=where)
    return where


@pytest.mark.sanitizer
def test_git(mirror, git, base):
    origin = make_repository(git, base / "origin")
    work = mirror.mnt / "work"
    git("clone", "-q", "--no-local", origin, work, cwd=base)
    git("fsck", "--full", cwd=work)
    git("checkout", "-q", "-b", "side", "HEAD~5", cwd=work)
    (work / "new").write_text("x")
    git("add", "-A", cwd=work)
    git("commit", "-q", "-m", "on the side", cwd=work)
    git("merge", "-q", "-m", "merge", "origin/HEAD", cwd=work)
    git("gc", "-q", "--aggressive", "--prune=now", cwd=work)
    git("fsck", "--full", "--strict", cwd=work)
    assert git("status", "--porcelain", cwd=work).stdout == ""
    # As a whole on the mirror: a local clone with hard links.
    git("clone", "-q", work, mirror.mnt / "linked", cwd=base)
    git("fsck", cwd=mirror.mnt / "linked")
    git("worktree", "add", "-q", mirror.mnt / "tree", "HEAD~1", cwd=work)
    run("rm", "-rf", mirror.mnt / "linked")
    mirror.settle_and_compare()
    git("fsck", "--full", cwd=mirror.legs[1] / "work")


# ---- archives

def test_tar_round_trip(mirror, base):
    source = base / "source"
    source.mkdir()
    make_tree(source)
    # A socket is not archived, and tar says so with its exit code.
    os.unlink(source / "socket")
    flags = ["--xattrs", "--xattrs-include=*", "--acls", "--sparse",
             "--numeric-owner"]
    archive = base / "archive.tar"
    run("tar", *flags, "-cf", archive, "-C", source, ".")
    run("tar", *flags, "-xpf", archive, "-C", mirror.mnt)
    lines = compare.tree_differences(source, mirror.mnt)
    assert not lines, lines
    run("tar", *flags, "-cf", base / "again.tar", "-C", mirror.mnt, ".")
    back = base / "back"
    back.mkdir()
    run("tar", *flags, "-xpf", base / "again.tar", "-C", back)
    lines = compare.tree_differences(source, back)
    assert not lines, lines
    mirror.settle_and_compare()
    lines = compare.tree_differences(source, *mirror.legs)
    assert not lines, lines


@pytest.mark.sanitizer
def test_rsync_round_trip(mirror, base, needs):
    needs("rsync")
    source = base / "source"
    source.mkdir()
    make_tree(source)
    # rsync leaves a directory's time alone when it is of the same second.
    time.sleep(1.1)
    run("rsync", "-aHAXS", f"{source}/", f"{mirror.mnt}/")
    lines = compare.tree_differences(source, mirror.mnt)
    assert not lines, lines
    # Nothing left to do, by what is told of the files and by their content.
    for flags in ("-aHAXSni", "-aHAXSnic"):
        out = run("rsync", flags, "--delete", f"{source}/", f"{mirror.mnt}/")
        assert out.stdout == ""
    (source / "dir0/file0").write_text("changed")
    os.unlink(source / "dir1/file1")
    time.sleep(1.1)  # as above
    run("rsync", "-aHAXS", "--delete", "--inplace", f"{source}/",
        f"{mirror.mnt}/")
    back = base / "back"
    run("rsync", "-aHAXS", f"{mirror.mnt}/", f"{back}/")
    lines = compare.tree_differences(source, back)
    assert not lines, lines
    mirror.settle_and_compare()
    lines = compare.tree_differences(source, *mirror.legs)
    assert not lines, lines


def test_cp_and_mv_and_find(mirror, base):
    source = base / "source"
    source.mkdir()
    make_tree(source)
    run("cp", "-a", source, mirror.mnt / "copy")
    run("cp", "-a", mirror.mnt / "copy", mirror.mnt / "copy2")
    lines = compare.tree_differences(source, mirror.mnt / "copy",
                                     mirror.mnt / "copy2")
    assert not lines, lines
    run("mv", mirror.mnt / "copy2", mirror.mnt / "copy" / "empty" / "in")
    run("find", mirror.mnt, "-name", "file*", "-delete")
    run("rm", "-rf", mirror.mnt / "copy" / "dir0")
    mirror.settle_and_compare()


# ---- building

def test_a_build(mirror, base, needs):
    """Compilers write, rename, map and stamp; ninja looks at the times."""
    needs("meson", "ninja", "c++")
    project = mirror.mnt / "project"
    (project / "src").mkdir(parents=True)
    (project / "meson.build").write_text(
        "project('p', 'cpp')\n"
        "executable('p', 'src/main.cc', "
        + ", ".join(f"'src/part{n}.cc'" for n in range(6)) + ")\n")
    for n in range(6):
        (project / "src" / f"part{n}.cc").write_text(
            f"#include <string>\nstd::string part{n}() "
            f"{{ return \"part {n}\"; }}\n")
    (project / "src" / "main.cc").write_text(
        "#include <cstdio>\n#include <string>\n"
        + "".join(f"std::string part{n}();\n" for n in range(6))
        + "int main() { std::puts(("
        + " + ".join(f"part{n}()" for n in range(6)) + ").c_str()); }\n")
    build = project / "build"
    env = {**os.environ, "CCACHE_DISABLE": "1"}
    run("meson", "setup", build, project, env=env)
    run("ninja", "-C", build, env=env)
    assert "part 5" in run(build / "p").stdout
    assert "no work to do" in run("ninja", "-C", build, env=env).stdout
    time.sleep(0.01)
    os.utime(project / "src" / "part3.cc")
    out = run("ninja", "-C", build, env=env).stdout
    assert "part3" in out and "part4" not in out
    assert "no work to do" in run("ninja", "-C", build, env=env).stdout
    mirror.settle_and_compare()
    assert run(mirror.legs[1] / "project/build/p").stdout


def test_python_packages(mirror):
    """A virtual environment: symlinks, scripts, bytecode caches."""
    package = mirror.mnt / "package"
    package.mkdir()
    for n in range(20):
        (package / f"m{n}.py").write_text(f"x = {n}\n")
    env = {**os.environ, "PYTHONPATH": str(package)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    code = "; ".join(f"import m{n}" for n in range(20))
    for _ in range(2):
        run(PYTHON, "-c", code, env=env)
    assert len(os.listdir(package / "__pycache__")) == 20
    mirror.settle_and_compare()


# ---- PostgreSQL

def postgres_programs():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"),
                   key=lambda p: float(p.parent.name))
    if not found or shutil.which("setpriv") is None:
        pytest.skip("PostgreSQL is not installed")
    import pwd
    try:
        return found[-1], pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("there is no user postgres")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Postgres:
    """A database cluster of its own in a directory on the mirror."""

    def __init__(self, data, sockets):
        self.programs, self.user = postgres_programs()
        self.data, self.sockets = data, sockets
        self.port = free_port()
        self.server = None
        for directory in (data, sockets):
            directory.mkdir(exist_ok=True)
            os.chown(directory, self.user.pw_uid, self.user.pw_gid)
        os.chmod(data, 0o700)

    def argv(self, program, *words):
        return ["setpriv", f"--reuid={self.user.pw_uid}",
                f"--regid={self.user.pw_gid}", "--clear-groups",
                str(self.programs / program), *map(str, words)]

    def run(self, program, *words):
        return run(*self.argv(program, *words), cwd="/tmp",
                   env={"PATH": "/usr/bin:/bin", "HOME": "/tmp",
                        "LC_ALL": "C"})

    def initialise(self):
        self.run("initdb", "-D", self.data, "-A", "trust", "-E", "UTF8",
                 "--no-instructions")

    def start(self, log):
        with open(log, "ab") as out:
            self.server = subprocess.Popen(
                self.argv("postgres", "-D", self.data, "-k", self.sockets,
                          "-p", self.port, "-c", "listen_addresses=",
                          "-c", "shared_buffers=16MB", "-c", "fsync=on"),
                stdout=out, stderr=out, cwd="/tmp", env={"LC_ALL": "C"},
                start_new_session=True)
        wait_until(lambda: self.ready() or self.server.poll() is not None, 60,
                   "PostgreSQL")
        assert self.server.poll() is None, Path(log).read_text()

    def ready(self):
        return subprocess.run(
            self.argv("pg_isready", "-q", "-h", self.sockets, "-p",
                      self.port), check=False, cwd="/tmp").returncode == 0

    def client(self, program, *words):
        return self.run(program, "-h", self.sockets, "-p", self.port, *words)

    def stop(self):
        self.server.send_signal(signal.SIGINT)  # a "fast" shutdown
        self.server.wait(60)

    def kill(self):
        """The server and its children; the children notice by themselves,
        but not at once."""
        if self.server:
            try:
                os.killpg(self.server.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.server.wait()


@pytest.mark.timeout_s(240)
def test_postgresql(mirror, base):
    postgres = Postgres(mirror.mnt / "data", base / "sockets")
    log = base / "postgres-log"
    try:
        postgres.initialise()
        postgres.start(log)
        postgres.client("pgbench", "-i", "-q", "-s", "2", "postgres")
        for clients in ("1", "4"):
            postgres.client("pgbench", "-c", clients, "-T", "4", "postgres")
        count = postgres.client("psql", "-At", "-d", "postgres", "-c",
                                "SELECT count(*) FROM pgbench_history").stdout
        # The daemon dies under the server; both come back.
        mirror.kill9()
        postgres.kill()
        mirror.mount()
        pid_file = mirror.mnt / "data" / "postmaster.pid"
        if pid_file.exists():
            pid_file.unlink()
        postgres.start(log)
        again = postgres.client("psql", "-At", "-d", "postgres", "-c",
                                "SELECT count(*) FROM pgbench_history").stdout
        assert again == count
        postgres.client("pgbench", "-c", "2", "-T", "2", "postgres")
        postgres.client("psql", "-d", "postgres", "-c", "VACUUM FULL")
        postgres.client("psql", "-d", "postgres", "-c", "REINDEX DATABASE "
                        "postgres")
        postgres.stop()
        assert postgres.server.returncode == 0, log.read_text()[-3000:]
    finally:
        postgres.kill()
    mirror.settle_and_compare()


# ---- stress-ng

# Not "io": it holds every mount of the machine open for its syncfs(2), those of
# the tests beside this one too, which then cannot unmount.
STRESSORS = ["access", "chdir", "chmod", "chown", "copy-file", "dentry",
             "dir", "dirdeep", "dup", "fallocate", "fcntl", "fiemap",
             "filename", "flock", "fpunch", "fstat", "getdent", "hdd",
             "inode-flags", "lease", "link", "locka", "lockf", "lockofd",
             "mknod", "msync", "open", "readahead", "rename", "seek",
             "sendfile", "symlink", "sync-file", "touch", "unlink", "utime",
             "xattr"]


@pytest.mark.timeout_s(240)
def test_stress_ng(mirror, needs):
    """Each file system stressor for a second, checking what it reads."""
    needs("stress-ng")
    known = run("stress-ng", "--stressors").stdout.split()
    failed = []
    for stressor in STRESSORS:
        if stressor not in known:
            continue
        result = run(
            "stress-ng", f"--{stressor}", "2", "--timeout", "1s", "--verify",
            "--temp-path", mirror.mnt, "--hdd-bytes", "8m", check=False,
            timeout=60)
        # 0 well, 3 no resource, 4 not implemented here
        if result.returncode not in (0, 3, 4):
            failed.append(f"{stressor}: {result.returncode} "
                          f"{result.stdout[-500:]}{result.stderr[-1500:]}")
        assert mirror.alive(), f"{stressor} ended the daemon"
    assert not failed, "\n".join(failed)
    mirror.settle_and_compare()


# ---- the main job, as a whole

@pytest.mark.timeout_s(300)
def test_a_source_tree_and_a_database_survive(mirror, base):
    """10,000 files and a database, and the daemon killed under both."""
    tree = mirror.mnt / "tree"
    writer = subprocess.Popen([PYTHON, "-c", (
        "import os, sys\n"
        "os.makedirs(sys.argv[1]); os.chdir(sys.argv[1])\n"
        "for d in range(100):\n"
        "    os.makedirs('a%d/b%d' % (d % 10, d))\n"
        "    for n in range(100):\n"
        "        with open('a%d/b%d/f%d.c' % (d % 10, d, n), 'w') as f:\n"
        "            f.write('int x%d;\\n' % n * (n % 50))\n"), str(tree)],
        stderr=subprocess.DEVNULL)
    connection = sqlite3.connect(mirror.mnt / "db", timeout=30)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE t (n INTEGER)")
    connection.commit()
    committed, lost = 0, False
    while writer.poll() is None or committed < 50:
        try:
            with connection:
                connection.execute("INSERT INTO t VALUES (?)", (committed,))
            committed += 1
        except sqlite3.Error:
            lost = True
            break
    assert not lost and writer.returncode == 0
    assert sum(len(f) for _, _, f in os.walk(tree)) == 10000
    second = subprocess.Popen(["cp", "-r", tree, mirror.mnt / "tree2"],
                              stderr=subprocess.DEVNULL)
    time.sleep(1)
    mirror.kill9()
    second.wait()
    try:
        connection.close()
    except sqlite3.Error:
        pass
    mirror.mount()
    connection = sqlite3.connect(mirror.mnt / "db")
    assert connection.execute("SELECT count(*) FROM t").fetchone() == \
        (committed,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert sum(len(f) for _, _, f in os.walk(tree)) == 10000
    mirror.wait_sync(120)
    mirror.settle_and_compare()


def test_the_projects_own_sources(mirror):
    """What is at hand everywhere: this repository, there and back."""
    skip = shutil.ignore_patterns("build*", ".git", "__pycache__")
    shutil.copytree(REPO, mirror.mnt / "repo", symlinks=True, ignore=skip)
    shutil.copytree(mirror.mnt / "repo", mirror.mnt / "repo2", symlinks=True)
    lines = compare.tree_differences(mirror.mnt / "repo",
                                     mirror.mnt / "repo2", times=False)
    assert not lines, lines
    mirror.settle_and_compare()
