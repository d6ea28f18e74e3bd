"""What the kernel is asked for when a place is entered."""

import os
import subprocess
import sys

import pytest

from tests.isolation.kernel import needs_isolation

pytestmark = needs_isolation

NETWORK = """
import os
from contextlib import suppress
from cdpbridge.isolation import _enter, _kernel

def look():
    _enter.start_loopback()
    _enter.connect_pages()
    for name in ("pages", "peer"):
        with open(f"/proc/sys/net/ipv6/conf/{name}/addr_gen_mode") as file:
            print(name, file.read().strip(), flush=True)
    with open("/proc/net/if_inet6") as file:
        print([line.split()[-1] for line in file], flush=True)

# The inner one becomes a child of the outer one's parent.
if os.fork() == 0:
    if _kernel.fork_into_namespaces(processes=False) == 0:
        look()
    os._exit(0)
with suppress(ChildProcessError):
    while True:
        os.wait()
"""


@pytest.mark.one_build("no browser is started")
@pytest.mark.skipif(not os.path.isdir("/proc/sys/net/ipv6"), reason="this kernel has no IPv6")
def test_the_network_of_a_place_does_not_change_after_its_start():
    """An address of IPv6 came a second or two later, and what Chromium loaded just then ended with ERR_NETWORK_CHANGED."""
    done = subprocess.run([sys.executable, "-c", NETWORK], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["pages 1", "peer 1", "['lo']"], done.stderr
