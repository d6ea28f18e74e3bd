"""What a type checker must refuse of a `Tab`'s callers. Checked, never run: see tests/test_typing.py."""

from cdpbridge import Tab, sync
from cdpbridge.browser import Dialog, Response


def on_dialog(dialog: Dialog) -> None: ...


async def on_response(response: Response) -> None: ...


async def wrong(tab: Tab) -> None:
    await tab.goto("https://example.com", wait_until="network_idle")  # expect: arg-type
    (await tab.goto("https://example.com")).status  # expect: union-attr
    await tab.click("button", button="main")  # expect: arg-type
    await tab.fill("#age", 5)  # expect: arg-type
    await tab.press()  # expect: call-overload
    await tab.press("#name", 5)  # expect: call-overload
    await tab.wait_for_selector("#a", state="gone")  # expect: arg-type
    await tab.set_viewport("1", 2)  # expect: arg-type
    tab.on("console", on_dialog)  # expect: call-overload
    tab.on("request", on_response)  # expect: call-overload
    tab.on("crash", print)  # expect: call-overload
    tab.on("dialog", lambda dialog: dialog.text)  # expect: call-overload
    await tab.route("*", on_dialog)  # expect: arg-type


def blocking(tab: sync.Tab) -> None:
    tab.goto("https://example.com").status  # expect: union-attr
    tab.on("dialog", on_dialog)  # expect: call-overload
