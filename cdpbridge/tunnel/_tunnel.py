"""A rented browser under an address of this machine, as if it ran here: its files are this machine's.

    async with open_tunnel(browser) as address:      # "127.0.0.1:43567"
        options.debugger_address = address           # Selenium
        await puppeteer_script(address.cdp_url)      # everything else: an address with a secret path

Who can open connections on this machine can use the bare `host:port` while the block lasts; `bare=False` leaves only the address with the
secret path. Pages cannot use either: requests with an `Origin`, or for another host than this machine, are refused.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlunsplit

from cdpbridge._concurrency import TaskSet
from cdpbridge._disk import disk_identity
from cdpbridge._loopback import is_loopback
from cdpbridge.cdp._endpoint import connecting, dial
from cdpbridge.cdp._http import Response, ResponseReader
from cdpbridge.errors import CDPError, ConfigurationError

from ._cdp_disk import CDPDisk
from ._control import Control
from ._disk import Disk
from ._find import FoundBrowser, find_browser
from ._opening import CONNECT_TIMEOUT, is_switching, open_for, switching_head
from ._relay import Files, Relay
from ._requests import HeadReader, Refusal, TunnelRequest, read_request, request_head, response_head

if TYPE_CHECKING:
    from cdpbridge.api import BrowserSession
    from cdpbridge.browser import Browser

__all__ = ["TunnelAddress", "browser_address", "open_tunnel", "open_tunnel_to", "shared_by", "shares_files"]

logger = logging.getLogger("cdpbridge")

_PIPE_BYTES: Final = 256 * 1024
# /json/protocol has 1.6 MB; a page's `data:` address in /json/list may have 2
_ANSWER_BYTES: Final = 64 * 1024 * 1024
_ANSWER_SECONDS: Final = 15.0
_TOKEN_BYTES: Final = 32
_LOCAL: Final = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?", re.IGNORECASE)
_SOCKET: Final = re.compile(r"wss?://[^\"\s]*?(?=/devtools/(?:browser|page)/)")
_FRONTEND: Final = re.compile(r"(?<=[?&])wss?=[^\"\s&]*?(?=/devtools/)")


class TunnelAddress(str):  # noqa: SLOT000  # it has an attribute of its own
    """`127.0.0.1:port`, for clients that take no more.

    Attributes:
        cdp_url: `http` address with a secret path, for all others. It gives full control of the browser: treat it as a password.
    """

    cdp_url: str

    def __new__(cls, authority: str, token: str) -> Self:
        address = super().__new__(cls, authority)
        address.cdp_url = f"http://{authority}/{token}"
        return address

    def __reduce__(self) -> tuple[type[TunnelAddress], tuple[str, str]]:
        """For copies: Selenium makes one of its options."""
        return type(self), (str(self), self.cdp_url.rpartition("/")[2])

    @property
    def ws_url(self) -> str:
        """The same as a WebSocket address, for clients that ask for no more; a password too."""
        return f"{self.cdp_url.replace('http', 'ws', 1)}/devtools/browser/rented"


@asynccontextmanager
async def open_tunnel(
    browser: Browser | BrowserSession | str, *, port: int = 0, bare: bool = True
) -> AsyncIterator[TunnelAddress]:
    """Make a browser reachable at an address of this machine; the rental goes on after the block.

    Downloads arrive in the folders of this machine that clients name, and files that clients give to pages are read here, wherever the
    browser runs.

    Args:
        browser: A `Browser` of ours, a record of the REST API, or a CDP address.
        port: To listen on; 0 takes a free one.
        bare: Answer without the secret path too, as Selenium needs it.

    Raises:
        ConfigurationError: The browser has no address: it is not running.
        ConnectFailed: It cannot be reached.
        OSError: The port is taken.
    """
    found = await find_browser(browser_address(browser))
    async with open_tunnel_to(found, port=port, bare=bare) as opened:
        yield opened


@asynccontextmanager
async def open_tunnel_to(
    found: FoundBrowser, *, port: int = 0, bare: bool = True
) -> AsyncIterator[TunnelAddress]:
    """Do as `open_tunnel`, for a browser that was found already; it is closed with the block."""
    control = Control(urlunsplit(found.socket))
    disk: Disk | None = found.disk
    try:
        if disk is None or not disk.folders.downloads:  # not of ours, or a tunnel's
            disk = await CDPDisk.find(control)
        tunnel = _Tunnel(found, Files(disk, control), bare=bare)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(tunnel.accept, "127.0.0.1", port)
        try:
            yield tunnel.opened(server.sockets[0].getsockname()[1])
        finally:
            server.close()
            await tunnel.close()
            await server.wait_closed()
    finally:
        await found.close()
        if disk is not None and disk is not found.disk:
            await disk.close()
        await control.close()


async def shares_files(browser: Browser | BrowserSession | str) -> bool | None:
    """Return True if a browser sees this process's files, with the same rights: then it needs no tunnel.

    Returns:
        None when it may: it is not of a server of ours, and its address is one of this machine.

    Raises:
        ConfigurationError: The browser has no address: it is not running.
        ConnectFailed: It cannot be reached.
    """
    found = await find_browser(browser_address(browser))
    await found.close()
    return shared_by(found)


def shared_by(found: FoundBrowser) -> bool | None:
    """Return what `shares_files` does, for a browser that was found already."""
    if found.disk is None:
        return None if is_loopback(found.socket.hostname or "") else False
    return found.disk.identity is not None and found.disk.identity == disk_identity()


def browser_address(browser: Browser | BrowserSession | str) -> str:
    """Return the address of a browser.

    Raises:
        ConfigurationError: It has none: it is not running.
    """
    address = browser if isinstance(browser, str) else browser.cdp_url
    if not address:
        raise ConfigurationError("the browser has no cdpUrl: it is not running")
    return address


class _Tunnel:
    """Every connection to the port."""

    def __init__(self, found: FoundBrowser, files: Files, *, bare: bool) -> None:
        self._authority = ""
        self._token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._bare = bare
        self._socket = found.socket
        self._base = found.base
        self._version = found.version
        self._ahead = found.ahead
        self._files = files
        self._tasks = TaskSet(logger)
        self._uploaded: list[str] = []
        self._relays: dict[asyncio.Task[None], Relay] = {}
        self._finishing: set[asyncio.Task[None]] = set()
        self._opened = found.opened

    def opened(self, port: int) -> TunnelAddress:
        """Note that the port is open."""
        self._authority = f"127.0.0.1:{port}"
        return TunnelAddress(self._authority, self._token)

    async def close(self) -> None:
        """End every connection, and clean up behind each client."""
        for relay in self._relays.values():
            relay.close()
        for task in self._tasks:
            if task not in self._relays and task not in self._finishing:
                task.cancel()
        await self._tasks.wait()
        for folder in self._uploaded:
            await self._files.disk.remove(folder)

    def accept(self) -> HeadReader:
        """Serve a client that has connected."""
        return HeadReader(
            on_open=lambda client: self._tasks.start(self.serve(client), "a tunnel's connection")
        )

    async def serve(self, client: HeadReader) -> None:
        try:
            await self._serve(client)
        except (OSError, CDPError, EOFError) as error:
            logger.debug("a connection of the tunnel ended: %s", error)
        finally:
            client.transport.close()

    async def _serve(self, client: HeadReader) -> None:
        while True:
            try:
                request = await read_request(client)
                if request is None:
                    return
                request = self._checked(request)
                if (request.get("upgrade") or "").lower() == "websocket":
                    await self._join(request, client)
                    return
                response = await self._ask(request)
            except Refusal as refusal:
                response = Response(refusal.status, {"content-type": "text/plain"}, str(refusal).encode())
            except (CDPError, TimeoutError, ValueError) as error:
                text = f"the browser gives no answer ({type(error).__name__})"
                response = Response(HTTPStatus.BAD_GATEWAY, {"content-type": "text/plain"}, text.encode())
            client.transport.write(response_head(response) + response.body)
            if response.status >= HTTPStatus.BAD_REQUEST:
                return

    def _checked(self, request: TunnelRequest) -> TunnelRequest:
        """Return the request with its path as the browser knows it."""
        if request.get("origin") is not None:
            raise Refusal(HTTPStatus.FORBIDDEN, "pages may not use this; CDP clients send no Origin")
        if not _LOCAL.fullmatch(request.get("host") or ""):
            raise Refusal(HTTPStatus.FORBIDDEN, "this tunnel answers for 127.0.0.1 and localhost only")
        if not re.fullmatch(r"/[!-~]*", request.target):
            raise Refusal(HTTPStatus.BAD_REQUEST, "this is no path")
        first, slash, rest = request.target[1:].partition("/")
        first, question, query = first.partition("?")
        if secrets.compare_digest(first.encode(), self._token.encode()):
            return replace(request, target=f"/{rest}" if slash else f"/{question}{query}", secret=True)
        if not self._bare:
            raise Refusal(HTTPStatus.NOT_FOUND, "the browser has nothing here")
        return request

    def _here(self, request: TunnelRequest) -> str:
        """Return the address that the client uses, without the scheme."""
        return f"{self._authority}/{self._token}" if request.secret else self._authority

    # --- HTTP -----------------------------------------------------------------------------------------------------

    async def _ask(self, request: TunnelRequest) -> Response:
        path, _, query = request.target.partition("?")
        if path == "/files":
            return _json({"downloads": "", "uploads": "", "kept": None, "disk": disk_identity()})
        if path == "/":
            path = "/json/version"
        if not re.fullmatch(r"/json(/.*)?", path):
            raise Refusal(HTTPStatus.NOT_FOUND, "the browser has nothing here")
        if self._version is not None and path.rstrip("/") == "/json/version":
            # Once: that its browser has ended, the next one shall learn.
            response, self._version = self._version, None
        else:
            async with asyncio.timeout(_ANSWER_SECONDS):
                response = await self._fetch(request, self._upstream(self._base.path + path, query))
        if response.status == HTTPStatus.NOT_FOUND and path.rstrip("/") == "/json/version":
            return self._own_version(request)  # a service that has its socket only
        text = self._shown(response.body.decode("utf-8", "replace"))
        here = self._here(request)
        text = _SOCKET.sub(f"ws://{here}", text)
        text = _FRONTEND.sub(f"ws={here}", text)
        return Response(response.status, response.headers, text.encode())

    def _shown(self, text: str) -> str:
        """Return an answer without targets of the tunnel's own."""
        hidden = self._files.control.hidden
        if not any(each in text for each in hidden):
            return text
        try:
            found = json.loads(text)
        except ValueError:
            return text
        if isinstance(found, list):
            found = [each for each in found if not isinstance(each, dict) or each.get("id") not in hidden]
        return json.dumps(found, indent=3)

    def _own_version(self, request: TunnelRequest) -> Response:
        return _json(
            {
                "Browser": "Chrome",
                "Protocol-Version": "1.3",
                "webSocketDebuggerUrl": f"ws://{self._here(request)}/devtools/browser/rented",
            }
        )

    def _upstream(self, path: str, query: str) -> str:
        both = "&".join(filter(None, (query, self._base.query)))
        return urlunsplit(
            ("https" if self._base.scheme == "wss" else "http", self._base.netloc, path, both, "")
        )

    async def _fetch(self, request: TunnelRequest, address: str) -> Response:
        reader, writer = await _open(address)
        try:
            writer.write(request_head(request, address, connection="close"))
            answer = ResponseReader(max_bytes=_ANSWER_BYTES)
            response = None
            while response is None:
                response = answer.feed(await reader.read(_PIPE_BYTES))
            return response
        finally:
            writer.transport.abort()

    # --- WebSocket ------------------------------------------------------------------------------------------------

    async def _join(self, request: TunnelRequest, client: HeadReader) -> None:
        path, _, query = request.target.partition("?")
        page = re.fullmatch(r"/devtools/page/[A-Za-z0-9-]+", path) is not None
        if path.startswith("/devtools/browser/"):
            address = urlunsplit(self._socket)
        elif page:
            address = self._upstream(self._base.path + path, query)
        else:
            raise Refusal(HTTPStatus.NOT_FOUND, "the browser has no WebSocket here")
        browser, head, asked = await self._browser_socket(request, address, page=page)
        try:
            rest = browser.take()
            client.take()
            client.transport.write(head)
            if not is_switching(head):
                client.transport.write(rest)
                browser.transport.close()
                return
            relay = Relay(client.transport, browser.transport, rest, self._files, page=page, asked=asked)
        except BaseException:
            browser.transport.abort()
            raise
        task = asyncio.current_task()
        assert task is not None
        self._relays[task] = relay
        try:
            await relay.ended
        finally:
            del self._relays[task]
            self._finishing.add(task)
            try:
                await relay.finish()
            finally:
                self._finishing.discard(task)
                self._uploaded += relay.uploads_left()
            if relay.had_asked:
                for other in tuple(self._relays.values()):
                    await other.renew_downloads()

    async def _browser_socket(
        self, request: TunnelRequest, address: str, *, page: bool
    ) -> tuple[HeadReader, bytes, bool]:
        """Return what reads the browser's socket for a client, the answer to the client, and whether the version has been asked."""
        key = request.get("sec-websocket-key")
        if self._opened is not None and key is not None and not page:
            opened = await self._opened.take()
            if opened is not None:
                return opened, switching_head(key), True
        return *await open_for(request, address, self._ahead), False


def _json(value: dict[str, Any]) -> Response:
    headers = {"content-type": "application/json; charset=UTF-8"}
    return Response(HTTPStatus.OK, headers, json.dumps(value).encode())


async def _open(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open streams to the host of an address, with TLS and the environment's proxy as for every other connection."""
    loop = asyncio.get_running_loop()
    async with connecting(address, CONNECT_TIMEOUT) as progress:
        transport = await dial(address, progress=progress)
    reader = asyncio.StreamReader(limit=_PIPE_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
