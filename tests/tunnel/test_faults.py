"""What breaks while a file is on its way: nothing half is left under a file's name, nothing hangs, and the client hears why."""

import asyncio
import os
import random
import re
import resource
import signal
import sys
from contextlib import asynccontextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from unittest import mock
from unittest.mock import AsyncMock
from urllib.parse import urlsplit

import pytest

import cdpbridge
from cdpbridge.cdp import connect
from cdpbridge.errors import CDPBridgeError, CommandError
from cdpbridge.tunnel import open_tunnel
from cdpbridge.tunnel._server_disk import ServerDisk
from tests.conftest import until
from tests.tunnel.client import Client, click, element, files_in, folder_of_uploads, opened
from tests.tunnel.file_site import content

ONE_BUILD = pytest.mark.one_build(
    "the test needs one slow or killed server; the faults of both builds are in this file"
)

pytestmark = pytest.mark.chromium

SIZE = 30_000_000


class Link:
    """A relay between tunnel and server that cuts what carries files, or everything, after so many bytes."""

    def __init__(self, target):
        self.target = target
        self.cut_files_after = None
        self.cut_all_after = None
        self._writers = set()
        self._tasks = set()

    async def serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        upstream_reader, upstream_writer = await asyncio.open_connection(*self.target)
        self._writers |= {writer, upstream_writer}
        with suppress(OSError, asyncio.IncompleteReadError):
            await self._pipe(reader, writer, upstream_reader, upstream_writer)
        writer.close()
        upstream_writer.close()

    async def _pipe(self, reader, writer, upstream_reader, upstream_writer):
        head = await reader.readuntil(b"\r\n\r\n")
        files = b"upgrade: websocket" not in head.lower()
        passed = 0
        upstream_writer.write(head)

        async def pipe(source, sink):
            nonlocal passed
            while data := await source.read(65536):
                passed += len(data)
                limit = self.cut_all_after or (self.cut_files_after if files else None)
                if limit is not None and passed > limit:
                    writer.transport.abort()
                    upstream_writer.transport.abort()
                    return
                sink.write(data)
                await sink.drain()
            sink.close()

        await asyncio.gather(pipe(reader, upstream_writer), pipe(upstream_reader, writer))

    async def close(self):
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def linked(address):
    """A browser's address by way of a `Link`."""
    url = urlsplit(address)
    link = Link((url.hostname, url.port))
    server = await asyncio.start_server(link.serve, "127.0.0.1", 0)
    try:
        yield link, url._replace(netloc=f"127.0.0.1:{server.sockets[0].getsockname()[1]}").geturl()
    finally:
        server.close()
        await link.close()


async def on_its_way(folder):
    async def part():
        return any(each.suffix == ".part" for each in folder.iterdir())

    await until(part)


async def test_fault_c22_the_link_is_cut_on_the_way_down(far_browser, site_url, here, caplog):
    async with (
        linked(far_browser.cdp_url) as (link, url),
        open_tunnel(url) as address,
        connect(address.cdp_url) as connection,
    ):
        tab = await opened(connection, site_url)
        client = Client(connection.root)
        await client.set("allow", here)
        link.cut_files_after = SIZE // 2
        await click(tab, "down.bin", SIZE)
        assert (await client.one())["state"] == "canceled"
        assert files_in(here) == []
        assert "bytes are missing" in caplog.text
        link.cut_files_after = None
        await click(tab, "down.bin", SIZE)
        assert (await client.one(2))["state"] == "completed"
        assert (here / "down.bin").read_bytes() == content("down.bin", SIZE)


async def test_fault_c22_the_link_is_cut_on_the_way_up(far_browser, far_server, site_url, here):
    (here / "up.bin").write_bytes(content("up.bin", SIZE))
    async with (
        linked(far_browser.cdp_url) as (link, url),
        open_tunnel(url) as address,
        connect(address.cdp_url) as connection,
    ):
        tab = await opened(connection, site_url)
        files = {"files": [str(here / "up.bin")], "objectId": await element(tab, "one")}
        link.cut_files_after = SIZE // 2
        with pytest.raises(CommandError, match="could not be brought to the browser"):
            await tab.session.send("DOM.setFileInputFiles", files)
        assert await tab.evaluate("one.files.length") == 0
        uploads = await folder_of_uploads(far_server, far_browser)

        async def nothing_left():
            return files_in(uploads) == []

        await until(nothing_left)
        link.cut_files_after = None
        await tab.session.send("DOM.setFileInputFiles", files)
        assert await tab.evaluate("one.files[0].size") == SIZE


async def test_fault_c22_the_disk_is_full_here(far_browser, site_url, here, caplog):
    async with open_tunnel(far_browser) as address, connect(address.cdp_url) as connection:
        tab = await opened(connection, site_url)
        client = Client(connection.root)
        await client.set("allow", here)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 2, before[1]))
        try:
            await click(tab, "down.bin", SIZE)
            assert (await client.one())["state"] == "canceled"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert list(here.iterdir()) == []
        assert "File too large" in caplog.text
        await click(tab, "down.bin", SIZE)
        assert (await client.one(2))["state"] == "completed"


@ONE_BUILD
@pytest.mark.slow
async def test_fault_c22_the_disk_is_full_there(site_url, here):
    from tests.tunnel.conftest import _far

    (here / "up.bin").write_bytes(content("up.bin", 400_000_000))
    server = _far("shell", "/tmp/data", "/tmp", size="300m")
    try:
        line = await asyncio.to_thread(server.stdout.readline)
        if not line.startswith("cdpbridge: serving "):
            pytest.skip("this machine makes no mount namespaces")
        async with (
            cdpbridge.at(line.split()[-1], "key-of-tests") as service,
            cdpbridge.open_browser(service) as browser,
            open_tunnel(browser) as address,
            connect(address.cdp_url) as connection,
        ):
            tab = await opened(connection, site_url)
            client = Client(connection.root)
            await client.set("allow", here / "got")
            await click(tab, "down.bin", 400_000_000)
            assert (await client.one())["state"] == "canceled"
            files = {"files": [str(here / "up.bin")], "objectId": await element(tab, "one")}
            with pytest.raises(CommandError, match="No space left on device"):
                await tab.session.send("DOM.setFileInputFiles", files)
            await click(tab, "small.bin", 1000)
            assert (await client.one(2))["state"] == "completed"
        assert files_in(here / "got") == ["small.bin"]
    finally:
        if server.poll() is None:
            server.terminate()
        await asyncio.to_thread(server.wait)
        server.stdout.close()


def main_process(browser_id):
    """The browser's, as this machine numbers it: an isolated one knows itself by another number."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # it ended meanwhile
                words = (entry / "cmdline").read_bytes().decode().split("\0")
                profile = any(w.startswith("--user-data-dir=") and f"/{browser_id}/" in w for w in words)
                if profile and not any(w.startswith("--type=") for w in words):
                    found.append(int(entry.name))
    [main] = found
    return main


# The relay looks for a server that was killed half a minute long.
@ONE_BUILD
@pytest.mark.parametrize("what", ["relay", "browser", pytest.param("server", marks=pytest.mark.slow)])
async def test_fault_c22_something_is_killed(what, tmp_path_factory, temporary_dir, site_url, here):
    from tests.tunnel.conftest import _far

    data_dir = tmp_path_factory.mktemp("killed")
    server = _far("shell", data_dir, temporary_dir)
    line = await asyncio.to_thread(server.stdout.readline)
    if not line.startswith("cdpbridge: serving "):
        pytest.skip("this machine makes no mount namespaces")
    relay = None
    try:
        async with cdpbridge.at(line.split()[-1], "key-of-tests") as client:
            browser = await cdpbridge.open_browser(client)
            command = [sys.executable, "-m", "cdpbridge", "tunnel", browser.cdp_url, "--ws"]
            relay = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            address = (await relay.stdout.readline()).decode().strip()
            connection = await connect(address)
            tab = await opened(connection, site_url)
            await Client(connection.root).set("allow", here)
            await click(tab, "large.bin", 400_000_000)
            await on_its_way(here)
            if what == "relay":
                relay.kill()
            elif what == "server":
                server.kill()
            else:
                os.kill(main_process(browser.id), signal.SIGKILL)
            await asyncio.wait_for(connection.wait_closed(), 90)
            await connection.close()
            with suppress(CDPBridgeError):
                await browser.stop()
        if what != "relay":  # who is killed cannot remove what has no name yet

            async def nothing_left():
                return list(here.iterdir()) == []

            await until(nothing_left)
        assert not (here / "large.bin").exists()
    finally:
        if relay is not None and relay.returncode is None:
            relay.kill()
            await relay.wait()
        if server.poll() is None:
            server.terminate()
        await asyncio.to_thread(server.wait)
        server.stdout.close()


async def cut_somewhere(url, limit, site_url, source, folder):
    """A download and an upload over a link that is cut after so many bytes; return what the client was told."""
    async with linked(url) as (link, by_link):
        link.cut_all_after = limit
        deadline = asyncio.timeout(60)
        told = ""
        try:
            async with deadline, open_tunnel(by_link) as address, connect(address.cdp_url) as connection:
                tab = await opened(connection, site_url)
                client = Client(connection.root)
                await client.set("allow", folder)
                await click(tab, "down.bin", 3_000_000)
                files = {"files": [str(source)], "objectId": await element(tab, "one")}
                await tab.session.send("DOM.setFileInputFiles", files)
                while not client.ended and not connection.closed:
                    await asyncio.sleep(0.02)
                told = next(iter(client.ended.values()))["state"] if client.ended else connection.close_reason
                await tab.close()
        except (CDPBridgeError, OSError) as error:
            told = told or str(error)
        assert not deadline.expired(), "it hangs"
        return told


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("disk", ["server", "cdp"])
@pytest.mark.parametrize("build", ["shell", "full"])
async def test_fault_c22_fifty_random_cuts(build, disk, request, site_url, here):
    seed = int.from_bytes(os.urandom(4))
    print("seed", seed)
    draw = random.Random(seed)
    (here / "up.bin").write_bytes(content("up.bin", 3_000_000))
    server = request.getfixturevalue(f"far_{build}")
    for number in range(25):
        folder = here / f"{number}"
        folder.mkdir()
        # Base64 is a third longer.
        limit = draw.randrange(200, 6_000_000 if disk == "server" else 8_500_000)
        async with cdpbridge.open_browser(cdpbridge.at(server.base_url, server.key)) as browser:
            hidden = mock.patch.object(ServerDisk, "find", AsyncMock(return_value=None))
            with hidden if disk == "cdp" else nullcontext():
                told = await cut_somewhere(browser.cdp_url, limit, site_url, here / "up.bin", folder)
        assert re.search("completed|canceled|closed|lost|cut|refused|reset|pipe|cannot", told), (limit, told)
        for file in folder.iterdir():
            assert file.name == "down.bin"
            assert file.read_bytes() == content("down.bin", 3_000_000)


def resident(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) * 1024


@ONE_BUILD
@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_two_gigabytes_in_bounded_memory(far_shell, site_url, here):
    """Down and up again, through `cdpbridge tunnel`: its peak is compared with that after a small file."""
    size = 2_000_000_000
    client = cdpbridge.at(far_shell.base_url, far_shell.key)
    async with client, cdpbridge.open_browser(client) as browser:
        command = [sys.executable, "-m", "cdpbridge", "tunnel", browser.cdp_url, "--ws"]
        relay = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        try:
            connection = await connect((await relay.stdout.readline()).decode().strip())
            tab = await opened(connection, site_url)
            client = Client(connection.root)
            await client.set("allow", here)
            for count, name, length in ((1, "small.bin", 1000), (2, "large.bin", size)):
                await click(tab, name, length)
                async with asyncio.timeout(600):
                    while len(client.ended) < count:
                        await asyncio.sleep(0.1)
                assert list(client.ended.values())[-1]["state"] == "completed"
                assert (here / name).stat().st_size == length
                files = {"files": [str(here / name)], "objectId": await element(tab, "one")}
                await tab.session.send("DOM.setFileInputFiles", files, timeout=timedelta(minutes=10))
                assert await tab.evaluate("one.files[0].size") == length
                if count == 1:
                    before = resident(relay.pid)
            assert resident(relay.pid) - before <= 32 * 1024 * 1024
            await connection.close()
        finally:
            relay.send_signal(signal.SIGINT)
            await relay.wait()
