"""Processes that use a folder are found, waited for, and in the end killed."""

import subprocess
import sys
from datetime import timedelta

from cdpbridge.server.hosts._processes import processes_using, wait_unused


def spawn(folder, script):
    return subprocess.Popen([sys.executable, "-c", script, f"--user-data-dir={folder}/profile"])


async def test_who_leaves_by_itself_is_waited_for(tmp_path, wait_until):
    process = spawn(tmp_path, "import time; time.sleep(1)")
    try:
        await wait_until(lambda: processes_using(tmp_path) == [process.pid])
        assert await wait_unused(tmp_path, timeout=timedelta(seconds=60))
        assert processes_using(tmp_path) == []  # a zombie now, which does not count
    finally:
        assert process.wait(100) == 0


async def test_who_stays_is_killed(tmp_path, wait_until):
    process = spawn(tmp_path, "import time; time.sleep(60)")
    try:
        await wait_until(lambda: processes_using(tmp_path))
        assert not await wait_unused(tmp_path, timeout=timedelta(seconds=0.1))
    finally:
        assert process.wait(100) == -9


async def test_nobody(tmp_path):
    assert await wait_unused(tmp_path, timeout=timedelta(seconds=1))
