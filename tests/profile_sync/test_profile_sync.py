"""Cookies of local browsers into hosted profiles, and profiles as files: real Chromium, Firefox's real formats."""

import asyncio
import json
import sqlite3
import sys
import time
from contextlib import closing

import pytest

import cdpbridge
from cdpbridge.cdp import connect_pipe
from cdpbridge.chromium import Chromium, find
from cdpbridge.errors import BrowserNotFound, ConfigurationError
from cdpbridge.profile_sync import (
    LocalState,
    export_state,
    firefox_cookies,
    import_state,
    read_local,
    select,
    sync,
)
from cdpbridge.profile_sync._firefox import _unpacked
from cdpbridge.profile_sync._preferences import read_preferences, write_preferences
from cdpbridge.profile_sync._snappy import decompress
from cdpbridge.profile_sync._storage import write_storage
from tests import programs
from tests.own_user import open_way

ONE_BUILD = pytest.mark.one_build(
    "cookies and files are the same for both; see test_storage.py for what the builds store"
)
FULL = pytest.mark.one_build(
    "what a person's Chromium has left is the full build's, and only that has settings"
)
SHELL = pytest.mark.one_build("it is about the build without a settings page")

SECRET = "s3cr3t-value"
LATER = int(time.time()) + 9999


STORAGE = [
    {
        "origin": "https://never-visited.test",
        "localStorage": [{"name": "token", "value": SECRET}, {"name": "long", "value": "ä" * 5000}],
    },
    {
        "origin": "http://a.example.test:8080",
        "localStorage": [],
        "indexedDB": [
            {
                "name": "notes",
                "version": 3,
                "stores": [
                    {
                        "name": "n",
                        "keyPath": "id",
                        "autoIncrement": False,
                        "indexes": [],
                        "records": [{"value": {"id": 1, "text": SECRET}}],
                    }
                ],
            }
        ],
    },
]


def cookie(name, domain="example.test", **more):
    return {"name": name, "value": f"{SECRET}-{name}", "domain": domain, "path": "/"} | more


@pytest.fixture
def client(server):
    return cdpbridge.at(server.base_url, server.key)


@pytest.fixture
async def full_client(tmp_path, environment, quick_local):
    """A server of our own with both builds: profiles are on the full one."""
    async with cdpbridge.local(data_dir=tmp_path / "data") as client:
        yield client


@pytest.fixture(scope="module")
def local_profile(tmp_path_factory):
    """A user data folder that a full Chromium has left."""
    folder = tmp_path_factory.mktemp("local") / "chromium"
    open_way(folder)
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
            await write_storage(connection, STORAGE)
            assert await write_preferences(connection, [("webkit.webprefs.default_font_size", 20)]) == []
            await connection.root.send("Browser.close")

    asyncio.run(make())
    with closing(sqlite3.connect(folder / "Default" / "Login Data")) as logins, logins:
        columns = [row for row in logins.execute("PRAGMA table_info(logins)") if row[3] and row[4] is None]
        values = [b"" if row[2] == "BLOB" else 0 if row[2] == "INTEGER" else "x" for row in columns]
        names = ", ".join(row[1] for row in columns)
        logins.execute(f"INSERT INTO logins ({names}) VALUES ({', '.join('?' * len(values))})", values)
    preferences = json.loads((folder / "Default" / "Preferences").read_text())
    added = {"x" * 32: {"location": 1, "manifest": {"name": "Best of Tabs"}}, "y" * 32: {"location": 5}}
    preferences.setdefault("extensions", {}).setdefault("settings", {}).update(added)
    (folder / "Default" / "Preferences").write_text(json.dumps(preferences))
    return folder


async def cookies_of(client, profile):
    async with cdpbridge.open_browser(client, profile=profile) as browser:
        return {
            each["name"]: each
            for each in (await browser.connection.root.send("Storage.getCookies"))["cookies"]
        }


@FULL
@pytest.mark.chromium
async def test_from_chromium(full_client, local_profile):
    client = full_client
    before = {file: file.stat().st_mtime_ns for file in local_profile.rglob("*")}
    report = await sync(local_profile, provider=client, to="synced")
    assert (report.found, report.chosen, report.cookies.imported) == (5, 5, 5)
    assert (report.cookies.failed, report.cookies.dropped, report.skipped, report.running) == (
        [],
        [],
        0,
        False,
    )
    assert report.saved is not False
    assert (report.items, report.databases) == (2, 1)
    assert report.preferences >= 1
    assert [each.partition(":")[0] for each in report.lost] == [
        "1 saved passwords",
        "extensions and their settings",
    ]
    assert report.lost[1].endswith(": Best of Tabs")
    assert SECRET not in repr(report)
    assert SECRET not in repr(await read_local(local_profile / "Default"))
    found = await cookies_of(client, "synced")
    assert found["lasting"]["value"] == f"{SECRET}-lasting"
    assert found["session"]["session"] is True
    assert found["session"]["httpOnly"] is True
    assert found["deep"]["sameSite"] == "None"
    assert found["__Host-part"]["partitionKey"]["topLevelSite"] == "https://top.test"
    async with cdpbridge.open_browser(client, profile="synced") as browser:
        state = await export_state(browser, origins=[each["origin"] for each in STORAGE])
        assert await read_preferences(browser.connection, {"webkit.webprefs.default_font_size"}) == [
            ("webkit.webprefs.default_font_size", 20)
        ]
    for entry in state["origins"]:
        entry["localStorage"].sort(key=lambda item: item["name"], reverse=True)
    assert sorted(state["origins"], key=lambda each: each["origin"], reverse=True) == STORAGE
    assert {
        file: file.stat().st_mtime_ns for file in local_profile.rglob("*")
    } == before  # only a copy was touched


@pytest.mark.slow  # `test_the_command` chooses by the same domain, `test_from_chromium` takes preferences
@FULL
@pytest.mark.chromium
async def test_only_some_domains_and_no_preferences(full_client, local_profile):
    report = await sync(local_profile, provider=full_client, to="some", domains=["example.test"])
    assert (report.chosen, report.items, report.databases, report.preferences) == (3, 0, 1, 0)
    only = {"domains": ["never-visited.test"], "preferences": True}
    report = await sync(local_profile, provider=full_client, to="some", **only)
    assert (report.chosen, report.items, report.databases) == (0, 2, 0)
    assert report.preferences >= 1


@SHELL
@pytest.mark.chromium
async def test_a_hosted_browser_without_a_settings_page(client, local_profile):
    report = await sync(local_profile, provider=client, to="shell")
    assert (report.items, report.databases, report.preferences) == (2, 1, 0)
    assert report.lost[-1].endswith("preferences: the hosted browser has no settings page")


@ONE_BUILD
@pytest.mark.chromium
def test_the_command(server, local_profile):
    command = [sys.executable, "-m", "cdpbridge", "profiles", "sync", "--from", str(local_profile)]
    done = programs.run(
        [*command, "--domain", "example.test", "--to", "commanded"],
        env=server.environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (
        "3 cookies, 0 items of localStorage, 1 database and 0 preferences are in the profile commanded"
        in done.stdout
    )
    assert "5 cookies, 3 chosen" in done.stderr.replace("\n", " ")
    assert SECRET not in done.stdout + done.stderr


@ONE_BUILD
@pytest.mark.chromium
async def test_fault_b28_losses_are_reported_by_domain(client, monkeypatch):
    many = [cookie(f"n{number}", "many.test", expires=LATER) for number in range(250)]
    odd = cookie("bad\0name", "odd.test", expires=LATER)
    found = LocalState([*many, odd, cookie("fine", "fine.test")], "test")

    async def read(_source, domains=()):
        return found

    monkeypatch.setattr("cdpbridge.profile_sync._sync.read_local", read)
    report = await sync("chrome", provider=client, to="many")
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
    items = [
        ("plain", 1, 0, SECRET.encode()),
        ("wide", 0, 0, "ä😀".encode("utf-16-le")),
        ("long", 1, 1, snappy("ab" * 500)),
    ]
    firefox_origin(profile, "https+++example.test", "https://example.test", items)
    firefox_origin(
        profile, "https+++example.test^userContextId=2", "https://example.test^userContextId=2", items
    )
    firefox_origin(profile, "http+++broken.test+8080", "http://broken.test:8080", [("bad", 1, 1, b"\xff")])
    (profile / "storage" / "default" / "https+++example.test" / "idb").mkdir()
    (profile / "logins.json").write_text("{}")
    return tmp_path


def firefox_origin(profile, folder, origin, items):
    """localStorage of one origin, as Firefox 68 and later keep it."""
    place = profile / "storage" / "default" / folder / "ls"
    place.mkdir(parents=True)
    with closing(sqlite3.connect(place / "data.sqlite")) as database, database:
        database.execute("CREATE TABLE database (origin TEXT NOT NULL, usage INTEGER NOT NULL DEFAULT 0)")
        database.execute("INSERT INTO database (origin) VALUES (?)", (origin,))
        database.execute(
            "CREATE TABLE data (key TEXT PRIMARY KEY, utf16_length INTEGER NOT NULL, conversion_type INTEGER NOT NULL,"
            " compression_type INTEGER NOT NULL, last_access_time INTEGER NOT NULL DEFAULT 0, value BLOB NOT NULL)"
        )
        database.executemany(
            "INSERT INTO data (key, utf16_length, conversion_type, compression_type, value) VALUES (?, 0, ?, ?, ?)",
            items,
        )


def snappy(text):
    """One literal, and copies of it for the rest, at most 64 bytes each."""
    data = text.encode()
    size = bytes([len(data) & 127 | 128, len(data) >> 7])
    out, at = size + bytes([4]) + data[:2], 2
    while at < len(data):
        count = min(64, len(data) - at)
        out += bytes([(count - 1) << 2 | 2]) + (2).to_bytes(2, "little")
        at += count
    return out


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


def test_snappy():
    assert decompress(snappy("ab" * 500)) == b"ab" * 500
    long = bytes(range(256)) * 300
    literal = bytes([0x80, 0xD8, 0x04, 62 << 2]) + (len(long) - 1).to_bytes(3, "little") + long
    assert decompress(literal) == long
    near = bytes([8, 3 << 2]) + b"abcd" + bytes([0 << 2 | 1, 4])  # four bytes, then four more from four back
    assert decompress(near) == b"abcdabcd"
    for damaged in (
        b"",
        b"\xff",
        literal[:-1],
        literal + b"\0x",
        near[:-1] + b"\x09",
        b"\xff\xff\xff\xff\x7f",
    ):
        with pytest.raises(ValueError):
            decompress(damaged)


@ONE_BUILD
@pytest.mark.chromium
async def test_from_firefox(client, firefox):
    local = await read_local(firefox)
    assert local.skipped == 1
    assert {each["name"] for each in local.cookies} == {"seconds", "milliseconds", "partitioned", "session"}
    items = {item["name"]: item["value"] for item in local.origins[0]["localStorage"]}
    assert [each["origin"] for each in local.origins] == ["https://example.test"]
    assert items == {"plain": SECRET, "wide": "ä😀", "long": "ab" * 500}
    assert SECRET not in repr(local)
    report = await sync(firefox, provider=client, to="fox")
    assert (report.cookies.imported, report.items) == (4, 3)
    assert [each.partition(":")[0] for each in report.lost] == [
        "the localStorage of http+++broken.test+8080 cannot be read",
        "the IndexedDB of https+++example.test",
        "saved passwords",
        "preferences and extensions",
    ]
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
    with pytest.raises(
        ConfigurationError, match="neither chrome, chromium, edge, brave, firefox nor a folder"
    ):
        await read_local("safari")
    with pytest.raises(ConfigurationError, match="has no cookies of a Chromium or Firefox profile"):
        await read_local(tmp_path)
    (tmp_path / "microsoft-edge" / "Default").mkdir(parents=True)
    (tmp_path / "microsoft-edge" / "Default" / "Cookies").touch()
    with pytest.raises(BrowserNotFound, match="edge is not installed here"):
        await read_local("edge")


# --- storage state ----------------------------------------------------------------------------------------------------


@ONE_BUILD
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


@ONE_BUILD
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


@ONE_BUILD
@pytest.mark.chromium
def test_export_and_import_commands(server, site, tmp_path):
    def run(*args):
        return programs.run(
            [sys.executable, "-m", "cdpbridge", "profiles", *args],
            env=server.environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    state = {
        "cookies": [{**cookie("a"), "expires": LATER, "httpOnly": True, "secure": False, "sameSite": "Lax"}],
        "origins": [{"origin": site, "localStorage": [{"name": "k", "value": SECRET}]}],
    }
    (tmp_path / "in.json").write_text(json.dumps(state))
    done = run("import", "ported", "in.json")
    assert "1 cookie and 1 item of localStorage are in the profile ported" in done.stdout, done.stderr
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
