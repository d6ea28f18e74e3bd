"""What a type checker knows about a `Tab`. Checked, never run: see tests/test_typing.py."""

from typing import Any, assert_type

from cdpbridge import Tab, sync
from cdpbridge.browser import ConsoleMessage, Dialog, Download, Request, Response, Route


async def navigate(tab: Tab) -> None:
    assert_type(await tab.goto("https://example.com", wait_until="networkidle", timeout=5), Response | None)
    assert_type(await tab.reload(ignore_cache=True), Response | None)
    assert_type(await tab.back(), Response | None)
    response = await tab.forward()
    if response is not None:
        assert_type(response.status, int)
        assert_type(response.headers, dict[str, str])
        assert_type(await response.body(), bytes)
        assert_type(await response.json(), Any)


async def act(tab: Tab) -> None:
    await tab.click("button", button="right", count=2)
    await tab.fill("#name", "Ada", timeout=1.5)
    await tab.press("Enter")
    await tab.press("#name", "Control+A", timeout=1)
    await tab.wait_for_selector("#a", state="detached")
    assert_type(await tab.wait_for_expression("1"), Any)
    await tab.set_viewport(1, 2, device_scale_factor=1.5)
    await tab.set_cookies([{"name": "a", "value": "b"}, {"name": "a", "value": "b", "secure": True}])
    await tab.set_cookies(await tab.cookies())
    assert_type(await tab.storage_state(origins=["https://example.com"]), dict[str, Any])


async def on_route(route: Route) -> None:
    assert_type(route.request, Request)
    await route.continue_(headers={"a": "b"})


async def on_download(download: Download) -> None:
    await download.read()


async def listen(tab: Tab) -> None:
    await tab.block(types=["image"], urls=("*.mp4",))
    await tab.route("*", on_route)
    await tab.route("*", lambda route: route.fulfill(json={"url": route.request.url}))
    await tab.unroute("*", on_route)
    remove = tab.on("console", lambda message: print(message.text))
    remove()
    tab.on("dialog", lambda dialog: dialog.accept())
    tab.on("download", on_download)
    tab.on("popup", lambda popup: popup.close())
    tab.on("request", lambda request: print(request.post_data))
    tab.on("response", lambda response: print(response.status))
    async with tab.expect_downloads(2) as waiter:
        pass
    assert_type(waiter.downloads, list[Download])


def plain(message: ConsoleMessage) -> None: ...


def decide(dialog: Dialog) -> None: ...


def blocking(tab: sync.Tab) -> None:
    assert_type(tab.goto("https://example.com"), sync.Response | None)
    tab.press("#name", "Enter")
    tab.on("console", plain)
    tab.on("dialog", lambda dialog: dialog.accept("text"))
    tab.on("popup", lambda popup: popup.send("Page.enable"))
    tab.route("*", lambda route: route.abort())
