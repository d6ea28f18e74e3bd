"""`allowedDomains` with real agents and real browsers: what the forbidden site is asked for while a task runs, which is nothing."""

import asyncio
import json

import pytest

from cdpbridge.api import AsyncClient
from cdpbridge.cdp import connect
from tests.server.sites import serve_site
from tests.server.tasks.agent.llm import done, go, serve_model

pytestmark = [pytest.mark.chromium, pytest.mark.timeout(300)]
KEY = "key-of-tests"


@pytest.fixture
async def allowed():
    async with serve_site() as site:
        yield site


@pytest.fixture
async def forbidden():
    async with serve_site() as site:
        yield site


@pytest.fixture
async def model():
    async with serve_model() as model:
        yield model


# The limits are those of the forwarder, for either build.
@pytest.fixture(params=["shell", pytest.param("full", marks=pytest.mark.slow)])
async def client(request, make_server, model, agent_python):
    settings = {
        "llm_base_url": model.base_url,
        "agent_python": agent_python,
        "browser_build": request.param,
    }
    async with make_server(**settings) as server, AsyncClient(KEY, str(server.http.base_url)) as client:
        yield client


async def test_a_task_reaches_its_domains_and_nothing_else(client, model, allowed, forbidden):
    """The session shows a page outside that asks its server all the time; the start page is outside, and so does the model go."""
    out = forbidden.address
    forbidden.pages["/busy"] = "<script>setInterval(() => fetch('/poll?' + Math.random()), 20)</script>"
    allowed.pages["/"] = (
        f"<h1>allowed</h1><img src={out}/pixel><script src={out}/script></script><link rel=stylesheet href={out}/css>"
        f"<iframe src={out}/frame></iframe><a href={out}/link download>x</a>"
        f"<script>fetch('{out}/fetch'); new WebSocket('{out.replace('http', 'ws')}/socket');"
        f"navigator.sendBeacon('{out}/beacon')</script>"
    )
    allowed.pages["/redirect"] = f"{out}/redirected"
    session = await client.sessions.create(start_url=f"{out}/busy")
    async with asyncio.timeout(30):
        while sum("/poll" in path for path in forbidden.log) < 3:
            await asyncio.sleep(0.02)
    before = []

    async def besides():
        """Another client of the browser, while the agent waits for its model: a tab, a worker, a socket, a download."""
        browser = await client.browsers.get(session.browser_session_id)
        async with connect(browser.cdp_url) as connection:
            tab = await connection.new_tab(f"{out}/tab")
            inside = await connection.new_tab(f"{allowed.address}/inside")
            code = (
                f"new Worker(URL.createObjectURL(new Blob([\"fetch('{out}/worker').catch(() => 0)\"])));"
                f"new EventSource('{out}/events');"
                f"fetch('{out}/again', {{mode: 'no-cors', credentials: 'include'}}).then(r => 1, e => 1)"
            )
            await inside.send("Runtime.evaluate", {"expression": code, "awaitPromise": True})
            leave = f"Object.assign(document.createElement('a'), {{href: '{out}/download', download: 'x'}}).click()"
            await inside.send("Runtime.evaluate", {"expression": leave, "userGesture": True})
            for each in (tab, inside):
                await connection.root.send("Target.closeTarget", {"targetId": each.target_id})
        return go(f"{allowed.address}/redirect")

    script = [
        lambda: go(f"{allowed.address}/"),
        lambda: go(f"{out}/model"),
        besides,
        lambda: done("enough"),
    ]

    def answer(_request, number):
        if number == 1:
            before.append(len(forbidden.log))
        return script[number - 1]()

    model.answer = answer
    domain = allowed.address.removeprefix("http://")
    created = await client.tasks.create(
        "look",
        session_id=session.id,
        start_url=f"{out}/start",
        allowed_domains=[domain],
        judge=False,
    )
    task = await client.tasks.wait(created.id, timeout=None)
    assert (task.status, task.output, task.is_success) == ("finished", "enough", True)
    assert forbidden.log[before[0] :] == []
    assert "/start" not in forbidden.log
    assert "/" in allowed.log
    assert "/redirect" in allowed.log
    # The model knows where it may go, and why it came nowhere.
    assert domain in model.requests[0].text
    assert f"{out}/start was blocked by security policy" in model.requests[0].text
    assert f"{out}/model was blocked by security policy" in model.requests[2].text
    told = model.requests[3].text
    assert "not among the hosts" in told or "may reach only" in told
    # Afterwards the session is as before.
    full = await client.sessions.get(session.id)
    assert full.status == "active"
    browser = await client.browsers.get(full.browser_session_id)
    async with connect(browser.cdp_url) as connection:
        tab = await connection.new_tab(f"{out}/after")
        async with asyncio.timeout(30):
            while "/after" not in forbidden.log:
                await asyncio.sleep(0.02)
        await tab.detach()
    # And the next task is free.
    model.requests.clear()
    model.answer = lambda _request, number: go(f"{out}/free") if number == 1 else done("there")
    result = await client.run("go there", session_id=session.id, judge=False)
    assert result.output == "there"
    assert "/free" in forbidden.log
    await client.sessions.stop(session.id)


@pytest.mark.one_build("the agent's process and its task; it does not see the build")
async def test_a_session_made_for_a_task_opens_its_page_under_the_tasks_limits(
    make_server, model, agent_python, allowed, forbidden
):
    allowed.pages["/in"] = f"<img src={forbidden.address}/pixel><h1>in</h1>"
    model.answer = lambda _request, _number: done("seen")
    settings = {"llm_base_url": model.base_url, "agent_python": agent_python}
    body = {
        "task": "look",
        "allowedDomains": [allowed.address.removeprefix("http://")],
        "judge": False,
    }
    async with make_server(**settings) as server, AsyncClient(KEY, str(server.http.base_url)) as client:
        for page in (f"{allowed.address}/in", f"{forbidden.address}/out"):
            more = {"sessionSettings": {"startUrl": page, "keepAlive": False}}
            created = (await server.http.post("/tasks", json=body | more)).json()
            task = await client.tasks.wait(created["id"], timeout=None)
            assert task.output == "seen", task
    assert "/in" in allowed.log
    assert forbidden.log == []
    assert "blocked by security policy" in model.requests[1].text
    assert json.dumps(f"{forbidden.address}/out")[1:-1] in model.requests[1].text
