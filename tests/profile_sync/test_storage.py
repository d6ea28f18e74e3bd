"""localStorage and IndexedDB of a rented browser, out and in again, in both builds, and as Playwright reads them."""

import json
import logging

import pytest

import cdpbridge
from cdpbridge.errors import ConfigurationError, TargetCrashed
from cdpbridge.profile_sync import export_state, import_state
from cdpbridge.profile_sync._storage import _quiet_page, origin_of, read_storage, write_storage
from tests.cases import cases

ONE_BUILD = pytest.mark.one_build(
    "files and cookies are read and written here; what the builds store themselves has both below"
)

pytestmark = pytest.mark.chromium

FILL = """new Promise((done, failed) => {
  const request = indexedDB.open('shop', 7);
  request.onerror = () => failed(request.error);
  request.onupgradeneeded = () => {
    const database = request.result;
    const orders = database.createObjectStore('orders', {keyPath: 'id', autoIncrement: true});
    orders.createIndex('by day', ['year', 'day'], {unique: false});
    orders.createIndex('tags', 'tags', {multiEntry: true});
    database.createObjectStore('keyed');
    database.createObjectStore('empty', {keyPath: ['a', 'b']});
  };
  request.onsuccess = () => {
    const database = request.result;
    const transaction = database.transaction(['orders', 'keyed'], 'readwrite');
    const orders = transaction.objectStore('orders'), keyed = transaction.objectStore('keyed');
    for (let id = 1; id <= 300; id++) orders.add({year: 2026, day: id, tags: ['a', `t${id % 3}`], title: 'ä\\u{1F600}'});
    const circle = {name: 'circle'};
    circle.self = circle;
    const shared = {deep: [1, 2]};
    const odd = {
      date: new Date(86400000), pattern: /a+b/gi, bytes: new Uint8Array([0, 255, 128]), part: new Int16Array([1, -2, 3]).subarray(1),
      buffer: new ArrayBuffer(3), big: 12345678901234567890n, nothing: undefined, none: null, map: new Map([[1, {x: new Set(['s'])}]]),
      numbers: [NaN, Infinity, -Infinity, -0, 1e300], error: new TypeError('broken'), circle, twice: [shared, shared],
      ['__proto__x']: 1, length: 5,
    };
    keyed.put(odd, 'odd');
    keyed.put('text', 12);
    keyed.put('date', new Date(1000));
    keyed.put('binary', new Uint8Array([1, 2]).buffer);
    keyed.put('list', ['a', [1, new Date(5)]]);
    if (BLOB) keyed.put({file: new Blob(['x'])}, 'blob');
    transaction.oncomplete = () => { database.close(); done(1) };
    transaction.onabort = () => failed(transaction.error);
  };
})"""
LOOK = """new Promise((done, failed) => {
  const request = indexedDB.open('shop');
  request.onerror = () => failed(request.error);
  request.onsuccess = () => {
    const database = request.result;
    const transaction = database.transaction(['orders', 'keyed', 'empty'], 'readwrite');
    const orders = transaction.objectStore('orders'), keyed = transaction.objectStore('keyed');
    const got = {version: database.version, empty: transaction.objectStore('empty').keyPath, auto: orders.autoIncrement};
    const ask = (name, request, look) => { request.onsuccess = () => { got[name] = look(request.result) } };
    ask('count', orders.index('by day').count(IDBKeyRange.bound([2026, 10], [2026, 19])), each => each);
    ask('tagged', orders.index('tags').count('t1'), each => each);
    ask('title', orders.get(300), each => each.title);
    ask('next', orders.add({year: 1, day: 1, tags: []}), each => each);
    ask('keys', keyed.getAllKeys(), keys => keys.map(key => Object.prototype.toString.call(key)));
    ask('odd', keyed.get('odd'), odd => [
      odd.date.getTime(), String(odd.pattern), Array.from(odd.bytes), odd.part.constructor.name, Array.from(odd.part),
      odd.buffer.byteLength, String(odd.big), 'nothing' in odd && odd.nothing === undefined, odd.none, odd.map.get(1).x.has('s'),
      odd.numbers.map(each => Object.is(each, -0) ? '-0' : String(each)), odd.error.name, odd.error.message,
      odd.circle.self === odd.circle, odd.twice[0] === odd.twice[1], odd.__proto__x, odd.length]);
    transaction.oncomplete = () => { database.close(); done(got) };
    transaction.onabort = () => failed(transaction.error);
  };
})"""
WANTED = {
    "version": 7,
    "empty": ["a", "b"],
    "auto": True,
    "count": 10,
    "tagged": 100,
    "title": "ä😀",
    "next": 301,
    "keys": [f"[object {name}]" for name in ("Number", "Date", "String", "ArrayBuffer", "Array")],
    "odd": [
        86_400_000,
        "/a+b/gi",
        [0, 255, 128],
        "Int16Array",
        [-2, 3],
        3,
        "12345678901234567890",
        True,
        None,
        True,
        ["NaN", "Infinity", "-Infinity", "-0", "1e+300"],
        "TypeError",
        "broken",
        True,
        True,
        1,
        5,
    ],
}


def fill(*, blob=False):
    return FILL.replace("BLOB", json.dumps(blob))


@pytest.fixture
def client(server):
    return cdpbridge.at(server.base_url, server.key)


@ONE_BUILD
async def test_fault_c21_indexeddb_goes_round(client, site):
    async with cdpbridge.open_browser(client) as browser:
        tab = await browser.new_tab(site)
        await tab.evaluate(fill())
        state = json.loads(json.dumps(await export_state(browser, origins=[site])))
    [entry] = state["origins"]
    assert (entry["localStorage"], [each["name"] for each in entry["indexedDB"]]) == ([], ["shop"])
    async with cdpbridge.open_browser(client) as browser:
        for _ in range(2):  # the second time it replaces the first
            report = await import_state(browser, state)
            assert (report.databases, report.refused, report.lost) == (1, [], [])
        tab = await browser.new_tab(site)
        assert await tab.evaluate(LOOK) == WANTED


@ONE_BUILD
async def test_fault_c21_what_cannot_be_kept_is_named(client, site, caplog):
    async with cdpbridge.open_browser(client) as browser:
        tab = await browser.new_tab(site)
        await tab.evaluate(fill(blob=True))
        with caplog.at_level(logging.WARNING, "cdpbridge"):
            state = await export_state(browser, origins=[site])
        assert f"{site}: the database shop: 1 records of the store keyed: a Blob cannot leave" in caplog.text
        [database] = state["origins"][0]["indexedDB"]
        by_name = {store["name"]: store for store in database["stores"]}
        by_name["keyed"]["records"].append({"keyEncoded": {"strange": 1}, "value": 1})
        by_name["orders"]["records"].append({"value": {"no": "key", "id": {}}})
        held = await browser.new_tab(site)
        await held.evaluate(
            "new Promise(done => { indexedDB.open('shop').onsuccess = event => { kept = event.target.result; done(1) } })"
        )
        report = await import_state(browser, state)
        assert report.lost == [f"{site}: the database shop: another page has it open"]
        await held.close()
        report = await import_state(browser, state)
    assert report.refused == [site]
    assert (report.databases, len(report.lost)) == (1, 2)
    assert any("store keyed: an encoded value of an unknown kind" in each for each in report.lost)
    assert any("store orders: " in each for each in report.lost)


@ONE_BUILD
async def test_fault_c21_playwright_reads_and_writes_the_same_form(client, site):
    async with (
        cdpbridge.open_browser(client) as browser,
        cdpbridge.playwright.connect(browser) as connected,
    ):
        context = await connected.new_context()
        page = await context.new_page()
        await page.goto(site)
        await page.evaluate(fill())
        theirs = await context.storage_state(indexed_db=True)
        assert (await import_state(browser, theirs)).lost == []
        try:
            tab = await browser.new_tab(site)
        except (
            TargetCrashed
        ):  # Chromium 156 sometimes loses the process of a page to which Playwright attaches, too
            tab = await browser.new_tab(site)
        assert await tab.evaluate(LOOK) == WANTED
        ours = await export_state(browser, origins=[site])
        other = await connected.new_context(storage_state=ours)
        page = await other.new_page()
        await page.goto(site)
        assert await page.evaluate(LOOK) == WANTED | {"next": 302}


UNUSUAL = """new Promise(async (done, failed) => {
  const key = await crypto.subtle.generateKey({name: 'AES-GCM', length: 128}, false, ['encrypt']);
  const request = indexedDB.open('unusual', 1);
  request.onerror = () => failed(request.error);
  request.onupgradeneeded = () => {
    const database = request.result;
    database.createObjectStore('numbered', {autoIncrement: true});
    database.createObjectStore('nested', {keyPath: 'x.y'});
    database.createObjectStore('itself', {keyPath: ''});
    database.createObjectStore('values');
    database.createObjectStore('kinds');
  };
  request.onsuccess = () => {
    const database = request.result;
    const transaction = database.transaction(database.objectStoreNames, 'readwrite');
    const store = name => transaction.objectStore(name);
    store('numbered').put({a: 1});
    store('nested').put({x: {y: 5}});
    store('itself').put('k');
    const values = store('values');
    values.put(JSON.parse('{"__proto__": {"a": 1}, "b": "\\\\\\"__proto__\\\\\\":"}'), 'own prototype');
    values.put('a\\ud800b', 'half');
    values.put([1, , 3], 'sparse');
    values.put(new Date(NaN), 'no date');
    values.put({v: 'undefined'}, 'looks encoded');
    values.put('x', -Infinity);
    [['key', key], ['view', new DataView(new ArrayBuffer(3))], ['boxed', Object(5)]].forEach(([name, each]) => store('kinds').put(each, name));
    transaction.oncomplete = () => { database.close(); done(1) };
    transaction.onabort = () => failed(transaction.error);
  };
})"""
LOOK_AT_ALL = """new Promise(done => {
  indexedDB.open('unusual').onsuccess = ({target: {result: database}}) => {
    const transaction = database.transaction(database.objectStoreNames);
    const got = {};
    for (const name of database.objectStoreNames) {
      const store = transaction.objectStore(name);
      store.getAllKeys().onsuccess = ({target: {result: keys}}) => {
        store.getAll().onsuccess = ({target: {result: values}}) => {
          got[name] = [store.keyPath, store.autoIncrement, keys.map((key, at) => [String(key), String(values[at]), JSON.stringify(values[at])])];
        };
      };
    }
    transaction.oncomplete = () => { database.close(); done(got) };
  };
})"""


async def test_fault_c21_unusual_stores_and_values(connection):
    origin = "https://unusual.test"
    async with _quiet_page(connection) as page:
        await page.go(origin)
        await page._tab.evaluate(UNUSUAL)
        before = await page._tab.evaluate(LOOK_AT_ALL)
    found, lost = await read_storage(connection, [origin])
    assert sorted(lost) == [
        f"{origin}: the database unusual: 1 records of the store kinds: a {kind} cannot leave the browser"
        for kind in ("CryptoKey", "DataView", "Number")
    ]
    report = await write_storage(connection, json.loads(json.dumps(found)))
    assert (report.databases, report.lost) == (1, [])
    async with _quiet_page(connection) as page:
        await page.go(origin)
        after = await page._tab.evaluate(LOOK_AT_ALL)
    assert len(before.pop("kinds")[2]) == 3
    assert after.pop("kinds")[2] == []
    assert '{"__proto__":{"a":1}' in json.dumps(before).replace("\\", "")
    # A record without some elements comes back with undefined in their place.
    assert after == before


async def test_fault_c21_a_database_too_large_for_a_message_is_named(connection, monkeypatch):
    monkeypatch.setattr("cdpbridge.profile_sync._storage._LARGEST", 2 << 20)
    store = {
        "name": "s",
        "autoIncrement": False,
        "indexes": [],
        "records": [{"key": 1, "value": '"' * 300_000}],
    }
    fits = store | {"records": [{"key": 1, "value": "x" * 300_000}]}
    databases = [{"name": name, "version": 1, "stores": [each]} for name, each in (("a", store), ("b", fits))]
    # 1.2 MB as JSON, and 2.4 MB as text of JSON in a message.
    store["records"] *= 2
    report = await write_storage(connection, [{"origin": "https://large.test", "indexedDB": databases}])
    assert report.lost == ["https://large.test: the database a: it is larger than 2 MiB"]
    assert report.databases == 1


@ONE_BUILD
@pytest.mark.parametrize(
    "state",
    [
        {"origins": [{"origin": "https://a.test", "indexedDB": [{"name": "x"}]}]},
        {"origins": [{"origin": "https://a.test", "indexedDB": [{"name": "x", "version": "new"}]}]},
        {"origins": [{"origin": "https://a.test", "indexedDB": ["x"]}]},
        {"origins": [{"localStorage": []}]},
    ],
)
async def test_a_state_that_is_none(state):
    with pytest.raises(ConfigurationError, match="no storage state"):
        await import_state(None, state)


@ONE_BUILD
@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("https://EXAMPLE.com:443/", "https://example.com"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://bücher.example", "http://xn--bcher-kva.example"),
        ("http://[::1]:80", "http://[::1]"),
    ],
)
def test_fault_c21_an_origin_is_written_as_browsers_do(given, wanted):
    assert origin_of(given) == wanted


@ONE_BUILD
@cases(
    "given",
    [
        "example.com",
        "ftp://a.test",
        "https://",
        "https://a.test/path",
        "http://a.test:99999",
        "http://u:p@a.test",
    ],
)
def test_fault_c21_what_is_no_origin(given):
    with pytest.raises(ConfigurationError, match="is no origin") as caught:
        origin_of(given)
    assert "u:p" not in str(caught.value)
