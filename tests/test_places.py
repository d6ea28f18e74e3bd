"""Provider, base URL and key belong together, whatever front door is used: the rule of `cdpbridge.api._place.find_place`."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import cdpbridge
from cdpbridge.api._place import DEFAULT_BASE_URL, checked_base_url, find_place
from cdpbridge.errors import APIError, ConfigurationError
from cdpbridge.providers import provider
from tests import programs
from tests.cases import cases

A = "http://a.test:8700/api/v2"
B = "http://b.test:8700/api/v2"
CLOUD = DEFAULT_BASE_URL
CLOUD_V3 = "https://api.browser-use.com/api/v3"
LOCAL = (None, "")
WORDS = {"P": "CDPBRIDGE_PROVIDER", "U": "CDPBRIDGE_BASE_URL", "K": "BROWSER_USE_API_KEY"}


def variables(P=None, U=None, K=None):  # the table's columns
    return {WORDS[name]: value for name, value in {"P": P, "U": U, "K": K}.items() if value is not None}


# environment; what the call names; its key; where it leads: an address and a key, or the words that refuse
TABLE = [
    # nothing but a key
    ({}, None, None, LOCAL),
    ({"K": "k"}, None, None, (CLOUD, "k")),
    ({}, None, "x", (CLOUD, "x")),
    ({"K": "k"}, None, "x", (CLOUD, "x")),
    # one word in the environment
    ({"P": "cloud"}, None, None, ["BROWSER_USE_API_KEY"]),
    ({"P": "cloud", "K": "k"}, None, None, (CLOUD, "k")),
    ({"P": "local"}, None, None, LOCAL),
    ({"P": "local", "K": "k"}, None, None, LOCAL),
    ({"P": " Cloud ", "K": "k"}, None, None, (CLOUD, "k")),
    ({"P": "LOCAL", "K": "k"}, None, None, LOCAL),
    ({"P": A, "K": "k"}, None, None, (A, "k")),
    ({"P": A.upper().replace("/API/V2", "/api/v2/"), "K": "k"}, None, None, (A, "k")),
    ({"P": A}, None, None, ["BROWSER_USE_API_KEY"]),
    ({"P": A}, None, "x", (A, "x")),
    ({"P": A, "K": "k"}, None, "x", (A, "x")),
    ({"P": "", "U": "", "K": ""}, None, None, LOCAL),
    # an address in the environment
    ({"U": A, "K": "k"}, None, None, (A, "k")),
    ({"U": A}, None, None, ["BROWSER_USE_API_KEY"]),
    ({"U": A}, None, "x", (A, "x")),
    # both
    ({"P": A, "U": A + "/", "K": "k"}, None, None, (A, "k")),
    ({"P": A, "U": B, "K": "k"}, None, None, ["CDPBRIDGE_PROVIDER=http://a", "CDPBRIDGE_BASE_URL=http://b"]),
    ({"P": "cloud", "U": A, "K": "k"}, None, None, ["CDPBRIDGE_PROVIDER=cloud", "CDPBRIDGE_BASE_URL=http://a"]),
    ({"P": "local", "U": A, "K": "k"}, None, None, ["CDPBRIDGE_PROVIDER=local", "CDPBRIDGE_BASE_URL=http://a"]),
    ({"P": "cloud", "U": CLOUD, "K": "k"}, None, None, (CLOUD, "k")),
    ({"P": "cloud", "U": CLOUD_V3, "K": "k"}, None, None, (CLOUD_V3, "k")),
    ({"P": "cloud", "U": A, "K": "k"}, None, "x", ["CDPBRIDGE_PROVIDER=cloud", "CDPBRIDGE_BASE_URL=http://a"]),
    # the embedded server takes no key
    ({"P": "local"}, None, "x", ["api_key", "CDPBRIDGE_PROVIDER=local"]),
    ({}, "local", "x", ["api_key", "local"]),
    # the call names a place: it wins, with a key of its own whatever the environment says
    ({"P": "cloud", "U": A, "K": "k"}, "local", None, LOCAL),
    ({"P": "cloud", "U": A, "K": "k"}, B, "x", (B, "x")),
    ({"P": A, "K": "k"}, "cloud", "x", (CLOUD, "x")),
    ({"P": A, "K": "k"}, B, "x", (B, "x")),
    # ... and with the environment's key where that was given for it
    ({"K": "k"}, "cloud", None, (CLOUD, "k")),
    ({"P": "cloud", "K": "k"}, "cloud", None, (CLOUD, "k")),
    ({"P": "cloud", "U": CLOUD_V3, "K": "k"}, "cloud", None, (CLOUD_V3, "k")),
    ({"P": "local", "K": "k"}, "cloud", None, (CLOUD, "k")),
    ({"P": "local", "K": "k"}, A, None, (A, "k")),
    ({"K": "k"}, A, None, (A, "k")),
    ({"P": A, "K": "k"}, A, None, (A, "k")),
    ({"P": A, "K": "k"}, A + "/", None, (A, "k")),
    ({"U": A, "K": "k"}, A, None, (A, "k")),
    # ... but not where it was given for another server
    ({"P": A, "K": "k"}, "cloud", None, ["BROWSER_USE_API_KEY", "CDPBRIDGE_PROVIDER=http://a", "api.browser-use.com"]),
    ({"U": A, "K": "k"}, "cloud", None, ["BROWSER_USE_API_KEY", "CDPBRIDGE_BASE_URL=http://a"]),
    ({"P": "cloud", "K": "k"}, A, None, ["BROWSER_USE_API_KEY", "CDPBRIDGE_PROVIDER=cloud", "http://a"]),
    ({"P": A, "K": "k"}, B, None, ["BROWSER_USE_API_KEY", "CDPBRIDGE_PROVIDER=http://a", "http://b"]),
    ({"P": A, "K": "k"}, A.replace("8700", "8701"), None, ["BROWSER_USE_API_KEY", ":8700", ":8701"]),
    ({"P": A, "K": "k"}, A.replace("http:", "https:"), None, ["BROWSER_USE_API_KEY", "https://a"]),
    ({"P": A}, B, None, ["BROWSER_USE_API_KEY"]),
    # what means nothing
    ({"P": "clod", "K": "k"}, None, None, ["CDPBRIDGE_PROVIDER='clod'", "`cloud`, `local`"]),
    ({"P": " ", "K": "k"}, None, None, ["CDPBRIDGE_PROVIDER", "`cloud`, `local`"]),
    ({"P": "127.0.0.1:8700", "K": "k"}, None, None, ["CDPBRIDGE_PROVIDER", "http://"]),
    ({"P": "http://u:hush@a.test", "K": "k"}, None, None, ["CDPBRIDGE_PROVIDER", "credentials"]),
    ({"P": "ftp://u:hush@a.test", "K": "k"}, None, None, ["CDPBRIDGE_PROVIDER", "ftp://***@a.test"]),
    ({"U": "http://:hush@a.test", "K": "k"}, None, None, ["CDPBRIDGE_BASE_URL", "credentials"]),
    ({"U": "ws://a.test/api/v2", "K": "k"}, None, None, ["CDPBRIDGE_BASE_URL", "http:// or https://"]),
    ({"K": "k"}, "clod", None, ["'clod'", "`cloud`, `local`"]),
    ({"K": "k"}, "", None, ["''", "`cloud`, `local`"]),
    ({"K": "hush hush"}, None, None, ["API key", "ASCII"]),
]  # fmt: skip


def named(row):
    given, where, key, _ = row
    return f"{given or 'nothing'} where={where} key={key}"


@cases(("given", "where", "key", "expected"), TABLE, ids=named)
def test_fault_e01_the_rule(given, where, key, expected):
    """Each combination leads to one server with the key of that server, or is refused in words that name what contradicts."""
    if isinstance(expected, tuple):
        place = find_place(variables(**given), where, key, otherwise_local=True)
        assert (place.base_url, place.api_key) == expected
        assert "'k'" not in repr(place)
        return
    with pytest.raises(ConfigurationError) as caught:
        find_place(variables(**given), where, key, otherwise_local=True)
    for word in expected:
        assert word in str(caught.value)
    assert "hush" not in str(caught.value)


def address(client):
    return (None, "") if client.is_local else (client._base_url, client._api_key)


def by_robot(where):
    from cdpbridge.browser import open_browser

    return open_browser(where)._options.client


def by_crawlee(where):
    pytest.importorskip("crawlee")
    from cdpbridge.integrations.crawlee import RentedBrowserPlugin

    return RentedBrowserPlugin(where)._rental_options.client


# front doors that take a word or a base URL; `open_browser` is what Robot, browser-use, scrapy-playwright and Playwright use
DOORS = {
    "open_browser": by_robot,
    "BrowserPool": lambda where: cdpbridge.BrowserPool(where)._client,
    "commands, pytest, reap": provider,
    "Crawlee": by_crawlee,
}


WITHOUT_KEY = [row for row in TABLE if row[2] is None]
WITHOUT_WORD = [row for row in TABLE if row[1] not in {"cloud", "local", "clod"}]


@contextmanager
def variables_of(row):
    """The environment of a row of the table."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables(**row[0]).items():
            patch.setenv(name, value)
        yield


@pytest.mark.parametrize("door", DOORS)
@cases("row", WITHOUT_KEY, ids=named)
def test_every_front_door_follows_the_rule(environment, door, row):
    """A key is in the environment, or in the client that is given to them."""
    _, where, _, expected = row
    with variables_of(row):
        if isinstance(expected, tuple):
            assert address(DOORS[door](where)) == expected
        else:
            with pytest.raises(ConfigurationError):
                DOORS[door](where)


@pytest.mark.parametrize("kind", [cdpbridge.AsyncClient, cdpbridge.Client])
@cases("row", WITHOUT_WORD, ids=named)
def test_every_client_follows_the_rule(environment, kind, row):
    """The words are for `provider`; a client takes an address, and asks for a key when nothing is said at all."""
    given, where, key, expected = row
    nothing = expected == LOCAL and (given.get("P") or "").lower() != "local"
    with variables_of(row):
        if isinstance(expected, tuple) and not nothing:
            assert address(kind(key, where)) == expected
        else:
            with pytest.raises(ConfigurationError, match="BROWSER_USE_API_KEY" if nothing else None):
                kind(key, where)


@cases(
    ("given", "spelled"),
    [
        ("http://h", "http://h"),
        ("HTTP://Browsers.Example.COM/Pool/api/v2//", "http://browsers.example.com/Pool/api/v2"),
        ("https://h:443/api/v2", "https://h/api/v2"),
        ("http://h:443/api/v2", "http://h:443/api/v2"),
        (" http://h/api/v2\n", "http://h/api/v2"),
        ("http://[::1]:8700/api/v2", "http://[::1]:8700/api/v2"),
        ("http://[0:0:0:0:0:0:0:1]/api/v2", "http://[::1]/api/v2"),
        ("http://[FE80::1]:80/api/v2", "http://[fe80::1]/api/v2"),
    ],
)
def test_a_base_url_has_one_spelling(given, spelled):
    assert checked_base_url(given) == spelled
    assert checked_base_url(spelled) == spelled


@pytest.mark.parametrize(
    "given",
    ["http://::1:8700/api/v2", "http://[::1/api", "http://h:port/x", "http://my host/x", "http://h\\@b/x"],
)
def test_what_is_no_base_url(given):
    with pytest.raises(ConfigurationError, match="base URL"):
        checked_base_url(given)


def test_a_sync_client_is_no_place_for_open_browser(environment):
    with pytest.raises(ConfigurationError, match="AsyncClient"):
        cdpbridge.open_browser(cdpbridge.Client("k", A))


# --- what reaches hosts -----------------------------------------------------------------------------------------------


@contextmanager
def host(answer):
    """A host that notes each request; `answer(method and path)` gives status, headers and body."""
    log = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            log.append((self.command, self.path, dict(self.headers)))
            status, headers, body = answer(f"{self.command} {self.path}")
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_CONNECT = answer  # http.server's names

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", log
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def other():
    """A host that no key is for; also every proxy of the environment, so what goes to the cloud passes it."""
    with host(lambda _path: (502, {}, b"")) as found:
        yield found


SYNC = """
import cdpbridge
with cdpbridge.Client() as client:
    print(client.billing.account().active_session_count)
"""
ASYNC = """
import asyncio, cdpbridge
async def main():
    async with cdpbridge.AsyncClient() as client:
        print((await client.billing.account()).active_session_count)
asyncio.run(main())
"""


@pytest.mark.parametrize("program", [SYNC, ASYNC], ids=["Client", "AsyncClient"])
def test_fault_e01_a_self_hosted_key_does_not_go_to_the_cloud(server, other, program):
    address, log = other
    done = programs.run(
        [sys.executable, "-c", program],
        env=server.environment(HTTPS_PROXY=address, https_proxy=address),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert (done.stdout.strip(), log) == ("0", []), done.stderr[-500:]


def test_the_other_host_would_notice(other):
    """The same program with a key of the cloud alone: so an empty log means something."""
    address, log = other
    done = subprocess.run(
        [sys.executable, "-c", SYNC.replace("Client()", "Client(max_retries=0)")],
        env={"BROWSER_USE_API_KEY": "key-of-cloud", "HTTPS_PROXY": address, "PYTHONWARNINGS": "error"},
        capture_output=True,
        timeout=280,
        check=False,
    )
    assert done.returncode != 0
    assert [(method, path) for method, path, _ in log] == [("CONNECT", "api.browser-use.com:443")]


@pytest.mark.parametrize(
    "arguments",
    [["browsers"], ["doctor"], ["account"], ["reap"], ["open", "about:blank"]],
    ids=lambda arguments: arguments[0],
)
def test_commands_keep_a_key_at_home(server, other, arguments):
    """`--provider` of another host, with the key of the environment's server: refused, and nothing is sent."""
    address, log = other
    done = programs.run(
        [sys.executable, "-m", "cdpbridge", *arguments, "--provider", f"{address}/api/v2"],
        env=server.environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    words = " ".join(done.stderr.split())
    assert (done.returncode, log) == (1, []), words
    assert "BROWSER_USE_API_KEY was given for" in words
    assert server.key not in words


@pytest.mark.parametrize("name", ["CDPBRIDGE_PROVIDER", "CDPBRIDGE_BASE_URL"])
def test_the_script_for_logins_takes_no_other_servers_key(server, tmp_path, name):
    """`curl HOST/profile.sh | sh` where the environment's key was given for another server: it asks, here in vain."""
    used = tmp_path / "used"
    (tmp_path / "cdpbridge").write_text(f"#!/bin/sh\necho $BROWSER_USE_API_KEY > {used}\n")
    (tmp_path / "cdpbridge").chmod(0o755)
    root = server.base_url.removesuffix("/api/v2")
    environment = server.environment(PATH=f"{tmp_path}:{os.environ['PATH']}")
    del environment["CDPBRIDGE_PROVIDER"]
    command = ["sh", "-c", f"curl -fsSL {root}/profile.sh | sh"]
    for value, status in ((B, 1), (server.base_url, 0)):
        done = subprocess.run(
            command,
            env=environment | {name: value},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
            start_new_session=True,  # without a terminal
        )
        assert done.returncode == status, done.stderr
        assert used.exists() == (status == 0)
    assert used.read_text().strip() == server.key


def test_a_redirect_does_not_take_the_key_along(other):
    address, log = other
    with host(lambda asked: (307, {"Location": address + asked.split()[1]}, b"")) as (ours, asked):
        client = cdpbridge.Client("key-of-ours", f"{ours}/api/v2", max_retries=0)
        with client, pytest.raises(APIError, match="redirects"):
            client.billing.account()
    assert asked[0][2]["X-Browser-Use-API-Key"] == "key-of-ours"
    assert log == []


def test_a_signed_address_gets_no_key(tmp_path):
    task, file = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
    with host(lambda _path: (200, {}, b"content")) as (store, stored):
        signed = {"id": file, "fileName": "report.txt", "downloadUrl": f"{store}/report.txt?signature=s"}
        body = json.dumps(signed).encode()
        with (
            host(lambda _path: (200, {"Content-Type": "application/json"}, body)) as (ours, _asked),
            cdpbridge.Client("key-of-ours", f"{ours}/api/v2") as client,
        ):
            saved = client.files.download(task, file, tmp_path)
    assert saved.read_bytes() == b"content"
    [(_, path, headers)] = stored
    assert path == "/report.txt?signature=s"
    assert "key-of-ours" not in str(headers)


async def test_the_search_for_a_browsers_socket_gets_no_key(other):
    """`cdpUrl` may name any host: it is asked for `/json/version` without the key of the REST API."""
    address, log = other
    browser = {
        "id": "33333333-3333-3333-3333-333333333333",
        "status": "active",
        "cdpUrl": address,
        "liveUrl": None,
        "timeoutAt": "2036-01-01T00:00:00Z",
        "startedAt": "2035-12-31T23:00:00Z",
    }

    def answer(method_and_path):
        over = method_and_path.startswith("PATCH")
        return (
            200,
            {"Content-Type": "application/json"},
            json.dumps(browser | {"status": "stopped"} if over else browser).encode(),
        )

    with host(answer) as (ours, asked), pytest.raises(cdpbridge.CDPBridgeError):
        async with cdpbridge.open_browser(
            cdpbridge.at(f"{ours}/api/v2", "key-of-ours"),
            connect_timeout=timedelta(seconds=0.5),
            journal="off",
        ):
            pass
    assert asked
    assert log
    assert {path for _, path, _ in log} <= {"/json/version", "/"}
    assert "key-of-ours" not in str(log)


def test_a_missing_version_is_named(server):
    client = cdpbridge.Client(server.key, server.base_url.removesuffix("/api/v2"))
    with client, pytest.raises(APIError, match=r"is it http://127\.0\.0\.1:\d+/api/v2\?"):
        client.billing.account()


# --- the embedded server ----------------------------------------------------------------------------------------------


@pytest.mark.programs
def test_a_client_with_the_embedded_server(environment, tmp_path):
    """`CDPBRIDGE_PROVIDER=local`: the client starts the server, and ends it."""
    environment.setenv("CDPBRIDGE_PROVIDER", "local")
    environment.setenv("BROWSER_USE_API_KEY", "key-of-cloud")
    environment.setenv("CDPBRIDGE_DATA_DIR", str(tmp_path))
    with cdpbridge.Client() as client:
        assert client.billing.account().active_session_count == 0
        assert client.server_pid is not None
        assert client._api_key != "key-of-cloud"
        assert "127.0.0.1" in repr(client)
    assert client.server_pid is None

    async def main():
        async with cdpbridge.AsyncClient() as client:
            assert (await client.billing.account()).active_session_count == 0
            return client

    client = asyncio.run(main())
    assert (client.server_pid, client.is_local) == (None, True)
    assert repr(client) == "<AsyncClient local closed>"
