"""Requests that are blocked, changed and answered, in frames of other processes and workers too, in both builds."""

import asyncio
import json

import pytest

from cdpbridge.browser import Tab
from cdpbridge.errors import CommandError, ConfigurationError, NavigationError

pytestmark = pytest.mark.chromium

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


@pytest.fixture(autouse=True)
def answers(pages):
    pages.answers |= {
        "/a.png": (200, {"Content-Type": "image/png"}, PNG),
        "/b.png": (200, {"Content-Type": "image/png"}, PNG),
        "/s.css": (200, {"Content-Type": "text/css"}, b"p { color: red }"),
        "/data": (
            200,
            {"Content-Type": "application/json", "Access-Control-Allow-Origin": "*"},
            b'{"from": "network"}',
        ),
        "/worker.js": (
            200,
            {"Content-Type": "text/javascript"},
            b"fetch('/data').then(r => r.text(), e => String(e)).then(postMessage)",
        ),
    }
    pages.pages |= {
        "/pictures": "<link rel=stylesheet href=/s.css><img src=/a.png><img src=/b.png><p>text",
        "/frames": f"<img src=/a.png><iframe src='{pages.other}/pictures'></iframe>",
    }


FETCH = "fetch('/data').then(r => r.json(), e => String(e))"


def asked(pages):
    found, pages.seen[:] = sorted({path for _, path in pages.seen if path != "/favicon.ico"}), []
    return found


async def test_block_types_and_addresses(page, pages):
    await page.block(types=["image"])
    await page.goto(f"{pages.url}/pictures")
    assert asked(pages) == ["/pictures", "/s.css"]
    await page.block(urls=["*/a.png"], types=["STYLESHEET"])
    await page.goto(f"{pages.url}/pictures?2")
    assert asked(pages) == ["/b.png", "/pictures?2"]
    await page.block()
    await page.goto(f"{pages.url}/pictures?3")
    assert "/a.png" in asked(pages)


async def test_block_in_frames_of_other_processes(page, pages):
    await page.block(types=["image"])
    await page.goto(f"{pages.url}/frames")
    assert asked(pages) == ["/frames", "/pictures", "/s.css"]
    inner = [session for session in page.session.children if session.target_type == "iframe"]
    assert len(inner) == 1
    await page.block(urls=[f"{pages.other}/*.css"])  # in a frame that is there already
    await page.goto(f"{pages.url}/frames?2")
    assert asked(pages) == ["/a.png", "/b.png", "/frames?2", "/pictures"]


async def test_block_fetch_and_xhr(page, pages):
    await page.goto(pages.url)
    await page.block(types=["fetch"])
    assert "Failed to fetch" in await page.evaluate(FETCH)
    await page.block(types=["image"])
    assert await page.evaluate(FETCH) == {"from": "network"}


async def test_block_in_workers(page, pages):
    await page.goto(pages.url)
    await page.block(urls=["*/data"])
    script = "new Promise(done => { new Worker('/worker.js').onmessage = e => done(e.data) })"
    assert "Failed to fetch" in await page.evaluate(script)
    assert "/data" not in asked(pages)


async def test_a_blocked_page(page, pages):
    await page.block(urls=["*"])
    with pytest.raises(NavigationError, match="ERR_BLOCKED_BY_CLIENT"):
        await page.goto(pages.url)


async def test_routes_answer_change_and_refuse(page, pages):
    await page.goto(pages.url)
    seen = []

    async def answer(route):
        seen.append((route.request.method, route.request.url, route.request.resource_type))
        await route.fulfill(json={"from": "here"}, headers={"X-One": "1"})

    await page.route("*/data", answer)
    assert await page.evaluate(FETCH) == {"from": "here"}
    assert await page.evaluate(
        "fetch('/data').then(r => r.headers.get('x-one') + r.headers.get('content-type'))"
    ) == ("1application/json")
    assert seen[0] == ("GET", f"{pages.url}/data", "xhr")
    await page.route("*/dat?", lambda route: route.abort("timedout"))  # the newest counts
    assert "Failed to fetch" in await page.evaluate(FETCH)
    await page.unroute("*/dat?")
    assert await page.evaluate(FETCH) == {"from": "here"}
    await page.unroute("*/data", answer)
    assert await page.evaluate(FETCH) == {"from": "network"}
    assert len(seen) == 3


async def test_a_route_changes_a_request(page, pages):
    await page.goto(pages.url)
    await page.route(
        "*/old*",
        lambda route: route.continue_(
            url=f"{pages.url}/data", method="POST", headers={"X-A": "b"}, post_data="body"
        ),
    )
    assert await page.evaluate("fetch('/old?1').then(r => r.json())") == {"from": "network"}
    assert ("POST", "/data") in pages.seen
    assert not any(path.startswith("/old") for _, path in pages.seen)
    assert pages.bodies == [b"body"]


async def test_a_route_may_wait_and_go_on(page, pages):
    await page.goto(pages.url)
    paused, go = asyncio.Event(), asyncio.Event()

    async def later(route):
        paused.set()
        await go.wait()

    await page.route("*/data", later)
    asking = asyncio.create_task(page.evaluate(FETCH))
    await paused.wait()
    go.set()
    assert await asking == {"from": "network"}


async def test_a_route_of_a_page_and_its_frames(page, pages):
    await page.route(
        "*/pictures",
        lambda route: route.fulfill(body="<title>Mine</title>ä", content_type="text/html; charset=utf-8"),
    )
    response = await page.goto(f"{pages.url}/pictures")
    assert (response.status, await page.title(), asked(pages)) == (200, "Mine", [])
    await page.route("*.png", lambda route: route.fulfill(body=PNG, content_type="image/png", status=203))
    await page.unroute("*/pictures")
    await page.goto(f"{pages.url}/frames")
    assert asked(pages) == ["/frames", "/pictures", "/s.css"]


async def test_a_route_that_fails(page, pages, failures):
    await page.goto(pages.url)
    await page.route("*/data", lambda route: json.loads("{"))
    assert "Failed to fetch" in await page.evaluate(FETCH)

    def twice(route):
        route.fulfill(body="{}")
        route.abort()

    await page.route("*/data", twice)
    assert await page.evaluate(FETCH) == {}
    assert [(type(error).__name__, what) for error, what in failures] == [
        ("JSONDecodeError", "Fetch.requestPaused"),
        ("RuntimeError", "Fetch.requestPaused"),
    ]
    assert "is answered already" in str(failures[1][0])
    await page.route("*/data", lambda route: route.abort("no such reason"))
    assert "Failed to fetch" in await page.evaluate(FETCH)
    assert "reason must be one of failed, aborted" in str(failures[2][0])


async def test_what_matches_nothing_is_refused(page):
    for pattern in ("api/user", "/api", "", None, "example.com/*"):
        with pytest.raises(ConfigurationError, match="matches no address: begin with"):
            await page.route(pattern, print)
    with pytest.raises(ConfigurationError, match="urls: 'ads' matches no address"):
        await page.block(urls=["ads"])
    with pytest.raises(ConfigurationError, match="types: there is no 'images'; do you mean 'image'"):
        await page.block(types=["images"])
    with pytest.raises(ConfigurationError, match="types: there is no 'document'; there are stylesheet"):
        await page.block(types="document")
    with pytest.raises(ConfigurationError, match="must be a list of texts"):
        await page.block(types=[1])


async def test_a_route_that_is_cancelled_while_it_attaches(page, pages):
    await page.goto(pages.url)
    for steps in range(1, 6):  # so that it is cut off at different commands
        cut = asyncio.create_task(page.route("*/data", lambda route: route.fulfill(json="cut")))
        for _ in range(steps):
            await asyncio.sleep(0)
        cut.cancel()
        await asyncio.wait({cut})
        await page.unroute("*/data")
        await page.route("*/data", lambda route: route.fulfill(json="here"))
        assert await page.evaluate(FETCH, timeout=20) == "here"
        await page.unroute("*/data")
        assert await page.evaluate(FETCH, timeout=20) == {"from": "network"}


async def test_a_block_that_is_cancelled_can_be_repeated(page, pages):
    await page.goto(pages.url)
    await page.block(types=["image"])
    cut = asyncio.create_task(page.block(urls=["*/data"]))
    await asyncio.sleep(0)
    cut.cancel()
    await asyncio.wait({cut})
    await page.block(urls=["*/data"])
    assert "Failed to fetch" in await page.evaluate(FETCH)


async def test_routes_that_are_added_at_once(page, pages):
    pages.pages["/busy"] = (
        f"<iframe src='{pages.other}/pictures'></iframe><script>new Worker('/worker.js')</script>"
    )
    await page.goto(f"{pages.url}/busy")
    await page.evaluate(
        "window.got = []; for (let i = 0; i < 60; i++)"
        " setTimeout(() => fetch('/data?' + i).then(r => r.text()).then(t => got.push(t)), i * 5); 0"
    )
    seen = []
    await asyncio.gather(
        *(page.route(f"*/data?{end}", seen.append) for end in ("1*", "2*", "3*", "4*", "5*")),
        page.block(types=["image"]),
    )
    await page.wait_for_expression("got.length == 60", timeout=20)
    assert await page.evaluate("fetch('/data?12').then(r => r.json())") == {"from": "network"}
    assert seen[-1].request.url == f"{pages.url}/data?12"


@pytest.mark.parametrize(
    "answer",
    [{"status": 99999}, {"status": "200"}, {"headers": {"x": "a\nb"}}],
    ids=["big", "text", "header"],
)
async def test_an_answer_that_the_browser_refuses(page, pages, failures, answer):
    await page.goto(pages.url)
    raised = []

    async def awaited(route):
        try:
            await route.fulfill(**answer)
        except CommandError as error:
            raised.append(error)
            raise

    def not_awaited(route):
        route.fulfill(**answer)

    for handler in (awaited, not_awaited, lambda route: route.fulfill(**answer)):
        await page.route("*/data", handler)
        assert "Failed to fetch" in await page.evaluate(FETCH, timeout=20)
        assert [(type(error), what) for error, what in failures] == [(CommandError, "Fetch.requestPaused")]
        failures.clear()
    assert raised[0].method == "Fetch.fulfillRequest"


async def test_a_request_that_ended_before_its_answer_is_no_failure(page, pages, failures):
    await page.goto(pages.url)
    paused, go, answered = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def later(route):
        paused.set()
        await go.wait()
        await route.fulfill(json="late")
        answered.set()

    await page.route("*/data", later)
    await page.evaluate("void fetch('/data')")
    await paused.wait()
    await page.goto(f"{pages.other}/pictures")
    go.set()
    await answered.wait()
    assert failures == []


async def test_the_last_unroute_leaves_requests_to_their_handlers(page, pages):
    await page.goto(pages.url)
    paused, go = asyncio.Event(), asyncio.Event()

    async def within(route):
        await page.unroute("*/data")
        await route.fulfill(json="within")

    await page.route("*/data", within)
    assert await page.evaluate(FETCH) == "within"
    assert await page.evaluate(FETCH) == {"from": "network"}

    async def later(route):
        paused.set()
        await go.wait()
        route.fulfill(json="later")

    await page.route("*/data", later)
    asking = asyncio.create_task(page.evaluate(FETCH))
    await paused.wait()
    await page.unroute("*/data")
    assert await page.evaluate("fetch('/data?').then(r => r.json())") == {"from": "network"}
    go.set()
    assert await asking == "later"
    assert await page.evaluate(FETCH) == {"from": "network"}
    assert page.session.hint() is None


async def test_a_fulfilled_answer_can_be_read_from_another_origin(page, pages):
    await page.goto(pages.url)
    methods = []

    def answer(route):
        methods.append(route.request.method)
        return route.fulfill(json={"from": "here"})

    await page.route("*/elsewhere", answer)
    plain = f"fetch('{pages.other}/elsewhere').then(r => r.json(), e => String(e))"
    assert await page.evaluate(plain) == {"from": "here"}
    own = "{method: 'PUT', headers: {'X-A': '1'}, body: 'b', credentials: 'include'}"
    asked_first = f"fetch('{pages.other}/elsewhere', {own}).then(r => r.json(), e => String(e))"
    assert await page.evaluate(asked_first) == {"from": "here"}
    assert methods[0] == "GET"
    assert methods[-1] == "PUT"
    # What the program says itself counts.
    await page.route(
        "*/elsewhere",
        lambda route: route.fulfill(json=1, headers={"access-control-allow-origin": "http://other.test"}),
    )
    assert "Failed to fetch" in await page.evaluate(plain)
    await page.route("*/data", lambda route: route.fulfill(json=1))
    names = await page.evaluate("fetch('/data').then(r => [...r.headers.keys()])")
    assert names == ["content-type"]


async def test_a_route_does_not_answer_other_tabs_through_their_service_worker(page, pages, connection):
    pages.answers["/sw.js"] = (
        200,
        {"Content-Type": "text/javascript"},
        b"""onactivate = e => e.waitUntil(clients.claim());
        onfetch = e => { if (e.request.url.endsWith('/data')) e.respondWith(fetch(e.request)) }""",
    )
    await page.route("*/data", lambda route: route.fulfill(json="routed"))
    await page.goto(pages.url)
    assert await page.evaluate(FETCH) == "routed"
    info = (await connection.root.send("Target.getTargetInfo", {"targetId": page.target_id}))["targetInfo"]
    other = Tab(await connection.new_tab(browser_context_id=info["browserContextId"]))
    await other.goto(pages.url)
    await other.evaluate(
        "new Promise(done => { navigator.serviceWorker.oncontrollerchange = done;"
        " navigator.serviceWorker.register('/sw.js') }).then(() => 0)"
    )
    await page.goto(f"{pages.url}/?again")
    await page.wait_for_expression("navigator.serviceWorker.controller !== null")
    for _ in range(3):
        assert await other.evaluate(FETCH) == {"from": "network"}
    await other.close()
