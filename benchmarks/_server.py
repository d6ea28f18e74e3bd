"""The fake browser of the benchmarks: a WebSocket server whose frames are built before they are needed.

It must never be what is measured. Events of a flood are encoded once and written 64 KiB at a time; a reply is the command's id
between two constant halves. It runs in a process and on a core of its own, and prints its port.

Its own commands, answered after their work, so that the reply marks the end of it:

    Fake.flood {count, size}   `count` Network.requestWillBeSent events of about `size` bytes to the session, then the reply
    Fake.big {bytes}           a reply whose `data` is a string of that length
    Fake.emit {events}         these events, each `[method, params]`, to the session, then the reply
    Fake.raw {text}            a message of that text, then the reply
    Fake.empty                 a reply with neither result nor error
    Fake.silent                no reply ever
    Fake.drop                  the socket is cut, without a close frame
    Fake.close                 the socket is closed as the RFC has it, with code 1001
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import struct
import sys
from itertools import count

try:
    import uvloop
except ImportError:
    uvloop = None

try:
    from websockets.speedups import apply_mask
except ImportError:

    def apply_mask(data: bytes, mask: bytes) -> bytes:
        key = int.from_bytes((mask * (len(data) // 4 + 1))[: len(data)], "big")
        return (int.from_bytes(data, "big") ^ key).to_bytes(len(data), "big")


EVENT = "Network.requestWillBeSent"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CHUNK = 64 * 1024
_EVALUATED = b'{"result":{"type":"number","value":2,"description":"2"}}'
_VERSION = json.dumps(
    {
        "protocolVersion": "1.3",
        "product": "HeadlessChrome/140.0.0.0",
        "revision": "@0",
        "userAgent": "Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome/140.0.0.0",
        "jsVersion": "14.0.0",
    }
).encode()
_HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/140.0.0.0 "
    "Safari/537.36",
    "Referer": "https://shop.example.com/catalogue/shoes?page=2",
    "sec-ch-ua": '"Chromium";v="140", "Not=A?Brand";v="24", "HeadlessChrome";v="140"',
    "sec-ch-ua-mobile": "?0",
    "sec-ch-ua-platform": '"Linux"',
    "Accept-Language": "en-US,en;q=0.9",
    "Accept": "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
}


def event_params(size: int) -> dict[str, object]:
    """Parameters of a request event as Chromium writes them, so large that the message has about `size` bytes."""
    small = size < 1000
    params: dict[str, object] = {
        "requestId": "1000043877.42",
        "loaderId": "6D5A1D7F4C1E0B9A8F7E6D5C4B3A2910",
        "documentURL": "https://shop.example.com/",
        "request": {
            "url": "https://cdn.example.com/i/shoe.webp",
            "method": "GET",
            "headers": {"Referer": "https://shop.example.com/"} if small else dict(_HEADERS),
            "mixedContentType": "none",
            "initialPriority": "Low",
            "referrerPolicy": "strict-origin-when-cross-origin",
            "isSameSite": False,
        },
        "timestamp": 187341.231945,
        "wallTime": 1763912345.123456,
        "initiator": {"type": "parser"},
        "redirectHasExtraInfo": False,
        "type": "Image",
        "frameId": "5B8F0E2C7A9D4E6F8A1B3C5D7E9F0A2B",
        "hasUserGesture": False,
    }
    if not small:
        params["initiator"] = {
            "type": "script",
            "stack": {
                "callFrames": [
                    {
                        "functionName": f"load{number}",
                        "scriptId": str(40 + number),
                        "url": "https://shop.example.com/assets/main.js",
                        "lineNumber": 12 * number,
                        "columnNumber": 7081,
                    }
                    for number in range(5)
                ]
            },
        }
    return params


def event(size: int, session_id: str) -> bytes:
    """One message of a flood."""
    message = {"method": EVENT, "params": event_params(size), "sessionId": session_id}
    data = json.dumps(message, separators=(",", ":")).encode()
    missing = size - len(data)
    return data.replace(b"/i/shoe.webp", b"/i/" + b"s" * missing + b"hoe.webp") if missing > 0 else data


def frame(data: bytes) -> bytes:
    """A whole text frame as a server sends it."""
    length = len(data)
    if length < 126:
        return bytes((0x81, length)) + data
    if length < 65536:
        return struct.pack("!BBH", 0x81, 126, length) + data
    return struct.pack("!BBQ", 0x81, 127, length) + data


class Server(asyncio.Protocol):
    """One client's connection."""

    numbers = count(1)
    floods: dict[tuple[int, str], tuple[bytes, bytes, int]] = {}  # noqa: RUF012  # shared on purpose

    def __init__(self) -> None:
        self.rest = b""
        self.upgraded = False
        self.closing = False
        self.room = asyncio.Event()
        self.room.set()
        self.out: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(1024 * 1024)

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.room.set()

    def data_received(self, data: bytes) -> None:
        data = self.rest + data if self.rest else data
        if not self.upgraded:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self.rest = head
                return
            self.upgrade(head)
        at, size = 0, len(data)
        while size - at >= 6:
            length, body = data[at + 1] & 127, at + 2
            if length == 126:
                length, body = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif length == 127:
                length, body = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            end = body + 4 + length
            if end > size:
                break
            mask, payload = data[body : body + 4], data[body + 4 : end]
            opcode = data[at] & 15
            at = end
            if opcode == 1:
                self.message(payload if mask == b"\0\0\0\0" else apply_mask(payload, mask))
            elif opcode == 8:
                if not self.closing:
                    self.out.append(b"\x88" + bytes((len(payload),)) + apply_mask(payload, mask))
                self.flush()
                self.transport.close()
            elif opcode == 9:
                self.out.append(b"\x8a" + bytes((len(payload),)) + apply_mask(payload, mask))
        self.rest = data[at:]
        self.flush()

    def flush(self) -> None:
        if self.out:
            self.transport.write(b"".join(self.out))
            self.out.clear()

    def upgrade(self, head: bytes) -> None:
        headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        key = {name.lower(): value for name, value in headers.items()}[b"sec-websocket-key"]
        accept = base64.b64encode(hashlib.sha1(key.strip() + _GUID).digest())
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self.upgraded = True

    def message(self, data: bytes) -> None:
        at = data.index(b'"id":') + 5
        end = data.find(b",", at)
        number = data[at : end if end > 0 else data.index(b"}", at)].strip().rstrip(b"}")
        at = data.rfind(b'"sessionId":')
        tail = b"}"
        session_id = b""
        if at > 0 and b'"Target.' not in data:
            session_id = data[data.index(b'"', at + 12) + 1 :]
            session_id = session_id[: session_id.index(b'"')]
            tail = b',"sessionId":"' + session_id + b'"}'
        if b'"Runtime.evaluate"' in data:
            self.out.append(frame(b'{"id":' + number + b',"result":' + _EVALUATED + tail))
            return
        self.rare(json.loads(data), number, session_id.decode(), tail)

    def rare(self, command: dict[str, object], number: bytes, session_id: str, tail: bytes) -> None:
        method, params, result = command["method"], command.get("params") or {}, b"{}"
        if method == "Fake.flood":
            task = asyncio.ensure_future(
                self.flood(params["count"], params["size"], session_id, number, tail)
            )
            task.add_done_callback(lambda task: task.exception())
            return
        if method == "Fake.silent":
            return
        if method == "Fake.drop":
            self.transport.abort()
            return
        if method == "Fake.close":
            self.closing = True
            self.transport.write(b"\x88\x02" + (1001).to_bytes(2, "big"))
            return  # the client's close frame ends it
        if method == "Fake.empty":
            self.out.append(frame(b'{"id":' + number + tail))
            return
        if method == "Fake.raw":
            self.out.append(frame(params["text"].encode()))
        if method == "Fake.emit":
            for name, values in params["events"]:
                message = {"method": name, "params": values}
                if session_id:
                    message["sessionId"] = session_id
                self.out.append(frame(json.dumps(message, separators=(",", ":")).encode()))
        if method == "Fake.big":
            data = b'{"data":"' + b"A" * params["bytes"] + b'"}'
            self.transport.write(frame(b'{"id":' + number + b',"result":' + data + tail))
            return
        if method in {"Target.attachToTarget", "Target.attachToBrowserTarget"}:
            kind = "page" if method == "Target.attachToTarget" else "browser"
            new = f"{next(self.numbers):032X}"
            info = {
                "targetId": params.get("targetId", "BROWSER"),
                "type": kind,
                "title": "",
                "url": "about:blank",
                "attached": True,
                "canAccessOpener": False,
                "browserContextId": "C0",
            }
            told = {"sessionId": new, "targetInfo": info, "waitingForDebugger": False}
            self.out.append(frame(json.dumps({"method": "Target.attachedToTarget", "params": told}).encode()))
            result = json.dumps({"sessionId": new}).encode()
        elif method == "Target.createTarget":
            result = b'{"targetId":"%032X"}' % next(self.numbers)
        elif method == "Target.getBrowserContexts":
            result = b'{"browserContextIds":[]}'
        elif method == "Target.getTargetInfo":
            result = (
                b'{"targetInfo":{"targetId":"BROWSER","type":"browser","title":"","url":"",'
                b'"attached":true,"canAccessOpener":false}}'
            )
        elif method == "Target.getTargets":
            result = b'{"targetInfos":[]}'
        elif method == "Browser.getVersion":
            result = _VERSION
        self.out.append(frame(b'{"id":' + number + b',"result":' + result + tail))

    async def flood(self, amount: int, size: int, session_id: str, number: bytes, tail: bytes) -> None:
        key = (size, session_id)
        if key not in self.floods:
            one = frame(event(size, session_id))
            together = max(1, _CHUNK // len(one))
            self.floods[key] = (one, one * together, together)
        one, chunk, together = self.floods[key]
        whole, rest = divmod(amount, together)
        for _ in range(whole):
            self.transport.write(chunk)
            await self.room.wait()
        if rest:
            self.transport.write(one * rest)
        self.transport.write(frame(b'{"id":' + number + b',"result":{}' + tail))


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # ends with its owner


if __name__ == "__main__":
    if uvloop is not None:
        uvloop.run(main())
    else:
        asyncio.run(main())
