"""A share opened after its session's end: what the session did, no secrets, and no files."""

import asyncio
import json
import urllib.parse

import pytest
import websockets
from playwright.async_api import expect

from tests.server.scripted_agents import ScriptedAgents

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("what viewers get from the server; where the builds differ, the test has both"),
]

MARKUP = "<img src=x onerror=\"document.title='run'\">"


async def two_steps_and_an_answer(run):
    await run.step(
        url="https://user:hidden-word@example.com/orders",
        next_goal=f"open the orders {MARKUP}",
        memory="logged in",
    )
    await run.step(next_goal="read the total")
    run.finish(f"the total is 12 {MARKUP}", files={"private-report.txt": b"0123456789"})


@pytest.fixture
async def ended(make_server):
    """A stopped session with one finished task, and its share."""
    agents = ScriptedAgents(two_steps_and_an_answer)
    async with make_server(agents=lambda _settings: agents) as server:
        session = (await server.http.post("/sessions", json={})).json()
        body = {
            "task": "Find the total",
            "sessionId": session["id"],
            "secrets": {"word": "hunter2"},
            "metadata": {"team": "label-of-a-team"},
        }
        created = (await server.http.post("/tasks", json=body)).json()
        share = (await server.http.post(f"/sessions/{session['id']}/public-share")).json()

        async with asyncio.timeout(60):
            while (await server.http.get(f"/tasks/{created['id']}/status")).json()["status"] != "finished":
                await asyncio.sleep(0.01)
        await server.http.patch(f"/sessions/{session['id']}", json={"action": "stop"})
        yield server, session, share


async def told(server, hello):
    base = str(server.http.base_url).split("/api/")[0].replace("http", "ws", 1)
    async with websockets.connect(f"{base}/{'share' if hello['share'] else 'live'}/socket") as socket:
        await socket.send(json.dumps({"type": "hello", **hello}))
        messages = []
        with pytest.raises(websockets.ConnectionClosed, match="4410"):
            while True:
                messages.append(json.loads(await socket.recv()))
    return messages


async def test_a_viewer_is_told_tasks_steps_and_outputs_before_the_end(ended):
    server, session, share = ended
    messages = await told(server, {"token": share["shareToken"], "share": True})
    assert [message["type"] for message in messages] == ["task", "steps", "end"]
    task, steps, end = messages
    assert (task["task"], task["status"], task["success"]) == ("Find the total", "finished", True)
    assert task["output"] == f"the total is 12 {MARKUP}"
    assert [step["number"] for step in steps["steps"]] == [1, 2]
    assert steps["steps"][0]["url"] == "https://example.com/orders"
    assert end["title"] == "Session stopped"
    text = json.dumps(messages)
    secrets = (
        "hunter2", "hidden-word", "private-report", "label-of-a-team", "USD", session["liveUrl"].rsplit("/", 1)[1]
    )  # fmt: skip
    assert [secret for secret in secrets if secret in text] == []
    base = str(server.http.base_url).split("api/")[0]
    answer = await server.http.get(urllib.parse.urljoin(base, steps["steps"][0]["screenshot"]))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")


async def test_the_page_shows_it_as_text(ended, viewers_browser):
    server, session, share = ended
    page = await viewers_browser.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    await page.goto(share["shareUrl"])
    await expect(page.get_by_role("heading", name="Find the total")).to_be_visible()
    await expect(page.get_by_role("heading", name="Session stopped")).to_be_visible()
    await expect(page.get_by_text("the total is 12 <img")).to_be_visible()
    await expect(page.get_by_text("Finished · Successful")).to_be_visible()
    await expect(page.locator("#record li")).to_have_count(2)
    for picture in await page.get_by_role("img", name="Screenshot of step").all():
        await picture.scroll_into_view_if_needed()
        await expect(picture).to_have_js_property("naturalWidth", 1)
    assert await page.title() == "Session stopped · Live view"  # no markup has run
    await page.set_viewport_size({"width": 390, "height": 780})
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390
    await server.http.delete(f"/sessions/{session['id']}/public-share")
    await page.reload()
    await expect(page.get_by_role("heading", name="Nothing to see here")).to_be_visible()
    await expect(page.locator("#record li")).to_have_count(0)
    assert not problems


async def test_a_purged_session_shows_nothing_of_its_content(ended):
    server, session, share = ended
    await server.http.post(f"/sessions/{session['id']}/purge")
    messages = await told(server, {"token": share["shareToken"], "share": True})
    assert [message["type"] for message in messages] == ["task", "end"]
    assert (messages[0]["task"], messages[0]["output"]) == ("", None)


async def test_a_browser_without_a_session_ends_as_before(rented):
    await rented.stop()
    [end] = await told(rented.server, {"token": rented.live_url.rsplit("/", 1)[1], "share": False})
    assert (end["type"], end["title"]) == ("end", "Session stopped")


async def test_the_recording_is_part_of_it(make_server, viewers_browser, wait_until):
    async with make_server() as server:
        session = (await server.http.post("/sessions", json={"enableRecording": True})).json()
        share = (await server.http.post(f"/sessions/{session['id']}/public-share")).json()
        drafts = server.data_dir.glob
        await wait_until(
            lambda: any(file.stat().st_size for file in drafts("files/browsers/*/recording/.*.webm")),
            timeout=280,
        )
        await server.http.patch(f"/sessions/{session['id']}", json={"action": "stop"})
        async with asyncio.timeout(30):
            while (await server.http.get(f"/sessions/{session['id']}")).json()["recordingUrl"] is None:
                await asyncio.sleep(0.05)
        messages = await told(server, {"token": share["shareToken"], "share": True})
        assert [message["type"] for message in messages] == ["recording", "end"]
        page = await viewers_browser.new_page()
        await page.goto(share["shareUrl"])
        video = page.locator("#record video")
        await expect(video).to_be_visible()
        answer = await server.http.get(await video.get_attribute("src"))
        assert (answer.status_code, answer.headers["content-type"].split("/")[0]) == (200, "video")
        await page.wait_for_function(
            "document.querySelector('video').readyState >= 1"
        )  # the page may load it
