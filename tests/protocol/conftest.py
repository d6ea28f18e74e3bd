"""A real Chromium and a plain loopback site, with nothing of ours between them and the test."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.own_user import OwnUser

PLACES = (
    "/usr/lib/chromium/chromium-headless-shell",
    "/usr/lib/chromium/chromium",
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
)
START_TIMEOUT_SECONDS = 90


def binary() -> str:
    for place in (os.environ.get("CDPBRIDGE_CHROMIUM", ""), *PLACES):
        if place and (found := shutil.which(place)):
            return found
    pytest.skip("no Chromium on this machine")


@pytest.fixture(scope="module")
def browser_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The `ws://` address of a Chromium that lives for one test file."""
    folder = tmp_path_factory.mktemp("chromium")
    command = [
        binary(),
        "--headless=new",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder}",
        "about:blank",
    ]
    user = OwnUser(folder)
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            user.command(command),
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=user.environment(),
            start_new_session=True,
        )
    try:
        port, path = announced(folder, process)
        yield f"ws://127.0.0.1:{port}{path}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        user.end()
        shutil.rmtree(folder, ignore_errors=True)  # its last children may still be writing


def announced(folder: Path, process: subprocess.Popen[bytes]) -> list[str]:
    """Port and path from the file Chromium writes when it listens."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        file = folder / "DevToolsActivePort"
        lines = file.read_text().split("\n") if file.exists() else []
        if len(lines) == 2:
            return lines
        assert process.poll() is None, (folder / "stderr").read_text(errors="replace")
        time.sleep(0.02)
    raise AssertionError((folder / "stderr").read_text(errors="replace"))


PAGE = b"""<!doctype html><title>Busy</title><link rel=stylesheet href=/style.css>
<body><h1 id=top>Busy</h1><img src=/image.svg><iframe src=/frame></iframe><script>
console.log('first', 1, null, undefined, {a: [1, 2]}, -0, 10n, Symbol('s'), document.body, new Map([[1, 2]]));
localStorage.setItem('k', 'v');
const worker = new Worker('/worker.js');
Promise.all([
  fetch('/echo', {method: 'POST', body: 'posted'}), fetch('/missing'), fetch('/moved'),
  fetch('http://127.0.0.1:9/').catch(String),
  new Promise(done => { worker.onmessage = done; }),
]).then(() => { document.body.append('more'); console.warn('all done'); });
setTimeout(() => { throw new Error('on purpose'); }, 0);
</script>"""

FILES = {
    "/": ("text/html", PAGE),
    "/frame": ("text/html", b"<p>inner"),
    "/style.css": (
        "text/css",
        b"h1 { color: red; transition: color 1s } @media (min-width: 1px) { p { margin: 0 } }",
    ),
    "/image.svg": ("image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"),
    "/worker.js": ("text/javascript", b"postMessage('hello')"),
    "/echo": ("text/plain", b"echo"),
}


class Site(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/moved":
            self.answer(302, "text/plain", b"", Location="/echo")
        elif self.path in FILES:
            self.answer(200, *FILES[self.path], **{"Set-Cookie": "sid=1; HttpOnly; SameSite=Lax"})
        else:
            self.answer(404, "text/plain", b"nothing here")

    do_POST = do_GET

    def answer(self, status: int, kind: str, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Quiet: the tests look at what Chromium reports."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, address: object) -> None:
        """A browser that goes away resets its connections; anything else is printed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, address)


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """Address of a loopback site with a busy page at `/`."""
    server = Server(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()
