"""A browser that follows a script: a real WebSocket server on loopback, for the faults a real browser will not show.

It stands on the server of `websockets`: the client under test must not be tested against its own reading of RFC 6455.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Any, Final, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from cdpbridge._concurrency import TaskSet

__all__ = ["SILENT", "Refusal", "ScriptedBrowser", "ScriptedClient"]

BROWSER_PATH: Final = "/devtools/browser/scripted"


class _Silent:
    def __repr__(self) -> str:
        return "SILENT"


SILENT: Final = _Silent()
"""As an answer: none, ever."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """As an answer: an error.

    Attributes:
        code: JSON-RPC code.
        message: Chrome's text.
        data: Details.
    """

    code: int
    message: str
    data: Any = None


Answer = Mapping[str, Any] | Refusal | _Silent
Script = Answer | Callable[["ScriptedClient", dict[str, Any]], Answer | Awaitable[Answer]]


class ScriptedClient:
    """One connected client, seen from the browser."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of its upgrade request."""
        assert self._connection.request is not None
        return self._connection.request.headers

    async def send(self, message: Mapping[str, Any] | str) -> None:
        """Send one text message; a mapping is encoded."""
        text = message if isinstance(message, str) else json.dumps(message, separators=(",", ":"))
        await self._connection.send(text)

    async def event(self, method: str, params: Mapping[str, Any] | None = None, session_id: str = "") -> None:
        """Send one event, in the shape Chromium gives it."""
        message: dict[str, Any] = {"method": method, "params": dict(params or {})}
        if session_id:
            message["sessionId"] = session_id
        await self.send(message)

    def write(self, data: bytes) -> None:
        """Write bytes as they are, framing included: for frames that no correct server sends."""
        self._connection.transport.write(data)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """End with a close frame."""
        await self._connection.close(code, reason)

    def cut(self) -> None:
        """End without a close frame, as Chromium does."""
        self._connection.transport.abort()

    def stop_reading(self) -> None:
        """Let what the client sends pile up."""
        self._connection.transport.pause_reading()

    async def wait_closed(self) -> tuple[int | None, str | None]:
        """Return the client's close code and reason, once it has disconnected."""
        await self._connection.wait_closed()
        received = self._connection.protocol.close_rcvd
        return (received.code, received.reason) if received is not None else (None, None)


class ScriptedBrowser:
    """`async with ScriptedBrowser() as browser`: answers every command with `{}` unless a script says otherwise.

    Targets work without a script: `Target.createTarget`, `attachToTarget`, `detachFromTarget` and `closeTarget` answer and
    announce as Chromium does.

    Args:
        ssl_context: Serve `https` and `wss`.

    Attributes:
        commands: Every command received, in order.
        http: Path to `(status, body)` of plain HTTP requests; `/json/version` is there from the start.
        refusal: `(status, body)` for upgrade requests, or None to accept them.
        default: Answer to a method without a script.
    """

    def __init__(self, *, ssl_context: ssl.SSLContext | None = None) -> None:
        self.commands: list[dict[str, Any]] = []
        self.clients: list[ScriptedClient] = []
        self.http: dict[str, tuple[int, str]] = {}
        self.requests: list[Request] = []
        self.refusal: tuple[int, str] | None = None
        self.default: Script = {}
        self._script: dict[str, Script] = {
            "Target.createTarget": self._create_target,
            "Target.attachToTarget": self._attach_to_target,
            "Target.detachFromTarget": self._detach_from_target,
            "Target.closeTarget": self._close_target,
        }
        self._ssl = ssl_context
        self._server: Server | None = None
        self._news = asyncio.Event()
        self._numbers = count(1)
        self._sessions: dict[str, str] = {}
        self._tasks = TaskSet()
        self.port = 0

    async def __aenter__(self) -> Self:
        if self._server is not None:
            raise RuntimeError("this browser was started already; make another one")
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            0,
            ssl=self._ssl,
            process_request=self._process_request,
            compression="deflate",
            max_size=None,
            ping_interval=None,
            close_timeout=1,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]
        self.http.setdefault(
            "/json/version", (200, json.dumps({"Browser": "Scripted/1", "webSocketDebuggerUrl": self.ws_url}))
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        for client in self.clients:
            client.cut()
        self._server.close()
        await self._server.wait_closed()
        await self._tasks.cancel()

    @property
    def http_url(self) -> str:
        """Discovery address."""
        return f"http{'s' if self._ssl else ''}://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        """Address of the browser's socket."""
        return f"ws{'s' if self._ssl else ''}://127.0.0.1:{self.port}{BROWSER_PATH}"

    def on(self, method: str, script: Script) -> None:
        """Answer a method with a result, a `Refusal`, `SILENT`, or what a function makes of `(client, command)`."""
        self._script[method] = script

    async def client(self, number: int = 0) -> ScriptedClient:
        """Wait for the client that connects as the `number`th, and return it."""
        while len(self.clients) <= number:
            await self._next_news()
        return self.clients[number]

    async def received(self, method: str, times: int = 1) -> dict[str, Any]:
        """Wait for the `times`th command of a method, and return it."""
        while True:
            found = [command for command in self.commands if command.get("method") == method]
            if len(found) >= times:
                return found[times - 1]
            await self._next_news()

    async def _next_news(self) -> None:
        self._news.clear()
        await self._news.wait()

    # --- the server -----------------------------------------------------------------------------------------------

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            answer = self.refusal
        else:
            answer = self.http.get(request.path.partition("?")[0], (404, "no such path"))
        return connection.respond(answer[0], answer[1]) if answer is not None else None

    async def _serve(self, connection: ServerConnection) -> None:
        client = ScriptedClient(connection)
        self.clients.append(client)
        self._news.set()
        try:
            async for text in connection:
                command = json.loads(text)
                self.commands.append(command)
                self._news.set()
                script = self._script.get(command.get("method", ""), self.default)
                if callable(script):
                    answer = script(client, command)
                    if inspect.isawaitable(answer):
                        self._tasks.start(
                            self._answer_later(client, command, answer), f"the script of {command['method']}"
                        )
                        continue
                    await self._reply(client, command, answer)
                else:
                    await self._reply(client, command, script)
        except ConnectionClosed:
            pass  # without a close frame: one of the faults that are tested

    async def _answer_later(
        self, client: ScriptedClient, command: dict[str, Any], answer: Awaitable[Answer]
    ) -> None:
        try:
            await self._reply(client, command, await answer)
        except ConnectionClosed:
            pass  # the client has left, and waits for no answer

    async def _reply(self, client: ScriptedClient, command: dict[str, Any], answer: Answer) -> None:
        if isinstance(answer, _Silent):
            return
        message: dict[str, Any] = {"id": command.get("id")}
        if isinstance(answer, Refusal):
            message["error"] = {"code": answer.code, "message": answer.message}
            if answer.data is not None:
                message["error"]["data"] = answer.data
        else:
            message["result"] = dict(answer)
        if "sessionId" in command:
            message["sessionId"] = command["sessionId"]
        await client.send(message)

    # --- targets --------------------------------------------------------------------------------------------------

    def _create_target(self, _client: ScriptedClient, _command: dict[str, Any]) -> Answer:
        return {"targetId": f"TARGET{next(self._numbers)}"}

    async def _attach_to_target(self, client: ScriptedClient, command: dict[str, Any]) -> Answer:
        target_id = command["params"]["targetId"]
        session_id = f"SESSION{next(self._numbers)}"
        self._sessions[session_id] = target_id
        info = {"targetId": target_id, "type": "page", "title": "", "url": "about:blank", "attached": True}
        params = {"sessionId": session_id, "targetInfo": info, "waitingForDebugger": False}
        await client.event("Target.attachedToTarget", params, command.get("sessionId", ""))
        return {"sessionId": session_id}

    async def _detach_from_target(self, client: ScriptedClient, command: dict[str, Any]) -> Answer:
        session_id = command["params"]["sessionId"]
        await self._announce_end(client, session_id, command.get("sessionId", ""))
        return {}

    async def _close_target(self, client: ScriptedClient, command: dict[str, Any]) -> Answer:
        target_id = command["params"]["targetId"]
        for session_id in [key for key, value in self._sessions.items() if value == target_id]:
            await self._announce_end(client, session_id, command.get("sessionId", ""))
        return {"success": True}

    async def _announce_end(self, client: ScriptedClient, session_id: str, parent: str) -> None:
        params = {"sessionId": session_id, "targetId": self._sessions.pop(session_id, "")}
        await client.event("Target.detachedFromTarget", params, parent)
