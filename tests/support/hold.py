# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds a thread of the daemon at a named point while others go on."""

from support.mirror import wait_until


class Hold:
    """Mount with `env`; within `with`, who passes `point` waits."""

    def __init__(self, path, point):
        self.path = path
        self.reached = path.with_name(path.name + ".reached")
        self.env = {"MIRRORFS_HOLD_AT": f"{point}:{path}"}

    def __enter__(self):
        self.reached.unlink(missing_ok=True)
        self.path.touch()
        return self

    def __exit__(self, *_):
        self.path.unlink()

    def wait_reached(self, timeout=30):
        wait_until(self.reached.exists, timeout, "somebody at the point")
