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
