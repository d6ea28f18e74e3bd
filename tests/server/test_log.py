"""Fault D16: the log at DEBUG, of a server and of its client, through everything that has a secret."""

import asyncio
import hashlib
import json
import os
import sys
from urllib.parse import parse_qs, urlsplit

import pytest
import websockets

from tests import programs
from tests.conftest import clean_environment
from tests.server.tasks.agent.llm import done, serve_model

pytestmark = [
    pytest.mark.one_build("the server's own work; it does not see the build"),
    pytest.mark.chromium,
    pytest.mark.timeout(300),
]

KEY = "key-of-tests"
PROXY_PASSWORD = "password-of-the-proxy"
MODEL_KEY = "key-of-the-model"
COOKIE = "value-of-a-cookie"

CLIENT = """
import asyncio, json, logging, sys
logging.basicConfig(level=logging.DEBUG)
import cdpbridge
from cdpbridge.api import AsyncClient

async def main(base_url, key):
    secrets = []
    async with AsyncClient(key, base_url) as client:
        async with cdpbridge.open_browser(client, profile="name-of-a-profile") as browser:
            await browser.connection.root.send("Storage.setCookies", {"cookies": [
                {"name": "a", "value": "value-of-a-cookie", "domain": "example.com", "path": "/"}]})
            await (await browser.new_tab("about:blank")).evaluate("1")
            secrets += [browser.record.cdp_url, browser.record.live_url]
        result = await client.run("text-of-a-task")
        for file in result.output_files:
            await client.files.download(result.id, file.id, sys.argv[3])
            secrets.append((await client.files.get_output_file(result.id, file.id)).download_url)
    print(json.dumps([str(secret) for secret in secrets]))

asyncio.run(main(*sys.argv[1:3]))
"""


async def use(server, target):
    """A rental, a share, an upload, a download, sign-in and sign-out, live views, refusals; the secrets that were handed out."""
    http = server.http
    browser = await server.rent(profileId=await server.profile("name-of-a-profile"), proxyCountryCode="de")
    await server.set_cookies(browser, COOKIE)
    cdp, live = browser["cdpUrl"], browser["liveUrl"]
    secrets = [cdp.rpartition("/")[2], live.rpartition("/")[2].partition("?")[0]]
    assert (await http.get(f"{cdp}/json/list")).status_code == 200
    body = {"fileName": "name-of-a-file.csv", "contentType": "text/csv", "sizeBytes": 3}
    signed = (await http.post(f"/files/browsers/{browser['id']}/presigned-url", json=body)).json()
    secrets += [signed["fields"]["signature"], signed["fields"]["policy"]]
    sent = await http.post(signed["url"], data=signed["fields"], files={"file": b"1;2"})
    assert sent.status_code == 204
    refused = dict(signed["fields"]) | {"key": "another"}
    assert (await http.post(signed["url"], data=refused, files={"file": b"1;2"})).status_code == 401
    session = (await http.post("/sessions", json={})).json()
    share = (await http.post(f"/sessions/{session['id']}/public-share")).json()["shareToken"]
    secrets.append(share)
    for name, token in (("live", secrets[1]), ("share", share), ("live", "guess-at-a-token")):
        async with websockets.connect(
            f"{target.root.replace('http', 'ws')}/{name}/socket", max_size=None
        ) as viewer:
            hello = {"type": "hello", "token": token, "share": name == "share"}
            await viewer.send(json.dumps(hello))
            await asyncio.wait_for(viewer.recv(), 30)
    wrong = {"X-Browser-Use-API-Key": "guess-at-a-key"}
    assert (await http.get("/browsers", headers=wrong)).status_code == 401
    answer = await http.post(f"{target.root}/console/sign-in", json={"key": KEY})
    proof = answer.json()["proof"]
    secrets += [proof, answer.cookies["cdpbridge_console"]]
    listing = await http.get(f"{target.root}/console/files", headers={"X-Cdpbridge-Console": proof})
    [file] = listing.json()["files"]
    got = await http.get(f"{target.root}/{file['path']}", params={"proof": proof})
    assert got.content == b"1;2"
    signed_out = await http.post(f"{target.root}/console/sign-out", headers={"X-Cdpbridge-Console": proof})
    assert signed_out.status_code == 200
    await http.patch(f"/sessions/{session['id']}", json={"action": "stop"})
    await server.stop(browser)
    return [*secrets, "guess-at-a-token", "guess-at-a-key"]


# What the server itself writes is looked at in both.
@pytest.mark.parametrize("everything", [pytest.param(False, marks=pytest.mark.slow), True])
async def test_fault_d16_no_secret_in_the_log_at_debug(
    spawn_server, attack, agent_python, tmp_path, everything
):
    log = tmp_path / "log"
    async with serve_model() as model:
        model.answer = lambda _request, _number: done("text-of-an-answer")
        settings = {
            "proxies": json.dumps({"de": f"http://user:{PROXY_PASSWORD}@127.0.0.1:9"}),
            "llm_base_url": model.base_url,
            "llm_api_key": MODEL_KEY,
            "agent_python": agent_python,
            "log": "DEBUG",
        }
        started = {"limits": {}, "env": {"LOG_ALL": str(log)}} if everything else {}
        async with spawn_server(**settings, **started) as server:
            reading = asyncio.create_task(asyncio.to_thread(server.process.stderr.read))
            target = attack(server)
            secrets = await use(server, target)
            environment = clean_environment()
            client = await asyncio.to_thread(
                programs.run,
                [sys.executable, "-c", CLIENT, str(server.http.base_url), KEY, str(tmp_path)],
                capture_output=True,
                text=True,
                timeout=250,
                env=environment,
            )
            assert client.returncode == 0, client.stderr[-3000:]
            for url in json.loads(client.stdout):
                query = parse_qs(urlsplit(url).query)
                secrets += query.get("signature", []) or [urlsplit(url).path.rpartition("/")[2]]
            server.process.terminate()
            await asyncio.to_thread(server.process.wait, 100)
            written = await reading
        written += log.read_text() if everything else ""
    assert "DEBUG" in written
    key_hash = hashlib.sha256(KEY.encode()).hexdigest()
    secrets += [KEY, key_hash, PROXY_PASSWORD, MODEL_KEY, COOKIE]
    assert all(len(secret) >= 8 for secret in secrets)
    values = ["name-of-a-profile", "text-of-a-task", "name-of-a-file"]  # parameters of SQL
    assert [secret for secret in [*secrets, *values] if secret in written] == []
    assert "httpx" in client.stderr
    assert [secret for secret in secrets if secret in client.stderr] == []


def test_the_level_is_a_word_that_exists(tmp_path):
    ended = programs.run(
        [sys.executable, "-m", "cdpbridge.server", "--data-dir", str(tmp_path)],
        env=os.environ | {"CDPBRIDGE_LOG": "LOUD"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ended.returncode == 2
    assert "CDPBRIDGE_LOG is 'LOUD'" in ended.stderr
    assert "Traceback" not in ended.stderr
