"""The Scrapy handler: real Scrapy in a process of its own, rented Chromium, and a site that answers in every way."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from html import unescape
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trustme

from cdpbridge.server.hosts._processes import processes_using
from tests import programs
from tests.conftest import clean_environment
from tests.folders import browsers_folder
from tests.integrations._site import serve

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build(
        "the handler's own work; what a page loads is tested on both builds in tests/browser"
    ),
]

SPIDER = Path(__file__).with_name("_spider.py")


@pytest.fixture(scope="module")
def pages():
    with serve() as (address, _handler):
        yield address


@pytest.fixture(scope="module")
def crawl(server, forked_crawls):
    """Crawl requests; give what came of each, by its number, and the stats under `"stats"`."""

    def run(requests, *, environment=None, handler=None, spider=None, limit=100, **settings):
        job = {"requests": requests, "settings": settings, "spider": spider or {}}
        job |= {"handler": handler} if handler else {}
        done = programs.run(
            [sys.executable, str(SPIDER)],
            input=json.dumps(job),
            check=False,
            capture_output=True,
            text=True,
            timeout=limit,
            env=environment or server.environment(),
            by=forked_crawls,
        )
        assert done.returncode == 0, done.stderr
        found = {}
        for line in done.stdout.splitlines():
            told = json.loads(line)
            if "stats" in told:
                found["stats"] = told["stats"]
            else:
                found[told["number"]] = told
        found["log"] = done.stderr
        return found

    yield run
    assert active(server) == []


def active(server):
    answer = httpx.get(
        f"{server.base_url}/browsers",
        params={"filterBy": "active"},
        headers={"X-Browser-Use-API-Key": server.key},
    )
    return answer.raise_for_status().json()["items"]


def rendered(url, **more):
    options = more.pop("options", True)
    return {"url": url, "meta": {"cdpbridge": options} | more.pop("meta", {})} | more


def echoed(answer):
    return json.loads(unescape(re.search(r"<pre>(.*)</pre>", answer["body"])[1]))


@pytest.fixture(scope="module")
def plain(crawl, pages, nobody_listens):
    """One crawl of everything that needs no settings of its own."""
    return crawl(
        {
            "scripted": rendered(f"{pages}/scripted"),
            "waits": rendered(
                f"{pages}/scripted",
                options={
                    "wait_for_selector": "#late",
                    "wait_for_expression": "window.ready",
                    "script": "Promise.resolve({h1: document.querySelector('h1').textContent})",
                },
            ),
            "idle": rendered(f"{pages}/scripted", options={"wait_until": "networkidle"}),
            "dom": rendered(f"{pages}/rich", options={"wait_until": "domcontentloaded"}),
            "picture": rendered(f"{pages}/rich", options={"screenshot": True}),
            "unrendered": {"url": f"{pages}/scripted"},
            "missing": rendered(f"{pages}/missing", meta={"handle_httpstatus_all": True}),
            "empty": rendered(f"{pages}/empty", meta={"handle_httpstatus_all": True}),
            "nothing": rendered(f"{pages}/nothing"),
            "hop": rendered(f"{pages}/hop", meta={"cookiejar": "hop"}),
            "cookies": rendered(f"{pages}/cookies", meta={"cookiejar": "c"})
            | {"then": rendered(f"{pages}/echo", meta={"cookiejar": "c"})},
            "script's cookie": rendered(f"{pages}/scripted", meta={"cookiejar": "js"})
            | {"then": {"url": f"{pages}/echo", "meta": {"cookiejar": "js"}}},
            "sent": rendered(
                f"{pages}/echo", cookies={"sent": "x"}, headers={"X-Own": "1", "Referer": f"{pages}/from"}
            ),
            "post": rendered(
                f"{pages}/echo",
                method="POST",
                body="a=1&b=%20",
                headers={"Content-Type": "application/x-www-form-urlencoded"},
            ),
            "put": rendered(f"{pages}/echo", method="PUT", body='{"a": 1}'),
            "agent": rendered(
                f"{pages}/echo", headers={"User-Agent": "mine/1"}, options={"script": "navigator.userAgent"}
            ),
            "own agent": rendered(f"{pages}/echo", meta={"cookiejar": "own"}),
            "storage": rendered(f"{pages}/storage"),
            "storage again": rendered(f"{pages}/storage"),
            "storage alone": rendered(f"{pages}/storage", options={"isolated": True}),
            "alert": rendered(f"{pages}/alert"),
            "moves": rendered(f"{pages}/moves", options={"wait_for_selector": "#late"}),
            "data": rendered(f"{pages}/data"),
            "file": rendered(f"{pages}/file"),
            "broken": rendered(f"{pages}/broken?once"),
            "hangs": rendered(f"{pages}/hangs", meta={"download_timeout": 0.5, "max_retry_times": 0}),
            "never": rendered(
                f"{pages}/scripted",
                options={"wait_for_selector": "#never"},
                meta={"download_timeout": 1, "max_retry_times": 0},
            ),
            "refused": rendered(nobody_listens),
            "unknown host": rendered("http://nowhere.invalid/"),
            "drops": rendered(f"{pages}/drops"),
            "throws": rendered(f"{pages}/rich", options={"script": "nonsense()"}),
            "typo": rendered(f"{pages}/rich", options={"wait_til": "load"}),
            "proxied": rendered(f"{pages}/rich", meta={"proxy": "http://proxy.invalid:1"}),
            "fragment": rendered(f"{pages}/rich#one", options={"script": "location.hash"})
            | {"then": rendered(f"{pages}/rich#two", options={"script": "location.hash"})},
        },
        CDPBRIDGE_TABS_PER_BROWSER=2,
    )


@pytest.fixture(scope="module")
def nobody_listens():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/"


def test_the_document_is_what_scripts_made_of_it(plain):
    assert "<h1>After</h1>" in plain["scripted"]["body"]
    assert plain["scripted"]["kind"] == "HtmlResponse"
    assert plain["scripted"]["flags"] == ["cdpbridge"]
    assert plain["scripted"]["ip"] == "127.0.0.1"
    assert plain["scripted"]["result"] == {}


def test_a_certificate_that_is_not_trusted_is_told_or_taken(crawl):
    with serve(trustme.CA().issue_cert("127.0.0.1").configure_cert) as (address, handler):
        requests = {"page": rendered(f"{address}/scripted")}
        refused = crawl(requests)["page"]
        assert (refused["error"], refused["retries"]) == ("NavigationError", 0)
        assert "net::ERR_CERT_AUTHORITY_INVALID" in refused["text"]
        assert "CDPBRIDGE_IGNORE_CERTIFICATE_ERRORS = True" in refused["notes"][0]
        assert not handler.seen
        taken = crawl(requests, CDPBRIDGE_IGNORE_CERTIFICATE_ERRORS=True)["page"]
    assert taken["url"] == f"{address}/scripted"
    assert "<h1>After</h1>" in taken["body"]


def test_requests_without_the_key_go_to_scrapys_own_handler(plain):
    assert "<h1>Before</h1>" in plain["unrendered"]["body"]
    assert plain["unrendered"]["flags"] == []


def test_it_waits_for_a_selector_and_an_expression_and_evaluates_a_script(plain):
    assert 'id="late"' in plain["waits"]["body"]
    assert plain["waits"]["result"] == {"script": {"h1": "After"}}
    assert 'id="late"' in plain["idle"]["body"]
    assert 'id="late"' in plain["moves"]["body"]
    assert "next" in plain["dom"]["body"]


def test_a_screenshot_is_in_the_result(plain):
    assert plain["picture"]["result"] == {"screenshot": "89504e470d0a1a0a"}


def test_status_headers_and_final_address_are_the_servers(plain, pages):
    assert (plain["missing"]["status"], plain["empty"]["status"]) == (404, 404)
    assert "Not here" in plain["missing"]["body"]
    assert not re.sub("<.*?>", "", plain["empty"]["body"])
    assert (plain["nothing"]["status"], plain["nothing"]["body"]) == (204, "")
    assert plain["hop"]["url"] == f"{pages}/echo"
    assert plain["hop"]["redirects"] == [f"{pages}/hop", f"{pages}/hop2"]
    assert plain["cookies"]["headers"]["x-own"] == ["yes"]
    assert "content-length" not in plain["cookies"]["headers"]


def test_cookies_of_headers_redirects_and_scripts_reach_scrapys_jar(plain):
    assert plain["cookies"]["headers"]["set-cookie"] == ["a=1; Path=/; HttpOnly", "b=2; Path=/"]
    assert echoed(plain["cookies, then"])["headers"]["cookie"] == "a=1; b=2"
    assert plain["hop"]["headers"]["set-cookie"] == ["hop=1; Path=/"]
    assert echoed(plain["hop"])["headers"]["cookie"] == "hop=1"
    assert echoed(plain["script's cookie, then"])["headers"]["cookie"] == "js=set"


def test_headers_cookies_method_and_body_of_the_request_reach_the_server(plain, pages):
    sent = echoed(plain["sent"])["headers"]
    assert (sent["cookie"], sent["x-own"], sent["referer"]) == ("sent=x", "1", f"{pages}/from")
    post = echoed(plain["post"])
    assert (post["method"], post["body"]) == ("POST", "a=1&b=%20")
    assert post["headers"]["content-type"] == "application/x-www-form-urlencoded"
    assert (echoed(plain["put"])["method"], echoed(plain["put"])["body"]) == ("PUT", '{"a": 1}')


def test_a_user_agent_is_the_pages_too_and_without_one_it_is_the_browsers(plain):
    assert echoed(plain["agent"])["headers"]["user-agent"] == "mine/1"
    assert plain["agent"]["result"] == {"script": "mine/1"}
    own = echoed(plain["own agent"])["headers"]
    assert "Chrome/" in own["user-agent"]
    assert "Scrapy" not in own["user-agent"]
    assert "cookie" not in own


def test_visits_see_nothing_of_each_others_storage(plain):
    for name in ("storage", "storage again", "storage alone"):
        assert "<title>11</title>" in plain[name]["body"]


def test_a_dialog_holds_up_nothing(plain):
    assert "answered" in plain["alert"]["body"]


def test_what_is_no_page_comes_as_the_server_sent_it(plain):
    assert (plain["data"]["kind"], plain["data"]["body"]) == ("JsonResponse", '{"n": 1}')
    assert plain["file"]["body"] == "\x00\x01file"
    assert plain["file"]["flags"] == ["cdpbridge"]


def test_another_fragment_of_the_same_page_is_loaded_anew(plain):
    assert plain["fragment"]["result"] == {"script": "#one"}
    assert plain["fragment, then"]["result"] == {"script": "#two"}


@pytest.mark.parametrize(
    ("name", "error", "retries"),
    [
        ("hangs", "DownloadTimeoutError", 0),
        ("never", "DownloadTimeoutError", 0),
        ("refused", "DownloadConnectionRefusedError", 1),
        ("unknown host", "CannotResolveHostError", 1),
        ("drops", "DownloadFailedError", 1),
        ("throws", "EvaluationError", 0),
        ("typo", "ConfigurationError", 0),
        ("proxied", "ConfigurationError", 0),
    ],
)
def test_failures_are_scrapys_own_and_repeated_where_that_helps(plain, name, error, retries):
    assert (plain[name]["error"], plain[name]["retries"]) == (error, retries)


def test_a_timeout_says_what_it_waited_for(plain):
    assert "waiting for the selector '#never'" in plain["never"]["text"]
    assert "do you mean 'wait_until'?" in plain["typo"]["text"]


def test_retries_by_status_act_too(plain):
    assert (plain["broken"]["error"], plain["broken"]["retries"]) == ("HttpError", 1)


def test_stats_tell_pages_browsers_minutes_and_money(plain):
    stats = plain["stats"]
    assert stats["cdpbridge/pages"] > 20
    assert stats["cdpbridge/browsers"] == 1
    assert stats["cdpbridge/minutes"] >= 1
    assert 0 < stats["cdpbridge/usd"] < 0.05
    assert stats["cdpbridge/failures/NavigationError"] == 6


# --- crawls of their own ----------------------------------------------------------------------------------------------


def test_blocked_kinds_and_addresses_are_not_asked_for(crawl):
    with serve() as (address, site):
        found = crawl(
            {
                "defaults": rendered(f"{address}/rich"),
                "own": rendered(f"{address}/rich", options={"block_types": ["script"], "block_urls": []}),
            },
            CDPBRIDGE_BLOCK_TYPES="image,script",
            CDPBRIDGE_BLOCK_URLS=["*.css"],
            CDPBRIDGE_TABS_PER_BROWSER=1,
        )
        assert "<title>Rich</title>" in found["defaults"]["body"]
        assert site.seen == {"/rich": 2, "/style.css": 1, "/pixel.png": 1}
        assert found["stats"]["cdpbridge/blocked"] == 4


def test_everything_can_be_rendered_and_a_screenshot_be_a_file(crawl, pages, tmp_path):
    path = tmp_path / "new" / "page.jpg"
    found = crawl(
        {
            "all": {"url": f"{pages}/scripted"},
            "but": {"url": f"{pages}/scripted", "meta": {"cdpbridge": False}},
            "file": rendered(
                f"{pages}/rich",
                options={"screenshot": {"path": str(path), "format": "jpeg", "full_page": True}},
            ),
        },
        CDPBRIDGE_RENDER_ALL=True,
    )
    assert "After" in found["all"]["body"]
    assert "Before" in found["but"]["body"]
    assert found["file"]["result"] == {"screenshot": str(path)}
    assert path.read_bytes().startswith(b"\xff\xd8\xff")


def test_fault_c13_http_user_serves_what_the_page_asks_for(crawl):
    anything = {"handle_httpstatus_all": True}
    login = "Basic " + base64.b64encode(b"ada:love lace").decode()
    with serve() as (address, site), serve() as (other, other_site):
        found = crawl(
            {
                "page": rendered(f"{address}/login", options={"wait_for_expression": "window.done"}),
                "other": rendered(f"{other}/login", meta=anything),
                "away": rendered(f"{address}/away?{other}/login", meta=anything),
            },
            spider={
                "http_user": "ada",
                "http_pass": "love lace",
                "http_auth_domain": urlsplit(address).netloc,
            },
            CDPBRIDGE_TABS_PER_BROWSER=1,
        )
        assert "<title>200 from here, 401 from there</title>" in found["page"]["body"]
        assert (found["other"]["status"], found["away"]["status"]) == (401, 401)
        assert ("/login/data", login) in site.logins
        assert {sent for _, sent in other_site.logins} == {None}
        assert "love lace" not in found["log"]


def test_a_profiles_cookies_are_used_and_kept(crawl, pages):
    settings = {"CDPBRIDGE_PROFILE": "scrapy", "CDPBRIDGE_PROXY_COUNTRY": "de"}
    first = crawl(
        {"in": rendered(f"{pages}/cookies") | {"then": rendered(f"{pages}/echo", cookies={"b": "new"})}},
        **settings,
    )
    assert echoed(first["in, then"])["headers"]["cookie"] == "a=1; b=new"
    again = crawl({"out": rendered(f"{pages}/echo")}, **settings)
    assert echoed(again["out"])["headers"]["cookie"] == "a=1; b=new"


def test_fault_c19_what_the_proxy_answers_is_a_failure_with_its_reason(crawl, pages, nobody_listens):
    """In plain HTTP it is a page for the browser, and encrypted the browser keeps the reason to itself."""
    unknown = {
        scheme: rendered(f"{scheme}://no-such-name.invalid/", options={"script": "document.title"})
        for scheme in ("http", "https")
    }
    found = crawl(
        unknown | {"refused": rendered(nobody_listens), "page": rendered(f"{pages}/scripted")},
        CDPBRIDGE_PROXY_COUNTRY="de",
    )
    for scheme in unknown:
        assert (found[scheme]["error"], found[scheme]["retries"]) == ("CannotResolveHostError", 1)
        assert "its name could not be resolved (dns_error)" in found[scheme]["text"]
    assert (found["refused"]["error"], found["refused"]["retries"]) == ("DownloadConnectionRefusedError", 1)
    assert "Connection refused (connection_refused)" in found["refused"]["text"]
    assert "<h1>After</h1>" in found["page"]["body"]


def test_a_wrong_key_is_told_and_not_repeated(crawl, pages, server):
    found = crawl(
        {"page": rendered(f"{pages}/rich")}, environment=server.environment(BROWSER_USE_API_KEY="wrong")
    )
    assert (found["page"]["error"], found["page"]["retries"]) == ("AuthenticationError", 0)


def test_several_browsers_work_at_once(crawl, server):
    """Three pages that the site answers together, in browsers of two tabs, and of no more browsers than were allowed."""
    with serve() as (address, site):
        seen = []

        def watch():
            until(lambda: sum(site.seen[f"/hangs?{n}"] for n in range(3)) == 3)
            seen.extend(active(server))
            site.hold.set()

        watcher = threading.Thread(target=watch)
        watcher.start()
        found = crawl(
            {f"{n}": rendered(f"{address}/hangs?{n}") for n in range(3)},
            CDPBRIDGE_BROWSERS=2,
            CDPBRIDGE_TABS_PER_BROWSER=2,
        )
        watcher.join()
    assert len(seen) == found["stats"]["cdpbridge/browsers"] == 2
    assert all("At last" in found[f"{n}"]["body"] for n in range(3))
    assert site.seen.total() == 3


def test_a_browser_that_is_lost_costs_no_page(crawl, server):
    with serve() as (address, site):
        job = {f"{n}": rendered(f"{address}/{n}") for n in range(20)} | {
            "late": rendered(f"{address}/hangs?late")
        }
        killer = threading.Thread(target=kill_when, args=(server, site, "/hangs?late"))
        killer.start()
        found = crawl(job, CDPBRIDGE_TABS_PER_BROWSER=2)
        killer.join()
        assert "error" not in found["late"]
        assert all(found[f"{n}"]["status"] == 200 for n in range(20))
        assert found["stats"]["cdpbridge/browsers"] == 2
        assert found["stats"]["cdpbridge/browsers/lost"] == 1
        assert found["late"]["retries"] == 0


def kill_when(server, site, path):
    """SIGKILL to the browser that asked for `path`, and let the next one have it."""
    until(lambda: site.seen[path])
    (browser,) = active(server)
    # The browser's own process first: else pages see their connections end before it does.
    for pid in sorted(processes_using(server.folder(browser["id"]))):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: active(server) != [browser])
    site.hold.set()


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    "ways",
    [
        pytest.param([signal.SIGINT], marks=pytest.mark.slow),
        [signal.SIGINT, signal.SIGINT],
        pytest.param([signal.SIGTERM], marks=pytest.mark.slow),
    ],
)
def test_interrupting_the_crawl_stops_its_browsers(server, forked_crawls, ways):
    with serve() as (address, site):
        job = {
            "requests": {
                "hangs": rendered(f"{address}/hangs", meta={"download_timeout": 3, "max_retry_times": 0})
            },
            "settings": {},
        }
        process = programs.Program(
            [sys.executable, str(SPIDER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=server.environment(),
            by=forked_crawls,
        )
        process.stdin.write(json.dumps(job))
        process.stdin.close()
        until(lambda: site.seen["/hangs"])
        assert len(active(server)) == 1
        for way in ways:
            process.send_signal(way)
        log = process.stderr.read()
        process.stderr.close()
        process.wait(100)
        assert active(server) == [], log


def test_killing_a_crawl_on_the_embedded_server_leaves_nothing(tmp_path):
    with serve() as (address, site):
        job = {"requests": {"hangs": rendered(f"{address}/hangs")}, "settings": {}}
        process = subprocess.Popen(
            [sys.executable, str(SPIDER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            env=clean_environment(
                CDPBRIDGE_PROVIDER="local", CDPBRIDGE_DATA_DIR=str(tmp_path), CDPBRIDGE_BROWSER_BUILD="shell"
            ),
        )
        process.stdin.write(json.dumps(job))
        process.stdin.close()
        until(lambda: site.seen["/hangs"])
        folder = browsers_folder(tmp_path)
        assert processes_using(folder)
        process.kill()
        process.wait()
        until(lambda: not processes_using(folder))
