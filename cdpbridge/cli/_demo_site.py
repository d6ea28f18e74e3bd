"""The demo's own small site on loopback: a login form, cookies, and a page that makes several requests."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs

__all__ = ["PASSWORD", "USER", "serve_demo_site"]

USER, PASSWORD = "ada", "lovelace"
"""Who may sign in; the page says so too."""

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; color: #1d2433; background: #f3f5f9 }
main { max-width: 32rem; margin: 4rem auto; padding: 2rem 2.5rem; background: #fff; border-radius: 12px;
       box-shadow: 0 8px 30px #1d243318 }
h1 { margin-top: 0 } label { display: block; margin: .75rem 0 } input { font: inherit; padding: .4rem .6rem; width: 100%;
       box-sizing: border-box; border: 1px solid #b9c1d0; border-radius: 6px }
button { font: inherit; padding: .5rem 1.2rem; border: 0; border-radius: 6px; background: #2456d6; color: #fff }
li { margin: .3rem 0 } .quiet { color: #6b7488 }
"""

_SCRIPT = """
const orders = await (await fetch('/api/orders')).json();
document.querySelector('#orders').innerHTML = orders.map(o => `<li>${o.what}: ${o.count}</li>`).join('');
localStorage.visits = 1 + Number(localStorage.visits ?? 0);
document.querySelector('#visits').textContent = localStorage.visits;
document.body.dataset.ready = 'true';
"""

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="/style.css"><main>{body}</main></html>"""

_LOGIN = f"""<h1>Sign in</h1><form method="post" action="/login">
<label>Name <input name="user" autocomplete="username"></label>
<label>Password <input name="password" type="password" autocomplete="current-password"></label>
<p><button>Sign in</button></p></form><p class="quiet">Try {USER} and {PASSWORD}.</p>"""

_ACCOUNT = """<h1>Welcome, {user}</h1><p>Your orders:</p><ul id="orders"></ul>
<p class="quiet">Visits kept in localStorage: <span id="visits"></span></p>
<script type="module" src="/app.js"></script>"""

_ORDERS = [{"what": "Difference engine", "count": 1}, {"what": "Punched cards", "count": 4000}]


class _Site(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    signed_in: ClassVar[dict[str, str]] = {}

    def do_GET(self) -> None:
        user = self._user()
        if self.path == "/style.css":
            self._answer(_STYLE, "text/css")
        elif self.path == "/app.js":
            self._answer(_SCRIPT, "text/javascript")
        elif self.path == "/api/orders" and user:
            self._answer(json.dumps(_ORDERS), "application/json")
        elif self.path in {"/", "/account"} and user:
            self._answer(_PAGE.format(title="Your account", body=_ACCOUNT.format(user=escape(user))))
        elif self.path == "/":
            self._answer(_PAGE.format(title="Sign in", body=_LOGIN))
        elif self.path == "/account":
            self._redirect("/")
        else:
            self._answer(_PAGE.format(title="Not found", body="<h1>Not found</h1>"), status=404)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        form = parse_qs(self.rfile.read(length).decode())
        if self.path != "/login" or form.get("user") != [USER] or form.get("password") != [PASSWORD]:
            self._answer(_PAGE.format(title="Sign in", body=_LOGIN), status=403)
            return
        token = secrets.token_urlsafe()
        self.signed_in[token] = USER
        # No lifetime: a cookie of the session, the kind that a browser forgets unless it is saved with care.
        self._redirect("/account", {"Set-Cookie": f"login={token}; Path=/; HttpOnly; SameSite=Lax"})

    def _user(self) -> str | None:
        cookie = SimpleCookie(self.headers.get("Cookie", "")).get("login")
        return self.signed_in.get(cookie.value) if cookie else None

    def _redirect(self, where: str, headers: dict[str, str] | None = None) -> None:
        self._answer("", status=303, headers={"Location": where} | (headers or {}))

    def _answer(
        self, text: str, kind: str = "text/html", *, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing: the demo shows the requests as the browser sees them."""


@contextmanager
def serve_demo_site() -> Iterator[str]:
    """Serve the site during a block; yield its address, e.g. `http://127.0.0.1:40123`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="demo-site")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
