"""Files of cookies of the usual exporters into a hosted profile: in both builds, one bad cookie named, the others kept."""

import codecs
import json
import sys
import time
from http.cookiejar import MozillaCookieJar
from types import SimpleNamespace

import pytest

import cdpbridge
from cdpbridge.cdp._cookies import export_cookies, import_cookies, set_sorted
from cdpbridge.errors import ConfigurationError
from cdpbridge.profile_sync import export_state, import_state, read_state
from cdpbridge.profile_sync._exporters import cookies_txt
from cdpbridge.profile_sync._state import checked_state, export_in_form
from tests import programs

ONE_BUILD = pytest.mark.one_build(
    "files and cookies are read and written here; what the builds store themselves has both below"
)

SECRET = "s3cr3t-value"
LATER = int(time.time()) + 86_400

EXTENSION = [
    {
        "domain": ".example.test",
        "expirationDate": LATER + 0.5,
        "hostOnly": False,
        "httpOnly": True,
        "name": "n",
        "path": "/p",
        "sameSite": "no_restriction",
        "secure": True,
        "session": False,
        "storeId": "0",
        "value": SECRET,
        "id": 1,
    }
]
SELENIUM = [
    {
        "domain": ".example.test",
        "expiry": LATER,
        "httpOnly": True,
        "name": "n",
        "path": "/p",
        "sameSite": "None",
        "secure": True,
        "value": SECRET,
    }
]
PUPPETEER = [
    {
        "name": "n",
        "value": SECRET,
        "domain": ".example.test",
        "path": "/p",
        "expires": LATER + 0.123,
        "size": 13,
        "httpOnly": True,
        "secure": True,
        "session": False,
        "sameSite": "None",
        "sourceScheme": "Secure",
    }
]
QUICK_MANAGER = [
    {
        "Host raw": "https://.example.test/",
        "Name raw": "n",
        "Path raw": "/p",
        "Content raw": SECRET,
        "Expires": "22-05-2035 22:35:05",
        "Expires raw": str(LATER),
        "Send for": "Encrypted connections only",
        "Send for raw": "true",
        "HTTP only raw": "true",
        "SameSite raw": "no_restriction",
        "This domain only": "Valid for subdomains",
        "This domain only raw": "false",
        "Store raw": "firefox-default",
        "First Party Domain": "",
    }
]
TOUGH = {
    "version": "tough-cookie@4.1.3",
    "cookies": [
        {
            "key": "n",
            "value": SECRET,
            "expires": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(LATER)),
            "domain": "example.test",
            "path": "/p",
            "secure": True,
            "httpOnly": True,
            "hostOnly": False,
            "sameSite": "none",
        }
    ],
}
NETSCAPE = f"""# Netscape HTTP Cookie File
# https://curl.se/docs/http-cookies.html

#HttpOnly_.example.test\tTRUE\t/p\tTRUE\t{LATER}\tn\t{SECRET}
"""
FILES = {
    "extension": json.dumps(EXTENSION).encode(),
    "byte-order-mark": codecs.BOM_UTF8 + json.dumps(EXTENSION).encode(),
    "utf-16": json.dumps(EXTENSION).encode("utf-16"),
    "j2team": json.dumps({"url": "https://example.test", "cookies": EXTENSION}).encode(),
    "selenium": json.dumps(SELENIUM).encode(),
    "puppeteer": json.dumps(PUPPETEER).encode(),
    "cdp": json.dumps({"id": 1, "result": {"cookies": PUPPETEER}}).encode(),
    "quick-manager": json.dumps(QUICK_MANAGER, indent="\t").encode(),
    "tough-cookie": json.dumps(TOUGH).encode(),
    "lines": b"\n".join(json.dumps(each).encode() for each in (EXTENSION[0], EXTENSION[0])),
    "one": json.dumps(EXTENSION[0]).encode(),
    "storage-state": json.dumps({"cookies": PUPPETEER, "origins": []}).encode(),
    "netscape": NETSCAPE.encode(),
    "netscape-crlf": NETSCAPE.replace("\n", "\r\n").encode(),
    "netscape-no-head": NETSCAPE.splitlines()[-1].encode(),
}


def cookie(name="n", domain="example.test", **more):
    return {"name": name, "value": SECRET, "domain": domain, "path": "/"} | more


@pytest.fixture
def client(server):
    return cdpbridge.at(server.base_url, server.key)


@pytest.mark.parametrize("name", FILES)
def test_fault_c20_each_exporter_means_the_same(tmp_path, name):
    file = tmp_path / "cookies"
    file.write_bytes(FILES[name])
    given = read_state(file)
    assert SECRET not in repr(given)
    good = checked_state(given).cookies.good
    param = good[0].param
    assert {key: param[key] for key in ("name", "value", "domain", "path", "secure", "httpOnly")} == {
        "name": "n",
        "value": SECRET,
        "domain": ".example.test",
        "path": "/p",
        "secure": True,
        "httpOnly": True,
    }
    assert int(param["expires"]) == LATER
    # A cookies.txt has no column for it.
    assert param.get("sameSite") == (None if name.startswith("netscape") else "None")


def test_fault_c20_lines_of_a_cookies_txt(tmp_path):
    file = tmp_path / "cookies.txt"
    lines = [
        "# HTTP Cookie File",
        "www.example.test\tFALSE\t/\tFALSE\t0\thost\t1",
        "example.test\tTRUE\t/\tFALSE\t\tbelow\t2",
        ".example.test\tFALSE\t/\tFALSE\t-1\tdotted\t3",
        "example.test\tFALSE\t/\tFALSE\t0\tempty",
        f'example.test\tFALSE\t/\tFALSE\t{LATER}\tquoted\t"a b"',
        "# a comment",
        "example.test FALSE / FALSE 0 spaces 4",
        f"example.test\tFALSE\t/\tFALSE\t{LATER - 999_999}\told\t5",
    ]
    file.write_text("\n".join(lines))
    checked = checked_state(read_state(file))
    assert {each.param["name"]: each.param["domain"] for each in checked.cookies.good} == {
        "host": "www.example.test",
        "below": ".example.test",
        "dotted": ".example.test",
        "empty": "example.test",
        "quoted": "example.test",
    }
    assert {each.param["name"] for each in checked.cookies.good if "expires" in each.param} == {"quoted"}
    assert [each.name for each in checked.cookies.expired] == ["old"]
    assert checked.lost == ["line 8: a cookie has 7 columns, with tabs between them"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"a=1; b=2", "the value of a Cookie header"),
        (b"hello", "no JSON file, and no cookies.txt"),
        (b'[{"name": "a",}]', "no JSON file: .* line 1, column 15"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff\xfe\x00", "no text"),
        (b'{"a": "1"}', "does not tell the sites"),
        (b'{"url": "https://a.test", "version": 2, "data": "U2FsdGVk"}', "encrypted"),
        (b'{"cookies": [1]}', "no storage state"),
        (b'{"cookies": {"a": 1}}', "no storage state"),
        (b"{}", "no storage state"),
        (b"# Netscape HTTP Cookie File\n", "without cookies"),
        (b'[{"name": "a", "value": "1"}]', "a of no domain: it has neither domain nor url"),
    ],
)
def test_fault_c20_a_file_that_is_none(tmp_path, content, words):
    file = tmp_path / "file"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words):
        checked_state(read_state(file))


@pytest.mark.chromium
async def test_fault_c20_the_bad_ones_are_named_and_the_others_kept(connection):
    send = connection.root.send
    bad = [
        (cookie("__Host-a", ".example.test", secure=True), "of its host alone"),
        (cookie("__Secure-a"), "needs Secure"),
        (cookie("ctl", value=f"{SECRET}\r\n"), "control character"),
        (cookie("long", value=SECRET * 400), "at most 4,096"),
        (cookie("space", "exa mple.test"), "no host name"),
        (cookie("loose", sameSite="loose"), "sameSite"),
        (cookie("date", expires="next week"), "no time"),
        (cookie("half", value="\ud800"), "surrogate"),
        (cookie("", value=""), "number 9: its name and its value are empty"),
        ("text", "number 10: it is no object"),
        # Last, as it is the browser that refuses it.
        (cookie("part", partitionKey="https://top.test"), "Secure"),
    ]
    good = [
        cookie("plain"),
        cookie("firefox", sameSite="no_restriction", secure=False),
        cookie("upper", "WWW.Example.TEST"),
        cookie("idn", ".bücher.test"),
        cookie("suffix", ".co.uk"),
        cookie("address", "127.0.0.1", hostOnly=False),
        cookie("six", "::1"),
        cookie("path", path="/é"),
        cookie("odd path", path='/a|b/../"\x98'),
        cookie("idn part", secure=True, partitionKey="https://bücher.test"),
        cookie("local", "localhost", secure=True, sourceScheme="NonSecure", sourcePort=8000),
        cookie("part", secure=True, partitionKey={"topLevelSite": "https://www.top.test:8443"}),
        cookie("url", None, url="https://example.test/a/b"),
        cookie("far", expires=253_402_300_799),
        cookie("milliseconds", expirationDate=LATER * 1000),
    ]
    old = cookie("old", expirationDate=LATER - 999_999)
    report = await import_cookies(send, [*(each for each, _ in bad), *good, old])
    assert len(report.failed) == len(bad)
    for each, (_, words) in zip(report.failed, bad, strict=True):
        assert words in str(each)
        assert SECRET not in str(each)
    assert (report.imported, report.dropped) == (len(good), [])
    assert [each.name for each in report.expired] == ["old"]
    assert {each.name: each.reason for each in report.changed}.keys() == {"firefox", "suffix"}
    kept = {each["name"]: each for each in (await send("Storage.getCookies"))["cookies"]}
    assert kept.keys() == {each["name"] for each in good}
    assert kept["part"]["partitionKey"] == {"topLevelSite": "https://top.test", "hasCrossSiteAncestor": True}
    assert int(kept["milliseconds"]["expires"]) == LATER
    assert (kept["url"]["domain"], kept["url"]["secure"]) == ("example.test", True)


@ONE_BUILD
@pytest.mark.chromium
async def test_fault_c20_a_list_of_an_extension_reaches_the_site(client, site):
    given = [
        {
            "name": "strict",
            "value": "1",
            "domain": "127.0.0.1",
            "sameSite": "strict",
            "expirationDate": LATER,
        },
        {"name": "session", "value": "2", "domain": "127.0.0.1", "sameSite": "unspecified", "session": True},
    ]
    async with cdpbridge.open_browser(client) as browser:
        report = await import_state(browser, given)
        assert (report.cookies.imported, report.lost) == (2, [])
        tab = await browser.new_tab(site)
        assert sorted((await tab.evaluate("document.cookie")).split("; ")) == ["session=2", "strict=1"]
        state = await export_state(browser)
    found = {each["name"]: (each["sameSite"], int(each["expires"])) for each in state["cookies"]}
    assert found == {"strict": ("Strict", LATER), "session": ("Lax", -1)}


@ONE_BUILD
@pytest.mark.chromium
def test_fault_c20_the_command_names_what_it_does_not_import(server, tmp_path):
    (tmp_path / "cookies.json").write_bytes(
        codecs.BOM_UTF8
        + json.dumps(
            [
                *EXTENSION,
                cookie("__Host-bad", ".example.test", secure=True),
                cookie("old", expirationDate=1_000_000_000),
            ]
        ).encode()
    )
    done = programs.run(
        [sys.executable, "-m", "cdpbridge", "profiles", "import", "from-extension", "cookies.json", "--json"],
        env=server.environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["cookies"], [each["name"] for each in found["refused"]]) == (1, ["__Host-bad"])
    assert [each["name"] for each in found["expired"]] == ["old"]
    told = " ".join(done.stderr.split())
    assert "refused: __Host-bad of .example.test: the prefix __Host- needs a cookie of its host alone" in told
    assert "1 expired: old of example.test" in told
    assert SECRET not in done.stdout + done.stderr


async def test_fault_c20_out_in_the_forms_of_others_and_in_again(connection, tmp_path):
    send = connection.root.send
    given = [
        cookie("host", expires=LATER, httpOnly=True),
        cookie("below", ".example.test", sameSite="Strict", secure=True, path="/p"),
        cookie("none", sameSite="None", secure=True, expires=LATER),
        cookie("part", secure=True, partitionKey="https://top.test"),
        cookie("twice"),
        cookie("twice"),
    ]
    report = await import_cookies(send, given)
    assert (report.imported, report.failed, report.dropped) == (5, [], [])
    exported = await export_cookies(send)
    in_order = lambda cookies: sorted(cookies, key=lambda each: each["name"])  # noqa: E731
    for form in ("json", "cookies.txt"):
        text, count = await export_in_form(SimpleNamespace(connection=connection), form)
        (tmp_path / form).write_text(text)
        await send("Storage.clearCookies")
        report = await set_sorted(send, checked_state(read_state(tmp_path / form)).cookies)
        assert (report.imported, report.failed, report.dropped) == (count, [], [])
        found = await export_cookies(send)
        if form == "json":
            assert in_order(found) == in_order(exported)
        else:  # which has no columns for these
            kept = [each | {"sameSite": None} for each in exported if each["name"] != "part"]
            assert in_order([each | {"sameSite": None} for each in found]) == in_order(kept)


def test_fault_c20_another_reader_takes_our_table(tmp_path):
    cookies = [
        cookie("host", path="/", secure=False, expires=LATER, httpOnly=True),
        cookie("below", ".example.test", secure=True, expires=-1, session=True),
        cookie("part", secure=True, expires=LATER, partitionKey={"topLevelSite": "https://top.test"}),
    ]
    text, lost = cookies_txt(cookies)
    assert [str(each) for each in lost] == [
        "part of example.test: it is partitioned, and a cookies.txt has no column for that"
    ]
    (tmp_path / "cookies.txt").write_text(text)
    jar = MozillaCookieJar(tmp_path / "cookies.txt")
    jar.load(ignore_discard=True, ignore_expires=True)
    found = {each.name: (each.domain, each.secure, each.expires, each.value) for each in jar}
    assert found == {
        "host": ("example.test", False, LATER, SECRET),
        "below": (".example.test", True, 0, SECRET),
    }


def test_fault_c21_localstorage_as_a_mapping_and_other_values():
    origin = {"origin": "https://a.test", "localStorage": {"text": "1", "flag": True, "tree": {"a": [1]}}}
    strange = {"origin": "chrome-extension://abc", "localStorage": []}
    tab = {"origin": "https://b.test", "sessionStorage": [{"name": "a", "value": "b"}]}
    checked = checked_state({"origins": [origin, strange, tab]})
    assert {each["name"]: each["value"] for each in checked.origins[0]["localStorage"]} == {
        "text": "1",
        "flag": "true",
        "tree": '{"a": [1]}',
    }
    assert [each["origin"] for each in checked.origins] == ["https://a.test", "https://b.test"]
    assert len(checked.lost) == 2
    assert "'chrome-extension://abc' is no origin" in checked.lost[0]
    assert "sessionStorage" in checked.lost[1]


@ONE_BUILD
@pytest.mark.chromium
async def test_fault_c21_storage_of_the_port_that_set_a_cookie_is_found(client, site):
    async with cdpbridge.open_browser(client) as browser:
        tab = await browser.new_tab(site)
        await tab.evaluate("document.cookie = 'a=1'; localStorage.k = 'v'")
        state = await export_state(browser)
    assert [each["origin"] for each in state["origins"]] == [site]


@ONE_BUILD
@pytest.mark.chromium
def test_fault_c20_the_command_writes_other_forms(server, tmp_path):
    def run(*words):
        return programs.run(
            [sys.executable, "-m", "cdpbridge", "profiles", *words],
            env=server.environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    (tmp_path / "in.txt").write_text(NETSCAPE)
    done = run("import", "forms", "in.txt")
    assert "1 cookie and 0 items of localStorage are in the profile forms" in done.stdout, done.stderr
    done = run("export", "forms", "out.txt", "--format", "cookies.txt")
    assert "1 cookie is in out.txt" in done.stdout, done.stderr
    assert (tmp_path / "out.txt").read_text().splitlines()[1:] == NETSCAPE.splitlines()[3:]
    assert (tmp_path / "out.txt").stat().st_mode & 0o777 == 0o600
    done = run("export", "forms", "x", "--format", "json", "--origin", "https://a.test")
    assert done.returncode == 2
    assert "--origin is for storage" in done.stderr
