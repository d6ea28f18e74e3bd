"""Navigations of a tab, and the responses they return, in both builds."""

import asyncio
from datetime import timedelta

import pytest

from cdpbridge.errors import CommandTimeout, ConfigurationError, NavigationError, TargetClosed
from tests.builds import on_the_shell

pytestmark = pytest.mark.chromium


@pytest.fixture(autouse=True)
def answers(pages):
    pages.pages |= {
        "/second": "<title>Second</title>",
        "/moves": "<title>Old</title><script>location.replace('/second')</script><img src=/slow.png>",
        "/moves-away": "<title>Old</title><script>location.replace('http://127.0.0.1:9/')</script><p>text",
        "/offers": "<title>Offers</title><script>location = '/file'</script>",
        "/goes-nowhere": "<title>Stays</title><script>location = '/204'</script>",
        "/calls": "<title>Calls</title><script>setTimeout(() => fetch('/late'), 200)</script>",
    }
    pages.answers |= {
        "/old": (302, {"Location": "/second", "Set-Cookie": "a=1"}, b""),
        "/many": (200, {"Content-Type": "text/html", "X-One": "1", "x-two": "2"}, b"<title>Many</title>"),
        "/empty-404": (404, {"Content-Type": "text/html"}, b""),
        "/empty-500": (500, {"Content-Type": "text/html"}, b""),
        "/full-500": (500, {"Content-Type": "text/html"}, b"<title>Broken</title>"),
        "/204": (204, {}, b""),
        "/file": (200, {"Content-Disposition": "attachment; filename=a.csv"}, b"a,b"),
        "/cut": (200, {"Content-Type": "text/html", "Content-Length": "100000"}, b"<title>Cut</title><p>te"),
        "/proxy": (
            502,
            {"Content-Type": "text/plain", "Proxy-Status": "cdpbridge; error=dns_error"},
            b"shop.test could not be resolved\n",
        ),
    }


async def test_goto_returns_the_response(page, pages):
    response = await page.goto(f"{pages.url}/many")
    assert (response.url, response.status, response.ok) == (f"{pages.url}/many", 200, True)
    assert (response.headers["x-one"], response.headers["x-two"]) == ("1", "2")
    assert response.mime_type == "text/html"
    assert await response.text() == "<title>Many</title>"
    assert await response.body() == b"<title>Many</title>"
    assert "resource_type='document'" in repr(response)


async def test_a_redirect_ends_at_its_target(page, pages):
    response = await page.goto(f"{pages.url}/old")
    assert (response.url, response.status) == (f"{pages.url}/second", 200)


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/full-500", 500)])
async def test_a_bad_status_is_no_failure(page, pages, path, status):
    response = await page.goto(pages.url + path)
    assert (response.status, response.ok) == (status, False)


@pytest.mark.parametrize(("path", "status"), [("/empty-404", 404), ("/empty-500", 500), ("/204", 204)])
async def test_fault_c03_a_status_without_a_body(page, pages, path, status):
    await page.goto(pages.url)
    assert (await page.goto(pages.url + path)).status == status
    assert (await page.goto(f"{pages.url}/second")).status == 200
    assert await page.title() == "Second"


async def test_no_response_where_there_is_none(page, pages):
    assert await page.goto("about:blank") is None
    await page.goto(pages.url)
    assert await page.goto(f"{pages.url}/#part") is None
    assert await page.forward() is None
    assert await page.back() is None  # within the document
    assert await page.evaluate("location.hash") == ""


async def test_reload_back_and_forward(page, pages):
    await page.goto(pages.url)
    await page.goto(f"{pages.url}/second")
    await page.evaluate("window.marked = true")
    response = await page.reload()
    assert (response.url, response.status) == (f"{pages.url}/second", 200)
    assert await page.evaluate("window.marked") is None
    assert (await page.back(wait_until="domcontentloaded")).url == f"{pages.url}/"
    assert await page.title() == "Start"
    assert (await page.forward()).url == f"{pages.url}/second"
    assert await page.title() == "Second"
    before = pages.seen.count(("GET", "/second"))
    await page.reload(ignore_cache=True)
    assert pages.seen.count(("GET", "/second")) == before + 1


@pytest.mark.parametrize("wait_until", ["domcontentloaded", "load", "networkidle"])
async def test_fault_c01_a_page_that_moves_on_by_script(page, pages, wait_until):
    response = await page.goto(f"{pages.url}/moves", wait_until=wait_until)
    if wait_until != "domcontentloaded":  # which the first document may have reached
        assert response.url == f"{pages.url}/second"
        assert await page.title() == "Second"
    assert response.status == 200


async def test_fault_c01_what_took_its_place_failed(page, pages):
    with pytest.raises(NavigationError, match=r"127\.0\.0\.1:9/: net::ERR_") as caught:
        await page.goto(f"{pages.url}/moves-away", wait_until="networkidle")
    assert caught.value.url == "http://127.0.0.1:9/"
    assert (await page.goto(f"{pages.url}/second")).ok


@pytest.mark.parametrize(("path", "title"), [("/offers", "Offers"), ("/goes-nowhere", "Stays")])
@pytest.mark.parametrize("wait_until", ["domcontentloaded", "load", "networkidle"])
async def test_fault_c01_what_began_leaves_the_page_as_it_is(page, pages, path, title, wait_until):
    """Chromium sends no load event of the page then."""
    response = await page.goto(pages.url + path, wait_until=wait_until)
    assert (response.url, response.status) == (pages.url + path, 200)
    assert await page.title() == title


async def test_fault_c02_a_document_that_is_cut_off(page, pages):
    with pytest.raises(NavigationError, match="ERR_CONTENT_LENGTH_MISMATCH"):
        await page.goto(f"{pages.url}/cut")


async def test_networkidle_waits_for_late_requests(page, pages):
    await page.goto(f"{pages.url}/calls", wait_until="networkidle")
    assert ("GET", "/late") in pages.seen


async def test_fault_c05_an_address_that_is_a_download(page, pages):
    with pytest.raises(NavigationError, match="this is a download: put goto into a block of expect_download"):
        await page.goto(f"{pages.url}/file")


async def test_fault_c19_a_site_cannot_pretend_to_be_the_proxy(page, pages):
    """What the proxy itself answers: `tests/server/proxy/test_reasons.py`."""
    for site in (pages.url, pages.other):
        response = await page.goto(f"{site}/proxy")
        assert (response.status, "proxy-status" in response.headers) == (502, False)


async def test_what_cannot_be_reached(page):
    with pytest.raises(NavigationError, match=r"ERR_UNSAFE_PORT|ERR_CONNECTION_REFUSED"):
        await page.goto("http://127.0.0.1:9/")


@on_the_shell("what an address is made of is checked before the browser is asked")
@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("127.0.0.1:9811", r"no scheme; is it http://127\.0\.0\.1:9811 \?"),
        ("localhost:9811/a", "is it http://localhost:9811/a"),
        ("example.com/a", "is it https://example.com/a"),
        ("//example.com", "is it https://example.com"),
        ("[::1]:80", r"is it http://\[::1\]:80"),
        ("", "the address is empty"),
        ("http://", "invalid URL"),
        ("http://a b/", "invalid URL|NAME_NOT_RESOLVED"),
    ],
)
async def test_fault_e06_an_address_that_is_none(page, url, words):
    with pytest.raises(NavigationError, match=words):
        await page.goto(url)


async def test_fault_e06_words_and_numbers_that_mean_nothing(page, pages):
    for call in (
        page.goto,
        lambda _url, **given: page.reload(**given),
        lambda _url, **given: page.back(**given),
    ):
        with pytest.raises(
            ConfigurationError, match=r"wait_until must be one of 'commit'.*mean 'networkidle'"
        ):
            await call(pages.url, wait_until="network_idle")
        with pytest.raises(ConfigurationError, match="timeout must be"):
            await call(pages.url, timeout="5")
    with pytest.raises(ConfigurationError, match="url must be a text"):
        await page.goto(None)
    assert (await page.goto(pages.url, timeout=60)).ok
    assert pages.seen == [("GET", "/")] or set(pages.seen) == {("GET", "/"), ("GET", "/favicon.ico")}


async def test_a_page_that_does_not_answer(page, pages):
    await page.goto(pages.url)
    await page.session.send("Fetch.enable")
    with pytest.raises(CommandTimeout, match=r"reload \(load\)"):
        await page.reload(timeout=timedelta(seconds=0.3))
    await page.session.send("Fetch.disable")


async def test_a_tab_that_is_closed_meanwhile(page, pages):
    await page.session.send("Fetch.enable")
    going = asyncio.create_task(page.goto(pages.url))
    async with page.session.expect("Fetch.requestPaused"):
        pass
    await page.close()
    with pytest.raises(TargetClosed):
        await going


async def test_a_step_within_the_document_is_in_the_history_when_goto_returns(page, pages):
    await page.goto(f"{pages.url}/")
    await page.goto(f"{pages.url}/second")
    for part in ("a", "b", "ä b", "ä b", "") * 2:
        assert await page.goto(f"{pages.url}/second#{part}") is None
        history = await page.session.send("Page.getNavigationHistory")
        assert history["currentIndex"] == len(history["entries"]) - 1
        assert await page.back() is None
        assert (await page.evaluate("location.pathname")) == "/second"
        assert await page.forward() is None
    for _ in range(10):
        assert await page.back() is None
    assert await page.evaluate("location.href") == f"{pages.url}/second"
    assert (await page.back()).url == f"{pages.url}/"
    assert (await page.forward()).url == f"{pages.url}/second"


async def test_a_step_that_the_page_cancels(page, pages):
    await page.goto(f"{pages.url}/second")
    await page.evaluate("navigation.addEventListener('navigate', e => e.preventDefault())")
    assert await page.goto(f"{pages.url}/second#part") is None
    await page.goto(f"{pages.url}/second")
    await page.evaluate("navigation.addEventListener('navigate', e => e.intercept()); window.same = 1")
    assert await page.goto(f"{pages.url}/second#part") is None
    assert await page.evaluate("location.hash + window.same") == "#part1"


@pytest.mark.parametrize("verb", ["reload", "back"])
async def test_an_answer_that_leaves_the_page_as_it_was(page, pages, verb):
    kept = {"Content-Type": "text/html", "Cache-Control": "no-store"}
    pages.answers["/flips"] = (200, kept, b"<title>Flips</title>")
    await page.goto(f"{pages.url}/flips")
    if verb == "back":
        await page.goto(f"{pages.url}/second")
    before = await page.title()
    pages.answers["/flips"] = (204, {"Cache-Control": "no-store"}, b"")
    response = await getattr(page, verb)()
    assert (response.url, response.status) == (f"{pages.url}/flips", 204)
    pages.answers["/flips"] = (200, {"Content-Disposition": "attachment; filename=a.csv"}, b"a,b")
    with pytest.raises(NavigationError, match=f"this is a download: put {verb} into a block of"):
        await getattr(page, verb)()
    async with page.expect_download() as waiter:
        assert await getattr(page, verb)() is None
    assert waiter.download.suggested_filename == "a.csv"
    assert await page.title() == before
