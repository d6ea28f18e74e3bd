"""The live page in a real browser, while an automation drives the watched one."""

import asyncio
from contextlib import asynccontextmanager

import pytest

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("the live page is tested, and one browser shows it"),
]

FIELD = """<title>field</title><body style="margin:0"><textarea id=a autofocus
 style="position:absolute;left:0;top:0;width:300px;height:80px"></textarea>"""
TARGETS = """<title>targets</title><body style="margin:0"><script>
clicks = [];
addEventListener('mousedown', event => clicks.push([event.clientX, event.clientY, event.button, event.detail]));
</script>"""


@pytest.fixture
def look(viewers_browser, rented):
    """Open the live page, as a block; it fails when the page logs an error."""

    @asynccontextmanager
    async def look(url=None, *, options="", size=(1100, 800), ratio=1, drive=False, **more):
        context = await viewers_browser.new_context(
            viewport={"width": size[0], "height": size[1]}, device_scale_factor=ratio, **more
        )
        page = await context.new_page()
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        await page.goto((url or rented.live_url) + options)
        await page.wait_for_selector("body[data-state=live]")
        if drive:
            await page.click("#drive")
            await page.wait_for_selector("body[data-driving]")
        yield page
        await context.close()
        assert not errors

    return look


async def box(page):
    return await page.locator("#picture").bounding_box()


@pytest.mark.parametrize(
    ("size", "ratio"),
    [((1280, 800), 1), ((700, 560), 1.5), ((390, 780), 3)],
    ids=["large", "middle", "phone"],
)
async def test_a_click_lands_on_its_pixel(rented, look, size, ratio):
    watched = await rented.open(TARGETS)
    async with look(size=size, ratio=ratio, drive=True) as page:
        place = await box(page)
        scale = place["width"] / 800  # the headless shell's window
        for x, y in [(3, 5), (400, 300), (797, 595), (123, 456)]:
            await watched.run("clicks.length = 0")
            await page.mouse.click(place["x"] + (x + 0.5) * scale, place["y"] + (y + 0.5) * scale)
            await watched.until("clicks.length", 1)
            [[got_x, got_y, button, detail]] = await watched.run("clicks")
            assert (abs(got_x - x) <= 1, abs(got_y - y) <= 1, button, detail) == (True, True, 0, 1), (
                got_x,
                got_y,
            )


async def test_all_of_the_mouse(rented, look):
    watched = await rented.open(
        TARGETS
        + "<div style='height:5000px'></div><script>doubles = 0; ondblclick = () => doubles++</script>"
    )
    async with look(drive=True) as page:
        place = await box(page)
        x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
        await page.mouse.dblclick(x, y)
        await watched.until("doubles", 1)
        await page.mouse.click(x, y, button="right")
        await watched.until("clicks.at(-1)[2]", 2)
        await page.mouse.wheel(0, 400)
        await watched.until("scrollY > 100", True)


async def test_keys_accents_and_cjk_arrive(rented, look):
    watched = await rented.open(FIELD)
    value = "document.getElementById('a').value"
    async with look(drive=True) as page:
        await page.keyboard.type("Grüße! ")
        await watched.until(value, "Grüße! ")
        await page.keyboard.insert_text("漢字 e\u0301 👍")  # as an input method does
        await watched.until(value, "Grüße! 漢字 e\u0301 👍")
        await page.keyboard.press("Control+a")
        await page.keyboard.press("Delete")
        await watched.until(value, "")
        await page.keyboard.type("ab")
        await page.keyboard.press("Enter")
        await page.keyboard.press("Shift+X")
        await page.keyboard.press("ArrowLeft")
        await page.keyboard.press("Backspace")
        await page.keyboard.type("c")
        await watched.until(value, "abcX")


async def test_an_input_method_composes_in_the_watched_page(rented, look):
    watched = await rented.open(FIELD)
    value = "document.getElementById('a').value"
    await watched.run("ends = []; addEventListener('compositionend', event => ends.push(event.data))")
    async with look(drive=True) as page:
        method = await page.context.new_cdp_session(page)
        for text in ("n", "ni", "に"):
            params = {"text": text, "selectionStart": len(text), "selectionEnd": len(text)}
            await method.send("Input.imeSetComposition", params)
            await watched.until(value, text)
        await method.send("Input.insertText", {"text": "日"})
        await watched.until(value, "日")
        await watched.until("ends", ["日"])


async def test_paste_both_ways(rented, look):
    watched = await rented.open(FIELD)
    value = "document.getElementById('a').value"
    async with look(drive=True, permissions=["clipboard-read", "clipboard-write"]) as page:
        await page.evaluate("navigator.clipboard.writeText('von außen 漢')")
        await page.keyboard.press("Control+v")
        await watched.until(value, "von außen 漢")
        await watched.run("document.getElementById('a').value = 'from inside'")
        await page.keyboard.press("Control+a")
        await page.keyboard.press("Control+c")
        await page.wait_for_selector("text=Copied to your clipboard")
        assert await page.evaluate("navigator.clipboard.readText()") == "from inside"


async def test_touch(rented, look):
    watched = await rented.open(
        TARGETS
        + "<script>touches = []; addEventListener('touchstart', e => touches.push(e.touches.length))</script>"
    )
    async with look(size=(390, 780), ratio=2, has_touch=True, is_mobile=True) as page:
        await page.tap("#drive")
        await page.wait_for_selector("body[data-driving]")
        place = await box(page)
        await page.touchscreen.tap(place["x"] + 100, place["y"] + 100)
        await watched.until("touches", [1])
        await watched.until("clicks.length", 1)  # a tap is a click


async def test_tabs_follow_and_can_be_chosen(rented, look):
    await rented.open("<title>first</title>1")
    async with look() as page:
        await page.wait_for_selector("li.current:has-text('first')")
        second = await rented.open("<title>second</title>2")
        await page.wait_for_selector("li.current:has-text('second')")
        await page.click("text=first")
        await page.wait_for_selector("li.current:has-text('first')")
        await page.click("#follow")
        await page.wait_for_selector("li.current:has-text('second')")
        await rented.automation.root.send("Target.closeTarget", {"targetId": second.session.target_id})
        await page.wait_for_selector("li:has-text('second')", state="detached")


async def test_a_dialog_is_answered_in_the_page(rented, look):
    watched = await rented.open(FIELD)
    async with look(drive=True) as page:
        answer = asyncio.ensure_future(watched.run("prompt('Name?', 'Ada')"))
        await page.wait_for_selector("text=Name?")
        await page.fill("#question-input", "Grace")
        await page.keyboard.press("Enter")
        assert await asyncio.wait_for(answer, 60) == "Grace"
        await page.wait_for_selector("#question", state="hidden")


async def test_fault_b51_reload_and_the_end(rented, look):
    await rented.open(FIELD)
    async with look() as page:
        await page.reload()
        await page.wait_for_selector("body[data-state=live]")
        await rented.stop()
        await page.wait_for_selector("text=Session stopped")
        assert "refunded 0.0491 USD" in await page.inner_text("#cover-text")
        await page.reload()
        await page.wait_for_selector("text=refunded 0.0491 USD")


async def test_fault_b52_the_credential_leaves_the_address(rented, look):
    await rented.open(FIELD)
    token = rented.live_url.rpartition("/")[2]
    async with look(options="?theme=dark") as page:
        asked = []
        page.on("request", lambda request: asked.append((request.url, request.headers.get("referer", ""))))
        assert token not in page.url
        assert page.url.split("#")[0].endswith("/live/?theme=dark")
        await page.reload()
        await page.wait_for_selector("body[data-state=live]")
        assert asked
        assert not [request for request in asked if token in "".join(request)]
        assert await page.evaluate("history.length") <= 2
        bare = page.url.split("#")[0]
        other = await page.context.new_page()  # another tab knows nothing
        await other.goto(bare)
        await other.wait_for_selector("text=Open the address again")


async def test_themes_and_the_bare_view(rented, look):
    await rented.open(FIELD)
    async with look(options="?theme=dark&ui=false") as page:
        assert await page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
        assert not await page.locator("#bars").is_visible()
        place = await box(page)
        await page.mouse.click(place["x"] + 50, place["y"] + 50)  # a click takes over
        await page.wait_for_selector("body[data-driving]")
        await page.keyboard.press("Shift+Escape")
        await page.wait_for_selector("body:not([data-driving])")
    async with look(options="?theme=light") as page:
        assert await page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"


async def test_two_in_frames_of_a_foreign_page(rented, look, viewers_browser, site):
    watched = await rented.open(FIELD)
    page = await viewers_browser.new_page()
    await page.goto(site.replace("127.0.0.1", "localhost"))
    await page.evaluate(
        "url => { document.body.innerHTML = `<iframe src='${url}?ui=false' width=600 height=450></iframe>`.repeat(2) }",
        rented.live_url,
    )
    for number in (0, 1):
        frame = page.frame_locator("iframe").nth(number)
        await frame.locator("body[data-state=live]").wait_for()
        await frame.locator("#picture").click(position={"x": 20, "y": 20})
        await frame.locator("body[data-driving]").wait_for()
        await page.keyboard.type(f"frame {number} ")
    await watched.until("document.getElementById('a').value", "frame 0 frame 1 ")


@asynccontextmanager
async def prefixed(authority):
    """A reverse proxy that serves everything below `/pool`, as a block; its address."""
    host, port = authority.split(":")

    async def passed(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        line, rest = head.split(b"\r\n", 1)
        assert b" /pool/" in line, line
        if b"upgrade: websocket" not in rest.lower():
            rest = b"Connection: close\r\n" + rest.replace(b"Connection: keep-alive\r\n", b"")
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        inner_writer.write(line.replace(b" /pool/", b" /") + b"\r\n" + rest)
        await asyncio.gather(
            passed(reader, inner_writer), passed(inner_reader, writer), return_exceptions=True
        )

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/pool"
    finally:
        server.close()


async def test_behind_a_proxy_with_a_prefix(rented, look):
    watched = await rented.open(FIELD)
    inner = rented.live_url.split("/live/")[0]
    async with (
        prefixed(inner.removeprefix("http://")) as outer,
        look(f"{outer}/live/{rented.live_url.rpartition('/')[2]}", drive=True) as page,
    ):
        assert page.url.startswith(f"{outer}/live/#")
        await page.keyboard.type("through")
        await watched.until("document.getElementById('a').value", "through")


async def test_a_share_is_view_only(rented, look, shares):
    watched = await rented.open(TARGETS)
    shares.browsers["share-token"] = rented.id
    base = rented.live_url.split("/live/")[0]
    async with look(rented.live.share_url("share-token", base)) as page:
        assert "share-token" not in page.url
        assert await page.locator("#read-only").is_visible()
        assert not await page.locator("#drive").is_visible()
        await page.click("#picture")
        await rented.live.cut_share("share-token")
        await page.wait_for_selector("text=Sharing has ended")
        assert await watched.run("clicks") == []
    assert shares.views == 1


async def test_the_keyboard_reaches_everything(rented, look):
    watched = await rented.open(FIELD)
    async with look() as page:
        for _ in range(30):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement.id") == "drive":
                break
        await page.keyboard.press("Space")
        await page.wait_for_selector("body[data-driving][data-held]")
        await page.keyboard.type("x")
        await page.keyboard.press("Tab")  # the watched page's
        await watched.until("document.getElementById('a').value", "x")
        await page.keyboard.press("Shift+Escape")
        assert await page.evaluate("document.activeElement.id") == "drive"
        await page.keyboard.press("Space")
        await page.wait_for_selector("body:not([data-driving])")


async def test_a_download_is_saved_by_who_drives(rented, look):
    watched = await rented.open("<title>loads</title>")
    async with look(drive=True, accept_downloads=True) as page:
        await watched.run(
            "Object.assign(document.createElement('a'), {download: 'report.csv', href: 'data:text/csv,1;2'}).click()"
        )
        await page.click("#downloads")
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Save report.csv").click()
        file = await download.value
        assert file.suggested_filename == "report.csv"
        assert (await file.path()).read_bytes() == b"1;2"
        await page.set_viewport_size({"width": 390, "height": 780})
        place = await page.locator("#download-list").bounding_box()
        assert place["x"] >= 0
        assert place["x"] + place["width"] <= 390
        await page.keyboard.press("Escape")
        await page.wait_for_selector("#download-list", state="hidden")
        await page.click("#drive")
        await page.wait_for_selector("body:not([data-driving])")
        await page.click("#downloads")
        await page.wait_for_selector("text=Take over to save files")
        assert await page.get_by_role("button", name="Save report.csv").count() == 0
        folder = rented.server.app.state.services.files.downloads(rented.id) / "elsewhere"
        allow = {"behavior": "allow", "downloadPath": str(folder)}
        await rented.automation.root.send("Browser.setDownloadBehavior", allow)
        await watched.run(
            "Object.assign(document.createElement('a'), {download: 'other.csv', href: 'data:text/csv,1'}).click()"
        )
        await page.wait_for_selector(
            "li:has-text('other.csv'):has-text('in a folder that the automation has chosen')"
        )
