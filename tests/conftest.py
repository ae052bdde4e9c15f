# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the functional, crash, fault and conformance tests.

Environment:
  MIRRORFS_BUILD          build directory (default: build)
  MIRRORFS_TEST_DIR       where tests make their directories (default: TMPDIR)
  MIRRORFS_TEST_KEEP=1    leave the directories of failed tests
  MIRRORFS_TEST_NATIVE=1  run parity tests against a plain directory: a check
                          of the tests themselves, needs no binaries
  MIRRORFS_TEST_LEG_FS    file systems of the parity tests' legs
                          (ext4,xfs,btrfs,tmpfs)
  MIRRORFS_TEST_OPTIONS   mount options for every mirror, blanks between them
  MIRRORFS_TEST_FAULTY_LEG=1  put the last leg of each mirror on a faulty leg
                          that has no faults: a check of tests/support
  MIRRORFS_TEST_SLOWNESS  factor on every timeout (sanitizer builds)
  MIRRORFS_SEED           seed of the random tests; they print theirs
"""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from support import disks as disks_module  # noqa: E402
from support import faulty_leg as faulty_leg_module  # noqa: E402
from support import mirror as mirror_module  # noqa: E402
from support.sanitizers import Reports  # noqa: E402
from support.watchdog import Watchdog  # noqa: E402

NATIVE = os.environ.get("MIRRORFS_TEST_NATIVE") == "1"
SKIPPED = 77


def _missing():
    if os.geteuid() != 0:
        return "not root"
    try:
        if not stat.S_ISCHR(os.stat("/dev/fuse").st_mode):
            return "/dev/fuse is no device"
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return str(error)
    return None


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "timeout_s(seconds): end the test after so long")
    config.addinivalue_line(
        "markers", "sanitizer: chosen for the runs with sanitizers")
    config.addinivalue_line(
        "markers", "legs_side_by_side: expects the legs in one directory")
    reason = _missing()
    if reason and not config.option.collectonly:
        pytest.exit(f"skipped as a whole: {reason}", returncode=SKIPPED)
    if not NATIVE and not config.option.collectonly:
        for binary in (mirror_module.HELPER, mirror_module.CLI):
            if not binary.exists():
                pytest.exit(f"{binary} is missing; build first: "
                            "ninja -C build", returncode=1)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    setattr(item, "report_" + report.when, report)
    if report.failed:
        for mirror in getattr(item, "mirrors", []):
            said = mirror.said()
            if said:
                report.sections.append(
                    (f"the daemon of {mirror.base} said", said[-8000:]))


@pytest.fixture(scope="session")
def sanitizer_reports():
    reports = Reports()
    yield reports
    reports.close()


def _fail_with_reports(reports):
    text = reports.take()
    if text:
        pytest.fail("a sanitizer reported:\n" + text[:20000], pytrace=False)


# Both come before every other fixture, so they look when those have ended: a
# leak is reported at the end of the daemon.
@pytest.fixture(scope="module", autouse=True)
def no_reports_of_module(sanitizer_reports):
    yield
    _fail_with_reports(sanitizer_reports)


@pytest.fixture(autouse=True)
def no_reports(sanitizer_reports):
    yield
    _fail_with_reports(sanitizer_reports)


@pytest.fixture(scope="session")
def session_base():
    parent = os.environ.get("MIRRORFS_TEST_DIR", tempfile.gettempdir())
    os.makedirs(parent, exist_ok=True)
    base = Path(tempfile.mkdtemp(prefix="mirrorfs-test-", dir=parent))
    base.chmod(0o755)
    yield base
    if os.environ.get("MIRRORFS_TEST_KEEP") != "1":
        _remove_tree(base)


@pytest.fixture(scope="session")
def leg_base(session_base):
    """Where legs lie when a test does not say: a real file system of ours.

    Temporary directories are tmpfs on some machines and overlays on others;
    an ext4 of our own answers the same everywhere.
    """
    if not disks_module.available("ext4"):
        yield session_base
        return
    disk = disks_module.Disk(session_base, "legs", "ext4", 4 << 30)
    yield disk.where
    disk.destroy()


@pytest.fixture(scope="session", autouse=True)
def last_leg_elsewhere(session_base, request):
    """MIRRORFS_TEST_FAULTY_LEG=1, see above."""
    if os.environ.get("MIRRORFS_TEST_FAULTY_LEG") != "1":
        yield
        return
    leg_base = request.getfixturevalue("leg_base")
    leg = faulty_leg_module.FaultyLeg(session_base / "faulty",
                                      leg_base / "faulty.store")
    mirror_module.LAST_LEG_BASE = leg.root
    yield
    mirror_module.LAST_LEG_BASE = None
    leg.destroy()


def _remove_tree(path):
    # rm, and not shutil.rmtree: paths may be longer than PATH_MAX.
    subprocess.run(["chattr", "-R", "-i", str(path)], check=False,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run(["rm", "-rf", "--one-file-system", str(path)], check=False)


_counter = 0


def _fresh_dir(parent, name):
    global _counter
    _counter += 1
    path = Path(parent) / f"{_counter}-{name}"[:60]
    path.mkdir()
    path.chmod(0o755)
    return path


def _clean_name(request):
    return "".join(c if c.isalnum() else "-" for c in request.node.name)[:40]


@pytest.fixture(autouse=True)
def _legs_side_by_side(request):
    if mirror_module.LAST_LEG_BASE is not None and \
            request.node.get_closest_marker("legs_side_by_side"):
        pytest.skip("wants its legs side by side")


@pytest.fixture
def watchdog(request):
    marker = request.node.get_closest_marker("timeout_s")
    dog = Watchdog(marker.args[0] if marker else 120)
    yield dog
    dog.stop()
    if dog.report:
        pytest.fail(dog.report)


@pytest.fixture
def base(request, leg_base):
    """A directory of this test alone."""
    path = _fresh_dir(leg_base, _clean_name(request))
    yield path
    call = getattr(request.node, "report_call", None)
    failed = call is not None and call.failed
    if not (failed and os.environ.get("MIRRORFS_TEST_KEEP") == "1"):
        _remove_tree(path)


@pytest.fixture
def mirrors(request, base, watchdog):
    """Makes mirrors: mirrors(legs=3, log="core"). Ends them all."""
    made = []
    request.node.mirrors = made

    def make(where=None, **keywords):
        directory = Path(where) if where else base / f"m{len(made)}"
        mirror = mirror_module.Mirror(directory, **keywords)
        made.append(mirror)
        watchdog.watch(mirror)
        return mirror

    yield make
    # A daemon that waits for a leg hears no signal.
    for leg in getattr(request.node, "faulty_legs", []):
        leg.release()
    for mirror in made:
        mirror.force_end()
    bad = [line for mirror in made for line in mirror.suspicious_diagnostics()]
    if bad:
        pytest.fail("the daemon said:\n" + "\n".join(bad[:40]))


@pytest.fixture
def mirror(mirrors):
    """A new, mounted mirror of two legs with log=disk."""
    fresh = mirrors()
    fresh.create()
    return fresh.mount()


@pytest.fixture(params=["disk", "core"])
def log_type(request):
    return request.param


@pytest.fixture
def disks(request, session_base, watchdog):
    """Makes disks: disks("xfs", size). Detaches them all."""
    directory = _fresh_dir(session_base, _clean_name(request) + "-disks")
    made = []

    def make(fs="ext4", size=256 << 20, name=None, **keywords):
        if not disks_module.available(fs):
            pytest.skip(f"no {fs} on loop devices here")
        disk = disks_module.Disk(directory, name or f"disk{len(made)}", fs,
                                 size, **keywords)
        made.append(disk)
        return disk

    yield make
    # The mounts on the disks first.
    for mirror in getattr(request.node, "mirrors", []):
        mirror.force_end()
    for disk in reversed(made):
        disk.destroy()
    _remove_tree(directory)


@pytest.fixture
def faulty_legs(request, leg_base, watchdog):
    """Makes faulty legs: faulty_legs("b", track=True). Ends them all."""
    directory = _fresh_dir(leg_base, _clean_name(request) + "-faulty")
    made = []
    request.node.faulty_legs = made

    def make(name="b", **keywords):
        leg = faulty_leg_module.FaultyLeg(directory / name, **keywords)
        made.append(leg)
        watchdog.at_expiry(leg.release)
        return leg

    yield make
    for leg in made:
        leg.release()
    # The mounts that use them first.
    for mirror in getattr(request.node, "mirrors", []):
        mirror.force_end()
    for leg in made:
        leg.destroy()
    _remove_tree(directory)


@pytest.fixture
def seed():
    """A seed that is printed, and taken back from MIRRORFS_SEED."""
    value = int(os.environ.get("MIRRORFS_SEED")
                or int.from_bytes(os.urandom(4), "big"))
    print(f"seed {value} (repeat with MIRRORFS_SEED={value})")
    return value


@pytest.fixture
def as_mount_helper(session_base):
    """Lets mount(8) find the build's helper, and takes it away again."""
    links = []
    for name in ("mount.mirrorfs", "mount.fuse.mirrorfs"):
        path = Path("/sbin") / name
        if not path.exists() and not path.is_symlink():
            path.symlink_to(mirror_module.HELPER)
            links.append(path)
    yield
    for path in links:
        path.unlink()


def needs(*programs):
    """Skips a test when a program is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


@pytest.fixture(name="needs")
def needs_fixture():
    return needs


# ---- parity

def _parity_filesystems():
    chosen = os.environ.get("MIRRORFS_TEST_LEG_FS", "ext4,xfs,btrfs,tmpfs")
    return [fs for fs in chosen.split(",") if disks_module.available(fs)]


@pytest.fixture
def parity(parity_place, watchdog):
    """Parity.check runs one case; a case that hangs costs its daemon."""
    place, mirror = parity_place
    if mirror is not None:
        watchdog.watch(mirror)
    place.ensure_alive()
    return place


@pytest.fixture(scope="module", params=_parity_filesystems())
def parity_place(request, session_base):
    """A mirror of two legs on a file system of its own, kept for a module."""
    from support.parity import Parity
    directory = _fresh_dir(session_base, f"parity-{request.param}")
    disk = disks_module.Disk(directory, request.param, request.param,
                             1 << 30)
    native = disk.where / "native"
    native.mkdir()
    if NATIVE:
        mounted = disk.where / "mounted"
        mounted.mkdir()
        yield Parity(request.param, native, mounted, [mounted, mounted],
                     lambda: None), None
        disk.destroy()
        _remove_tree(directory)
        return
    last = Path(mirror_module.LAST_LEG_BASE or disk.where)
    last = last / request.module.__name__ / "b"
    last.parent.mkdir(exist_ok=True)
    mirror = mirror_module.Mirror(directory, legs=[disk.where / "a", last])
    mirror.create()
    # Device nodes and suid programs are part of the surface.
    mirror.options += ["suid", "dev"]

    def ensure_alive():
        if not mirror.alive():
            mirror.force_end()
            mirror.mount()

    yield Parity(request.param, native, mirror.mnt, mirror.legs,
                 ensure_alive), mirror
    try:
        if mirror.alive():
            mirror.umount()
            mirror.assert_legs_identical()
            bad = mirror.suspicious_diagnostics()
            assert not bad, "the daemon said:\n" + "\n".join(bad[:40])
    finally:
        mirror.force_end()
        disk.destroy()
        _remove_tree(directory)
