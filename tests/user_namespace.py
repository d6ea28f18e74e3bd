"""A program in a user namespace of its own, as in a rootless container: its uids are those of a map, its limits its own."""

from __future__ import annotations

import subprocess
import sys

_ENTER = """
import ctypes, os, sys

entered, told = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    assert ctypes.CDLL(None).unshare(0x10000000) == 0  # CLONE_NEWUSER
    os.write(entered[1], b"x")
    os.read(told[0], 1)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
os.read(entered[0], 1)
for name in ("uid_map", "gid_map"):
    with open(f"/proc/{pid}/{name}", "w") as file:
        file.write(sys.argv[1])
os.write(told[1], b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def run_in_user_namespace(id_map: str, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python's `program` where ids are as `id_map` says (`inside outside count`, user_namespaces(7))."""
    command = [sys.executable, "-c", _ENTER, id_map, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
