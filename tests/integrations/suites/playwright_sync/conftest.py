"""What a user's conftest has: a server with the pages under test."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

PAGES = {
    "/": "<title>Home</title><h1>Home</h1><a href='/form'>form</a> <a href='/popup.html' target='_blank'>popup</a>",
    "/form": """<title>Form</title><form action="/done"><label>Name <input name=name></label>
        <label>Colour <select name=colour><option>red<option>blue</select></label>
        <label><input type=checkbox name=terms> Terms</label><input type=file name=file>
        <textarea name=text></textarea><button>Send</button></form>
        <script>document.querySelector('[name=file]').onchange = async event => {
            document.title = event.target.files[0].name + ': ' + await event.target.files[0].text() }</script>""",
    "/popup.html": "<title>Popup</title><p>Hello from the popup</p>",
    "/frames": """<title>Frames</title><iframe name=one src="/form"></iframe>
        <iframe srcdoc="<button onclick='parent.clicked = 1'>Inner</button>"></iframe>""",
    "/dialogs": """<title>Dialogs</title><button onclick="document.title = confirm('Sure?')">Confirm</button>
        <button onclick="document.title = prompt('Name?', 'nobody')">Prompt</button>
        <button onclick="alert('Note'); document.title = 'told'">Alert</button>""",
    "/downloads": "<title>Downloads</title><a href='/report.csv'>Report</a><a href='/big.bin' download>Big</a>",
    "/fetch": """<title>Fetch</title><button onclick="
        fetch('/api').then(r => r.json()).then(v => document.title = v.word, () => document.title = 'failed')
        ">Fetch</button>""",
    "/done": "<title>Done</title>",
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        kind, headers = "text/html; charset=utf-8", {}
        if path == "/report.csv":
            body, kind = b"a,b\n1,2\n", "text/csv"
            headers["Content-Disposition"] = 'attachment; filename="report of may.csv"'
        elif path == "/big.bin":
            body, kind = bytes(range(256)) * 8192, "application/octet-stream"
        elif path == "/api":
            body, kind = b'{"word": "real"}', "application/json"
        elif path == "/cookie":
            body = f"<title>{self.headers.get('Cookie')}</title>".encode()
            headers["Set-Cookie"] = "seen=yes"
        elif path == "/echo":
            body = f"<title>{self.headers.get('X-Word')}</title>".encode()
        elif path in PAGES:
            body = PAGES[path].encode() + f"<p id=query>{query}</p>".encode()
        else:
            self.send_error(404)
            return
        self.send_response(200)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def site():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()
