"""A rented browser under host:port, for Selenium and whoever else takes no path."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys

import pytest

import cdpbridge
from cdpbridge.cdp import connect
from cdpbridge.errors import ConfigurationError
from cdpbridge.tunnel import open_tunnel
from tests import programs

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("the tunnel's own work; test_playwright.py has both builds"),
]


@pytest.fixture
async def browser(server):
    async with cdpbridge.open_browser(cdpbridge.at(server.base_url, server.key)) as browser:
        yield browser


async def ask(authority, head):
    reader, writer = await asyncio.open_connection(*authority.split(":"))
    writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
    status = (await reader.readline()).decode().split()[1]
    headers = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(headers.split("content-length:")[1].split()[0])
    body = await reader.readexactly(length)
    writer.close()
    await writer.wait_closed()
    return int(status), body


async def test_discovery_and_sockets(browser, site):
    async with open_tunnel(browser) as authority:
        status, body = await ask(authority, "GET /json/version HTTP/1.1\nHost: 127.0.0.1")
        version = json.loads(body)
        assert status == 200
        assert version["webSocketDebuggerUrl"].startswith(f"ws://{authority}/devtools/browser/")
        secret = browser.cdp_url.rsplit("/", 1)[1]
        async with connect(authority) as connection:
            tab = cdpbridge.Tab(await connection.new_tab())
            await tab.goto(site)
            assert await tab.title() == "Sign in"
            big = "x" * 3_000_000
            assert await tab.evaluate(f"{json.dumps(big)}") == big
            _, body = await ask(authority, "GET /json/list HTTP/1.1\nHost: localhost:1")
            assert secret not in body.decode()
            [page] = [each for each in json.loads(body) if each["url"] == f"{site}/"]
            async with connect(page["webSocketDebuggerUrl"]) as direct:
                reply = await direct.root.send("Runtime.evaluate", {"expression": "document.title"})
                assert reply["result"]["value"] == "Sign in"
        assert (await ask(authority, "GET /json/protocol HTTP/1.1\nHost: localhost"))[0] == 200
    with pytest.raises(OSError):
        await asyncio.open_connection(*authority.split(":"))
    assert not browser.connection.closed


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /json/version HTTP/1.1\nHost: evil.example", 403),
        ("GET /json/version HTTP/1.1\nHost: 127.0.0.1\nOrigin: https://evil.example", 403),
        ("GET /json/version HTTP/1.1", 403),
        ("GET /etc/passwd HTTP/1.1\nHost: 127.0.0.1", 404),
        ("GET http://other/ HTTP/1.1\nHost: 127.0.0.1", 400),
        ("nonsense", 400),
        ("GET /json HTTP/1.1\nHost: 127.0.0.1\nContent-Length: 5", 400),
        ("GET /elsewhere HTTP/1.1\nHost: 127.0.0.1\nUpgrade: websocket", 404),
        (f"GET /json HTTP/1.1\nHost: 127.0.0.1\nX: {'x' * 70000}", 431),
    ],
)
async def test_what_the_tunnel_refuses(far_shell, rented_once, head, status):
    async with open_tunnel(rented_once(far_shell)) as authority:
        assert (await ask(authority, head))[0] == status


async def test_the_end_of_the_browser_and_of_the_tunnel(browser):
    async with open_tunnel(browser) as authority:
        connection = await connect(authority)
        await browser.stop()
        await asyncio.wait_for(connection.wait_closed(), 60)
        assert (await ask(authority, "GET /json/version HTTP/1.1\nHost: 127.0.0.1"))[0] in {404, 502, 200}
    with pytest.raises(ConfigurationError, match="no cdpUrl"):
        async with open_tunnel(browser.record.model_copy(update={"cdp_url": None})):
            pass


@pytest.mark.skipif(shutil.which("chromedriver") is None, reason="no chromedriver on this machine")
async def test_selenium_by_the_command(browser, server, site):
    command = [sys.executable, "-m", "cdpbridge", "tunnel", str(browser.id)]
    process = programs.Program(
        command, env=server.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        authority = (await asyncio.to_thread(process.stdout.readline)).strip()
        assert authority.startswith("127.0.0.1:")
        assert await asyncio.to_thread(drive_with_selenium, authority, site) == "Sign in"
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=280)
    assert process.returncode == 130, errors
    assert not browser.connection.closed


def drive_with_selenium(authority, site):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By

    options = webdriver.ChromeOptions()
    options.debugger_address = authority
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.get(site)
        driver.find_element(By.NAME, "user").send_keys("ada")
        return driver.title
    finally:
        driver.quit()


@pytest.mark.parametrize(
    ("argument", "status", "words"), [("nonsense", 2, "'nonsense' is no id"), ("0" * 32, 1, "404")]
)
def test_what_the_command_cannot_do(server, argument, status, words):
    done = programs.run(
        [sys.executable, "-m", "cdpbridge", "tunnel", argument],
        env=server.environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == status
    assert words in done.stderr
