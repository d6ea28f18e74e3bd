"""Viewers by their bare sockets, over real browsers: rights, fairness, states, and what the automation notices of them."""

import asyncio
import base64
from contextlib import AsyncExitStack, suppress
from uuid import UUID

import httpx
import pytest

ONE_BUILD = pytest.mark.one_build(
    "what viewers get from the server; where the builds differ, the test has both"
)

pytestmark = pytest.mark.chromium

ANIMATED = """<title>moves</title><body style="margin:0"><canvas width=400 height=300></canvas><script>
const context = document.querySelector('canvas').getContext('2d');
(function draw(time) {
  context.fillStyle = `hsl(${time / 5 % 360} 80% 50%)`;
  context.fillRect(0, 0, 400, 300);
  requestAnimationFrame(draw);
})(0);
</script>"""
RECORDER = """<title>recorder</title><script>
window.log = [];
for (const name of ['focus', 'blur', 'resize', 'visibilitychange', 'pagehide', 'freeze'])
  for (const target of [window, document]) target.addEventListener(name, () => log.push(name), true);
window.state = () => JSON.stringify([innerWidth, innerHeight, outerWidth, devicePixelRatio, screen.width,
  document.visibilityState, document.hasFocus(), matchMedia('(hover: hover)').matches, navigator.maxTouchPoints]);
</script>"""
FIELD = "<title>field</title><input id=a autofocus style='position:absolute;left:0;top:0;width:200px;height:40px'>"


@ONE_BUILD
async def test_fault_b47_a_read_only_viewer_sends_input_by_hand(rented, shares):
    page = await rented.open(FIELD + "<script>clicks = 0; onclick = () => clicks++</script>")
    shares.browsers["share"] = rented.id
    async with rented.watching(token="share", share=True) as viewer:
        assert shares.views == 1
        assert not viewer.status["mayDrive"]
        await viewer.send(type="drive", on=True)
        await viewer.mouse(10, 10)
        await viewer.send(type="text", text="by hand")
        await viewer.send(type="paste", text="by hand")
        await viewer.send(type="go", url="about:blank")
        await viewer.send(type="dialog", accept=True)
        await viewer.send(type="tab")
        async with asyncio.timeout(60):
            while rented.live.ignored < 9:
                await asyncio.sleep(0.01)
        assert rented.live.ignored == 9  # each of them
        assert await page.run("[clicks, document.getElementById('a').value, document.title]") == [
            0,
            "",
            "field",
        ]
        assert len(await rented.automation.targets()) == 2


@ONE_BUILD
async def test_fault_b47_a_viewer_who_has_not_taken_over_is_ignored_too(rented):
    page = await rented.open(FIELD)
    async with rented.watching() as viewer:
        await viewer.send(type="text", text="no")
        await viewer.drive()
        await viewer.send(type="text", text="yes")
        await page.until("document.getElementById('a').value", "yes")
        assert rented.live.ignored == 1


@ONE_BUILD
async def test_fault_b47_a_share_that_is_taken_back_cuts_its_viewers_at_once(rented, shares):
    await rented.open(FIELD)
    shares.browsers["share"] = rented.id
    async with (
        rented.watching(token="share", share=True) as one,
        rented.watching(token="share", share=True) as other,
        rented.watching() as owner,
    ):
        del shares.browsers["share"]
        await rented.live.cut_share("share")
        for viewer in (one, other):
            await viewer.until(lambda viewer=viewer: viewer.end is not None)
            assert viewer.end["title"] == "Sharing has ended"
            await viewer.socket.wait_closed()
            assert viewer.socket.close_code == 4403
        await owner.until(lambda: owner.status["viewers"] == 1)
    async with rented.viewer(token="share", share=True) as late:
        await late.until(lambda: late.end is not None)
        assert late.end["title"] == "Nothing to see here"


@pytest.mark.parametrize("build", ["shell", "full"])
async def test_fault_b48_ten_viewers_change_nothing_that_the_page_can_see(make_rented, build):
    async with make_rented(browser_build=build) as rented:
        page = await rented.open(RECORDER)
        await page.until("document.hasFocus()", True)  # a new tab gets it some time after it was loaded
        before = await page.run("state()")
        await page.run("log.length = 0")
        async with AsyncExitStack() as stack:
            for _ in range(10):
                await stack.enter_async_context(rented.watching())
            assert rented.live.viewers(rented.id) == 10
            assert len(rented.casts()) <= 2  # one cast for all; another attachment reads icons
            assert await page.run("state()") == before
            await rented.live.thumbnail(rented.id)
        await rented.nobody_watches()
        assert await page.run("state()") == before
        assert await page.run("log") == []


@ONE_BUILD
async def test_fault_b49_slow_viewers_drop_and_others_go_on(rented):
    await rented.open(ANIMATED)
    async with AsyncExitStack() as stack:
        viewers = [await stack.enter_async_context(rented.watching()) for _ in range(10)]
        others = set(rented.live._viewers[rented.id])
        stuck = await stack.enter_async_context(rented.watching(acknowledge=False))
        [slow] = rented.live._viewers[rented.id] - others
        before = [viewer.pictures for viewer in viewers]
        for viewer, seen in zip(viewers, before, strict=True):
            await viewer.until(lambda viewer=viewer, seen=seen: viewer.pictures >= seen + 15)
        await viewers[0].until(lambda: slow.dropped > 10)
        assert stuck.pictures == 3
        assert slow._picture is not None  # one waits, the newest
        assert len(slow._news) <= 2
        await stuck.send(type="ack", number=10**6)  # a wrong number is no credit
        await stuck.until(lambda: stuck.pictures == 6)


@ONE_BUILD
async def test_fault_b50_the_view_follows_the_tab_in_front(rented):
    async def shows(title):
        def seen():
            tabs = {tab["id"]: tab["title"] for tab in viewer.status["tabs"]}
            return viewer.status["state"] == "live" and tabs.get(viewer.status["tab"]) == title

        await viewer.until(seen)

    first = await rented.open("<title>first</title>1")
    async with rented.watching() as viewer:
        await shows("first")
        await rented.open("<title>second</title>2")
        await shows("second")
        await first.run("popup = window.open('about:blank'); popup.document.title = 'popup'; 1")
        await shows("popup")
        await first.run("popup.close()")
        await shows("first")  # back to who opened it
        await first.session.send("Page.navigate", {"url": "data:text/html,<title>navigated</title>n"})
        await shows("navigated")
        for target in await rented.automation.targets():
            if target.type == "page":
                await rented.automation.root.send("Target.closeTarget", {"targetId": target.target_id})
        await viewer.until(lambda: viewer.status["state"] == "empty")
        await rented.open("<title>again</title>")
        await shows("again")


@pytest.mark.parametrize("build", ["shell", "full"])
async def test_fault_b50_activating_a_tab_is_followed_where_there_is_one_in_front(make_rented, build):
    async with make_rented(browser_build=build) as rented:
        first = await rented.open("<title>first</title>1")
        second = await rented.open("<title>second</title>2")
        async with rented.watching() as viewer:
            await viewer.until(lambda: viewer.status["tab"] == second.session.target_id)
            if build == "full":
                await first.session.send("Page.bringToFront")
                await viewer.until(lambda: viewer.status["tab"] == first.session.target_id)
                await viewer.until(lambda: viewer.status["state"] == "live")
            await viewer.send(type="view", tab=first.session.target_id)
            await viewer.until(lambda: not viewer.status["following"])
            await viewer.send(type="view", tab=None)
            await viewer.until(lambda: viewer.status["following"])


@pytest.mark.parametrize("build", ["shell", "full"])
async def test_fault_b50_a_crashed_page_is_told_and_comes_back(make_rented, build):
    async with make_rented(browser_build=build) as rented:
        page = await rented.open("<title>crashes</title>alive")
        async with rented.watching() as viewer:
            crash = asyncio.ensure_future(page.session.send("Page.crash"))
            await viewer.until(lambda: viewer.status["state"] == "crashed")
            await asyncio.wait({crash})
            assert crash.exception() is not None
            await viewer.drive()
            await viewer.send(type="reload")
            await viewer.until(lambda: viewer.status["state"] == "live")


@ONE_BUILD
async def test_fault_b50_a_static_page_is_there_for_a_late_viewer(rented):
    await rented.open("<title>static</title><h1>Nothing moves</h1>")
    async with rented.watching() as early, rented.watching() as late:
        assert late.last.startswith(b"\xff\xd8")
        assert late.size == early.size == [800.0, 600.0]


@ONE_BUILD
async def test_fault_b50_a_dialog_is_shown_and_answered(rented):
    page = await rented.open("<title>asks</title>")
    async with rented.watching() as viewer:
        answer = asyncio.ensure_future(page.run("prompt('Your name?', 'Ada')"))
        await viewer.until(lambda: viewer.status["dialog"] is not None)
        dialog = viewer.status["dialog"]
        assert (dialog["kind"], dialog["message"], dialog["default"]) == ("prompt", "Your name?", "Ada")
        await viewer.send(type="dialog", accept=True, text="Grace")
        assert await answer == "Grace"
        await viewer.until(lambda: viewer.status["dialog"] is None)


@ONE_BUILD
async def test_a_dialog_that_the_automation_handles_is_the_automations(rented):
    page = await rented.open("<title>asks</title>")
    await page.session.send("Page.enable")
    opened = page.session.expect("Page.javascriptDialogOpening")
    async with rented.viewer() as viewer:
        await viewer.until(lambda: viewer.status.get("state") == "live")
        async with opened:
            answer = asyncio.ensure_future(page.run("confirm('Sure?')"))
        await viewer.until(lambda: viewer.status["dialog"] is not None)
    # The only viewer has left; leaving the page would have dismissed the dialog.
    async with asyncio.timeout(60):
        while rented.live.viewers(rented.id):
            await asyncio.sleep(0.01)
    assert not answer.done()
    await page.session.send("Page.handleJavaScriptDialog", {"accept": True})
    assert await answer is True
    await rented.nobody_watches()


@ONE_BUILD
async def test_read_only_viewers_hold_up_no_dialog(rented, shares):
    """Nobody there could answer, so the headless shell dismisses it as if nobody watched."""
    page = await rented.open("<title>asks</title>")
    shares.browsers["share"] = rented.id
    async with rented.watching(token="share", share=True):
        assert await asyncio.wait_for(page.run("confirm('Sure?')"), 60) is False


@ONE_BUILD
async def test_fault_b51_the_end_is_told_with_what_came_back(rented, shares):
    await rented.open(FIELD)
    shares.browsers["share"] = rented.id
    async with rented.watching() as viewer, rented.watching(token="share", share=True) as stranger:
        await rented.stop()
        await viewer.until(lambda: viewer.end is not None)
        await stranger.until(lambda: stranger.end is not None)
    assert viewer.end["title"] == "Session stopped"
    assert "refunded 0.0491 USD" in viewer.end["text"]
    assert "refunded" not in stranger.end["text"]  # not everybody's business
    async with rented.viewer() as late:
        await late.until(lambda: late.end is not None)
        assert late.end == viewer.end
        await late.socket.wait_closed()
        assert late.socket.close_code == 4410
    assert await rented.live.thumbnail(rented.id) is None


@ONE_BUILD
async def test_fault_b51_a_browser_that_dies_is_an_end_too(rented):
    import os
    import signal

    await rented.open(FIELD)
    async with rented.watching() as viewer:
        os.kill(rented.server.main_process(rented.record), signal.SIGKILL)
        await viewer.until(lambda: viewer.end is not None)
        assert viewer.end["title"] == "The browser exited"


@ONE_BUILD
@pytest.mark.parametrize(
    "first", ['{"type": "hello", "token": "wrong"}', '{"type": "ack", "number": 1}', "x" * 5000, b"\0"]
)
async def test_without_a_credential_there_is_nothing(rented, first):
    import websockets

    base, _, _ = rented.live_url.rpartition("/")
    async with websockets.connect(f"{base.replace('http', 'ws', 1)}/socket") as socket:
        await socket.send(first)
        with pytest.raises(websockets.ConnectionClosed):
            while True:
                assert "Nothing to see" in await socket.recv()
        assert socket.close_code == 4404


@ONE_BUILD
async def test_the_token_is_not_the_one_of_the_gateway(rented):
    live, cdp = rented.live_url.rpartition("/")[2], rented.record["cdpUrl"].rpartition("/")[2]
    assert live != cdp
    async with httpx.AsyncClient() as client:
        base = rented.live_url.split("/live/")[0]
        assert (await client.get(f"{base}/cdp/{live}/json/version")).status_code == 404
    async with rented.viewer(token=cdp) as viewer:
        await viewer.until(lambda: viewer.end is not None)


@ONE_BUILD
async def test_fault_b52_headers_of_the_page_and_its_files(rented):
    async with httpx.AsyncClient() as client:
        page = await client.get(rented.live_url)
        assert page.status_code == 200
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["cache-control"] == "no-store"
        assert "frame-ancestors *" in page.headers["content-security-policy"]
        assert "x-frame-options" not in page.headers
        assert rented.live_url.rpartition("/")[2] not in page.text
        base = rented.live_url.rpartition("/")[0]
        script = await client.get(f"{base}/assets/app.js")
        assert script.headers["content-type"].startswith("text/javascript")
        again = await client.get(f"{base}/assets/app.js", headers={"If-None-Match": script.headers["etag"]})
        assert again.status_code == 304
        for missing in ("index.html", "nothing.js", "..%2f_live.py"):
            assert (await client.get(f"{base}/assets/{missing}")).status_code == 404


@ONE_BUILD
async def test_tabs_keep_their_order_from_viewer_to_viewer(rented):
    """The browser lists them in no order, and the second viewer comes when the first has left."""
    opened = [(await rented.open(f"<title>tab {number}</title>")).session.target_id for number in range(2)]
    async with rented.watching() as viewer:
        opened += [
            (await rented.open(f"<title>tab {number}</title>")).session.target_id for number in (2, 3, 4)
        ]
        await viewer.until(lambda: opened[-1] in {tab["id"] for tab in viewer.status["tabs"]})
        first = [tab["id"] for tab in viewer.status["tabs"]]
    assert first[-3:] == opened[-3:]
    await rented.nobody_watches()
    async with rented.watching() as viewer:
        await viewer.until(lambda: len(viewer.status["tabs"]) == len(first))
        assert [tab["id"] for tab in viewer.status["tabs"]] == first


@ONE_BUILD
async def test_a_still_without_viewers(rented):
    await rented.open("<title>still</title><h1>Still</h1>")
    still = await rented.live.thumbnail(rented.id)
    assert still.startswith(b"\xff\xd8")
    assert await rented.live.thumbnail(rented.id) is still  # for some seconds
    await rented.nobody_watches()


@ONE_BUILD
async def test_nobody_watches_and_nothing_is_cast(rented):
    await rented.open(ANIMATED)
    assert rented.casts() == []
    async with rented.watching():
        assert rented.casts()
    await rented.nobody_watches()
    assert rented.live._watched == {}


@ONE_BUILD
async def test_hosts_hand_out_one_connection_while_the_browser_runs(rented):
    hosts = rented.server.app.state.services.hosts
    connection = await hosts.connection(rented.id)
    assert await hosts.connection(rented.id) is connection
    assert (await connection.root.send("Browser.getVersion"))["product"]
    assert await hosts.connection(UUID(int=0)) is None
    await rented.stop()
    assert await hosts.connection(rented.id) is None
    assert connection.closed


# --- taking over ------------------------------------------------------------------------------------------------------


@ONE_BUILD
async def test_paste_is_offered_to_the_page_and_else_inserted(rented):
    page = await rented.open(
        FIELD
        + "<script>pasted = []; addEventListener('paste', event => pasted.push(event.clipboardData.getData('text')))</script>"
    )
    async with rented.watching() as viewer:
        await viewer.drive()
        await viewer.send(type="paste", text="Zürich 東京")
        await page.until("document.getElementById('a').value", "Zürich 東京")
        assert await page.run("pasted") == ["Zürich 東京"]
        await page.run("addEventListener('paste', event => event.preventDefault())")
        await viewer.send(type="paste", text="taken by the page")
        await viewer.send(type="text", text="!")
        await page.until("document.getElementById('a').value", "Zürich 東京!")


@ONE_BUILD
async def test_copy_gives_the_selection_but_no_password(rented):
    page = await rented.open(
        "<title>copy</title><input id=a value='some text'><input id=b type=password value=secret>"
    )
    async with rented.watching() as viewer:
        await viewer.drive()
        await page.run("document.getElementById('b').select()")
        await viewer.send(type="copy")
        await page.run("document.getElementById('a').select()")
        await viewer.send(type="copy")
        await viewer.until(lambda: viewer.told("clipboard"))
        assert [told["text"] for told in viewer.told("clipboard")] == ["some text"]


@ONE_BUILD
async def test_who_leaves_lets_go(rented):
    page = await rented.open(FIELD + "<script>log = []; onmouseup = () => log.push('up')</script>")
    async with rented.watching() as viewer:
        await viewer.drive()
        await viewer.send(type="mouse", kind="down", x=300, y=300, button="left", buttons=1, clicks=1)
    await page.until("log", ["up"])


@ONE_BUILD
async def test_navigation_by_the_viewer(rented, site):
    page = await rented.open("<title>start</title>")
    async with rented.watching() as viewer:
        await viewer.drive()
        await viewer.send(type="go", url="file:///etc/passwd")
        await viewer.until(lambda: viewer.told("notice"))
        await viewer.send(type="go", url=site.removeprefix("http://"))
        await viewer.until(lambda: viewer.status["back"])
        await page.until("document.title", "Sign in")
        await viewer.send(type="go", steps=-1)
        await viewer.until(lambda: viewer.status["forward"])
        await page.until("document.title", "start")


@ONE_BUILD
async def test_files_are_given_to_the_page(rented):
    page = await rented.open(
        "<title>files</title><input type=file multiple style='position:absolute;left:0;top:0;width:300px;height:40px'>"
    )
    async with rented.watching() as viewer:
        await viewer.drive()
        files = [
            {"name": name, "kind": "text/plain", "data": base64.b64encode(content).decode()}
            for name, content in (("a.txt", "ä".encode()), ("../b.txt", b"\0" * 1000))
        ]

        async def asked():
            """Click as a person does: again, when nothing opens, as on a page that has not yet been painted."""
            for _ in range(10):
                await viewer.mouse(40, 20)
                with suppress(TimeoutError):
                    await viewer.until(lambda: viewer.status["chooser"] == "selectMultiple", timeout=2)
                    return
            pytest.fail("no chooser has opened")

        await asked()
        await viewer.send(type="files", files=files)
        await page.until(
            "[...document.querySelector('input').files].map(file => file.name)", ["a.txt", "b.txt"]
        )
        assert await page.run("document.querySelector('input').files[0].text()") == "ä"
        await viewer.until(lambda: viewer.status["chooser"] is None)
        await asked()
        await viewer.send(type="files", files=[])
        await viewer.until(lambda: viewer.status["chooser"] is None)
        assert await page.run("document.querySelector('input').files.length") == 2


@ONE_BUILD
async def test_downloads_are_listed(rented):
    """The headless shell says nothing of downloads until a client has told it where they go; the full build always does."""
    folder = rented.server.app.state.services.files.downloads(rented.id)  # where the browser may write
    allow = {"behavior": "allow", "downloadPath": str(folder), "eventsEnabled": True}
    await rented.automation.root.send("Browser.setDownloadBehavior", allow)
    page = await rented.open("<title>loads</title>")
    async with rented.watching() as viewer:
        await page.run(
            "{ const link = document.createElement('a'); link.download = 'report.csv'; link.href = 'data:text/csv,1'; "
            "document.body.append(link); link.click() }"
        )
        await viewer.until(
            lambda: viewer.status["downloads"] and viewer.status["downloads"][0]["state"] == "completed"
        )
        assert viewer.status["downloads"][0]["name"] == "report.csv"


@pytest.mark.parametrize("build", ["shell", "full"])
async def test_a_file_that_a_client_has_sent_elsewhere_is_said_to_be_there(make_rented, build):
    click = "Object.assign(document.createElement('a'), {download: 'a.csv', href: 'data:text/csv,1'}).click()"
    async with make_rented(browser_build=build) as rented, rented.watching() as viewer:
        folder = rented.server.app.state.services.files.downloads(rented.id)
        page = await rented.open("<title>loads</title>")
        await page.run(click)

        def landed(count):
            found = viewer.status["downloads"]
            return len(found) == count and found[-1]["state"] == "completed"

        await viewer.until(lambda: landed(1))
        assert not viewer.status["downloads"][0]["elsewhere"]
        allow = {"behavior": "allow", "downloadPath": str(folder / "elsewhere")}
        await rented.automation.root.send("Browser.setDownloadBehavior", allow)
        await page.run(click)
        await viewer.until(lambda: landed(2) and viewer.status["downloads"][1]["elsewhere"])
        assert not viewer.status["downloads"][0]["elsewhere"]
        assert [file.name for file in (folder / "elsewhere").iterdir()] == ["a.csv"]


@ONE_BUILD
async def test_saved_files_are_for_who_drives(rented, shares, wait_until):
    page = await rented.open("<title>loads</title>")
    link = "Object.assign(document.createElement('a'), {download: 'report.csv', href: 'data:text/csv,1;2'})"
    shares.browsers["shared"] = rented.id
    async with (
        rented.watching() as driver,
        rented.watching() as other,
        rented.watching(token="shared", share=True) as guest,
    ):
        await driver.drive()
        await page.run(f"{link}.click()")
        await driver.until(lambda: driver.told("saved"))
        assert driver.told("saved")[-1]["files"] == [{"name": "report.csv", "size": 3}]
        base = str(rented.server.http.base_url).split("api/")[0]
        await driver.send(type="fetch", name="report.csv")
        await driver.until(lambda: driver.told("file"))
        answer = await rented.server.http.get(base + driver.told("file")[0]["path"])
        assert (answer.status_code, answer.content) == (200, b"1;2")
        for name in ("../../signing.key", "nothing.csv"):
            await driver.send(type="fetch", name=name)
        await driver.until(lambda: driver.told("notice"))
        before = rented.live.ignored
        await guest.send(type="drive", on=True)
        for viewer in (other, guest):
            await viewer.send(type="fetch", name="report.csv")
        await wait_until(lambda: rented.live.ignored == before + 3)
        assert [viewer.told("file") or viewer.told("saved") for viewer in (other, guest)] == [[], []]
        assert len(driver.told("file")) == 1


@ONE_BUILD
async def test_a_tabs_icon_and_new_tabs(rented):
    icon = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
    page = await rented.open(f"<title>icon</title><link rel=icon href='{icon}'>")
    async with rented.watching() as viewer:
        await viewer.until(lambda: any(told["data"] == icon for told in viewer.told("icon")))
        await viewer.drive()
        await viewer.send(type="tab")
        await viewer.until(lambda: len(viewer.status["tabs"]) == 3)
        await viewer.send(type="tab", id=page.session.target_id)
        await viewer.until(lambda: page.session.target_id not in [tab["id"] for tab in viewer.status["tabs"]])
