"""One browser of each build for all files here that ask for it, tabs of their own for their tests, and a site of many pages."""

import asyncio
import threading
from contextlib import ExitStack
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import cdpbridge
from cdpbridge import sync
from cdpbridge.browser import Tab
from cdpbridge.errors import CDPError
from tests import programs


class Site:
    """A site on loopback, under two names that are two sites for a browser: what is embedded from the other has its own process.

    Attributes:
        pages: Path to HTML; tests add theirs.
        answers: Path to status, headers and body, or to a function that makes them of a request's headers.
        seen: Method and path of each request.
        logins: Path of each request, and what it had for the server's authentication.
        bodies: What was posted.
    """

    def __init__(self):
        self.pages = {"/": "<title>Start</title><h1>Start</h1>"}
        self.answers = {}
        self.seen = []
        self.logins = []
        self.bodies = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                site.seen.append((self.command, self.path))
                path = self.path.partition("?")[0]
                site.logins.append((path, self.headers["Authorization"]))
                status, headers, body = site.answer(path, self.headers)
                length = headers.pop("Content-Length", str(len(body)))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if status != 204:
                    self.send_header("Content-Length", length)
                if length != str(len(body)):
                    self.close_connection = True
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                site.bodies.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
                self.do_GET()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.other = f"http://localhost:{self._server.server_port}"

    def answer(self, path, headers):
        if path in self.answers:
            found = self.answers[path]
            status, headers, body = found(headers) if callable(found) else found
            return status, dict(headers), body
        if path in self.pages:
            return 200, {"Content-Type": "text/html; charset=utf-8"}, self.pages[path].encode()
        return 404, {"Content-Type": "text/html"}, b"<title>Not found</title>"

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def pages():
    site = Site()
    yield site
    site.close()


@pytest.fixture(scope="session")
def address_of_build(tmp_path_factory):
    """Gives the address of a browser of a build, which is started when the first test asks for it and stays for the others."""
    found = {}
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        programs.fork_local_servers(patch)

        def address_of_build(build):
            if build not in found:
                folder = tmp_path_factory.mktemp(f"tabs-{build}")
                # So that frames of other sites have processes of their own, however little memory the machine has.
                arguments = ["--site-per-process"]
                client = stack.enter_context(
                    sync.local(data_dir=folder, browser_build=build, browser_args=arguments)
                )
                browser = client.browsers.create(timeout=timedelta(hours=2))
                stack.callback(client.browsers.stop, browser.id)
                found[build] = browser.cdp_url
            return found[build]

        yield address_of_build


@pytest.fixture(scope="session", params=["shell", "full"])
def cdp_url(request, address_of_build):
    """Address of a browser of one build."""
    return address_of_build(request.param)


@pytest.fixture
def failures():
    """What handlers of the tests have raised, and on which event."""
    return []


@pytest.fixture
async def connection(cdp_url, failures):
    async with cdpbridge.cdp.connect(
        cdp_url, on_handler_error=lambda error, _session, what: failures.append((error, what))
    ) as connection:
        yield connection


class KeptTabs:
    """The tab of the test before, as a new one: a tab in a context of its own takes 0.1 s of CPU, in the full build 0.3 s."""

    def __init__(self):
        self._kept = {}  # address of a browser: context and target

    async def take(self, address, connection):
        """A session on a tab that shows about:blank, without cookies, history and other tabs in its context."""
        if address in self._kept:
            context, target = self._kept.pop(address)
            try:
                async with asyncio.timeout(10):
                    await self._clean(connection, context, target)
                    return context, await connection.attach(target)
            except (CDPError, TimeoutError):  # the test has closed it, or has left it with a dialog
                await connection.root.send("Target.disposeBrowserContext", {"browserContextId": context})
        context = (await connection.root.send("Target.createBrowserContext"))["browserContextId"]
        return context, await connection.new_tab(browser_context_id=context)

    @staticmethod
    async def _clean(connection, context, target):
        root = connection.root
        for each in await connection.targets():
            if each.browser_context_id == context and each.type == "page" and each.target_id != target:
                await root.send("Target.closeTarget", {"targetId": each.target_id})
        await root.send("Browser.resetPermissions", {"browserContextId": context})
        await root.send("Storage.clearCookies", {"browserContextId": context})
        session = await connection.attach(target)
        await session.send("Page.navigate", {"url": "about:blank"})
        await session.send("Page.resetNavigationHistory")
        await session.send("Runtime.evaluate", {"expression": "window.name = ''"})
        await session.detach()

    def keep(self, address, context, target):
        self._kept[address] = context, target


@pytest.fixture(scope="session")
def kept_tabs():
    return KeptTabs()


@pytest.fixture
async def page(connection, cdp_url, kept_tabs):
    """A tab that is alone in its context, as a new one."""
    context, session = await kept_tabs.take(cdp_url, connection)
    yield Tab(session)
    if connection.closed:
        return
    try:
        await session.detach()  # what it has set ends here, and not during the next test
    except CDPError:
        await connection.root.send("Target.disposeBrowserContext", {"browserContextId": context})
    else:
        kept_tabs.keep(cdp_url, context, session.target_id)


@pytest.fixture
async def own_page(connection):
    """A tab in a context of its own, for tests of what outlives a document: storage, credentials, downloads."""
    context = (await connection.root.send("Target.createBrowserContext"))["browserContextId"]
    yield Tab(await connection.new_tab(browser_context_id=context))
    if not connection.closed:
        await connection.root.send("Target.disposeBrowserContext", {"browserContextId": context})
