"""A site with files to download, and inputs to give some to."""

from __future__ import annotations

import hashlib
import threading
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PAGE = b"""<!doctype html><title>files</title>
<a id=report href="/file?name=m%C3%A4rz.csv&size=4">r</a>
<a id=big href="/file?name=big.bin&size=3000017">b</a>
<a id=slow href="/slow?name=slow.bin" >s</a>
<a id=other target=_blank href="/file?name=other.txt&size=7">o</a>
<iframe srcdoc="<a id=inner href='/file?name=inner.txt&size=9'>f</a>"></iframe>
<form id=form method=post enctype=multipart/form-data action=/upload>
<input type=file id=one name=file><input type=file id=many name=file multiple>
<input type=file id=folder name=file webkitdirectory></form>
<div id=drop style="width:200px;height:200px">drop</div>
<script>
const read = async files => JSON.stringify(await Promise.all([...files].map(async f => [f.name, f.size,
    f.webkitRelativePath, f.lastModified,
    [...new Uint8Array(await crypto.subtle.digest('SHA-256', await f.arrayBuffer()))].map(
        b => b.toString(16).padStart(2, '0')).join('')])));
drop.ondragover = e => e.preventDefault();
drop.ondrop = async e => { e.preventDefault(); drop.title = await read(e.dataTransfer.files); };
</script>"""


def content(name: str, size: int) -> bytes:
    """What the site gives for a name."""
    seed = hashlib.sha256(name.encode()).digest()
    return (seed * (size // 32 + 1))[:size]


class Site(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.release = threading.Event()
        self.received: list[tuple[str, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        headers = {"Content-Type": "text/html"}
        body = PAGE
        if url.path == "/file":
            body = content(query["name"], int(query["size"]))
        elif url.path == "/slow":
            body = content(query["name"], 100_000)
        elif url.path != "/":
            body = b""
        if "name" in query:
            name = query["name"].encode().decode("latin-1")
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Disposition": f'attachment; filename="{name}"',
            }
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        half = len(body) // 2 if url.path == "/slow" else len(body)
        try:
            self.wfile.write(body[:half])
            self.wfile.flush()
            if half < len(body):
                self.server.release.wait(100)
                self.wfile.write(body[half:])
        except OSError:
            self.close_connection = True

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        for part in BytesParser().parsebytes(head + body).get_payload():
            self.server.received.append((part.get_filename() or "", part.get_payload(decode=True)))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass
