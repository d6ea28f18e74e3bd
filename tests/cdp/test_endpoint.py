"""Addresses: what users give, what servers answer, and what stands between."""

import asyncio
import base64
import json
import ssl
import subprocess
import traceback
from datetime import timedelta

import psutil
import pytest

from cdpbridge.cdp import Endpoint, connect, resolve
from cdpbridge.cdp._endpoint import check_headers
from cdpbridge.cdp._http import ResponseReader
from cdpbridge.errors import ConfigurationError, ConnectFailed
from cdpbridge.testing import ScriptedBrowser
from tests.cases import cases

SHORT = timedelta(milliseconds=500)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for scheme in ("http", "https", "all", "no", "ws", "wss"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme}_proxy".upper(), raising=False)


class RawServer:
    """Answers every connection with fixed bytes, or never."""

    def __init__(self, answer=None, *, end=True):
        self.answer, self.end, self.seen = answer, end, []
        self.writers = []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        self.authority = f"127.0.0.1:{self.port}"
        return self

    async def _serve(self, reader, writer):
        self.writers.append(writer)
        try:
            self.seen.append(await reader.readuntil(b"\r\n\r\n"))
            if self.answer is not None:
                writer.write(self.answer(self.seen[-1]) if callable(self.answer) else self.answer)
                await writer.drain()
                if self.end:
                    writer.close()
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass

    async def __aexit__(self, *_):
        self.server.close()
        for writer in self.writers:
            writer.close()
        await self.server.wait_closed()
        for _ in range(10):
            await asyncio.sleep(0)


def http(body="{}", status="200 OK", headers=""):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n{body}".encode()


def version(url):
    return json.dumps({"Browser": "X/1", "webSocketDebuggerUrl": url})


def sockets():
    return {
        (c.laddr, c.raddr)
        for c in psutil.Process().net_connections("tcp")
        if c.status in {"ESTABLISHED", "SYN_SENT"}
    }


@pytest.fixture
def no_socket_left(wait_until):
    before = sockets()

    async def check():
        await wait_until(lambda: not sockets() - before)

    return check


# --- what addresses mean ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("ws://h:1/devtools/browser/x", "ws://h:1/devtools/browser/x"),
        ("wss://h/devtools/browser/x?token=t", "wss://h/devtools/browser/x?token=t"),
        ("http://h:1/devtools/browser/x", "ws://h:1/devtools/browser/x"),
        ("https://h/p/devtools/page/x", "wss://h/p/devtools/page/x"),
        ("h:1/devtools/browser/x", "ws://h:1/devtools/browser/x"),
        ("ws://h:1/cdp/TOKEN", "ws://h:1/cdp/TOKEN"),
        ("wss://h?token=t", "wss://h/?token=t"),
        ("[::1]:5/devtools/browser/x", "ws://[::1]:5/devtools/browser/x"),
    ],
)
async def test_addresses_that_need_no_question(address, url):
    assert (await resolve(address)).url == url


@pytest.mark.parametrize(
    "address", ["", "ftp://h/", "http://", "h:port", "http://h:99999", "a b", "user@h:1"]
)
async def test_what_is_no_address(address):
    with pytest.raises(ConfigurationError):
        await resolve(address)


@pytest.mark.parametrize(
    "form", ["http://{}", "http://{}/", "ws://{}", "ws://{}/", "{}", " {} ", "http://{}/json/version"]
)
async def test_addresses_that_are_asked(form):
    async with RawServer(lambda _: http(version("ws://inner:9/devtools/browser/x"))) as server:
        endpoint = await resolve(form.format(server.authority))
        assert endpoint.url == f"ws://{server.authority}/devtools/browser/x"
        assert server.seen[0].startswith(b"GET /json/version HTTP/1.1\r\n")
        assert f"Host: {server.authority}".encode() in server.seen[0]


async def test_fault_a08_host_and_scheme_stay_the_users():
    inner = "ws://10.0.0.7:9222/devtools/browser/x"
    async with RawServer(lambda _: http(version(inner))) as server:
        assert (
            await resolve(f"http://{server.authority}")
        ).url == f"ws://{server.authority}/devtools/browser/x"
        prefixed = await resolve(f"http://{server.authority}/cdp/TOKEN?key=k")
        assert prefixed.url == f"ws://{server.authority}/cdp/TOKEN/devtools/browser/x?key=k"
        assert server.seen[-1].startswith(b"GET /cdp/TOKEN/json/version?key=k HTTP/1.1\r\n")


async def test_prefix_the_gateway_has_written_itself_is_not_doubled():
    async with RawServer() as server:
        server.answer = http(version(f"ws://{server.authority}/cdp/TOKEN/devtools/browser/x?t=1"))
        endpoint = await resolve(f"http://{server.authority}/cdp/TOKEN/")
        assert endpoint.url == f"ws://{server.authority}/cdp/TOKEN/devtools/browser/x?t=1"


async def test_credentials_in_the_address_become_a_header():
    async with RawServer(lambda _: http(version("ws://x/devtools/browser/x"))) as server:
        endpoint = await resolve(f"http://user:p%40ss@{server.authority}")
        expected = base64.b64encode(b"user:p@ss").decode()
        assert f"Authorization: Basic {expected}".encode() in server.seen[0]
        assert endpoint.url == f"ws://user:p%40ss@{server.authority}/devtools/browser/x"
        assert "p%40ss" not in repr(endpoint)


async def test_headers_go_to_the_discovery_too():
    async with RawServer(lambda _: http(version("ws://x/devtools/browser/x"))) as server:
        await resolve(f"http://{server.authority}", headers={"host": "localhost", "X-Key": "k"})
        assert b"X-Key: k\r\n" in server.seen[0]
        assert server.seen[0].lower().count(b"host:") == 1


async def test_repr_keeps_the_secret():
    assert "TOKENTOKEN" not in repr(Endpoint("ws://h/cdp/TOKENTOKEN"))


@pytest.mark.parametrize(("name", "value"), [("A\r\nB", "x"), ("A", "x\r\nB: y"), ("", "x"), ("A b", "x")])
async def test_headers_cannot_smuggle(name, value):
    with pytest.raises(ConfigurationError):
        check_headers({name: value})
    with pytest.raises(ConfigurationError):
        await connect("ws://127.0.0.1:9/devtools/browser/x", headers={name: value})


# --- discovery gone wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (http("<html>hello</html>"), 200),
        (http('{"Browser": "X"}'), 200),
        (http('{"webSocketDebuggerUrl": 7}'), 200),
        (http("[]"), 200),
        (http("no", "401 Unauthorized"), 401),
        (http("slow down", "429 Too Many Requests"), 429),
        (http("broken", "500 Internal Server Error"), 500),
        (http("", "301 Moved", "Location: https://h/\r\n"), 301),
    ],
)
async def test_fault_a03_discovery_without_an_address(answer, status, no_socket_left):
    async with RawServer(answer) as server:
        with pytest.raises(ConnectFailed) as caught:
            await connect(f"http://{server.authority}")
        await no_socket_left()
    assert (caught.value.stage, caught.value.status) == ("http", status)
    assert caught.value.body == answer.partition(b"\r\n\r\n")[2].decode()
    assert "ws://" in str(caught.value)


async def test_fault_a03_no_discovery_and_no_socket_behind_it(scripted):
    scripted.http["/json/version"] = (404, "nothing here")
    scripted.refusal = (404, "nor here")
    with pytest.raises(ConnectFailed) as caught:
        await connect(scripted.http_url)
    assert (caught.value.stage, caught.value.status, caught.value.body) == ("http", 404, "nothing here")


async def test_bare_socket_behind_an_address_without_discovery(scripted):
    scripted.http.clear()
    async with connect(f"{scripted.http_url}/cdp/TOKEN") as connection:
        await connection.root.send("Browser.getVersion")
    assert [request.path for request in scripted.requests] == ["/cdp/TOKEN/json/version", "/cdp/TOKEN"]


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Le"])
async def test_discovery_that_is_no_http(answer):
    async with RawServer(answer) as server:
        with pytest.raises(ConnectFailed) as caught:
            await connect(f"http://{server.authority}")
    assert caught.value.stage == "http"


# --- sockets gone wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["ws://{}/devtools/browser/x", "http://{}"])
async def test_fault_a01_silence_ends_at_the_deadline(form, no_socket_left, running_loop):
    async with RawServer() as server:
        with pytest.raises(ConnectFailed) as caught:
            await connect(form.format(server.authority), timeout=SHORT)
        await no_socket_left()
    assert caught.value.stage == ("upgrade" if form.startswith("ws") else "http")


async def test_fault_a02_refused_port_at_once():
    for address in ("http://127.0.0.1:9", "ws://127.0.0.1:9/devtools/browser/x", "127.0.0.1:9"):
        with pytest.raises(ConnectFailed, match="refused") as caught:
            await connect(address)
        assert caught.value.stage == "tcp"


async def test_unknown_name():
    with pytest.raises(ConnectFailed) as caught:
        await connect("http://no-such-host.invalid")
    assert caught.value.stage == "dns"


@pytest.mark.parametrize("status", [401, 403, 404, 429, 503])
async def test_fault_a11_refused_upgrade_keeps_status_and_body(scripted, status, no_socket_left):
    scripted.refusal = (status, "because")
    with pytest.raises(ConnectFailed, match="because") as caught:
        await connect(scripted.ws_url)
    assert (caught.value.stage, caught.value.status) == ("upgrade", status)
    assert caught.value.body == "because"
    await no_socket_left()


@pytest.mark.parametrize(
    ("answer", "stage"),
    [
        (b"nonsense\r\n\r\n", "handshake"),
        (
            b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
            "handshake",
        ),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\nupstream", "upgrade"),
        (b"", "handshake"),
    ],
)
async def test_upgrade_answers_that_are_none(answer, stage, no_socket_left):
    async with RawServer(answer) as server:
        with pytest.raises(ConnectFailed) as caught:
            await connect(f"ws://{server.authority}/devtools/browser/x")
        await no_socket_left()
    assert caught.value.stage == stage


async def test_fault_a74_cancelled_connect_leaves_no_socket(no_socket_left, wait_until):
    for form in ("ws://{}/devtools/browser/x", "http://{}"):
        async with RawServer() as server:

            async def attempt(form=form, server=server):
                await connect(form.format(server.authority))

            task = asyncio.ensure_future(attempt())
            await wait_until(lambda server=server: server.seen)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await no_socket_left()


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -keyout key.pem -out cert.pem "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    )
    subprocess.run(
        command.split(),
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


async def test_tls_end_to_end(certificate, running_loop):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    trusting = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    async with ScriptedBrowser(ssl_context=server) as browser:
        inner = f"ws://127.0.0.1:{browser.port}/devtools/browser/scripted"
        browser.http["/json/version"] = (200, version(inner))
        assert (await resolve(browser.http_url, ssl_context=trusting)).url == inner.replace("ws", "wss", 1)
        browser.on("Test.big", {"t": "x" * 3_000_000})
        async with connect(browser.http_url, ssl_context=trusting) as connection:
            assert len((await connection.root.send("Test.big"))["t"]) == 3_000_000
            await asyncio.gather(*(connection.root.send("Test.small", {"n": n}) for n in range(100)))
        with pytest.raises(ConnectFailed) as caught:
            await connect(browser.http_url)
        assert caught.value.stage == "tls"
        for address in (browser.http_url.replace("https", "http"), browser.ws_url.replace("wss", "ws")):
            with pytest.raises(ConnectFailed):
                await connect(address)


async def test_tls_to_a_server_without():
    async with RawServer(b"HTTP/1.1 400 Bad Request\r\n\r\n") as server:
        with pytest.raises(ConnectFailed) as caught:
            await connect(f"https://{server.authority}", timeout=SHORT)
    assert caught.value.stage == "tls"


# --- proxies ----------------------------------------------------------------------------------------------------------


class Proxy:
    """An HTTP proxy that tunnels every host to one port."""

    def __init__(self, port, status="200 OK"):
        self.port_behind, self.status, self.requests = port, status, []
        self.tasks = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def _serve(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(f"HTTP/1.1 {self.status}\r\n\r\n".encode())
        if not self.status.startswith("200"):
            writer.close()
            return
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self.port_behind)

        async def copy(source, sink):
            try:
                while data := await source.read(65536):
                    sink.write(data)
            except ConnectionError:
                pass
            finally:
                sink.close()

        await asyncio.gather(copy(reader, behind_writer), copy(behind_reader, writer))

    async def __aexit__(self, *_):
        self.server.close()
        await self.server.wait_closed()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=5)


async def test_fault_a10_remote_hosts_go_through_the_proxy(scripted, monkeypatch):
    async with Proxy(scripted.port) as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:hunter2@127.0.0.1:{proxy.port}")
        async with connect("http://browser.example:9222") as connection:
            await connection.root.send("Browser.getVersion")
        assert [request.split()[1] for request in proxy.requests] == ["browser.example:9222"] * 2
        expected = base64.b64encode(b"user:hunter2").decode()
        assert f"Proxy-Authorization: Basic {expected}" in proxy.requests[0]


async def test_fault_a10_loopback_never_goes_through_it(scripted, monkeypatch):
    for name in ("http_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with connect(scripted.http_url) as connection:
        await connection.root.send("Browser.getVersion")
    async with connect(f"localhost:{scripted.port}") as connection:
        await connection.root.send("Browser.getVersion")


async def test_fault_a10_error_names_the_proxy_without_its_password(scripted, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://user:hunter2@127.0.0.1:9")
    with pytest.raises(ConnectFailed, match=r"http://127\.0\.0\.1:9") as caught:
        await connect("http://browser.example:9222")
    assert caught.value.stage == "proxy"
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    async with Proxy(scripted.port, "407 Proxy Authentication Required") as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{proxy.port}")
        with pytest.raises(ConnectFailed, match=f"127.0.0.1:{proxy.port}") as caught:
            await connect("ws://browser.example:9222/devtools/browser/x")
        assert (caught.value.stage, caught.value.status) == ("proxy", 407)
    async with RawServer(b"") as silent:
        monkeypatch.setenv("HTTP_PROXY", silent.authority)
        with pytest.raises(ConnectFailed, match=silent.authority) as caught:
            await connect("ws://browser.example:9222/devtools/browser/x")
        assert caught.value.stage == "proxy"


async def test_proxy_of_another_kind_is_named(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://user:hunter2@h:1080")
    with pytest.raises(ConnectFailed, match="socks5://h:1080") as caught:
        await connect("http://browser.example")
    assert caught.value.stage == "proxy"
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "exceptions", ["*", "127.0.0.2,.invalid", "no-such-host.invalid", "no-such-host.invalid:80", " invalid"]
)
async def test_no_proxy_is_obeyed(monkeypatch, exceptions):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", exceptions)
    with pytest.raises(ConnectFailed) as caught:
        await connect("http://no-such-host.invalid:80")
    assert caught.value.stage == "dns"


async def test_http_proxy_of_a_cgi_request_is_not_trusted(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("REQUEST_METHOD", "GET")
    with pytest.raises(ConnectFailed) as caught:
        await connect("http://no-such-host.invalid:80")
    assert caught.value.stage == "dns"


# --- HTTP -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
            b"hello",
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)
def test_response_in_every_cut(data, body):
    for cut in range(1, len(data)):
        reader = ResponseReader()
        response = reader.feed(data[:cut]) or reader.feed(data[cut:]) or reader.feed(b"")
        assert response.body == body
    reader = ResponseReader()
    answers = [reader.feed(data[at : at + 1]) for at in range(len(data))]
    found = [each for each in answers if each is not None] or [reader.feed(b"")]
    assert [each.body for each in found] == [body]


@cases(
    "data",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",  # cut off
        b"x" * 70_000,
    ],
)
def test_response_that_is_none(data):
    reader = ResponseReader()
    with pytest.raises(ValueError, match=r"no HTTP answer|cut off|without an answer"):
        reader.feed(data) if data else None
        reader.feed(b"")


def test_an_interim_response_is_no_answer():
    reader = ResponseReader()
    assert reader.feed(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n") is None
    assert reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").body == b"{}"


@pytest.mark.parametrize("status", [200, 407])
def test_a_tunnels_answer_has_no_body(status):
    """What a proxy sends behind the head of its answer to CONNECT is not waited for."""
    reader = ResponseReader(tunnel=True)
    assert reader.feed(b"HTTP/1.1 %d X\r\nContent-Length: 900\r\n\r\n" % status).status == status


async def test_endless_answer_is_cut():
    async with RawServer(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 3_000_000, end=False) as server:
        with pytest.raises(ConnectFailed, match="too long"):
            await connect(f"http://{server.authority}")
