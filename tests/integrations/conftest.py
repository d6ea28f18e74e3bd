"""The suites are run by tests, in processes of their own. Node's packages are installed once, into .cache/node."""

import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests import programs
from tests.conftest import only_one_installs

collect_ignore_glob = ["suites/*"]
ROOT = Path(__file__).parents[2]
PACKAGES = {"puppeteer-core": "24", "@playwright/test": "1"}


@pytest.fixture(scope="session")
def forked_crawls():
    """A process that forks programs with Scrapy: its imports take twice as long as a crawl of a few pages."""
    preloaded = programs.Preloaded(
        modules=["tests.integrations._scrapy_modules"], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    yield preloaded
    preloaded.close()


@pytest.fixture(scope="session")
def node_modules():
    """Folder with Node's packages."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no Node on this machine")
    folder = ROOT / ".cache" / "node"
    with only_one_installs():
        wanted = [
            f"{name}@{version}"
            for name, version in PACKAGES.items()
            if not (folder / "node_modules" / name).is_dir()
        ]
        if wanted:
            command = [
                "npm",
                "install",
                "--no-audit",
                "--no-fund",
                "--ignore-scripts",
                "--prefix",
                folder,
                *wanted,
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
            if done.returncode:
                pytest.skip(f"{' '.join(wanted)} cannot be installed: {done.stderr[-300:]}")
    return folder / "node_modules"


@pytest.fixture(scope="module", autouse=True)
def nothing_rented(server):
    """These tests count the active browsers of the run's server, so what other tests have left is stopped before."""
    headers = {"X-Browser-Use-API-Key": server.key}
    with httpx.Client(base_url=server.base_url, headers=headers, timeout=60) as client:
        for browser in client.get("/browsers?filterBy=active&pageSize=100").json()["items"]:
            client.patch(f"/browsers/{browser['id']}", json={"action": "stop"}).raise_for_status()
