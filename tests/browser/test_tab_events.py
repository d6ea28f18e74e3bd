"""What a page tells its tab, in both builds."""

import asyncio
import gc
import weakref

import pytest

from cdpbridge.browser import Tab
from cdpbridge.errors import ConfigurationError, TargetClosed
from tests.conftest import until

pytestmark = pytest.mark.chromium


@pytest.fixture(autouse=True)
def answers(pages):
    pages.pages |= {
        "/inner": "<title>Inner</title><script>console.warn('from inner', location.hostname); fetch('/data')</script>",
        "/outer": f"<iframe src='{pages.other}/inner'></iframe>",
        "/opens": "<a href=/second target=_blank>open</a><a id=alone href=/second?2 target=_blank rel=noopener>alone</a>",
        "/second": "<title>Second</title>",
    }
    pages.answers |= {
        "/data": (201, {"Content-Type": "application/json"}, b'{"a": 1}'),
        "/file": (200, {"Content-Disposition": "attachment; filename=a.csv"}, b"a,b"),
        "/old": (302, {"Location": "/data"}, b""),
    }


async def test_console(page, pages):
    heard = []
    stop = page.on("console", heard.append)
    await page.goto(f"{pages.url}/outer")
    await page.evaluate("console.log('a', 1, null, undefined, 1.5, true, {b: [1]}, [1, 'x'], -0)")
    await page.evaluate("console.error(new Error('broken').message)")
    await until(lambda: len(heard) >= 3)
    assert ("warning", "from inner localhost") in {(each.type, each.text) for each in heard}
    first = next(each for each in heard if each.type == "log")
    assert first.text == "a 1 null undefined 1.5 true {b: Array(1)} [1, x] -0"
    assert next(each for each in heard if each.type == "warning").url == f"{pages.other}/inner"
    assert next(each for each in heard if each.type == "warning").line == 1
    stop()
    count = len(heard)
    await page.evaluate("console.log('not heard')")
    await page.goto(f"{pages.url}/outer")
    assert len(heard) == count


@pytest.mark.parametrize("plain", [True, False])
async def test_a_dialog_that_is_open_already_is_answered(page, pages, plain):
    async def answer(dialog):
        heard.append(dialog.message)
        await dialog.accept("Ada")

    heard = []
    await page.goto(f"{pages.url}/")
    asking = asyncio.create_task(page.evaluate("prompt('name')"))
    await until(page.session.hint)
    removed = page.on("dialog", heard.append)
    removed()  # before it was called
    stop = page.on("dialog", (lambda dialog: dialog.accept("Ada")) if plain else answer)
    assert await asking == "Ada"
    assert await page.evaluate("confirm('again')") is True
    assert heard == ([] if plain else ["name", "again"])
    stop()


async def test_dialogs(page, pages):
    await page.goto(pages.url)
    heard = []

    async def answer(dialog):
        heard.append((dialog.type, dialog.message, dialog.default_prompt))
        if dialog.message == "no":
            await dialog.dismiss()
        elif dialog.message == "name":
            await dialog.accept("Ada")
        else:
            await dialog.accept()

    stop = page.on("dialog", answer)
    script = "[alert('hello'), confirm('no'), confirm('yes'), prompt('name', 'x'), prompt('default', 'd')]"
    assert await page.evaluate(script) == [None, False, True, "Ada", "d"]
    assert heard[3:] == [("prompt", "name", "x"), ("prompt", "default", "d")]
    stop()
    page.on("dialog", lambda dialog: dialog.accept())
    assert await page.evaluate("confirm('a lambda')") is True


async def test_requests_and_responses(page, pages):
    requests, responses, bodies = [], [], asyncio.Queue()
    page.on("request", requests.append)
    page.on("response", responses.append)

    async def read(response):
        if response.url.endswith("/data") and response.resource_type == "fetch":
            await asyncio.sleep(0)
            bodies.put_nowait(response)

    page.on("response", read)
    await page.goto(f"{pages.url}/outer")
    await page.evaluate(
        "fetch('/old', {method: 'POST', body: 'x', headers: {'X-A': 'b'}}).then(r => r.text())"
    )
    await until(lambda: sum(each.url.endswith("/data") for each in responses) == 2)
    found = {(each.method, each.url, each.resource_type) for each in requests}
    assert found >= {
        ("GET", f"{pages.url}/outer", "document"),
        ("GET", f"{pages.other}/inner", "document"),
        ("GET", f"{pages.other}/data", "fetch"),
        ("POST", f"{pages.url}/old", "fetch"),
        ("GET", f"{pages.url}/data", "fetch"),
    }
    posted = next(each for each in requests if each.method == "POST")
    assert (posted.post_data, posted.headers["x-a"], posted.frame_id) == ("x", "b", page.target_id)
    response = next(each for each in responses if each.url == f"{pages.url}/data")
    assert (response.status, response.ok, await response.json()) == (201, True, {"a": 1})
    assert (await bodies.get()).status == 201


async def test_popups(page, pages):
    popups = []
    page.on("popup", popups.append)
    await page.goto(f"{pages.url}/opens")
    await page.click("text=open")
    await until(lambda: popups)
    [popup] = popups
    assert isinstance(popup, Tab)
    await popup.wait_for_expression("document.title === 'Second'")
    await page.evaluate("void window.open('/second?3')")
    await until(lambda: len(popups) == 2)
    await popups[1].wait_for_expression("document.title === 'Second' && document.body")
    await popups[1].evaluate("document.body.innerHTML = '<button onclick=window.close()>Close</button>'")
    await popups[1].click("button")
    await until(lambda: popups[1].session.closed)
    with pytest.raises(TargetClosed):
        await popups[1].click("button")
    await popup.close()


async def test_a_popup_handler_that_waits(page, pages):
    titles = []

    async def handle(popup):
        await popup.wait_for_expression("document.title === 'Second'")
        titles.append(await popup.title())

    await page.goto(f"{pages.url}/opens")
    await page.evaluate("void window.open('/second?before')")
    stop = page.on("popup", handle)
    await page.evaluate("void window.open('/second')")
    await until(lambda: titles)
    stop()
    assert titles == ["Second"]


async def test_downloads(page, pages):
    heard = []
    stop = page.on("download", heard.append)
    await page.goto(pages.url)
    assert await page.goto(f"{pages.url}/file") is None
    await until(lambda: heard)
    assert await heard[0].read() == b"a,b"
    stop()


async def test_listeners_end_with_their_tab(connection, page, pages):
    """Of the whole browser, and of frames in other processes that a page has had."""

    def subscriptions():
        return sum(len(each) for each in connection.root._node.listeners.values())

    tab = page
    tab.on("popup", print)
    tab.on("download", print)
    stop = tab.on("console", print)
    await tab._events.settled()
    before = subscriptions()
    tabs = weakref.WeakSet()
    for _ in range(3):
        other = Tab(await connection.new_tab())
        tabs.add(other)
        other.on("popup", print)
        off = other.on("download", print)
        other.on("console", print)
        await other.goto(f"{pages.url}/outer")
        await other.close()
        off()
    await until(lambda: subscriptions() <= before)
    del other, off
    await until(lambda: gc.collect() >= 0 and not tabs)
    for _ in range(3):
        await tab.goto(f"{pages.url}/outer")
        await tab.goto("about:blank")
    await until(lambda: len(list(tab._frames.sessions())) == 1)
    [removes] = [cell.cell_contents for cell in stop.__closure__ if isinstance(cell.cell_contents, dict)]
    await until(lambda: list(removes) == [tab.session])
    stop()
    assert not removes


async def test_a_handler_that_fails_is_reported(page, failures):
    async def fail(_message):
        raise KeyError("mine")

    page.on("console", fail)
    page.on("console", lambda message: fail(message) if message.text else None)
    await page.evaluate("console.log(1)")
    await until(lambda: len(failures) == 2)
    assert {str(error) for error, _what in failures} == {"'mine'"}


async def test_events_that_there_are_not(page):
    with pytest.raises(
        ConfigurationError, match=r"no event 'dialogs'; it has 'console'.*do you mean 'dialog'"
    ):
        page.on("dialogs", print)
    with pytest.raises(ConfigurationError, match=r"others by `tab\.session\.on`"):
        page.on("crash", print)
