# SPDX-License-Identifier: GPL-2.0-or-later
"""What sanitizers report of any program that the tests run.

A daemon in the background has no stderr, and an exit code that nobody looks
at tells nothing. So reports go to files, and a test fails when there is one.
"""

import os
import shutil
import tempfile
from pathlib import Path

# The variable of each, and what goes in besides the place.
VARIABLES = {"ASAN_OPTIONS": [], "LSAN_OPTIONS": [], "TSAN_OPTIONS": [],
             "UBSAN_OPTIONS": ["print_stacktrace=1"]}


class Reports:
    """The directory that reports go to from now on."""

    def __init__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="mirrorfs-reports-"))
        self.directory.chmod(0o1777)  # not every program stays root
        self._before = {name: os.environ.get(name) for name in VARIABLES}
        for name, value in self._before.items():
            words = [*([value] if value else []), *VARIABLES[name],
                     f"log_path={self.directory}/{name[:4].lower()}"]
            os.environ[name] = ":".join(words)

    def take(self):
        """The text of those that came since the last call."""
        texts = []
        for path in sorted(self.directory.iterdir()):
            texts.append(path.read_text("utf-8", "backslashreplace"))
            path.unlink()
        return "\n".join(texts)

    def close(self):
        for name, value in self._before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        shutil.rmtree(self.directory)
