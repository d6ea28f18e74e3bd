"""A site that answers in every way a crawler meets."""

from __future__ import annotations

import json
import ssl
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)
SCRIPTED = """<!doctype html><title>Scripted</title><link rel=icon href=data:,><h1>Before</h1><script>
document.cookie = 'js=set; path=/';
document.querySelector('h1').textContent = 'After';
setTimeout(() => { document.body.insertAdjacentHTML('beforeend', '<p id=late>late</p>'); window.ready = true }, 150);
</script>"""
RICH = """<!doctype html><title>Rich</title><link rel=icon href=data:,><link rel=stylesheet href=/style.css>
<img src=/pixel.png><script src=/app.js></script><a href=/next>next</a>"""

LOGGED_IN = """<!doctype html><link rel=icon href=data:,><script>
const there = location.origin.replace('127.0.0.1', 'localhost');
Promise.all([fetch('/login/data'), fetch(there + '/login/data')]).then(([here, away]) => {
  document.title = `${here.status} from here, ${away.status} from there`; window.done = true;
});
</script>"""


class Site(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hold: threading.Event
    seen: Counter[str]
    logins: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.seen[self.path] += 1
        self.logins.append((self.path, self.headers["Authorization"]))
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode()
        match self.path.partition("?")[0]:
            case "/echo":
                headers = {name.lower(): value for name, value in self.headers.items()}
                got = {"method": self.command, "body": body, "headers": headers}
                self.answer(f"<!doctype html><link rel=icon href=data:,><pre>{json.dumps(got)}</pre>")
            case "/scripted":
                self.answer(SCRIPTED)
            case "/rich":
                self.answer(RICH)
            case "/style.css":
                self.answer("body { color: red }", "text/css")
            case "/app.js":
                self.answer("document.title = 'Rich and scripted'", "text/javascript")
            case "/pixel.png":
                self.answer(PIXEL, "image/png")
            case "/missing":
                self.answer("<title>Not here</title>", status=404)
            case "/empty":
                self.answer("", status=404)
            case "/nothing":
                self.send_response(204)
                self.end_headers()
            case "/hop":
                self.answer("", status=302, more=[("Location", "/hop2"), ("Set-Cookie", "hop=1; Path=/")])
            case "/hop2":
                self.answer("", status=301, more=[("Location", "/echo")])
            case "/cookies":
                self.answer(
                    "<title>Cookies</title>",
                    more=[
                        ("Set-Cookie", "a=1; Path=/; HttpOnly"),
                        ("Set-Cookie", "b=2; Path=/"),
                        ("X-Own", "yes"),
                    ],
                )
            case "/storage":
                self.answer(
                    "<link rel=icon href=data:,><script>for (const kept of [localStorage, sessionStorage]) "
                    "document.title += kept.n = 1 + Number(kept.n ?? 0)</script>"
                )
            case "/alert":
                self.answer("<title>Asked</title><script>alert('?')</script><h1>answered</h1>")
            case "/moves":
                self.answer("<script>location.replace('/scripted')</script>")
            case "/data":
                self.answer('{"n": 1}', "application/json")
            case "/file":
                self.answer(
                    b"\x00\x01file",
                    "application/octet-stream",
                    more=[("Content-Disposition", "attachment; filename=a.bin")],
                )
            case "/broken":
                self.answer("<title>Broken</title>", status=503 if self.seen[self.path] < 3 else 200)
            case "/login" | "/login/data" if self.headers["Authorization"] is None:
                more = [
                    ("WWW-Authenticate", f'Basic realm="{self.path}"'),
                    ("Access-Control-Allow-Origin", "*"),
                ]
                self.answer("<title>No entry</title>", status=401, more=more)
            case "/login":
                self.answer(LOGGED_IN)
            case "/away":
                self.answer("", status=302, more=[("Location", self.path.partition("?")[2])])
            case "/hangs":
                self.hold.wait(100)
                self.answer("<title>At last</title>")
            case "/drops":
                self.close_connection = True
            case _:
                self.answer(f"<title>{self.path}</title><link rel=icon href=data:,>")

    do_POST = do_PUT = do_GET

    def answer(self, body, kind="text/html", *, status=200, more=()):
        data = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in more:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@contextmanager
def serve(tls=None):
    """Its address, and the class with its counters.

    Args:
        tls: Configures a server's `ssl.SSLContext`, for https.
    """
    handler = type("Running", (Site,), {"hold": threading.Event(), "seen": Counter(), "logins": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        if tls is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls(context)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}", handler
        finally:
            handler.hold.set()
            server.shutdown()
            thread.join()
