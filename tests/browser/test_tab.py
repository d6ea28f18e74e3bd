"""The verbs of a tab, on a real page of real browsers of both builds."""

import asyncio
import math
from datetime import timedelta

import pytest

import cdpbridge
from cdpbridge.errors import CommandTimeout, EvaluationError, NavigationError, TargetClosed
from cdpbridge.protocol import Page

ONE_BUILD = pytest.mark.one_build("of the rental around the tab")

pytestmark = pytest.mark.chromium


@pytest.fixture
async def browser(server):
    client = cdpbridge.at(server.base_url, server.key)
    async with cdpbridge.open_browser(client) as browser:
        yield browser


@pytest.fixture
def tab(page):
    return page


async def test_goto_loads(tab, site):
    await tab.goto(site)
    assert (await tab.title(), await tab.current_url()) == ("Sign in", f"{site}/")
    assert await tab.evaluate("document.readyState") == "complete"
    html = await tab.content()
    assert html.startswith("<!DOCTYPE html><html")
    assert '<input name="user"' in html


async def test_a_browser_has_only_the_pages_that_its_clients_opened(tab, connection):
    """Each window of the full build would load two more for its address bar, at half a second of CPU."""
    found = await connection.root.send("Target.getTargets", {"filter": [{}]})
    assert [each["url"] for each in found["targetInfos"] if each["url"].startswith("chrome:")] == []


@pytest.mark.parametrize("wait_until", ["commit", "domcontentloaded", "load"])
async def test_goto_waits_as_asked(tab, site, wait_until):
    for path in ("/", "/#part", "/nowhere", "/"):  # also within the document, and to an error page
        await tab.goto(site + path, wait_until=wait_until)
    assert await tab.current_url() == f"{site}/"


async def test_goto_says_why_a_page_does_not_load(tab, nobody):
    with pytest.raises(NavigationError, match="ERR_CONNECTION_REFUSED") as caught:
        await tab.goto(f"{nobody}/")
    assert (caught.value.url, caught.value.error_text) == (
        f"{nobody}/",
        "net::ERR_CONNECTION_REFUSED",
    )


async def test_goto_has_a_deadline(tab, site):
    await tab.goto("about:blank")
    await tab.session.send("Fetch.enable")  # requests wait for an answer that does not come
    with pytest.raises(CommandTimeout, match="goto"):
        await tab.goto(site, timeout=timedelta(seconds=0.3))
    await tab.session.send("Fetch.disable")


async def test_fault_a28_a_dialog_is_named_when_goto_waits_in_vain(tab):
    with pytest.raises(CommandTimeout, match="alert dialog is open"):
        await tab.goto("data:text/html,<script>alert('hello')</script>", timeout=timedelta(seconds=3))
    await tab.session.send(Page.handle_java_script_dialog(accept=True))
    assert await tab.evaluate("1") == 1


async def test_fault_a60_values_of_every_kind(tab):
    for expression, value in (
        ("1 + 1", 2),
        ("({a: [1, 'x', null]})", {"a": [1, "x", None]}),
        ("Promise.resolve('later')", "later"),
        ("undefined", None),
        ("12345678901234567890n", 12345678901234567890),
        ("-0", 0),
        ("1/0", math.inf),
        ("-1/0", -math.inf),
        ("'ä\\u{1F600}'", "ä😀"),
    ):
        assert await tab.evaluate(expression) == value, expression
    assert math.isnan(await tab.evaluate("NaN"))
    assert math.copysign(1, await tab.evaluate("-0")) == -1


async def test_fault_c16_a_value_without_json_form_is_named(tab):
    for expression, words in {
        "window.open('about:blank')": "holds a window.*end the script with",
        "window": "class Window",
        "document.body": r"class HTMLBodyElement.*element\.textContent",
        "document.querySelectorAll('nothing')": r"class NodeList.*\[\.\.\.list\]",
        "[document.body]": r"has at `\[0\]` an object of the class HTMLBodyElement",
        "({seen: new Map()})": r"has at `\.seen` an object of the class Map",
        "new Map([[1, 2]])": r"class Map.*\[\.\.\.map\]",
        "new Set([1])": "class Set",
        "new Date()": "class Date.*toISOString",
        "document.body.getBoundingClientRect()": "class DOMRect",
        "() => 1": "is a function.*call",
        "alert": "is a function",
        "Symbol('a')": "is a symbol",
        "[12n]": r"has at `\[0\]` a bigint",
        "(() => { const me = {}; me.me = me; return me })()": "refers to itself",
    }.items():
        with pytest.raises(EvaluationError, match=words) as caught:
            await tab.evaluate(expression)
        assert (caught.value.line, caught.value.column) == (0, 0)
    for expression, value in (
        ("({})", {}),
        ("[{}, {a: {}}]", [{}, {"a": {}}]),
        ("new (class { field = 1 })", {"field": 1}),
        ("new (class {})", {}),
        ("Object.create(null)", {}),
        ("window.answer = () => ({})", {}),  # not for its value: it changes the page
        ("answer()", {}),
    ):
        assert await tab.evaluate(expression) == value, expression
    # Nothing is done twice.
    assert await tab.evaluate("window.count = (window.count || 0) + 1, {}") == {}
    assert await tab.evaluate("count") == 1


async def test_what_a_script_throws(tab):
    with pytest.raises(EvaluationError, match="TypeError: wrong") as caught:
        await tab.evaluate("\n  throw new TypeError('wrong')")
    assert caught.value.line == 2
    with pytest.raises(EvaluationError, match="rejected"):
        await tab.evaluate("Promise.reject(new Error('rejected'))")
    with pytest.raises(EvaluationError, match="SyntaxError"):
        await tab.evaluate("((")
    with pytest.raises(EvaluationError, match="plain"):
        await tab.evaluate("throw 'plain'")


async def test_fault_a27_a_promise_that_navigation_ends(tab, site):
    await tab.goto(site)
    with pytest.raises(cdpbridge.errors.CommandError, match=r"context was destroyed|navigated or closed"):
        await tab.evaluate("new Promise(() => { location.href = '/nowhere' })", timeout=timedelta(seconds=5))


async def test_pictures(tab, site, tmp_path):
    await tab.goto(site)
    await tab.evaluate("document.body.style.height = '3000px'")
    visible = await tab.screenshot()
    whole = await tab.screenshot(tmp_path / "page.png", full_page=True)
    assert visible.startswith(b"\x89PNG")
    assert (tmp_path / "page.png").read_bytes() == whole
    assert (
        int.from_bytes(whole[20:24]) >= 3000 > int.from_bytes(visible[20:24])
    )  # the height, in the PNG's header
    assert (await tab.screenshot(format="jpeg", quality=30)).startswith(b"\xff\xd8")
    assert (await tab.screenshot(tmp_path / "it.WEBP")).startswith(b"RIFF")
    assert (await tab.pdf(tmp_path / "page.pdf")).startswith(b"%PDF")
    assert (tmp_path / "page.pdf").stat().st_size > 1000


async def test_cookies(tab, site):
    await tab.goto(site)
    await tab.evaluate("document.cookie = 'colour=blue'")
    [cookie] = await tab.cookies()
    assert (cookie.name, cookie.value, cookie.session) == ("colour", "blue", True)


@ONE_BUILD
async def test_close(browser):
    tab = await browser.new_tab()
    before = len(await browser.tabs())
    await tab.close()
    await tab.close()
    assert "closed" in repr(tab)
    with pytest.raises(TargetClosed):
        await tab.evaluate("1")
    assert len(await browser.tabs()) == before - 1


@ONE_BUILD
async def test_a_page_with_two_handles_is_closed_by_both(browser):
    tab = await browser.new_tab()
    [other] = [each for each in await browser.tabs() if each.target_id == tab.target_id]
    await tab.close()
    # The browser tells the second handle a moment later, so also before it knows.
    other.session._node.closed, seen = None, other.session._node.closed
    await other.close()
    other.session._node.closed = seen
    await asyncio.gather(tab.close(), other.close())


@ONE_BUILD
async def test_new_tab_with_a_page_and_its_session(browser, site):
    tab = await browser.new_tab(site)
    assert await tab.title() == "Sign in"
    async with tab.session.expect(Page.LoadEventFired):
        await tab.session.send(Page.reload())
    assert tab.target_id in {target.target_id for target in await browser.connection.targets()}
