"""Make the pictures of the documentation from the running product: `make screenshots`.

A real server with real browsers on the demo's site; a browser of a second server is the viewer that is photographed.
"""

from __future__ import annotations

import asyncio
import base64
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import cdpbridge
from cdpbridge.cli._demo_site import PASSWORD, USER, serve_demo_site
from cdpbridge.protocol import Emulation, Page

__all__ = ["PICTURES", "main", "take"]

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
PICTURES: Final = ("console-and-live-view.png",)
LIMIT_BYTES: Final = 300_000
"""A picture of README is loaded by each reader."""

_WIDTH, _HEIGHT = 820, 640
_TIMEOUT: Final = timedelta(minutes=60)

_SIGN_IN_TO_SITE: Final = f"""
document.querySelector('[name=user]').value = {USER!r};
document.querySelector('[name=password]').value = {PASSWORD!r};
document.querySelector('form').submit();
"""
_SIGN_IN_TO_CONSOLE: Final = """
(key => {
  const field = document.querySelector('input[type=password]');
  field.value = key;
  field.form.requestSubmit();
})"""
# Resolves when the condition is true; the command's timeout ends it.
_UNTIL: Final = (
    "new Promise(done => {{ const look = () => ({condition}) ? done(true) : setTimeout(look, 20); look(); }})"
)

_SIDE_BY_SIDE: Final = """<!doctype html><style>
body {{ margin: 0; padding: 24px; width: max-content; display: flex; gap: 24px; background: #e8ecf4 }}
img {{ display: block; width: {width}px; height: {height}px; border-radius: 10px; box-shadow: 0 2px 14px #1d243340 }}
</style>{pictures}"""


async def _until(tab: cdpbridge.Tab, condition: str) -> None:
    await tab.evaluate(_UNTIL.format(condition=condition), timeout=30)


async def _resize(tab: cdpbridge.Tab, width: int, height: int) -> None:
    await tab.session.send(
        Emulation.set_device_metrics_override(width=width, height=height, device_scale_factor=1, mobile=False)
    )
    await tab.session.send(Emulation.set_scrollbars_hidden(hidden=True))


@asynccontextmanager
async def _at_work(client: cdpbridge.AsyncClient, site: str) -> AsyncIterator[cdpbridge.Browser]:
    """Rented browsers on the demo's site; yield the one that is watched."""
    async with AsyncExitStack() as stack:
        for profile, country in (("shop", None), ("work", "de")):
            browser = await stack.enter_async_context(
                cdpbridge.open_browser(
                    client, profile=profile, proxy_country=country, timeout=_TIMEOUT, journal="off"
                )
            )
            tab = await browser.new_tab(site)
            if profile == "work":
                async with tab.session.expect(Page.LoadEventFired):
                    await tab.evaluate(_SIGN_IN_TO_SITE)
                await _until(tab, "document.body?.dataset.ready")
        yield browser


async def _console(viewer: cdpbridge.Browser, address: str, key: str) -> bytes:
    tab = await viewer.new_tab()
    await _resize(tab, _WIDTH, _HEIGHT)
    await tab.goto(address)
    await _until(tab, "document.querySelector('input[type=password]')")
    await tab.evaluate(f"{_SIGN_IN_TO_CONSOLE}({key!r})")
    await _until(tab, "document.querySelectorAll('main img').length > 1")
    await _until(
        tab, "[...document.querySelectorAll('main img')].every(each => each.complete && each.naturalWidth)"
    )
    return await tab.screenshot()


async def _live_view(viewer: cdpbridge.Browser, address: str) -> bytes:
    tab = await viewer.new_tab()
    await _resize(tab, _WIDTH, _HEIGHT)
    await tab.goto(address)
    drawn = "document.getElementById('picture').getContext('2d').getImageData(9, 9, 1, 1).data[3]"
    await _until(tab, f"document.body.dataset.state === 'live' && {drawn}")
    return await tab.screenshot()


async def take(folder: Path) -> None:
    """Make every picture, and write it into `folder`."""
    with tempfile.TemporaryDirectory(prefix="cdpbridge-pictures-") as name, serve_demo_site() as site:
        data = Path(name)
        async with (
            cdpbridge.local(data_dir=data / "server", proxies={"de": "direct"}) as client,
            cdpbridge.local(data_dir=data / "viewer") as other,
            _at_work(client, site) as watched,
            cdpbridge.open_browser(other, timeout=_TIMEOUT, journal="off") as viewer,
        ):
            place = urlsplit(watched.live_url or "")
            console = await _console(viewer, f"{place.scheme}://{place.netloc}/", client.address()["api_key"])
            live = await _live_view(viewer, watched.live_url or "")
            pictures = "".join(
                f'<img src="data:image/png;base64,{base64.b64encode(each).decode()}">'
                for each in (console, live)
            )
            tab = await viewer.new_tab()
            await _resize(tab, 2 * _WIDTH + 72, _HEIGHT + 48)
            page = _SIDE_BY_SIDE.format(width=_WIDTH, height=_HEIGHT, pictures=pictures)
            await tab.evaluate(f"document.write({page!r}); document.close()")
            await _until(tab, "[...document.images].every(each => each.complete)")
            picture = await tab.screenshot(folder / PICTURES[0])
    if len(picture) > LIMIT_BYTES:
        raise ValueError(f"{PICTURES[0]} has {len(picture)} bytes, more than {LIMIT_BYTES}")


def main() -> int:
    """Write the pictures of the documentation."""
    asyncio.run(take(IMAGES))
    for name in PICTURES:
        print(f"{IMAGES / name}: {(IMAGES / name).stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
