"""A server whose browsers see another disk than the tests, and the site of files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from datetime import timedelta
from pathlib import Path

import pytest

import cdpbridge
from cdpbridge.cdp import connect
from cdpbridge.cdp._switches import downloads_switch
from cdpbridge.chromium import Chromium, find, give, remove_tree
from cdpbridge.tunnel import open_tunnel
from tests.conftest import KEY, RunningServer, clean_environment
from tests.tunnel.client import opened
from tests.tunnel.file_site import Site


@pytest.fixture(scope="session")
def file_site():
    site = Site()
    thread = threading.Thread(target=site.serve_forever, args=(0.05,))
    thread.start()
    yield site
    site.release.set()
    site.shutdown()
    site.server_close()
    thread.join()


@pytest.fixture
def site_url(file_site):
    file_site.received.clear()
    file_site.release.clear()
    yield file_site.url
    file_site.release.set()


def _far(build, data_dir, hidden, size="50%"):
    """A server that sees an empty folder where `hidden` is, and so do its browsers; its own files are closed to others.

    `size` is that of the folder's disk.
    """
    if shutil.which("unshare") is None:
        pytest.skip("no unshare on this machine")
    root = [] if os.geteuid() == 0 else ["--map-root-user"]
    script = 'mount -t tmpfs -o size="$1" none "$2" && shift 2 && exec "$@"'
    command = ["unshare", "--mount", *root, "sh", "-c", script, "sh", size, str(hidden)]
    command += [sys.executable, "-m", "cdpbridge.server", "--port", "0", "--data-dir", str(data_dir)]
    environment = clean_environment(CDPBRIDGE_BROWSER_BUILD=build, CDPBRIDGE_API_KEYS=KEY, TMPDIR="/tmp")
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def _serve(build, tmp_path_factory, hidden):
    data_dir = tmp_path_factory.mktemp(f"far-{build}")
    process = _far(build, data_dir, hidden)
    try:
        line = process.stdout.readline()
        if not line.startswith("cdpbridge: serving "):
            pytest.skip("this machine makes no mount namespaces")
        yield RunningServer(process, line.split()[-1], data_dir)
        process.terminate()
        assert process.wait(100) == 0
        folders = data_dir / "browsers"
        assert not folders.exists() or not list(folders.iterdir())
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()


@pytest.fixture(scope="session")
def far_shell(tmp_path_factory, temporary_dir):
    yield from _serve("shell", tmp_path_factory, temporary_dir)


@pytest.fixture(scope="session")
def far_full(tmp_path_factory, temporary_dir):
    yield from _serve("full", tmp_path_factory, temporary_dir)


@pytest.fixture(params=["shell", "full"])
def far_server(request):
    """A server whose browsers do not see the files of the tests, nor these theirs by the same path."""
    return request.getfixturevalue(f"far_{request.param}")


@pytest.fixture
async def far_browser(far_server):
    """A browser of the test's own: for tests that end it, or look at all that it has."""
    async with cdpbridge.open_browser(cdpbridge.at(far_server.base_url, far_server.key)) as browser:
        yield browser


@pytest.fixture(scope="session")
def rented_once():
    """Gives the browser of a server that tests share, and its first page; it ends with its server."""
    found = {}

    def rented_once(server):
        if server.base_url not in found:
            with cdpbridge.Client(base_url=server.base_url, api_key=server.key) as client:
                found[server.base_url] = client.browsers.create(timeout=timedelta(hours=2))
        return found[server.base_url]

    return rented_once


@pytest.fixture
async def far_session(far_server, rented_once):
    """A browser that tests share: the pages and contexts that one of them leaves are closed behind it."""
    browser = rented_once(far_server)
    async with connect(browser.cdp_url) as connection:
        before = {each.target_id for each in await connection.targets()}
    yield browser
    async with connect(browser.cdp_url) as connection:
        contexts = (await connection.root.send("Target.getBrowserContexts"))["browserContextIds"]
        for context in contexts:
            await connection.root.send("Target.disposeBrowserContext", {"browserContextId": context})
        left = [each.target_id for each in await connection.targets() if each.type == "page"]
        for target in set(left) - before:
            await connection.root.send("Target.closeTarget", {"targetId": target})


@pytest.fixture(params=["shell", "full"])
async def bare_address(request, tmp_path, temporary_dir):
    """A browser of no server of ours, by its debugging port."""
    scratch = Path(tempfile.mkdtemp(prefix="s"))
    chromium = await Chromium.start(
        build=find(request.param, None),
        user_data_dir=tmp_path / "profile",
        scratch_dir=scratch,
        proxy_server=None,
        args=(downloads_switch(tmp_path / "far"),),
        start_timeout=timedelta(seconds=60),
    )
    if chromium.uid is not None:  # a root process: the browser has a uid of its own
        (tmp_path / "far").mkdir()
        give(tmp_path / "far", chromium.uid)
    yield f"http://127.0.0.1:{chromium.port}"
    await chromium.kill()
    await remove_tree(scratch)


@pytest.fixture
def here(temporary_dir, request):
    """A folder that the browser does not see."""
    folder = Path(temporary_dir) / f"here-{abs(hash(request.node.nodeid)):x}"
    folder.mkdir(mode=0o700)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def address(far_session):
    async with open_tunnel(far_session) as address:
        yield address


@pytest.fixture
async def connection(address):
    async with connect(address.cdp_url) as connection:
        yield connection


@pytest.fixture
async def tab(connection, site_url):
    return await opened(connection, site_url)
