"""Real browsers that start with copies of profiles that wait for them."""

import asyncio
import json
import signal

import pytest

from cdpbridge.cdp import connect
from tests.conftest import until

pytestmark = [pytest.mark.chromium, pytest.mark.programs]

BUILDS = pytest.mark.parametrize("build", ["shell", "full"])
# Returns the login that was there, from each kind of storage, and writes the next one.
LOG_IN = """(async () => {
    const of = request => new Promise((done, failed) => {
        request.onsuccess = () => done(request.result);
        request.onerror = () => failed(request.error);
    });
    const opening = indexedDB.open("logins", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("logins");
    const database = await of(opening);
    const store = () => database.transaction("logins", "readwrite", {durability: "strict"}).objectStore("logins");
    const found = [document.cookie, localStorage.login || "", await of(store().get("login")) || ""];
    document.cookie = "login=%(login)s; max-age=86400";
    localStorage.login = "%(login)s";
    await of(store().put("%(login)s", "login"));
    return JSON.stringify(found);
})()"""


async def logged_in(browser, site, login):
    async with connect(browser["cdpUrl"]) as connection:
        tab = await connection.new_tab()

        async def value(expression):
            given = {"expression": expression, "awaitPromise": True, "returnByValue": True}
            return (await tab.send("Runtime.evaluate", given))["result"].get("value")

        await tab.send("Page.navigate", {"url": site})
        await until(lambda: value("location.protocol === 'http:' && document.readyState === 'complete'"))
        return json.loads(await value(LOG_IN % {"login": login}))


def seen(login):
    return [f"login={login}", login, login]


def waiting(server):
    folder = server.data_dir / "profiles" / "ready"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def inode(server):
    [folder] = server.folders()
    return (folder / "profile").stat().st_ino


async def saved(server, profile):
    """Wait for the save."""
    return (await server.http.get(f"/profiles/{profile}")).json()


@BUILDS
async def test_a_login_goes_from_browser_to_browser(make_server, site, build):
    async with make_server(browser_build=build) as server:
        profile = await server.profile()
        browser = await server.rent(profileId=profile)
        assert await logged_in(browser, site, "first") == ["", "", ""]
        await server.stop(browser)
        assert (await saved(server, profile))["cookieDomains"] == ["127.0.0.1"]
        await until(lambda: not server.folders())
        [ready] = waiting(server)
        number = ready.stat().st_ino
        # Two at once: one takes what waits, the other has a copy of its own, and is not saved.
        writer = await server.rent(profileId=profile)
        assert inode(server) == number
        reader = await server.rent(profileId=profile)
        assert (writer["profileWritable"], reader["profileWritable"]) == (True, False)
        assert not waiting(server)
        assert await logged_in(reader, site, "lost") == seen("first")
        assert await logged_in(writer, site, "second") == seen("first")
        await server.stop(reader)
        await server.stop(writer)
        await saved(server, profile)
        [ready] = waiting(server)
        last = await server.rent(profileId=profile)
        assert not ready.exists()
        assert await logged_in(last, site, "third") == seen("second")
        await server.stop(last)
        await saved(server, profile)
        assert waiting(server)
        assert (await server.http.delete(f"/profiles/{profile}")).status_code == 204
        assert not waiting(server)


@pytest.mark.parametrize("build", ["shell", pytest.param("full", marks=pytest.mark.slow)])
async def test_fault_b29_a_server_is_killed_before_and_after_a_copy_is_taken(spawn_server, site, build):
    async with spawn_server(browser_build=build) as server:
        profile = await server.profile()
        browser = await server.rent(profileId=profile)
        assert await logged_in(browser, site, "first") == ["", "", ""]
        await server.stop(browser)
        await saved(server, profile)
        [ready] = waiting(server)
        await kill(server)
    async with spawn_server(browser_build=build) as server:
        assert waiting(server) == [ready]
        number = ready.stat().st_ino
        browser = await server.rent(profileId=profile)
        assert inode(server) == number
        assert not waiting(server)
        assert await logged_in(browser, site, "second") == seen("first")
        await kill(server)
    async with spawn_server(browser_build=build) as server:
        assert not server.folders()
        browser = await server.rent(profileId=profile)
        assert (await logged_in(browser, site, "third"))[0] in {"login=first", "login=second"}
        await server.stop(browser)
        await saved(server, profile)
        assert len(waiting(server)) == 1


async def kill(server):
    server.process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(server.process.wait)
    await until(lambda: not server.processes())
