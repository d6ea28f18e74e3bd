"""Whether this machine can isolate browsers at all."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import os
from cdpbridge.isolation import _kernel
pid = _kernel.fork_into_namespaces(processes=True)
os._exit(0)
"""


def _possible() -> bool:
    if sys.platform != "linux":
        return False
    return subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, check=False).returncode == 0


needs_isolation = pytest.mark.skipif(
    not _possible(), reason="the kernel refuses user namespaces, of which a browser's place is made"
)


def python_of_all_users() -> str | None:
    """A Python of this version that an ordinary user can execute; None if there is none."""
    for path in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        # By itself once more: setpriv(1) keeps root's rights until the first one is executed.
        program = f"import os, sys; sys.version_info[:2] == {sys.version_info[:2]} and os.execv({path!r}, [{path!r}, '-c', '']) or sys.exit(1)"
        command = ["setpriv", "--reuid=65533", "--regid=65533", "--clear-groups", path, "-I", "-c", program]
        try:
            done = subprocess.run(command, capture_output=True, check=False)
        except FileNotFoundError:
            return None
        if done.returncode == 0:
            return path
    return None
