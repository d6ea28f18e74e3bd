"""Cookies out of one browser and into another, first with a scripted answer, then with real ones."""

import logging
import time
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from cdpbridge.cdp import connect_pipe
from cdpbridge.chromium import Chromium, find
from cdpbridge.errors import BrowserNotFound, CommandError
from cdpbridge.server.profiles import CookieId, ProfileStore, export_cookies, import_cookies

LATER = float(int(time.time()) + 86_400)


def cookie(name, domain="a.example", value="s3cret", **more):
    return {"name": name, "value": value, "domain": domain, "path": "/", "expires": LATER, **more}


class Jar:
    """A browser that refuses and forgets what it is told to."""

    def __init__(self, refused=(), forgotten=()):
        self.refused, self.forgotten = refused, forgotten
        self.cookies, self.calls = [], []

    async def send(self, method, params=None):
        self.calls.append((method, params))
        if method == "Storage.getCookies":
            return {"cookies": [c for c in self.cookies if c["name"] not in self.forgotten]}
        if any(c["name"] in self.refused for c in params["cookies"]):
            raise CommandError(method, -32602, "Invalid cookie fields")
        self.cookies += params["cookies"]
        return {}


async def test_nothing():
    report = await import_cookies(Jar().send, [])
    assert (report.imported, report.failed, report.dropped) == (0, [], [])


async def test_only_what_can_be_set_is_sent():
    jar = Jar()
    partition = {"topLevelSite": "https://b.example", "hasCrossSiteAncestor": True}
    given = [
        cookie("lasting", size=7, session=False, sameSite="Lax", priority="High", sourceScheme="Secure"),
        cookie("session", expires=-1, session=True, partitionKey=partition, partitionKeyOpaque=False),
    ]
    assert (await import_cookies(jar.send, given)).imported == 2
    assert jar.calls[0][1]["cookies"] == [
        cookie("lasting", sameSite="Lax", priority="High", sourceScheme="Secure"),
        {
            "name": "session",
            "value": "s3cret",
            "domain": "a.example",
            "path": "/",
            "partitionKey": partition,
        },
    ]


async def test_fault_b28_the_others_arrive_and_the_loss_is_reported():
    jar = Jar(refused={"c3", "c40"})
    report = await import_cookies(jar.send, [cookie(f"c{number}") for number in range(100)])
    assert report.failed == [CookieId("c3", "a.example"), CookieId("c40", "a.example")]
    assert (report.imported, report.dropped) == (98, [])
    assert len(jar.calls) < 40


async def test_fault_b28_what_was_accepted_and_is_not_there_is_reported():
    report = await import_cookies(Jar(forgotten={"b"}).send, [cookie("a"), cookie("b")])
    assert (report.imported, report.failed, report.dropped) == (1, [], [CookieId("b", "a.example")])


async def test_expired_cookies_are_no_loss():
    jar = Jar()
    report = await import_cookies(jar.send, [cookie("old", expires=time.time() - 1), cookie("new")])
    assert (report.imported, report.failed, report.dropped) == (1, [], [])
    assert [c["name"] for c in jar.cookies] == ["new"]


async def test_values_are_in_no_report_and_no_log(caplog):
    with caplog.at_level(logging.DEBUG):
        report = await import_cookies(Jar(refused={"a"}, forgotten={"b"}).send, [cookie("a"), cookie("b")])
    assert "s3cret" not in repr(report) + caplog.text


# --- real browsers ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["shell", "full"])
def build(request):
    try:
        return find(request.param)
    except BrowserNotFound as error:
        pytest.skip(str(error))


@asynccontextmanager
async def running(build, user_data_dir=None):
    async with (
        await Chromium.start(build=build, user_data_dir=user_data_dir) as chromium,
        connect_pipe(*chromium.take_pipe()) as connection,
    ):
        yield connection


def sortable(cookies):
    return sorted(cookies, key=lambda c: (c["name"], c["domain"], c["path"]))


def variety():
    plain = {"path": "/", "expires": LATER}
    secure = {"secure": True, "httpOnly": True}
    partition = {"topLevelSite": "https://top.example", "hasCrossSiteAncestor": True}
    return [
        {"name": "host-only", "value": "1", "url": "https://a.example/", **plain},
        {"name": "domain", "value": "2", "domain": ".a.example", **plain},
        {"name": "session", "value": "3", "url": "https://a.example/deep/", "path": "/deep"},
        {"name": "__Host-h", "value": "4", "url": "https://a.example/", "path": "/", **secure},
        {"name": "__Secure-s", "value": "5", "domain": ".a.example", **plain, **secure},
        {"name": "strict", "value": "6", "url": "http://b.example/", "sameSite": "Strict", **plain},
        {"name": "none", "value": "7", "url": "https://b.example/", "sameSite": "None", **plain, **secure},
        {"name": "priority", "value": "8", "url": "http://b.example:8080/", "priority": "High", **plain},
        {
            "name": "partitioned",
            "value": "9",
            "url": "https://a.example/",
            "sameSite": "None",
            "partitionKey": partition,
            **plain,
            **secure,
        },
        {"name": "", "value": "nameless", "url": "https://c.example/", **plain},
        {"name": "empty", "value": "", "url": "https://127.0.0.1/", **plain},
    ]


@pytest.mark.chromium
async def test_import_of_an_export_is_equal(build):
    async with running(build) as one:
        await one.root.send("Storage.setCookies", {"cookies": variety()})
        exported = await export_cookies(one.root.send)
    assert len(exported) == len(variety())
    async with running(build) as other:
        report = await import_cookies(other.root.send, exported)
        assert (report.imported, report.failed, report.dropped) == (len(exported), [], [])
        assert sortable(await export_cookies(other.root.send)) == sortable(exported)


@pytest.mark.chromium
async def test_fault_b28_real_losses(build):
    invalid = [cookie("__Host-x", domain=".a.example"), cookie("bad\r\nname"), cookie("n", domain="")]
    async with running(build) as browser:
        report = await import_cookies(browser.root.send, [cookie("good"), *invalid, cookie("fine")])
        assert set(report.failed) == {CookieId(c["name"], c["domain"]) for c in invalid}
        assert report.imported == 2
        many = [cookie(f"c{number}", domain="many.example") for number in range(300)]
        report = await import_cookies(browser.root.send, many)
        kept = [c for c in await export_cookies(browser.root.send) if c["domain"] == "many.example"]
        assert report.imported == len(kept) <= 180
        assert (len(report.dropped), report.failed) == (300 - len(kept), [])


WRITE = """(async () => {
  localStorage.setItem('key', 'kept');
  const database = await new Promise((done, failed) => {
    const opening = indexedDB.open('d', 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore('s');
    opening.onsuccess = () => done(opening.result);
    opening.onerror = () => failed(opening.error);
  });
  const transaction = database.transaction('s', 'readwrite');
  transaction.objectStore('s').put('kept too', 'key');
  await new Promise(done => { transaction.oncomplete = done; });
  document.cookie = 'seen=1; max-age=86400';
})()"""
READ = """(async () => {
  const database = await new Promise(done => {
    const opening = indexedDB.open('d', 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore('s');
    opening.onsuccess = () => done(opening.result);
  });
  const reading = database.transaction('s').objectStore('s').get('key');
  await new Promise(done => { reading.onsuccess = done; });
  return JSON.stringify([localStorage.getItem('key'), reading.result ?? null, document.cookie]);
})()"""


async def on_page(connection, site, script):
    tab = await connection.new_tab()
    await tab.send("Page.enable")
    async with tab.expect("Page.loadEventFired"):
        await tab.send("Page.navigate", {"url": site})
    reply = await tab.send("Runtime.evaluate", {"expression": script, "awaitPromise": True})
    assert "exceptionDetails" not in reply, reply
    return reply["result"].get("value")


@pytest.mark.chromium
async def test_site_data_travels_with_the_folder(build, site, tmp_path):
    store, profile = ProfileStore(tmp_path / "profiles"), uuid4()
    async with running(build, tmp_path / "one") as browser:
        await on_page(browser, site, WRITE)
    assert store.save(profile, tmp_path / "one", None).cookie_domains == ["127.0.0.1"]
    store.restore(profile, tmp_path / "two")
    async with running(build, tmp_path / "two") as browser:
        assert await on_page(browser, site, READ) == '["kept","kept too","seen=1"]'
    assert sum(path.stat().st_size for path in (tmp_path / "profiles").rglob("*")) < 10_000_000


@pytest.mark.chromium
async def test_fault_b30_without_a_profile_nothing_is_seen_of_a_former_browser(build, site):
    async with running(build) as browser:
        await on_page(browser, site, WRITE)
    async with running(build) as browser:
        assert await export_cookies(browser.root.send) == []
        assert await on_page(browser, site, READ) == '[null,null,""]'
