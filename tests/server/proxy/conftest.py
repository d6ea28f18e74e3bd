"""Servers and third-party proxies for the tests of the forwarding proxy."""

import asyncio
import shutil
import ssl
from pathlib import Path

import pytest
import trustme

from cdpbridge.server.proxy import ForwardingProxy
from tests.server.proxy.peers import (
    UPSTREAM_ADDRESS,
    UpstreamProcess,
    running_origin,
    running_pproxy,
    wait_until,
)


@pytest.fixture
async def origin():
    async with running_origin() as running:
        yield running


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    path = tmp_path_factory.mktemp("tls") / "origin.pem"
    trustme.CA().issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(path)
    return path


@pytest.fixture
async def tls_origin(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with running_origin(tls=context) as running:
        yield running


@pytest.fixture
async def http_upstream():
    async with running_pproxy("http") as running:
        yield running


@pytest.fixture
async def socks_upstream():
    async with running_pproxy("socks5") as running:
        yield running


@pytest.fixture
async def tinyproxy(tmp_path, unused_tcp_port_factory):
    binary = shutil.which("tinyproxy")
    if binary is None:
        pytest.skip("tinyproxy is not installed (Debian: tinyproxy-bin)")
    port = unused_tcp_port_factory()
    config = Path(tmp_path, "tinyproxy.conf")
    # No spaces: its configuration file cannot express them.
    config.write_text(
        f"Port {port}\nListen 127.0.0.1\nBind {UPSTREAM_ADDRESS}\nTimeout 60\nMaxClients 20\n"
        'BasicAuth user pw.-_x\nDisableViaHeader No\nViaProxyName "tiny"\nLogLevel Error\n'
    )
    process = await asyncio.create_subprocess_exec(
        binary, "-d", "-c", str(config), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    running = UpstreamProcess(process, port)
    try:
        async with asyncio.timeout(60):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    await writer.wait_closed()
                    break
        yield running
    finally:
        await running.kill()


@pytest.fixture
async def direct():
    async with await ForwardingProxy.start(None) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
async def nothing_is_left():
    yield
    await wait_until(lambda: not [task for task in asyncio.all_tasks() if "ClientConnection" in repr(task)])
