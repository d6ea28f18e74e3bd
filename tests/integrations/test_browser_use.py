"""browser-use's own agent on a rented browser, in the environment that it needs, with a scripted model."""

import json
import os
import signal
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import clean_environment, only_one_installs
from tests.folders import browsers_folder

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.one_build("the framework's use of a rental; it does not see the build"),
    pytest.mark.chromium,
    pytest.mark.timeout(240),
]
PROGRAM = """
import asyncio, sys
from browser_use import Agent, ChatOpenAI
from cdpbridge.integrations.browser_use import session

async def main(model, keep_alive):
    rented = session(keep_alive=keep_alive)
    async with rented as browser_session:
        llm = ChatOpenAI(model="m", api_key="x", base_url=model, max_retries=0)
        agent = Agent(task="title", llm=llm, browser_session=browser_session, use_judge=False, calculate_cost=False)
        history = await agent.run(max_steps=4)
        print("said", history.final_result(), "stopped", rented.rental.receipt is not None, flush=True)
    print("after", rented.rental.receipt, flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2] == "keep"))
"""


def quiet(folder):
    """browser-use's settings for a test: few words, no calls abroad, and its folders, that of downloads too, in `folder`."""
    return {
        "ANONYMIZED_TELEMETRY": "false",
        "BROWSER_USE_CLOUD_SYNC": "false",
        "BROWSER_USE_VERSION_CHECK": "false",
        "BROWSER_USE_CLOUD_HINTS": "false",
        "BROWSER_USE_DISABLE_EXTENSIONS": "1",
        "BROWSER_USE_LOGGING_LEVEL": "result",
        "SKIP_LLM_API_KEY_VERIFICATION": "true",
        "BROWSER_USE_CONFIG_DIR": str(folder),
        "TMPDIR": str(folder),
    }


@pytest.fixture(scope="module")
def python(agent_python):
    """The interpreter, with this project beside browser-use."""
    with only_one_installs():
        found = subprocess.run(
            [agent_python, "-c", "import cdpbridge.browser"], capture_output=True, cwd="/", check=False
        )
        if found.returncode:
            command = [agent_python, "-m", "pip", "install", "--quiet", "--editable", str(ROOT)]
            subprocess.run(command, check=True)
    return agent_python


class Model(BaseHTTPRequestHandler):
    """Answers as a model that opens a page, reads its title, and is done; or never, when told to."""

    page = ""
    asked = None
    silent = False

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        step = type(self).asked = (self.asked or 0) + 1
        if self.silent:
            time.sleep(30)
        actions = [
            {"navigate": {"url": self.page, "new_tab": False}},
            {"evaluate": {"code": "document.title"}},
            {"done": {"text": "finished", "success": True}},
        ]
        content = {"memory": "m", "action": [actions[min(step, 3) - 1]]}
        message = {"role": "assistant", "content": json.dumps(content)}
        answer = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": request["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def model(site):
    handler = type("Model", (Model,), {"page": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    handler.address = f"http://127.0.0.1:{server.server_port}/v1"
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.slow  # the example does the same, shorter
@pytest.mark.parametrize("keep", [False, True])
def test_an_agent(python, model, server, tmp_path, keep):
    done = subprocess.run(
        [python, "-c", PROGRAM, model.address, "keep" if keep else "end"],
        env=server.environment(**quiet(tmp_path)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"said finished stopped {not keep}" in done.stdout, done.stdout + done.stderr
    assert "after charged 0.05" in done.stdout
    assert model.asked == 3


def test_the_example(python, model, server, tmp_path):
    openai = {"OPENAI_BASE_URL": model.address, "OPENAI_API_KEY": "x", "MODEL": "m"}
    done = subprocess.run(
        [python, ROOT / "examples" / "frameworks" / "browser_use_agent.py"],
        env=server.environment(**quiet(tmp_path), **openai),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "finished charged 0.05" in done.stdout


@pytest.mark.slow
def test_a_killed_agent_leaves_no_browser(python, model, tmp_path):
    model.silent = True
    environment = clean_environment(
        **quiet(tmp_path),
        CDPBRIDGE_DATA_DIR=str(tmp_path / "data"),
        CDPBRIDGE_BROWSER_BUILD="shell",
        CDPBRIDGE_PROVIDER="local",
    )
    local = subprocess.run(
        [python, "-c", "import fastapi, sqlalchemy, uvicorn, alembic, aiosqlite"],
        capture_output=True,
        check=False,
    )
    if local.returncode:
        command = [python, "-m", "pip", "install", "--quiet", "--editable", f"{ROOT}[local]"]
        subprocess.run(command, check=True)
    with subprocess.Popen(
        [python, "-c", PROGRAM, model.address, "end"], env=environment, cwd=tmp_path
    ) as process:
        deadline = time.monotonic() + 60
        while model.asked is None:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        folders = browsers_folder(tmp_path / "data")
        pids = browsers(folders)
        assert pids
        os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while browsers(folders):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def browsers(folder):
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if any(str(folder) in word for word in process.cmdline()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found
