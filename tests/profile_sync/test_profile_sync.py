"""Cookies of local browsers into hosted profiles, and profiles as files: real Chromium, Firefox's real formats."""

import asyncio
import json
import sqlite3
import subprocess
import sys
import time

import pytest

import cdpbridge
from cdpbridge.cdp import connect_pipe
from cdpbridge.chromium import Chromium, find
from cdpbridge.errors import BrowserNotFound, ConfigurationError
from cdpbridge.profile_sync import (
    LocalCookies,
    export_state,
    firefox_cookies,
    import_state,
    read_local,
    select,
    sync,
)
from cdpbridge.profile_sync._firefox import _unpacked

SECRET = "s3cr3t-value"
LATER = int(time.time()) + 9999


def cookie(name, domain="example.test", **more):
    return {"name": name, "value": f"{SECRET}-{name}", "domain": domain, "path": "/"} | more


@pytest.fixture
def client(server):
    return cdpbridge.at(server.base_url, server.key)


@pytest.fixture(scope="module")
def local_profile(tmp_path_factory):
    """A user data folder that a full Chromium has left."""
    folder = tmp_path_factory.mktemp("local") / "chromium"
    cookies = [
        cookie("lasting", expires=LATER),
        cookie("session", ".example.test", httpOnly=True),
        cookie("deep", "a.example.test", expires=LATER, secure=True, sameSite="None"),
        cookie("other", "other.test", expires=LATER),
        {
            "name": "__Host-part",
            "value": SECRET,
            "url": "https://other.test",
            "path": "/",
            "secure": True,
            "expires": LATER,
            "partitionKey": {"topLevelSite": "https://top.test", "hasCrossSiteAncestor": True},
        },
    ]

    async def make():
        async with (
            await Chromium.start(build=find("full"), user_data_dir=folder) as chromium,
            connect_pipe(*chromium.take_pipe()) as connection,
        ):
            await connection.root.send("Storage.setCookies", {"cookies": cookies})
            await connection.root.send("Browser.close")

    asyncio.run(make())
    return folder


async def cookies_of(client, profile):
    async with cdpbridge.open_browser(client, profile=profile) as browser:
        return {
            each["name"]: each
            for each in (await browser.connection.root.send("Storage.getCookies"))["cookies"]
        }


@pytest.mark.chromium
async def test_from_chromium(client, local_profile):
    before = {file: file.stat().st_mtime_ns for file in local_profile.rglob("*")}
    report = await sync(local_profile, client=client, to="synced")
    assert (report.found, report.chosen, report.cookies.imported) == (5, 5, 5)
    assert (report.cookies.failed, report.cookies.dropped, report.skipped, report.running) == (
        [],
        [],
        0,
        False,
    )
    assert report.saved is not False
    assert SECRET not in repr(report)
    assert SECRET not in repr(await read_local(local_profile / "Default"))
    found = await cookies_of(client, "synced")
    assert found["lasting"]["value"] == f"{SECRET}-lasting"
    assert found["session"]["session"] is True
    assert found["session"]["httpOnly"] is True
    assert found["deep"]["sameSite"] == "None"
    assert found["__Host-part"]["partitionKey"]["topLevelSite"] == "https://top.test"
    assert {
        file: file.stat().st_mtime_ns for file in local_profile.rglob("*")
    } == before  # only a copy was touched


@pytest.mark.chromium
def test_the_command(server, local_profile):
    command = [sys.executable, "-m", "cdpbridge", "profiles", "sync", "--from", str(local_profile)]
    done = subprocess.run(
        [*command, "--domain", "example.test", "--to", "commanded"],
        env=server.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "3 cookies are in the profile commanded" in done.stdout
    assert "5 cookies, 3 chosen" in done.stderr.replace("\n", " ")
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.chromium
async def test_fault_b28_losses_are_reported_by_domain(client, monkeypatch):
    many = [cookie(f"n{number}", "many.test", expires=LATER) for number in range(250)]
    odd = cookie("bad\0name", "odd.test", expires=LATER)
    found = LocalCookies([*many, odd, cookie("fine", "fine.test")], "test")

    async def read(_source):
        return found

    monkeypatch.setattr("cdpbridge.profile_sync._sync.read_local", read)
    report = await sync("chrome", client=client, to="many")
    assert report.dropped_domains.keys() == {"many.test"}
    assert 60 <= report.dropped_domains["many.test"] <= 110
    assert [each.domain for each in report.cookies.failed] == ["odd.test"]
    assert report.cookies.imported == 251 - report.dropped_domains["many.test"]


def test_domains():
    cookies = [cookie("a"), cookie("b", ".sub.example.test"), cookie("c", "notexample.test")]
    assert [each["name"] for each in select(cookies, ["Example.test."])] == ["a", "b"]
    assert len(select(cookies, [])) == 3


# --- Firefox ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def firefox(tmp_path):
    """A Firefox folder in its own formats: profiles.ini, cookies.sqlite, a session store."""
    profile = tmp_path / "abc.default-release"
    (profile / "sessionstore-backups").mkdir(parents=True)
    (tmp_path / "profiles.ini").write_text(
        "[Install4F96D1932A9F858E]\nDefault=abc.default-release\n[Profile0]\nPath=other\nDefault=1\n"
    )
    database = sqlite3.connect(profile / "cookies.sqlite")
    database.execute(
        "CREATE TABLE moz_cookies (id INTEGER PRIMARY KEY, originAttributes TEXT NOT NULL DEFAULT '', name TEXT, value TEXT,"
        " host TEXT, path TEXT, expiry INTEGER, lastAccessed INTEGER, creationTime INTEGER, isSecure INTEGER,"
        " isHttpOnly INTEGER, inBrowserElement INTEGER DEFAULT 0, sameSite INTEGER DEFAULT 0, schemeMap INTEGER DEFAULT 0)"
    )
    partition = "^partitionKey=%28https%2Ctop.test%29"
    rows = [
        ("", "seconds", SECRET, ".example.test", "/", LATER, 0, 1, 256),
        ("", "milliseconds", SECRET, "example.test", "/", LATER * 1000, 1, 0, 1),
        (partition, "partitioned", SECRET, "example.test", "/", LATER, 1, 0, 0),
        ("^userContextId=2", "container", SECRET, "example.test", "/", LATER, 0, 0, 1),
    ]
    database.executemany(
        "INSERT INTO moz_cookies (originAttributes, name, value, host, path, expiry, isSecure, isHttpOnly, sameSite)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    database.commit()
    database.close()
    store = {
        "cookies": [
            {"host": "example.test", "name": "session", "value": SECRET, "path": "/", "originAttributes": {}}
        ]
    }
    (profile / "sessionstore-backups" / "recovery.jsonlz4").write_bytes(packed(json.dumps(store).encode()))
    return tmp_path


def packed(data):
    """One LZ4 block of literals, as Mozilla wraps it."""
    count = len(data) - 15
    lengths = b"\xff" * (count // 255) + bytes([count % 255])
    return b"mozLz40\0" + len(data).to_bytes(4, "little") + b"\xf0" + lengths + data


def test_lz4_with_matches():
    block = (
        bytes([0x34]) + b"abc" + (3).to_bytes(2, "little") + bytes([0x10]) + b"!"
    )  # "abc", 8 more of it, "!"
    assert _unpacked(b"mozLz40\0" + (12).to_bytes(4, "little") + block) == b"abcabcabcab!"
    for damaged in (b"x" * 20, b"mozLz40\0" + (99).to_bytes(4, "little") + block, packed(b"y" * 50)[:-1]):
        with pytest.raises(ValueError):
            _unpacked(damaged)


@pytest.mark.chromium
async def test_from_firefox(client, firefox):
    local = await read_local(firefox)
    assert local.skipped == 1
    assert {each["name"] for each in local.cookies} == {"seconds", "milliseconds", "partitioned", "session"}
    report = await sync(firefox, client=client, to="fox")
    assert report.cookies.imported == 4
    found = await cookies_of(client, "fox")
    assert found["seconds"]["expires"] == found["milliseconds"]["expires"] == LATER
    assert found["session"]["session"] is True
    assert found["partitioned"]["partitionKey"]["topLevelSite"] == "https://top.test"
    assert found["milliseconds"]["sameSite"] == "Lax"


def test_a_damaged_firefox_profile(firefox):
    profile = firefox / "abc.default-release"
    (profile / "sessionstore-backups" / "recovery.jsonlz4").write_bytes(b"mozLz40\0damaged")
    with pytest.raises(ConfigurationError, match="session store"):
        firefox_cookies(profile)
    (profile / "cookies.sqlite").write_bytes(b"no database at all, but long enough to look like one" * 50)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        firefox_cookies(profile)


# --- what there is not ------------------------------------------------------------------------------------------------


async def test_nothing_to_read(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(ConfigurationError, match="no chrome profile was found"):
        await read_local("chrome")
    with pytest.raises(ConfigurationError, match="neither chrome, chromium, edge, firefox nor a folder"):
        await read_local("safari")
    with pytest.raises(ConfigurationError, match="has no cookies of a Chromium or Firefox profile"):
        await read_local(tmp_path)
    (tmp_path / "microsoft-edge" / "Default").mkdir(parents=True)
    (tmp_path / "microsoft-edge" / "Default" / "Cookies").touch()
    with pytest.raises(BrowserNotFound, match="edge is not installed here"):
        await read_local("edge")


# --- storage state ----------------------------------------------------------------------------------------------------


@pytest.mark.chromium
async def test_a_state_goes_round(client, site):
    async with cdpbridge.open_browser(client) as browser:
        tab = await browser.new_tab(site)
        await tab.evaluate("document.cookie = 'lasting=1; max-age=600'; document.cookie = 'session=2'")
        await tab.evaluate(
            "localStorage.setItem('ä', '\\u{1F600}'); localStorage.setItem('n', '" + "x" * 100_000 + "')"
        )
        state = await export_state(browser, origins=[f"{site}/"])
    state["origins"].append(
        {"origin": "https://never-asked.test", "localStorage": [{"name": "a", "value": "b"}]}
    )
    assert {each["name"]: each["expires"] for each in state["cookies"]}["session"] == -1
    async with cdpbridge.open_browser(client) as browser:
        report = await import_state(browser, json.loads(json.dumps(state)))
        assert (report.cookies.imported, report.items, report.refused) == (2, 3, [])
        tab = await browser.new_tab(site)
        assert await tab.evaluate("localStorage.getItem('ä') + localStorage.n.length") == "😀100000"
        assert "lasting=1" in await tab.evaluate("document.cookie")
        again = await export_state(browser, origins=[site, "https://never-asked.test"])
    by_name = lambda state: sorted(state["cookies"], key=lambda each: each["name"])  # noqa: E731
    assert by_name(again) == by_name(state)
    assert sorted(again["origins"], key=lambda each: each["origin"]) == sorted(
        state["origins"], key=lambda each: each["origin"]
    )


@pytest.mark.chromium
async def test_playwright_reads_and_writes_the_same_form(client, site, tmp_path):
    async with (
        cdpbridge.open_browser(client) as browser,
        cdpbridge.playwright.connect(browser) as connected,
    ):
        context = await connected.new_context()
        page = await context.new_page()
        await page.goto(site)
        await page.evaluate("document.cookie = 'a=1; max-age=600'; localStorage.setItem('k', 'v')")
        theirs = await context.storage_state()
        assert (await import_state(browser, theirs)).items == 1
        ours = await export_state(browser, origins=[site])
        other = await connected.new_context(storage_state=ours)
        page = await other.new_page()
        await page.goto(site)
        assert await page.evaluate("[document.cookie, localStorage.k]") == ["a=1", "v"]


@pytest.mark.chromium
def test_export_and_import_commands(server, site, tmp_path):
    def run(*args):
        return subprocess.run(
            [sys.executable, "-m", "cdpbridge", "profiles", *args],
            env=server.environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    state = {
        "cookies": [{**cookie("a"), "expires": LATER, "httpOnly": True, "secure": False, "sameSite": "Lax"}],
        "origins": [{"origin": site, "localStorage": [{"name": "k", "value": SECRET}]}],
    }
    (tmp_path / "in.json").write_text(json.dumps(state))
    done = run("import", "ported", "in.json")
    assert "1 cookies and 1 items of localStorage are in the profile ported" in done.stdout, done.stderr
    done = run("export", "ported", "out.json", "--origin", site)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out.json").read_text()) == state
    assert (tmp_path / "out.json").stat().st_mode & 0o777 == 0o600
    assert SECRET not in done.stdout + done.stderr
    (tmp_path / "bad.json").write_text('{"cookies": [1]}')
    for file, words in [("bad.json", "no storage state"), ("none.json", "cannot be read"), ("out.json", "")]:
        done = run("import", "ported", file)
        assert (done.returncode == 0) is (words == "")
        assert words in done.stderr
    assert "is no origin" in run("export", "ported", "x.json", "--origin", "ftp://x").stderr
