"""Commands about agents, against a server of a few lines: what they print, and what they leave running."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from cdpbridge.cli import main
from tests import programs
from tests.api.conftest import ACCOUNT
from tests.api.task_service import LIVE_URL, NOW, SESSION_ID, TASK_ID, Service

FILE_ID = "44444444-2222-4333-8444-555555555555"
SHARE_URL = "https://share.test/abc"


class Everything(Service):
    """One task, and the rest that commands ask for.

    Attributes:
        balances: Of the account, each for one answer; the key is not taken when there are none.
    """

    balances = ()

    def answer(self, method, path, body):
        entry = {"totalItems": 1, "pageNumber": 1, "pageSize": 100}
        share = {"shareToken": "abc", "shareUrl": SHARE_URL, "viewCount": 0}
        match method, path.split("/")[1:]:
            case "GET", ["tasks"]:
                return httpx.Response(200, json=entry | {"items": [self.view()]})
            case "GET", ["sessions"]:
                return httpx.Response(200, json=entry | {"items": [self.session_view()]})
            case "GET", ["tasks", _, "logs"]:
                return httpx.Response(200, json={"downloadUrl": f"{self.address}/store/log"})
            case "GET", ["files", "tasks", _, "output-files", _]:
                found = {"id": FILE_ID, "fileName": "prices.csv", "downloadUrl": f"{self.address}/store/file"}
                return httpx.Response(200, json=found)
            case "GET", ["store", name]:
                return httpx.Response(200, content=f"the {name}".encode())
            case "POST", ["files", *_]:
                fields = {"url": f"{self.address}/store", "method": "POST", "fields": {"key": "k"}}
                return httpx.Response(200, json=fields | {"fileName": "theirs.csv", "expiresIn": 60})
            case "POST", ["store"]:
                return httpx.Response(204)
            case "POST", ["sessions", _, "public-share"]:
                return httpx.Response(201, json=share)
            case "DELETE", ["sessions", *_]:
                return httpx.Response(204)
            case "GET", ["billing", "account"] if self.balances:
                return httpx.Response(200, json=ACCOUNT | {"totalCreditsBalanceUsd": self.balances.pop(0)})
            case "GET", ["billing", "account"]:
                return httpx.Response(401, json={"detail": "Invalid API key"})
        return super().answer(method, path, body)

    def view(self):
        return super().view() | {"outputFiles": [{"id": FILE_ID, "fileName": "prices.csv"}]}


@pytest.fixture
def service():
    service = Everything()

    class Handler(BaseHTTPRequestHandler):
        def serve(self):
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Content-Type", "").startswith("multipart/"):
                service.posted, content = content, b""
            answer = service(httpx.Request(self.command, f"http://x{self.path}", content=content))
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PATCH = do_DELETE = serve

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        service.address = f"http://127.0.0.1:{http.server_port}"
        yield service
        http.shutdown()
        thread.join()


def environment(service):
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CDPBRIDGE_", "BROWSER_USE_"))
    }
    return kept | {
        "CDPBRIDGE_PROVIDER": service.address,
        "BROWSER_USE_API_KEY": "key-of-tests",
        "COLUMNS": "200",
    }


@pytest.fixture
def cdpbridge(service, monkeypatch, capsys):
    """The command as its entry point runs it, in this process: starting one takes a second."""
    for name, value in environment(service).items():
        monkeypatch.setenv(name, value)

    def cdpbridge(*arguments, status=0):
        monkeypatch.setattr("sys.argv", ["cdpbridge", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        done = capsys.readouterr()
        assert (ended.value.code or 0) == status, done.out + done.err
        return done

    return cdpbridge


def test_run(cdpbridge, service):
    done = cdpbridge("run", "Find the price", "--llm", "gpt-4o", "--max-steps", "5")
    assert done.out == "42\n"
    for words in (str(TASK_ID), str(SESSION_ID), LIVE_URL, "   1  g", "   3  g"):
        assert words in done.err
    body = {"task": "Find the price", "llm": "gpt-4o", "maxSteps": 5}
    assert service.body == body | {"sessionSettings": {"keepAlive": False}}
    assert "stopped with the task" in done.err
    assert service.session == "stopped"


@pytest.mark.parametrize(
    ("extra", "unit"), [({}, "USD"), ({"creditsSimulated": True, "usdPerHour": "0.05"}, "simulated USD")]
)
def test_run_tells_the_cost(cdpbridge, service, monkeypatch, extra, unit):
    monkeypatch.setitem(globals(), "ACCOUNT", ACCOUNT | extra)
    service.balances = [100, 99.97]
    done = cdpbridge("run", "Find the price")
    place = service.address.split("/")[2]
    assert done.err.splitlines()[-1] == f"account  fell by 0.03 ({unit}, {place})"
    assert service.balances == []


def test_run_for_programs(cdpbridge, service, tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')
    service.output = '{"amount": 4.5}'
    done = cdpbridge("run", "Find the price", "--json", "--schema", schema, "--keep")
    found = json.loads(done.out)
    assert (found["output"], found["taskId"], found["isSuccess"]) == ({"amount": 4.5}, str(TASK_ID), True)
    assert len(found["steps"]) == 3
    assert service.body["structuredOutput"] == '{"type": "object"}'
    assert (service.session_body, service.session) == ({"keepAlive": True}, "active")


def test_run_that_fails(cdpbridge, service):
    service.end = "failed"
    done = cdpbridge("run", "Find the price", status=3)
    assert "failed" in done.err


def test_ctrl_c_stops_the_task(service):
    service.steps = 10**6
    command = [sys.executable, "-m", "cdpbridge", "run", "Find the price"]
    with programs.Program(
        command, env=environment(service), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 30
        while "GET /tasks/T" not in service.log:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=280)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert (service.stopped, service.session) == ("stop_task_and_session", "stopped")


def test_tasks(cdpbridge, service, tmp_path, monkeypatch):
    listed = cdpbridge("tasks", "list", "--status", "started").out
    assert str(TASK_ID) in listed
    [found] = json.loads(cdpbridge("tasks", "list", "--json").out)
    assert found["id"] == str(TASK_ID)
    shown = cdpbridge("tasks", "get", TASK_ID).out
    assert f"session  {SESSION_ID}" in shown
    assert "saved" in cdpbridge("tasks", "download", TASK_ID, tmp_path / "out").out
    assert (tmp_path / "out" / "prices.csv").read_text() == "the file"
    monkeypatch.chdir(tmp_path)
    cdpbridge("tasks", "logs", TASK_ID)
    assert (tmp_path / f"{TASK_ID}.log").read_text() == "the log"
    for action, word in (("pause", "pause"), ("resume", "resume"), ("stop", "stop")):
        assert str(TASK_ID) in cdpbridge("tasks", action, TASK_ID).out
        assert service.stopped == word
    cdpbridge("tasks", "stop", TASK_ID, "--session")
    assert service.stopped == "stop_task_and_session"


def test_sessions(cdpbridge, service):
    service.session = "active"
    assert str(SESSION_ID) in cdpbridge("sessions", "list").out
    assert LIVE_URL in cdpbridge("sessions", "get", SESSION_ID).out
    assert cdpbridge("sessions", "share", SESSION_ID).out == f"{SHARE_URL}\n"
    cdpbridge("sessions", "unshare", SESSION_ID)
    assert f"{SESSION_ID} stopped" in cdpbridge("sessions", "stop", SESSION_ID).out
    cdpbridge("sessions", "delete", SESSION_ID)
    assert service.log[-3:] == ["DELETE /sessions/S/public-share", "PATCH /sessions/S", "DELETE /sessions/S"]


def test_files(cdpbridge, service, tmp_path):
    path = tmp_path / "prices.csv"
    path.write_text("a,b\n")
    assert cdpbridge("files", "upload", path, "--session", SESSION_ID).out == "theirs.csv\n"
    assert b"\r\n\r\na,b\n\r\n" in service.posted
    cdpbridge("files", "download", TASK_ID, FILE_ID, tmp_path / "mine.csv")
    assert (tmp_path / "mine.csv").read_text() == "the file"
    assert "--session or --browser" in cdpbridge("files", "upload", path, status=2).err


def test_doctor_names_what_differs(cdpbridge, service):
    view = service.view

    service.view = lambda: view() | {"mood": "good", "status": "judging", "createdAt": NOW[:-1]}
    service.session = "active"
    service.refuse = {
        ("GET", path): httpx.Response(503, json={"detail": "as told"}) for path in ("/browsers", "/profiles")
    }
    service.refuse["GET", "/billing/account"] = httpx.Response(200, json={"projectId": "secret"})
    done = cdpbridge("doctor", status=1)
    for words in (
        "items[].mood: unknown field (str)",
        "status: unknown value ('judging')",
        "createdAt: naive time",
        "503 as told",
        "does not fit the contract",
    ):
        assert words in done.out
    assert "secret" not in done.out
    found = json.loads(cdpbridge("doctor", "--json", status=1).out)
    assert "mood: unknown field (str)" in [
        each
        for check in found["checks"]
        if check["operation"] == "tasks.get"
        for each in check["differences"]
    ]


def test_a_wrong_key_is_one_line(cdpbridge, service):
    for command in (["account"], ["doctor"]):
        done = cdpbridge(*command, status=1)
        assert "401 Invalid API key" in done.err
        assert len(done.err.splitlines()) == 1


def test_completion_is_there(cdpbridge):
    for shell in ("bash", "zsh", "fish"):
        assert "_CDPBRIDGE_COMPLETE=" in cdpbridge("completion", shell).out
