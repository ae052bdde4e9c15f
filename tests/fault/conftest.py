# SPDX-License-Identifier: GPL-2.0-or-later
"""Mirrors whose legs fail. Beside the fixtures of tests/conftest.py.

MIRRORFS_FAULTS=all runs every combination of error, request and leg.
"""

import pytest

from support.disks import MKFS
from support.mirror import SLOWNESS
from support.scene import LEG_TIMEOUT, REGION, Scene, knows_option


def fault_options():
    """Short times, as far as the program knows them."""
    wanted = {"leg-timeout": f"{int(LEG_TIMEOUT * SLOWNESS)}s",
              "probe-interval": "1s"}
    return [f"{name}={value}" for name, value in wanted.items()
            if knows_option(name)]


@pytest.fixture
def scene(mirrors, faulty_legs, disks, base, seed):
    """A mounted mirror: scene("faulty", "plain", "ext4"); the first leg is the
    primary. `size` is that of disks."""
    made = []

    def make(*kinds, log="disk", options=(), size=400 << 20, allowed=(),
             adopt=None, mount=True):
        things, legs, stores = [], [], []
        for i, kind in enumerate(kinds):
            name = chr(ord("a") + i)
            thing = None
            if kind == "faulty":
                thing = faulty_legs(name)
                legs.append(thing.root)
                stores.append(thing.store)
            elif kind in MKFS:
                thing = disks(kind, size, name=f"disk-{name}")
                legs.append(thing.where / name)
                stores.append(legs[-1])
            else:
                legs.append(base / "m" / name)
                stores.append(legs[-1])
            things.append(thing)
        mirror = mirrors(base / "m", legs=legs, log=log,
                         options=[*fault_options(), *options])
        # Failures are what these tests are about.
        mirror.expect_diagnostics("leg|mirror|recovery|log|label")
        mirror.create("--region-size", str(REGION))
        if mount:
            mirror.mount()
        one = Scene(mirror, things, stores, seed, allowed)
        made.append(one)
        return one

    yield make
    for one in made:
        if one.load:
            for process in one.load.processes.values():
                process.kill()
