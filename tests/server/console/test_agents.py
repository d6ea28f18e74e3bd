"""Agents in the console: what the page is told of them, and the page itself over scripted ones."""

import asyncio
import json
import re

import pytest
from playwright.async_api import expect

from cdpbridge.server._app import snapshots_of
from tests.server.console.pages import KEYS, opened
from tests.server.scripted_agents import ScriptedAgents, agents_for_a_server

ONE_BUILD = pytest.mark.one_build("the console is tested, and one browser shows it")

KEY, OTHER_KEY = "key-of-tests", "key-of-others"


async def snapshot(api, key=KEY):
    return await snapshots_of(api.app).of(await api.services.store.project_of(key))


async def test_tasks_and_sessions_are_the_projects_own_and_hold_no_address(api):
    created, run = await api.give(task="look " + "x" * 1000, secrets={"word": "hunter2"})
    await run.step()
    await run.step()
    share = (await api.post(f"/sessions/{created['sessionId']}/public-share")).json()
    found = await snapshot(api)
    [session], [task] = found["sessions"], found["tasks"]
    assert (session["id"], session["state"], session["shared"]) == (created["sessionId"], "active", True)
    assert (task["id"], task["state"], task["steps"]) == (created["id"], "started", 2)
    assert task["task"] == ("look " + "x" * 1000)[:300]
    text = json.dumps(found)
    for secret in ("hunter2", share["shareToken"], run.spec.cdp_url.rsplit("/", 1)[1], "screenshot", "http"):
        assert secret not in text
    run.finish("the answer")
    await api.over(created)
    found = await snapshot(api)
    assert (found["tasks"][0]["state"], found["tasks"][0]["isSuccess"]) == ("finished", True)
    assert found["sessions"][0]["state"] == "active"
    await api.patch(f"/sessions/{created['sessionId']}", {"action": "stop"})
    found = await snapshot(api)
    assert found["sessions"][0]["state"] == "stopped"
    nothing = await snapshot(api, OTHER_KEY)
    assert (nothing["sessions"], nothing["tasks"]) == ([], [])


async def test_only_the_newest_tasks_are_shown(api, monkeypatch):
    monkeypatch.setattr("cdpbridge.server.console._snapshot._NEWEST", 3)
    session = await api.open_session()
    for number in range(5):
        created, run = await api.give(task=f"task {number}", sessionId=session["id"])
        run.finish()
        await api.over(created)
        api.clock.advance(1)
    tasks = (await snapshot(api))["tasks"]
    assert [task["task"] for task in tasks] == [f"task {number}" for number in (4, 3, 2)]
    await api.patch(f"/sessions/{session['id']}", {"action": "stop"})


@ONE_BUILD
@pytest.mark.chromium
async def test_a_task_with_its_steps_pictures_output_and_files(make_server):
    async with make_server(**KEYS, agents=agents_for_a_server) as server, opened(server) as page:
        created = (await server.http.post("/tasks", json={"task": "Find the answer"})).json()
        await page.get_by_role("link", name="Agents").click()
        await page.get_by_role("link", name="Find the answer").click()
        await expect(page).to_have_url(re.compile(f"#/tasks/{created['id']}$"))
        await expect(page.get_by_text("did 'Find the answer' over http")).to_be_visible()
        await expect(page.locator(".step")).to_have_count(2)
        await expect(page.get_by_text("https://example.com/").first).to_be_visible()
        for picture in await page.get_by_role("img", name=re.compile("The page at step")).all():
            await picture.scroll_into_view_if_needed()
            await expect(picture).to_have_js_property("naturalWidth", 1)  # loaded, and allowed to be
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Download answer.txt").click()
        file = await (await download.value).path()
        assert file.read_bytes() == b"0123456789"
        await expect(page.get_by_role("button", name="Stop task")).to_have_count(0)


@ONE_BUILD
@pytest.mark.chromium
async def test_pause_resume_and_stop_a_task_and_its_session(make_server):
    agents = ScriptedAgents()
    async with make_server(**KEYS, agents=lambda _settings: agents) as server, opened(server) as page:
        session = (await server.http.post("/sessions", json={})).json()
        body = {"task": "Wait for me", "sessionId": session["id"]}
        created = (await server.http.post("/tasks", json=body)).json()
        run = await agents.started()
        await page.goto(f"{page.url.split('#')[0]}#/tasks/{created['id']}")
        await page.get_by_role("button", name="Pause").click()
        await page.get_by_role("button", name="Resume").click()
        await expect(page.get_by_role("button", name="Pause")).to_be_visible()
        await run.step(next_goal="Look closer")  # a step appears by itself
        await expect(page.get_by_role("heading", name="1. Look closer")).to_be_visible()
        await page.get_by_role("button", name="Stop task").click()
        await expect(page.locator("h1 .badge")).to_have_text("stopped")
        assert run.calls == ["pause", "resume", "stop"]
        await page.get_by_role("button", name="Stop session").click()
        await expect(page.get_by_text("Session stopped").first).to_be_visible()
        assert (await server.http.get(f"/sessions/{session['id']}")).json()["status"] == "stopped"
        await expect(page.get_by_role("button", name="Stop session")).to_have_count(0)


async def copied(page, text):
    """Wait until the clipboard holds it."""
    async with asyncio.timeout(30):
        while await page.evaluate("navigator.clipboard.readText()") != text:
            await asyncio.sleep(0.05)


@ONE_BUILD
@pytest.mark.chromium
async def test_share_a_session_and_take_it_back(make_server):
    async with (
        make_server(**KEYS, agents=agents_for_a_server) as server,
        opened(server, permissions=["clipboard-read", "clipboard-write"]) as page,
    ):
        session = (await server.http.post("/sessions", json={})).json()
        path = f"/sessions/{session['id']}/public-share"
        await page.get_by_role("link", name="Agents").click()
        await page.get_by_role("button", name=re.compile("^Share session")).click()
        await expect(page.get_by_text("Copied.").first).to_be_visible()
        share = (await server.http.get(path)).json()
        await copied(page, share["shareUrl"])
        await page.evaluate("navigator.clipboard.writeText('')")
        await page.get_by_role("button", name="Copy address").click()
        await expect(page.get_by_role("button", name="Unshare")).to_be_enabled()
        await copied(page, share["shareUrl"])
        assert share["shareToken"] not in await page.content()
        await page.get_by_role("button", name="Unshare").click()
        await expect(page.get_by_role("button", name=re.compile("^Share session"))).to_be_visible()
        assert (await server.http.get(path)).status_code == 404
        await server.http.patch(f"/sessions/{session['id']}", json={"action": "stop"})
