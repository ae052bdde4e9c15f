# SPDX-License-Identifier: GPL-2.0-or-later
"""pjdfstest through the mount: every assertion, on each kind of leg.

Found as the directory PJDFSTEST_DIR, or where the program `pjdfstest` on PATH
lies: the directory holds the program and tests/*/*.t.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.disks import Disk, available
from support.mirror import SLOWNESS, Mirror

# Assertions that fail on this file system itself, without any mirror.
EXPECTED = {
    "xfs": {
        # XFS has no symlinks of the full PATH_MAX.
        "symlink/03.t": {1, 2},
    },
}


def suite():
    where = os.environ.get("PJDFSTEST_DIR")
    if not where:
        program = shutil.which("pjdfstest")
        where = Path(program).resolve().parent if program else None
    if not where or not list(Path(where).glob("tests/*/*.t")):
        return None
    return Path(where).resolve()


def scripts():
    found = suite()
    if not found:
        return []
    return sorted(str(p.relative_to(found / "tests"))
                  for p in found.glob("tests/*/*.t"))


@pytest.fixture(scope="module", params=["ext4", "xfs"])
def place(request, session_base):
    fs = request.param
    if not available(fs):
        pytest.skip(f"no {fs} on loop devices here")
    base = session_base / f"pjdfstest-{fs}"
    base.mkdir()
    disk = Disk(base, fs, fs, 1 << 30)
    mirror = Mirror(base, legs=[disk.where / "a", disk.where / "b"],
                    options=["suid", "dev"])
    try:
        mirror.create()
        mirror.mount()
        mirror.mnt.chmod(0o755)
        yield fs, mirror
        mirror.settle_and_compare()
    finally:
        mirror.force_end()
        disk.destroy()


@pytest.mark.skipif(suite() is None, reason="pjdfstest is not here; set "
                    "PJDFSTEST_DIR to its directory")
@pytest.mark.parametrize("script", scripts() or [None])
def test_pjdfstest(place, watchdog, script):
    fs, mirror = place
    watchdog.watch(mirror)
    where = mirror.mnt / script.replace("/", "-")
    where.mkdir()
    result = subprocess.run(
        ["sh", str(suite() / "tests" / script)], cwd=where,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", timeout=100 * SLOWNESS, check=False)
    expected = EXPECTED.get(fs, {}).get(script, set())
    failed, count = [], 0
    for line in result.stdout.splitlines():
        match = re.match(r"(not )?ok (\d+)", line)
        if match:
            count += 1
            if match[1] and int(match[2]) not in expected \
                    and "# TODO" not in line:
                failed.append(line)
    assert not failed, "\n".join(failed[:30])
    assert count or "1..0" in result.stdout, result.stdout[-500:]
    subprocess.run(["chflags", "-R", "0", str(where)], check=False) \
        if shutil.which("chflags") else None
    subprocess.run(["rm", "-rf", str(where)], check=False)
