"""Which build a rental runs on, and what its profile keeps there."""

import logging

import pytest

from cdpbridge.cdp import connect
from cdpbridge.chromium import find
from cdpbridge.server.hosts import Builds

pytestmark = [pytest.mark.chromium, pytest.mark.one_build("the test is about the choice between the builds")]

PREFERENCE = "new Promise(done => chrome.settingsPrivate.{}(done))"
SET = PREFERENCE.replace("{}(done)", "setPref('webkit.webprefs.default_font_size', 20, '', done)")
GET = PREFERENCE.replace("{}(done)", "getPref('webkit.webprefs.default_font_size', each => done(each.value))")


def test_a_profile_takes_the_full_build_where_there_is_a_choice(monkeypatch, tmp_path):
    shell, full = find("shell"), find("full")
    assert Builds.found(None, None) == Builds(shell, full)
    assert Builds.found("shell", None) == Builds(shell, shell, ordered=True)
    assert Builds.found(None, shell.path).for_profile == shell
    assert Builds(shell, full).profile_losses == ()
    assert Builds(shell, shell).profile_losses == ("passwords", "preferences")
    monkeypatch.setenv("CDPBRIDGE_CHROMIUM", str(shell.path))
    assert Builds.found(None, None) == Builds(shell, shell)


async def settings(record, expression):
    async with connect(record["cdpUrl"]) as connection:
        tab = await connection.new_tab()
        await tab.send("Page.enable")
        async with tab.expect("Page.loadEventFired"):
            await tab.send("Page.navigate", {"url": "chrome://settings/"})
        params = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        return (await tab.send("Runtime.evaluate", params))["result"].get("value")


async def test_a_preference_is_kept_in_a_profile(make_server):
    async with make_server(browser_build=None) as server:
        profile = (await server.http.post("/profiles", json={"name": "work"})).json()["id"]
        record = await server.rent(profileId=profile)
        assert record["profileNotKept"] == []
        assert await settings(record, SET) is True
        await server.stop(record)
        record = await server.rent(profileId=profile)
        assert await settings(record, GET) == 20
        plain = await server.rent()
        assert plain["profileNotKept"] is None
        async with connect(plain["cdpUrl"]) as connection:
            version = await connection.root.send("Browser.getVersion")
        assert version["product"].startswith(("HeadlessChrome", "Chrome"))


async def test_the_headless_shell_says_what_it_does_not_keep(make_server, caplog):
    caplog.set_level(logging.INFO, "cdpbridge.server")
    async with make_server(browser_build="shell") as server:
        profile = (await server.http.post("/profiles", json={"name": "work"})).json()["id"]
        record = await server.rent(profileId=profile)
        assert record["profileNotKept"] == ["passwords", "preferences"]
        assert "its profile keeps no passwords and no preferences" in caplog.text
