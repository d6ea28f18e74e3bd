"""HTTP authentication: unanswered it holds nothing up, answered it serves one origin; in both builds."""

import asyncio
import base64
import logging
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

import cdpbridge
from cdpbridge import playwright, sync
from cdpbridge.browser import Tab
from cdpbridge.cdp._http_auth import log_in
from cdpbridge.cdp._http_credentials import HttpCredentials
from cdpbridge.errors import CommandTimeout, ConfigurationError, NavigationError
from tests.conftest import until

pytestmark = pytest.mark.chromium

USER, PASSWORD = "ada-u5er", "love:l@ce w0rd"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
GIVEN = {"username": USER, "password": PASSWORD}
CHALLENGES = {
    "basic": 'Basic realm="one"',
    "digest": 'Digest realm="one", qop="auth", nonce="n1", algorithm=MD5',
    "negotiate": "Negotiate",
    "ntlm": "NTLM",
    "unknown": "Sesame realm=one",
    "several": 'Negotiate, NTLM, Basic realm="one"',
}
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


@pytest.fixture
def page(own_page):
    """Credentials stay in a context."""
    return own_page


def behind(challenge, content_type, body, **more):
    """Return an answer that needs the login."""

    def answer(headers):
        if headers["Authorization"] == BASIC:
            return 200, {"Content-Type": content_type, **more}, body
        return (
            401,
            {"WWW-Authenticate": challenge, "Content-Type": "text/html", **more},
            b"<title>No entry</title>",
        )

    return answer


SERVICE_WORKER = b"""onactivate = event => event.waitUntil(clients.claim());
onfetch = event => { if (event.request.url.endsWith('/by-service')) event.respondWith(fetch('/in/data')) };"""
PARTS = """<title>Parts</title><img src=/in/a.png><link rel=stylesheet href=/in/s.css><script src=/in/s.js></script>
<iframe src=/in/frame></iframe><iframe src='{other}/in/frame'></iframe>
<script>
  const request = new XMLHttpRequest();
  request.open('GET', '/in/data', false); request.send();
  const later = fetch('/in/data').then(answer => answer.status);
  const worker = new Promise(found => {{ new Worker('/worker.js').onmessage = event => found(event.data) }});
  const picture = new Promise(found => {{
    const img = new Image(); img.onload = () => found('there'); img.onerror = () => found('broken'); img.src = '/in/b.png';
  }});
  const all = () => Promise.all([request.status, later, worker, picture]);
</script>"""


@pytest.fixture(autouse=True)
def answers(pages):
    pages.pages |= {"/parts": PARTS.format(other=pages.other), "/open": "<title>Open</title>"}
    pages.answers |= {
        **{
            f"/login/{name}": behind(challenge, "text/html", b"<title>Welcome</title>")
            for name, challenge in CHALLENGES.items()
        },
        "/in/a.png": behind('Basic realm="one"', "image/png", PNG),
        "/in/b.png": behind('Basic realm="two"', "image/png", PNG),
        "/in/s.css": behind('Basic realm="one"', "text/css", b""),
        "/in/s.js": behind('Basic realm="one"', "text/javascript", b""),
        "/in/frame": behind('Basic realm="one"', "text/html", b"<title>Frame</title>"),
        "/in/data": behind('Basic realm="one"', "text/plain", b"data"),
        "/worker.js": (
            200,
            {"Content-Type": "text/javascript"},
            b"fetch('/in/data').then(a => postMessage(a.status))",
        ),
        "/away": (302, {"Location": f"{pages.other}/login/basic"}, b""),
        "/again": (302, {"Location": "/login/basic"}, b""),
    }


@pytest.fixture
def other_site(pages):
    """The same on another port: another origin of the same site."""
    site = type(pages)()
    site.pages, site.answers = pages.pages, pages.answers
    yield site
    site.close()


@pytest.fixture
def proxy():
    """A proxy that asks for a login; it notes what it gets."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            got.append((self.command, self.headers["Authorization"], self.headers["Proxy-Authorization"]))
            self.send_response(407)
            self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "28")
            self.end_headers()
            self.wfile.write(b"<title>Proxy login</title>   ")

        do_CONNECT = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    server.server_close()
    thread.join()


def logins(pages, path):
    """What was sent to authenticate, request by request."""
    return [login for asked, login in pages.logins if asked == path]


# --- unanswered -----------------------------------------------------------------------------------------------------------


async def test_fault_c04_a_document_without_a_login(page, pages):
    """Also again, and by ways that are no `goto`."""
    for name, challenge in CHALLENGES.items():
        response = await page.goto(f"{pages.url}/login/{name}")
        assert (response.status, await page.title()) == (401, "No entry"), name
        assert response.headers["www-authenticate"] == challenge
    assert (await page.reload()).status == 401
    assert (await page.goto(f"{pages.url}/open")).status == 200
    assert (await page.back()).status == 401
    assert await page.title() == "No entry"
    assert {login for _, login in pages.logins} == {None}


@pytest.mark.parametrize("way", ["plain", "blocked", "routed"])
async def test_fault_c04_parts_of_a_page_without_a_login(page, pages, way):
    seen = []
    if way == "blocked":
        await page.block(types=["media"], urls=["*/nothing"])
    if way == "routed":
        await page.route("*/in/s.css", lambda route: seen.append(route.request.url))
    assert (await page.goto(f"{pages.url}/parts", wait_until="networkidle")).status == 200
    assert await page.evaluate("all()") == [401, 401, 401, "broken"]
    assert len(seen) == (way == "routed")
    assert len(logins(pages, "/in/frame")) == 2
    await page.block()
    await page.unroute("*/in/s.css")
    assert (await page.reload()).status == 200
    assert {login for _, login in pages.logins} == {None}


async def test_fault_c04_popups_without_a_login(connection, page, pages):
    await page.goto(f"{pages.url}/open")
    await page.evaluate("window.open('/login/basic'); window.open('/login/ntlm', '_blank', 'noopener'); 1")
    wanted = {f"{pages.url}/login/basic", f"{pages.url}/login/ntlm"}
    async with asyncio.timeout(60):
        while {each.url for each in await connection.targets() if each.title == "No entry"} != wanted:
            await asyncio.sleep(0.01)


async def test_fault_c04_in_a_context_after_the_end_of_an_older_one(connection, pages):
    """Chromium takes the extensions from the context that was made last, when another one ends: here ever again the other."""
    send = connection.root.send
    old = await send("Target.createBrowserContext")
    for _ in range(3):
        new = await send("Target.createBrowserContext")
        await send("Target.disposeBrowserContext", old)
        tab = Tab(await connection.new_tab(browser_context_id=new["browserContextId"]))
        response = await tab.goto(f"{pages.url}/login/basic", timeout=20)
        assert (response.status, await tab.title()) == (401, "No entry")
        old = new
    await send("Target.disposeBrowserContext", old)


async def test_fault_c04_a_proxy_without_a_login(connection, pages, proxy):
    address, got = proxy
    context = await connection.root.send("Target.createBrowserContext", {"proxyServer": address})
    tab = Tab(await connection.new_tab(browser_context_id=context["browserContextId"]))
    response = await tab.goto("http://shop.test/", http_credentials=GIVEN)
    assert (response.status, await tab.title()) == (407, "Proxy login")
    with pytest.raises(NavigationError):
        await tab.goto("https://shop.test/", http_credentials=GIVEN)
    assert {each[1:] for each in got} == {(None, None)}
    await connection.root.send("Target.disposeBrowserContext", context)


# --- answered ---------------------------------------------------------------------------------------------------------------


async def test_fault_c13_all_requests_of_the_origin_and_no_other(page, pages):
    response = await page.goto(f"{pages.url}/parts", http_credentials=GIVEN)
    assert response.status == 200
    assert await page.evaluate("all()") == [200, 200, 200, "there"]
    assert BASIC in logins(pages, "/in/b.png")
    assert (await page.goto(f"{pages.url}/again")).status == 200
    # The same host by another name is another origin; it was asked for a frame above.
    pages.logins.clear()
    assert (await page.goto(f"{pages.other}/login/basic")).status == 401
    assert (await page.goto(f"{pages.url}/away")).status == 401
    assert (await page.goto(f"{pages.other}/parts")).status == 200
    assert await page.evaluate("all()") == [401, 401, 401, "broken"]
    assert {login for path, login in pages.logins if path.startswith("/login")} == {None}


async def test_fault_c13_another_port_is_another_origin(page, pages, other_site):
    await page.goto(f"{pages.url}/login/basic", http_credentials=GIVEN)
    assert await page.title() == "Welcome"
    assert (await page.goto(f"{other_site.url}/login/basic")).status == 401
    assert {login for _, login in other_site.logins} == {None}


async def test_fault_c13_a_login_in_the_address(page, pages):
    secret = f"{USER}:love%3Al%40ce%20w0rd@"
    with_login = pages.url.replace("http://", f"http://{secret}")
    response = await page.goto(f"{with_login}/parts")
    assert (response.status, response.url) == (200, f"{pages.url}/parts")
    assert await page.current_url() == f"{pages.url}/parts"
    assert await page.evaluate("all()") == [200, 200, 200, "there"]


async def test_fault_c13_digest(page, pages):
    found = []

    def answer(headers):
        found.append(headers["Authorization"])
        if found[-1] is None:
            return 401, {"WWW-Authenticate": CHALLENGES["digest"]}, b""
        return 200, {"Content-Type": "text/html"}, b"<title>Welcome</title>"

    pages.answers["/digest"] = answer
    assert (await page.goto(f"{pages.url}/digest", http_credentials=GIVEN)).status == 200
    assert found[0] is None
    assert re.match(f'Digest username="{USER}", realm="one", nonce="n1"', found[1])


async def test_fault_c13_wrong_credentials_are_tried_once(page, pages):
    wrong = HttpCredentials(USER, "wrong")
    response = await page.goto(f"{pages.url}/login/basic", http_credentials=wrong)
    assert (response.status, await page.title()) == (401, "No entry")
    assert len(logins(pages, "/login/basic")) == 2
    assert (await page.goto(f"{pages.url}/parts")).status == 200
    assert await page.evaluate("all()") == [401, 401, 401, "broken"]
    # Right ones, later, take their place.
    assert (await page.goto(f"{pages.url}/login/basic", http_credentials=GIVEN)).status == 200


async def test_fault_c13_with_routes(page, pages):
    """A route may also change or answer requests that need the login."""
    await page.route("*/in/b.png", lambda route: route.continue_(headers={"X-Mine": "1"}))
    await page.route("*/in/data", lambda route: route.fulfill(body="mine"))
    await page.goto(f"{pages.url}/parts", http_credentials=GIVEN)
    assert await page.evaluate("all()") == [200, 200, 200, "there"]
    assert logins(pages, "/in/data") == []
    await page.unroute("*/in/data")
    await page.reload()
    assert await page.evaluate("all()") == [200, 200, 200, "there"]
    assert BASIC in logins(pages, "/in/data")


async def test_fault_c13_every_page_of_a_browser(connection, pages, other_site):
    """Opened by us, by the page, by another client; frames of other origins, workers that serve several pages too."""
    origins = pages.url, pages.other, other_site.url
    pages.pages["/opens"] = "".join(f"<iframe src='{each}/in/frame'></iframe>" for each in origins)
    pages.answers["/service.js"] = (200, {"Content-Type": "text/javascript"}, SERVICE_WORKER)
    await log_in(connection, [HttpCredentials(USER, PASSWORD, each) for each in origins])
    context = await connection.root.send("Target.createBrowserContext")
    tab = Tab(await connection.new_tab(browser_context_id=context["browserContextId"]))
    assert (await tab.goto(f"{pages.url}/opens")).status == 200
    served = logins(pages, "/in/frame").count(BASIC)
    # The full build sends no credentials of any kind for what another site embeds, third-party cookies among them.
    full = (await connection.root.send("Browser.getVersion"))["product"].startswith("Chrome/")
    assert served == (1 if full else 2)
    assert BASIC in logins(other_site, "/in/frame")
    pages.logins.clear()
    assert (await tab.goto(f"{pages.url}/open")).status == 200
    await tab.evaluate("window.open('/login/basic'); window.open('/in/frame', '_blank', 'noopener'); 1")
    await until(lambda: {path for path, login in pages.logins if login} >= {"/login/basic", "/in/frame"})
    found = await tab.evaluate(
        "navigator.serviceWorker.register('/service.js').then(() => navigator.serviceWorker.ready)"
        ".then(() => navigator.serviceWorker.controller || new Promise("
        "done => navigator.serviceWorker.oncontrollerchange = done))"
        ".then(() => fetch('/by-service')).then(answer => answer.status)"
    )
    assert found == 200
    # A tab with rules and credentials of its own.
    await tab.block(types=["font"])
    assert (await tab.goto(f"{pages.url}/login/basic")).status == 200
    await connection.root.send("Target.disposeBrowserContext", context)


async def test_fault_c13_nothing_shows_them(connection, page, pages, caplog):
    caplog.set_level(logging.DEBUG)
    secret = [PASSWORD, USER, BASIC.split()[1], "love%3Al%40ce%20w0rd"]
    nowhere = f"http://{USER}:love%3Al%40ce%20w0rd@127.0.0.1:9/"
    told = []
    with pytest.raises(NavigationError) as failed:
        await page.goto(nowhere)
    assert failed.value.url == "http://127.0.0.1:9/"
    told.append(str(failed.value))
    await page.goto(f"{pages.url}/login/basic", http_credentials=GIVEN)
    with pytest.raises(CommandTimeout) as late:
        await page.goto(nowhere.replace("127.0.0.1:9/", pages.url.removeprefix("http://")), timeout=0.001)
    told.append(str(late.value))
    with pytest.raises(ConfigurationError) as wrong:
        await page.goto("about:blank", http_credentials=GIVEN)
    told += [
        str(wrong.value),
        caplog.text,
        *connection.flight_record(),
        repr(page),
        repr(page._interception._auth),
    ]
    assert not [each for each in told for word in secret if word in each]


# --- other clients ------------------------------------------------------------------------------------------------------------


async def test_fault_c04_c13_playwright(cdp_url, pages):
    """Without credentials nothing hangs; with its own it goes on as ever."""
    async with playwright.connect(cdp_url) as browser:
        context = await browser.new_context()
        plain = await context.new_page()
        assert (await plain.goto(f"{pages.url}/login/basic")).status == 401
        assert (await plain.goto(f"{pages.url}/parts")).status == 200
        assert await plain.evaluate("all()") == [401, 401, 401, "broken"]
        await context.close()
        context = await browser.new_context(http_credentials=GIVEN)
        known = await context.new_page()
        assert (await known.goto(f"{pages.url}/login/basic")).status == 200
        assert (await known.goto(f"{pages.url}/parts")).status == 200
        assert await known.evaluate("all()") == [200, 200, 200, "there"]
        await context.close()
        context = await browser.new_context(http_credentials={**GIVEN, "password": "wrong"})
        assert (await (await context.new_page()).goto(f"{pages.url}/login/basic")).status == 401
        await context.close()


# --- in every way that opens a page -------------------------------------------------------------------------------------------


@pytest.mark.one_build(
    "how credentials come to the tab; what it does with them is tested above on both builds"
)
async def test_fault_c13_open_browser_pool_and_blocking(server, pages):
    given = {**GIVEN, "origin": pages.url}
    async with cdpbridge.at(server.base_url, server.key) as client:
        async with cdpbridge.open_browser(client, http_credentials=given) as browser:
            assert await (await browser.new_tab(f"{pages.url}/login/basic")).title() == "Welcome"
            assert await (await browser.new_tab(f"{pages.other}/login/basic")).title() == "No entry"
        async with cdpbridge.BrowserPool(client, size=1, http_credentials=given) as pool, pool.tab() as tab:
            assert (await tab.goto(f"{pages.url}/login/basic")).status == 200

    def blocking():
        with sync.open_browser(sync.at(server.base_url, server.key), http_credentials=[given]) as browser:
            tab = browser.new_tab(f"{pages.url}/login/basic")
            assert tab.title() == "Welcome"
            response = tab.goto(f"{pages.other}/login/basic", http_credentials=GIVEN)
            assert response.status == 200

    await asyncio.to_thread(blocking)
