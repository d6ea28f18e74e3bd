"""Web servers, third-party proxies and a client, for the tests of the forwarding proxy."""

import asyncio
import hashlib
import json
import sys
from base64 import b64encode
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

import h11

UPSTREAM_ADDRESS = "127.0.0.2"  # where the upstreams' own connections come from; ours come from 127.0.0.1
USERNAME = "us er%"
PASSWORD = "p w:@/%ü"


@dataclass
class Request:
    peer: str
    method: str
    target: str
    headers: list[tuple[str, str]]
    body_bytes: int
    body_sha256: str

    def header(self, name):
        return [value for key, value in self.headers if key == name.lower()]


@dataclass
class Origin:
    """A web server that remembers what it was asked, and from where.

    `/` tells the caller's address, `/echo` answers with the body's digest, `/bytes/N` with N bytes, `/chunked/N` the same
    without a length, `/until-close` ends its body by closing, `/silent` never answers, `/early` answers
    without reading the body, `/status/N`, `/websocket` switches and echoes bytes.
    """

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    open: set = field(default_factory=set)
    bytes_in: int = 0
    bytes_out: int = 0
    close_after_answer: bool = False
    host: str = "127.0.0.1"

    @property
    def authority(self):
        return f"{self.host}:{self.port}"

    async def serve(self, reader, writer):
        self.connections += 1
        self.open.add(writer)
        try:
            await self._requests(reader, writer)
        except (OSError, h11.RemoteProtocolError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    async def _requests(self, reader, writer):
        conn = h11.Connection(h11.SERVER, max_incomplete_event_size=1_000_000)
        peer = writer.get_extra_info("peername")[0]

        async def send(*events):
            for event in events:
                writer.write(conn.send(event) or b"")
            await writer.drain()

        async def next_event():
            while (event := conn.next_event()) is h11.NEED_DATA:
                if conn.they_are_waiting_for_100_continue:
                    await send(h11.InformationalResponse(status_code=100, headers=[]))
                conn.receive_data(await reader.read(65536))
            return event

        while True:
            request = await next_event()
            if not isinstance(request, h11.Request):
                return
            path = request.target.decode()
            digest, size = hashlib.sha256(), 0
            early = path == "/early"
            while not early and not isinstance(event := await next_event(), h11.EndOfMessage):
                digest.update(event.data)
                size += len(event.data)
            self.bytes_in += size
            self.requests.append(
                Request(
                    peer,
                    request.method.decode(),
                    path,
                    [(name.decode(), value.decode("latin-1")) for name, value in request.headers],
                    size,
                    digest.hexdigest(),
                )
            )
            _, _, rest = path.partition("/")
            word, _, number = rest.partition("/")
            headers = [("Content-Type", "text/html"), ("X-Origin", "yes"), ("Proxy-Authenticate", "Basic")]
            if word == "silent":
                await reader.read()
                return
            if word == "websocket":
                await send(
                    h11.InformationalResponse(
                        status_code=101, headers=[("Connection", "Upgrade"), ("Upgrade", "websocket")]
                    )
                )
                data = conn.trailing_data[0]
                while data or (data := await reader.read(65536)):
                    self.bytes_in += len(data)
                    writer.write(data)
                    await writer.drain()
                    data = b""
                return
            if word in {"bytes", "chunked"}:
                count = int(number)
                if word == "bytes":
                    headers.append(("Content-Length", str(count)))
                await send(h11.Response(status_code=200, headers=headers))
                while count:
                    step = min(count, 65536)
                    await send(h11.Data(data=bytes(step)))
                    self.bytes_out += step
                    count -= step
                await send(h11.EndOfMessage())
            elif word == "until-close":
                writer.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")
                return
            else:
                status = int(number) if word == "status" else 413 if early else 200
                body = digest.hexdigest() if word == "echo" else f"<title>{peer}</title>hello from {peer}"
                headers.append(("Content-Length", str(len(body))))
                await send(h11.Response(status_code=status, headers=headers))
                if request.method != b"HEAD":
                    await send(h11.Data(data=body.encode()))
                    self.bytes_out += len(body)
                await send(h11.EndOfMessage())
            if early:
                writer.write_eof()
                await reader.read()  # closing over unread bytes would reset the answer away
            if self.close_after_answer or conn.our_state is not h11.DONE or conn.their_state is not h11.DONE:
                return
            conn.start_next_cycle()


@asynccontextmanager
async def running_origin(*, tls=None, host="127.0.0.1"):
    origin = Origin(host=host)
    server = await asyncio.start_server(origin.serve, host, 0, ssl=tls)
    origin.port = server.sockets[0].getsockname()[1]
    try:
        yield origin
    finally:
        server.close()
        for writer in list(origin.open):
            writer.transport.abort()
        await wait_until(lambda: not origin.open)
        await server.wait_closed()


async def wait_until(condition, seconds=60):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


# pproxy remembers by address who has logged in; a negative time turns that off.
_PPROXY = """
import asyncio, json, sys, pproxy
options = json.loads(sys.stdin.readline())
async def main():
    server = pproxy.Server(f"{options['scheme']}://127.0.0.1:0/@{options['bind']}" + options["users"])
    handle = await server.start_server({"rserver": [], "verbose": lambda text: None, "authtime": -1})
    print(handle.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())
"""


class UpstreamProcess:
    """A third-party proxy in a process of its own, which connects from `UPSTREAM_ADDRESS`."""

    def __init__(self, process, port):
        self.process = process
        self.port = port

    async def kill(self):
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()


@asynccontextmanager
async def running_pproxy(scheme, username=USERNAME, password=PASSWORD):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PPROXY, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    users = "" if username is None else f"#{username}:{password}"
    options = {"scheme": scheme, "users": users, "bind": UPSTREAM_ADDRESS}
    process.stdin.write(json.dumps(options).encode() + b"\n")
    await process.stdin.drain()
    port = int(await process.stdout.readline())
    running = UpstreamProcess(process, port)
    try:
        yield running
    finally:
        await running.kill()


class Client:
    """A browser's side of one connection, with nothing helpful in between."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer
        self.conn = None

    @classmethod
    @asynccontextmanager
    async def to(cls, proxy):
        host, _, port = proxy.address.rpartition(":")
        client = cls(*await asyncio.open_connection(host, int(port)))
        try:
            yield client
        finally:
            client.writer.transport.abort()

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, method="GET"):
        """The next answer as (status, headers, body), read by h11."""
        conn = h11.Connection(h11.CLIENT, max_incomplete_event_size=1_000_000)
        conn.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        if method != "CONNECT":
            conn.send(h11.EndOfMessage())
        body = bytearray()
        response = None
        while True:
            event = conn.next_event()
            if event is h11.NEED_DATA:
                conn.receive_data(await self.reader.read(65536))
            elif isinstance(event, h11.Response):
                response = event
                if method == "CONNECT" and response.status_code == 200:
                    return 200, {}, conn.trailing_data[0]
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert not conn.trailing_data[0], "more than one answer"
                headers = {name.decode(): value.decode() for name, value in response.headers}
                return response.status_code, headers, bytes(body)
            else:
                raise AssertionError(f"unexpected {event!r}")

    async def get(self, origin, path="/", method="GET", headers=""):
        host = origin.authority
        await self.send(f"{method} http://{host}{path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n".encode())
        return await self.answer(method)

    async def connect(self, authority):
        await self.send(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        return await self.answer("CONNECT")


def basic(username, password):
    return "Basic " + b64encode(f"{username}:{password}".encode()).decode()


def upstream_url(scheme, port, username=USERNAME, password=PASSWORD):
    return f"{scheme}://{quote(username, safe='')}:{quote(password, safe='')}@127.0.0.1:{port}"
