"""A site made to be nasty: documents of every charset and kind, pages that move on, answers that break off.

Each page is what goes over the connection, byte by byte, and what a crawl must make of it.
"""

from __future__ import annotations

import gzip
import socket
import struct
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)
PDF = b"""%PDF-1.4
%\xe2\xe3\xcf\xd3
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/MediaBox[0 0 9 9]/Parent 2 0 R>>endobj
trailer<</Root 1 0 R>>
%%EOF
"""


@dataclass
class Document:
    """What is sent for one path, and what must come of it.

    Attributes:
        body: Of the response; None where the body must be that of a page with `title`.
        endless: What is sent is a chunk that is repeated as long as the client listens.
        lands_at: Paths of the documents that may come of it: itself, or what it moves on to.
        failure: Names of the exceptions that may come of it in place of a response.
    """

    status: int = 200
    head: list[tuple[str, bytes]] = field(default_factory=list)
    sent: bytes = b""
    body: bytes | None = None
    title: str = ""
    text: str | None = None
    lands_at: tuple[str, ...] = ()
    failure: tuple[str, ...] = ()
    reset: bool = False
    endless: bool = False
    delay: float = 0.0


def plain(kind, sent, *more, status=200, length=None, **expected):
    """A document that is no page, whole unless `length` says otherwise."""
    size = len(sent) if length is None else length
    head = [("Content-Type", kind.encode()), ("Content-Length", b"%d" % size), *more]
    return Document(status, [each for each in head if each[1]], sent, expected.pop("body", sent), **expected)


def page(title, *more, rest="", status=200, charset="utf-8", **expected):
    html = f"<!doctype html><title>{title}</title><link rel=icon href=data:,>{rest}".encode(charset)
    document = plain(f"text/html; charset={charset}", html, *more, status=status, **expected)
    document.body, document.title = None, title
    return document


def chunked(kind, body, *more, ends=True, **expected):
    parts = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:]) if part)
    sent = parts + (b"0\r\n\r\n" if ends else b"ff\r\n, 3")
    head = [("Content-Type", kind.encode()), ("Transfer-Encoding", b"chunked"), *more]
    return Document(200, head, sent, body, **expected)


LOST = ("ResponseDataLossError", "DownloadFailedError")
XML_1251 = '<?xml version="1.0" encoding="windows-1251"?><urlset><loc>Привет</loc></urlset>'
JSON = b'{"items": [%s]}' % b", ".join(b'{"n": %d}' % n for n in range(5000))
PACKED = gzip.compress(JSON)
GZIP = ("Content-Encoding", b"gzip")
ATTACHED = ("Content-Disposition", b"attachment; filename=a.html")

DOCUMENTS: dict[str, Document] = {
    # Charsets: in the header, or in the document's own first line.
    "/text-1251": plain(
        "text/plain; charset=windows-1251", "Привет, мир".encode("cp1251"), text="Привет, мир"
    ),
    "/text-gb18030": plain("text/plain; charset=gb18030", "你好世界".encode("gb18030"), text="你好世界"),
    "/text-latin": plain("text/plain; charset=iso-8859-1", "café déjà".encode("latin-1"), text="café déjà"),
    "/text-utf-16": plain("text/plain; charset=utf-16", "naïve 文".encode("utf-16"), text="naïve 文"),
    "/json-1251": plain(
        "application/json; charset=windows-1251", '{"a": "Привет"}'.encode("cp1251"), text='{"a": "Привет"}'
    ),
    "/script-sjis": plain(
        "text/javascript; charset=shift_jis", 'let a = "日本"'.encode("shift_jis"), text='let a = "日本"'
    ),
    "/xml-1251": plain("application/xml", XML_1251.encode("cp1251"), text=XML_1251),
    "/rss": plain("application/rss+xml", b"<?xml version='1.0'?><rss version='2.0'><channel/></rss>"),
    "/all-bytes": plain("text/plain; charset=windows-1251", bytes(range(256)) * 3),
    "/delete-signs": plain("text/plain", b"a\x7fb\x1bc\x00d"),
    "/style": plain("text/css", b"body { color: red }"),
    "/csv": plain("text/csv; charset=iso-8859-2", "ż;ó\n".encode("iso-8859-2")),
    # No HTML, and nothing is built of it.
    "/pdf": plain("application/pdf", PDF),
    "/png": plain("image/png", PNG),
    "/svg": plain(
        "image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg'><script>document</script></svg>"
    ),
    "/video": plain("video/mp4", b"\x00\x00\x00\x18ftypmp42" + bytes(5000)),
    "/octets": plain("application/octet-stream", bytes(range(256)) * 40),
    "/attached": plain("text/html", b"<title>To save</title>", ATTACHED),
    "/attached-pdf": plain("application/pdf", PDF, ("Content-Disposition", b'attachment; filename="a.pdf"')),
    "/json-404": plain("application/json", b'{"error": "no"}', status=404),
    "/json-empty": plain("application/json", b""),
    "/chunked-json": chunked("application/json", JSON),
    "/packed-json": plain("application/json", PACKED, GZIP, body=JSON),
    "/typeless-text": plain("", b"no type, and no page \xe4"),
    "/typeless-page": plain("", b"<html lang=en><title>Typeless</title>", body=None, title="Typeless"),
    "/nosniff": plain("", b"<html><title>No page</title>", ("X-Content-Type-Options", b"nosniff")),
    "/last-type": plain(
        "text/plain, text/html", b"<title>Of two the last</title>", body=None, title="Of two the last"
    ),
    # Headers.
    "/headers": page(
        "Headers",
        ("X-Latin", b"caf\xe9"),
        ("X-Utf8", "café".encode()),
        ("X-Two", b"1"),
        ("X-Two", b"2"),
        ("Set-Cookie", b"one=\xe9t\xe9; Path=/"),
        ("Set-Cookie", b"two=2; Path=/; Expires=Fri, 01 Jan 2100 00:00:00 GMT"),
    ),
    "/headers-json": plain(
        "application/json",
        b"{}",
        ("X-Latin", b"caf\xe9"),
        ("X-Utf8", "café".encode()),
        ("Set-Cookie", b"three=\xe9; Path=/"),
        ("Set-Cookie", b"four=4; Path=/"),
    ),
    # Statuses.
    "/empty-404": plain("text/html", b"", status=404, body=None),
    "/empty-500": plain("text/html", b"", status=500, body=None),
    "/204": Document(204, [("X-No", b"content")], b"", b""),
    "/304": Document(304, [("X-Not", b"modified")], b"", b"", failure=("DownloadFailedError",)),
    "/pretends": plain(
        "text/plain", b"no proxy\n", ("Proxy-Status", b"cdpbridge; error=dns_error"), status=502
    ),
    "/page-404": page("Not here", status=404),
    "/hop": Document(302, [("Location", b"/json-1251"), ("Content-Length", b"0")], lands_at=("/json-1251",)),
    "/hop-page": Document(301, [("Location", b"/page"), ("Content-Length", b"0")], lands_at=("/page",)),
    "/hops": Document(
        302, [("Location", b"/hops"), ("Content-Length", b"0")], failure=("DownloadFailedError",)
    ),
    # Pages that move on.
    "/page": page("Page"),
    "/replaced": page(
        "Replaced", rest="<script>location.replace('/page')</script>", lands_at=("/replaced", "/page")
    ),
    "/replaced-soon": page(
        "Replaced soon",
        rest="<script>setTimeout(() => location.replace('/page'))</script>",
        lands_at=("/replaced-soon", "/page"),
    ),
    "/replaced-after": page(
        "Replaced after",
        rest="<script>onload = () => location.replace('/page')</script>",
        lands_at=("/replaced-after", "/page"),
    ),
    "/refreshed": page(
        "Refreshed",
        rest="<meta http-equiv=refresh content='0; url=/page'>",
        lands_at=("/refreshed", "/page"),
    ),
    "/submits": page(
        "Submits",
        rest="<form action=/page></form><script>document.forms[0].submit()</script>",
        lands_at=("/submits", "/page"),
    ),
    "/waits": page(
        "Waits", rest="<script>location.replace('/page')</script><img src=/hangs>", lands_at=("/page",)
    ),
    "/waits-json": page(
        "Waits",
        rest="<script>location.replace('/json-1251')</script><img src=/hangs>",
        lands_at=("/json-1251",),
    ),
    "/offers": page("Offers", rest="<script>location = '/attached-pdf'</script>"),
    "/moves-to-204": page("Stays", rest="<script>location = '/204'</script>"),
    "/moves-to-nothing": page(
        "Moves to nothing",
        rest="<script>location = 'http://127.0.0.1:9/'</script><img src=/hangs>",
        failure=("DownloadFailedError", "DownloadConnectionRefusedError"),
    ),
    # Answers that break off.
    "/cut": page("Cut", length=100_000, failure=LOST),
    "/cut-json": plain("application/json", b'{"a": 1}', length=100_000, failure=LOST),
    "/cut-octets": plain("application/octet-stream", b"half", length=8, failure=LOST),
    "/reset": page("Reset", length=100_000, reset=True, failure=LOST),
    "/chunk-missing": chunked("text/html", b"<title>Chunk</title>", ends=False, failure=LOST),
    "/chunk-missing-json": chunked("application/json", b'{"a": [1, 2', ends=False, failure=LOST),
    "/packed-broken": plain("text/html", b"\x1f\x8b\x08 no gzip at all", GZIP, failure=LOST),
    "/packed-half": plain("text/html", gzip.compress(JSON)[:50] + b"\xff" * 99, GZIP, failure=LOST),
    "/packed-half-json": plain("application/json", PACKED[: len(PACKED) // 2], GZIP, failure=LOST),
    # Documents that are not what they seem.
    "/named": page(
        "Named",
        rest="<form name=documentElement><input name=outerHTML></form><form name=doctype></form>"
        "<form name=location></form><img name=title><a id=XMLSerializer></a><p>the end</p>",
    ),
    "/robbed": page(
        "Robbed",
        rest="<script>delete Document.prototype.documentElement; XMLSerializer = 1; Object = null</script>",
    ),
    "/surrogate": page("Half", rest="<p id=p></p><script>p.textContent = 'half \\ud83c of'</script>"),
    "/rootless": page("Rootless", rest="<script>onload = () => document.documentElement.remove()</script>"),
    "/pictures": page("Pictures", rest="<img src=/401><img src=/cut-octets>"),
    "/401": page("Log in", ("WWW-Authenticate", b'Basic realm="x"'), status=401),
}
DOCUMENTS["/rootless"].title = ""


@dataclass
class Site:
    """A site that runs.

    Attributes:
        url: Its address, without a path.
        seen: How often each path was asked for.
        requests: The head of the last request for each path.
        more: Documents of single tests.
        ended: How often the client has left before an endless answer of a path was stopped.
    """

    url: str = ""
    seen: Counter[str] = field(default_factory=Counter)
    requests: dict[str, bytes] = field(default_factory=dict)
    more: dict[str, Document] = field(default_factory=dict)
    hold: threading.Event = field(default_factory=threading.Event)
    ended: Counter[str] = field(default_factory=Counter)


def _serve(site, connection):
    with connection, suppress(OSError):
        head = b""
        while b"\r\n\r\n" not in head:
            got = connection.recv(65536)
            if not got:
                return
            head += got
        path = head.split()[1].decode("latin-1").partition("?")[0]
        site.seen[path] += 1
        site.requests[path] = head
        if path == "/hangs":
            site.hold.wait(100)
            return
        document = site.more.get(path) or DOCUMENTS.get(path) or page("No such page", status=404)
        time.sleep(document.delay)
        lines = [b"HTTP/1.1 %d Said\r\n" % document.status]
        lines += [name.encode() + b": " + value + b"\r\n" for name, value in document.head]
        connection.sendall(b"".join([*lines, b"Connection: close\r\n\r\n"]))
        if not document.endless and not head.startswith(b"HEAD"):
            connection.sendall(document.sent)
        if document.endless:
            try:
                while not site.hold.wait(0.01):
                    connection.sendall(b"%x\r\n%s\r\n" % (len(document.sent), document.sent))
            except OSError:
                site.ended[path] += 1
            return
        if document.reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


@contextmanager
def serve():
    site = Site()
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listening:
        site.url = f"http://127.0.0.1:{listening.getsockname()[1]}"

        def accept():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=_serve, args=(site, connection), daemon=True).start()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield site
        finally:
            site.hold.set()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
