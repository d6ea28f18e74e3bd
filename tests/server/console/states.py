"""A project with something of everything, for tests that look at every view."""

from contextlib import asynccontextmanager

from playwright.async_api import expect

SECTIONS = ("Browsers", "Agents", "Shares", "Files", "Profiles", "Account")
DIALOGS = (
    ("Browsers", "New browser"),
    ("Browsers", "Stop all"),
    ("Agents", "New session"),
    ("Agents", "New task"),
    ("Shares", "Share a session"),
    ("Files", "Upload a file"),
    ("Profiles", "New profile"),
    ("Profiles", "Rename"),
    ("Profiles", "Delete"),
)
LONG = "x" * 60


class Filled:
    """What was made: ids of a running and of an ended browser, and of a task."""

    def __init__(self, running, ended, task):
        self.running = running
        self.ended = ended
        self.task = task
        self.routes = (f"browsers/{running}", f"browsers/{ended}", f"tasks/{task}", "browsers/nothing")


@asynccontextmanager
async def filled(server):
    """Browsers, sessions, a share, a finished task, files and profiles with names that do not wrap."""
    http = server.http
    profile = await server.profile(LONG)
    ended = await server.rent(timeout=3, profileId=profile)
    await server.stop(ended)
    running = await server.rent(timeout=30)
    body = {"fileName": f"{LONG}.csv", "contentType": "text/csv", "sizeBytes": 3}
    signed = (await http.post(f"/files/browsers/{running['id']}/presigned-url", json=body)).json()
    await http.post(signed["url"], data=signed["fields"], files={"file": ("x", b"1;2")})
    shared = (await http.post("/sessions", json={})).json()
    await http.post(f"/sessions/{shared['id']}/public-share")
    body = {"task": f"Find the answer {LONG}", "sessionId": shared["id"]}
    task = (await http.post("/tasks", json=body)).json()
    other = (await http.post("/sessions", json={})).json()
    yield Filled(running["id"], ended["id"], task["id"])
    for session in (shared, other):
        await http.patch(f"/sessions/{session['id']}", json={"action": "stop"})
    await server.stop(running)


async def show(page, section):
    """One of the sections."""
    await page.get_by_role("link", name=section, exact=True).first.click()
    await expect(page.get_by_role("heading", name=section, exact=True)).to_be_visible()
    await expect(page.locator(".loading")).to_have_count(0)


async def go(page, route):
    """The page of one browser or task."""
    await page.evaluate(f"location.hash = '#/{route}'")
    await expect(page.locator("main h1")).to_be_visible()
    await expect(page.locator(".loading")).to_have_count(0)


async def open_dialog(page, section, button):
    await show(page, section)
    await page.locator("main").get_by_role("button", name=button).first.click()
    await expect(page.get_by_role("dialog")).to_be_visible()
