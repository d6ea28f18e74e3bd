"""Viewers of both kinds: a bare socket, for what a page would never send, and the page in a real browser."""

import asyncio
import base64
import json
import struct
from contextlib import asynccontextmanager, suppress
from uuid import UUID

import pytest
import websockets

from cdpbridge.cdp import connect


class Shares:
    """A directory of shares in memory."""

    def __init__(self):
        self.browsers = {}
        self.views = 0

    async def view(self, token):
        browser_id = self.browsers.get(token)
        self.views += browser_id is not None
        return browser_id


class Socket:
    """A viewer without a page: everything it was sent, and a hand to send anything."""

    def __init__(self, socket, acknowledge):
        self.socket = socket
        self.acknowledge = acknowledge
        self.pictures = 0
        self.last = b""
        self.size = None
        self.status = {}
        self.news = []
        self.end = None
        self.changed = asyncio.Event()

    async def read(self):
        with suppress(websockets.ConnectionClosed):
            async for message in self.socket:
                await self.take(message)
        self.changed.set()

    async def take(self, message):
        if isinstance(message, bytes):
            number, *self.size = struct.unpack("!Iff", message[:12])
            self.pictures += 1
            self.last = message[12:]
            if self.acknowledge:
                await self.send(type="ack", number=number)
        else:
            content = json.loads(message)
            self.news.append(content)
            if content["type"] == "status":
                self.status = content
            if content["type"] == "end":
                self.end = content
        self.changed.set()

    async def send(self, **message):
        await self.socket.send(json.dumps(message))

    async def until(self, condition, timeout=60):
        """Wait for what the server will tell."""
        async with asyncio.timeout(timeout):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def drive(self):
        await self.send(type="drive", on=True)
        await self.until(lambda: self.status.get("driving"))

    async def mouse(self, x, y, **more):
        for kind in ("move", "down", "up"):
            button = "none" if kind == "move" else "left"
            clicks = 0 if kind == "move" else 1
            await self.send(type="mouse", kind=kind, x=x, y=y, button=button, clicks=clicks, **more)

    def told(self, kind):
        return [content for content in self.news if content["type"] == kind]


class Page:
    """A page of the watched browser, in the automation's hands."""

    def __init__(self, session):
        self.session = session

    async def run(self, expression):
        params = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        return (await self.session.send("Runtime.evaluate", params))["result"].get("value")

    async def until(self, expression, wanted, timeout=60):
        """Poll a value that only the page can change."""
        async with asyncio.timeout(timeout):
            while (found := await self.run(expression)) != wanted:
                await asyncio.sleep(0.02)
        return found


class Rented:
    """A rented browser with its automation, and viewers of it."""

    def __init__(self, server, record, automation):
        self.server = server
        self.record = record
        self.automation = automation
        self.id = UUID(record["id"])
        self.live_url = record["liveUrl"]

    @property
    def live(self):
        return self.server.app.state.services.live

    async def open(self, html):
        url = "data:text/html;base64," + base64.b64encode(f"<meta charset=utf-8>{html}".encode()).decode()
        page = Page(await self.automation.new_tab(url))
        # A new tab is a blank page first, which is complete too.
        await page.until("location.protocol === 'data:' && document.readyState", "complete")
        return page

    @asynccontextmanager
    async def viewer(self, token=None, *, share=False, acknowledge=True):
        base, _, own = self.live_url.rpartition("/")
        address = f"{base.replace('http', 'ws', 1)}/socket"
        async with websockets.connect(address, max_size=None) as socket:
            viewer = Socket(socket, acknowledge)
            await viewer.send(type="hello", token=token or own, share=share)
            reading = asyncio.create_task(viewer.read())
            try:
                yield viewer
            finally:
                await socket.close()
                await reading

    @asynccontextmanager
    async def watching(self, **options):
        """A viewer that sees something."""
        async with self.viewer(**options) as viewer:
            await viewer.until(lambda: viewer.status.get("state") == "live")
            yield viewer

    async def stop(self):
        await self.server.stop(self.record)

    def casts(self):
        """Attachments of the server's own connection, besides the root."""
        browser = self.server.app.state.services.hosts._browsers[self.id]
        return browser.connection.sessions[1:]

    async def nobody_watches(self, timeout=60):
        async with asyncio.timeout(timeout):
            while self.casts():
                await asyncio.sleep(0.01)


@pytest.fixture
def make_rented(make_server):
    """A server, a browser on it, and an automation that drives it, as a block."""

    @asynccontextmanager
    async def make_rented(**settings):
        async with make_server(**settings) as server:
            record = await server.rent()
            async with connect(record["cdpUrl"]) as automation:
                yield Rented(server, record, automation)

    return make_rented


@pytest.fixture
async def rented(make_rented):
    async with make_rented() as rented:
        yield rented


@pytest.fixture
def shares(rented):
    shares = Shares()
    rented.live._view_share = shares.view
    return shares


@pytest.fixture
async def viewers_browser():
    """The browser in which a person looks at the live page."""
    from cdpbridge import playwright
    from tests.server.shared_chrome import shared_chrome

    # In a root process the browser has a uid of its own, and does not see Playwright's folder.
    async with playwright.connect(shared_chrome(), tunnel=True) as browser:
        yield browser
