"""A site for browsers of the tests: pages by path, and a record of what was asked for."""

import asyncio
from contextlib import asynccontextmanager


class Site:
    """A site on a port of its own.

    `pages` maps a path to a text, or to an address to redirect to; `log` has the paths that were asked for, in order.
    """

    def __init__(self, pages=None, *, otherwise="<h1>here</h1>", keep_alive=True):
        self.pages = {} if pages is None else pages
        self.log = []
        self.port = 0
        self._otherwise = otherwise
        self._keep_alive = keep_alive

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}"

    async def connected(self, reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split()[1].decode()
                self.log.append(path)
                name = path.partition("?")[0]
                kind = "text/javascript" if name.endswith(".js") else "text/html"
                writer.write(self._answer(self.pages.get(name, self._otherwise), kind))
                await writer.drain()
                if not self._keep_alive:
                    break
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def _answer(self, page, kind):
        if page.startswith("http"):
            return f"HTTP/1.1 302 Found\r\nLocation: {page}\r\nContent-Length: 0\r\n\r\n".encode()
        body = page.encode()
        end = "" if self._keep_alive else "Connection: close\r\n"
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nSet-Cookie: sid=abc\r\n"
            f"Access-Control-Allow-Origin: *\r\n{end}Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@asynccontextmanager
async def serve_site(pages=None, **options):
    site = Site(pages, **options)
    server = await asyncio.start_server(site.connected, "127.0.0.1", 0)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        server.close()
