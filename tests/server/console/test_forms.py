"""The forms of the console: what is ordered is what was filled in, and what is refused is said in the form."""

import re

import pytest
from playwright.async_api import expect

from tests.server.console.pages import KEYS, ONE_PLAYWRIGHT, opened
from tests.server.scripted_agents import ScriptedAgents, agents_for_a_server

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("the console is tested, and one browser shows it"),
    *ONE_PLAYWRIGHT,
]


async def test_a_browser_with_profile_country_and_screen(make_server):
    async with (
        make_server(**KEYS, proxies={"de": "direct"}, max_browsers=1) as server,
        opened(server) as page,
    ):
        profile = await server.profile("work")
        await page.get_by_role("button", name="New browser").click()
        await page.get_by_label("Minutes").fill("7")
        await page.get_by_label("Profile").select_option("work")
        await page.get_by_label("Proxy country").select_option("de")
        await page.get_by_label("Screen width").fill("1000")
        await page.get_by_label("Screen height").fill("700")
        await page.get_by_role("button", name="Start", exact=True).click()
        await expect(page.get_by_role("heading", name="Attach")).to_be_visible()
        [browser] = (await server.http.get("/browsers?filterBy=active")).json()["items"]
        assert (browser["profileId"], browser["proxyCountryCode"]) == (profile, "de")
        connected = server.app.state.services.hosts._browsers
        [hosted] = connected.values()
        assert hosted._spec.screen == (1000, 700)
        # The only slot is taken: the form stays, with the reason.
        await page.get_by_role("link", name="Browsers").click()
        await page.get_by_role("button", name="New browser").click()
        await page.get_by_label("Minutes").fill("3")
        await page.get_by_role("button", name="Start", exact=True).click()
        await expect(page.get_by_role("alert")).to_contain_text("concurrent")
        await expect(page.get_by_label("Minutes")).to_have_value("3")
        await server.stop(browser)


async def test_a_task_in_a_new_session(make_server):
    agents = ScriptedAgents()
    async with make_server(**KEYS, agents=lambda _settings: agents) as server, opened(server) as page:
        await page.get_by_role("link", name="Agents").click()
        await page.get_by_role("button", name="New task").click()
        await page.get_by_label("What is to be done?").fill("Find the answer")
        await page.get_by_label("Model").select_option("gpt-4.1")
        await page.get_by_label("Steps at most").fill("12")
        await page.get_by_label("Start page").fill("https://example.com/start")
        await page.get_by_label("Keep the session after the task").check()
        await page.get_by_role("button", name="Start", exact=True).click()
        await expect(page).to_have_url(re.compile("#/tasks/[0-9a-f-]{36}$"))
        spec = (await agents.started()).spec
        assert (spec.task, spec.model, spec.max_steps) == ("Find the answer", "gpt-4.1", 12)
        assert spec.start_url == "https://example.com/start"
        [session] = (await server.http.get("/sessions")).json()["items"]
        assert session["keepAlive"] is True
        agents.run.finish("done")
        await expect(page.locator("h1 .badge")).to_have_text("finished")
        # Another one in the session that was kept.
        await page.get_by_role("link", name="Agents").click()
        await page.get_by_role("button", name="New task").click()
        await page.get_by_label("What is to be done?").fill("Find another")
        await page.get_by_label("Session", exact=True).select_option(session["id"])
        await expect(page.get_by_label("Profile")).to_have_count(0)
        await page.get_by_role("button", name="Start", exact=True).click()
        await agents.started(2)
        tasks = (await server.http.get(f"/tasks?sessionId={session['id']}")).json()["items"]
        assert [task["task"] for task in tasks] == ["Find another", "Find the answer"]
        await server.http.patch(f"/sessions/{session['id']}", json={"action": "stop"})


async def test_a_server_without_agents_says_why(make_server):
    agents = ScriptedAgents()
    agents.refused = "no tasks here: set `llm_base_url`"
    async with make_server(**KEYS, agents=lambda _settings: agents) as server, opened(server) as page:
        await page.get_by_role("link", name="Agents").click()
        await page.get_by_role("button", name="New task").click()
        await expect(page.get_by_text("set `llm_base_url`")).to_be_visible()
        await page.get_by_label("What is to be done?").fill("Find the answer")
        await page.get_by_role("button", name="Start", exact=True).click(force=True)
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Cancel").click()
        assert (await server.http.get("/sessions")).json()["items"] == []


async def test_shares_are_listed_with_their_views(make_server):
    async with make_server(**KEYS, agents=agents_for_a_server) as server, opened(server) as page:
        await page.get_by_role("link", name="Shares").click()
        await expect(page.get_by_text("Nothing is shared")).to_be_visible()
        await page.get_by_role("link", name="Agents").click()
        await page.get_by_role("button", name="New session").click()
        await page.get_by_role("button", name="Start", exact=True).click()
        await expect(page.get_by_role("button", name=re.compile("^Stop session"))).to_be_visible()
        await page.get_by_role("link", name="Shares").click()
        await page.get_by_role("button", name="Share a session").click()
        await page.get_by_role("button", name="Share and copy").click()
        [session] = (await server.http.get("/sessions")).json()["items"]
        row = page.get_by_role("row", name=session["id"][:8])
        await expect(row).to_contain_text("never")
        share = (await server.http.get(f"/sessions/{session['id']}/public-share")).json()
        assert share["shareToken"] not in await page.content()
        guest = await page.context.new_page()
        await guest.goto(share["shareUrl"])
        await guest.wait_for_selector("body[data-state=live]")
        await expect(row.locator("[data-label=Views]")).to_have_text("1")
        await expect(row).not_to_contain_text("never")
        await row.get_by_role("button", name=re.compile("^Unshare")).click()
        await expect(page.get_by_text("Nothing is shared")).to_be_visible()
        await guest.wait_for_selector("text=Sharing has ended")
        await server.http.patch(f"/sessions/{session['id']}", json={"action": "stop"})


async def test_the_ledger_in_the_account(make_server):
    async with make_server(**KEYS) as server, opened(server) as page:
        browser = await server.rent(timeout=3)
        await server.stop(browser)
        await page.get_by_role("link", name="Account").click()
        rows = page.get_by_role("table", name="Ledger, newest entry first").get_by_role("row")
        await expect(rows).to_have_count(4)
        told = [" ".join((await row.inner_text()).split("\t")[1:]).strip() for row in await rows.all()]
        short = browser["id"][:8]
        assert told[1:] == [
            f"Unused minutes of browser {short} +$0.049167 $99.999167",
            f"Hour 1 of browser {short} \u2212$0.050000 $99.950000",
            "Credits at the start +$100.000000 $100.000000",
        ]


async def test_a_wrong_key_is_told_in_the_form(make_server):
    async with make_server(**KEYS) as server, opened(server) as page:
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_label("API key").fill("a wrong key")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_have_text("This server does not know that key.")
        await page.get_by_label("API key").fill("key-of-tests")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("heading", name="Browsers")).to_be_visible()


async def test_what_cannot_be_taken_back_is_asked_about(make_server):
    async with make_server(**KEYS) as server, opened(server) as page:
        await server.profile("kept")
        browsers = [await server.rent(timeout=3) for _ in range(2)]
        await page.get_by_role("button", name="Stop all").click()
        await expect(page.get_by_role("heading", name="Stop 2 browsers?")).to_be_visible()
        await page.get_by_role("button", name="Cancel").click()
        assert [(await server.browser(each))["status"] for each in browsers] == ["active", "active"]
        await page.get_by_role("button", name="Stop all").click()
        await page.get_by_role("dialog").get_by_role("button", name="Stop all").click()
        await expect(page.get_by_text("No browser is running")).to_be_visible()
        assert [(await server.browser(each))["endReason"] for each in browsers] == ["stopped_by_caller"] * 2
        await page.get_by_role("link", name="Profiles").click()
        await page.get_by_role("button", name="Delete kept").click()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        assert len((await server.http.get("/profiles")).json()["items"]) == 1
        await page.get_by_role("button", name="Delete kept").click()
        await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await expect(page.get_by_text("No profile yet")).to_be_visible()
        assert (await server.http.get("/profiles")).json()["items"] == []
