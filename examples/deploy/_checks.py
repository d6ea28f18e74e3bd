"""What is tried with a server that runs in a container: the demo, and what a kill leaves."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import cdpbridge
from cdpbridge import playwright
from cdpbridge.cli._demo_site import PASSWORD, USER
from cdpbridge.errors import APIError
from cdpbridge.protocol import Page

__all__ = [
    "CREDITS",
    "KEY",
    "Kills",
    "demo",
    "knows",
    "open_with_profiles",
    "rent_and_kill",
    "saved",
    "settled",
]

KEY: Final = "key-of-the-container"
CREDITS: Final = Decimal(1000)
_TIMEOUT: Final = timedelta(minutes=5)
# Orders at a time where many browsers are rented.
_AT_ONCE: Final = 4
_DOMAIN: Final = "kept.example"
_SIGN_IN: Final = f"""
document.querySelector('[name=user]').value = {USER!r};
document.querySelector('[name=password]').value = {PASSWORD!r};
document.querySelector('form').submit();
"""
_SCRIPTS: Final = {"中文かな한글": "Noto Sans CJK", "😀": "Noto Color Emoji", "plain": "Liberation"}
# Until it has been drawn.
_WRITE: Final = """new Promise(done => {
  document.body.innerHTML = '<p style="font-family: Arial">%s</p>';
  requestAnimationFrame(() => requestAnimationFrame(done));
})"""
# 64 MiB of pixels, which a page shares with the process that draws it.
_LARGE: Final = """(() => {
  const canvas = document.body.appendChild(document.createElement('canvas'));
  canvas.width = canvas.height = 4096;
  const context = canvas.getContext('2d');
  context.fillStyle = '#2456d6';
  context.fillRect(0, 0, 4096, 4096);
  return canvas.toDataURL('image/png').length;
})()"""


async def demo(url: str, site: str, folder: Path) -> list[str]:
    """Do the main job in both builds, and return what was shown.

    Raises:
        AssertionError: Something is not as it must be.
    """
    async with cdpbridge.at(url, KEY) as client:
        shown = []
        async with _rented(client, profile="demo") as browser:  # the full build
            tab = await browser.new_tab(site)
            async with tab.session.expect(Page.LoadEventFired):
                await tab.evaluate(_SIGN_IN)
            assert "Welcome" in await tab.content()
            shown.append("login")
        async with _rented(client, profile="demo") as browser, playwright.connect(browser) as connected:
            page = await connected.contexts[0].new_page()
            await page.goto(site)
            assert "Welcome" in await page.inner_text("h1")
            shown += ["profile", "Playwright"]
        async with _rented(client, recording=True) as browser:  # the shell
            tab = await browser.new_tab(site)
            await _see_fonts(tab)
            shown.append("CJK and emoji")
            assert await tab.evaluate(_LARGE) > 10_000
            shown.append("64 MiB shared")
            recorded = browser.id
        video = await client.browsers.download_recording(recorded, folder / "page.mp4")
        shown.append(f"recording of {_pictures(video)} pictures")
        return shown


def _pictures(video: Path) -> int:
    """Decode a video, and return how many pictures it has."""
    import av  # noqa: PLC0415  # 100 MB of libraries

    with av.open(video) as opened:
        found = sum(1 for _ in opened.decode(video=0))
    assert found, video.stat()
    return found


async def knows(url: str, site: str) -> None:
    """Find what the demo has left: its login, and what it has paid.

    Raises:
        AssertionError: It is not there.
    """
    async with cdpbridge.at(url, KEY) as client:
        assert (await client.billing.account()).total_credits_balance_usd < CREDITS
        async with _rented(client, profile="demo") as browser:
            tab = await browser.new_tab(site)
            assert "Welcome" in await tab.content()


@asynccontextmanager
async def _rented(client: cdpbridge.AsyncClient, **options: Any) -> AsyncIterator[cdpbridge.Browser]:
    async with cdpbridge.open_browser(
        client, timeout=_TIMEOUT, journal="off", reap=False, **options
    ) as browser:
        yield browser
    receipt = browser.receipt
    assert receipt is not None
    assert not receipt.difference, receipt


async def _see_fonts(tab: cdpbridge.Tab) -> None:
    """Ask Chromium which fonts it has drawn with."""
    await tab.session.send("DOM.enable")
    await tab.session.send("CSS.enable")
    for text, family in _SCRIPTS.items():
        await tab.evaluate(_WRITE % text)
        root = (await tab.session.send("DOM.getDocument"))["root"]
        found = await tab.session.send("DOM.querySelector", {"nodeId": root["nodeId"], "selector": "p"})
        used = await tab.session.send("CSS.getPlatformFontsForNode", {"nodeId": found["nodeId"]})
        names = [each["familyName"] for each in used["fonts"]]
        assert any(family in name for name in names), (text, names)


@dataclass
class Kills:
    """What the kills have found.

    Attributes:
        known: Browsers whose orders were answered.
        stop_seconds: From SIGTERM to the end of the container.
    """

    known: set[UUID] = field(default_factory=set)
    stop_seconds: list[float] = field(default_factory=list)


async def rent_and_kill(url: str, kills: Kills, number: int, kill: Callable[[], None]) -> float:
    """Rent browsers and use them, with and without a profile, and kill the server at some moment while one more is started. Return that moment."""
    chance = random.Random(number)
    async with cdpbridge.at(url, KEY, max_retries=0) as client:
        profile = await client.profiles.create(name=f"kill {number}") if number % 3 == 0 else None
        browser = await client.browsers.create(
            timeout=_TIMEOUT, profile_id=None if profile is None else profile.id
        )
        kills.known.add(browser.id)
        assert browser.cdp_url is not None
        async with cdpbridge.cdp.connect(browser.cdp_url) as connection:
            await connection.root.send("Storage.setCookies", {"cookies": [_cookie(number)]})
        order = asyncio.create_task(client.browsers.create(timeout=_TIMEOUT))
        await asyncio.sleep(chance.uniform(0, 1))
        killed = time.monotonic()
        kill()
        with suppress(APIError):  # its answer is lost with the server
            kills.known.add((await order).id)
        return killed


def _cookie(number: int, domain: str = "kill.example") -> dict[str, Any]:
    return {"name": "kill", "value": str(number), "url": f"http://{domain}/", "expires": 4_000_000_000}


async def open_with_profiles(url: str, number: int) -> set[UUID]:
    """Rent browsers, each with a profile of its own that has something to be saved; return the profiles."""
    limit = asyncio.Semaphore(_AT_ONCE)
    profiles = set()
    async with cdpbridge.at(url, KEY) as client:

        async def rent(index: int) -> None:
            async with limit:
                profile = await client.profiles.create(name=f"stop {index}")
                browser = await client.browsers.create(timeout=_TIMEOUT, profile_id=profile.id)
                assert browser.cdp_url is not None
                async with cdpbridge.cdp.connect(browser.cdp_url) as connection:
                    await connection.root.send("Storage.setCookies", {"cookies": [_cookie(index, _DOMAIN)]})
                profiles.add(profile.id)

        async with asyncio.TaskGroup() as tasks:
            for index in range(number):
                tasks.create_task(rent(index))
    return profiles


async def saved(url: str, profiles: set[UUID]) -> None:
    """Find each of these profiles saved, and the books settled.

    Raises:
        AssertionError: One is not, or something is still open.
    """
    async with cdpbridge.at(url, KEY) as client:
        for profile in profiles:
            found = await client.profiles.get(profile)
            assert found.cookie_domains, found
            assert any(_DOMAIN in each for each in found.cookie_domains), found
    await settled(url, Kills())


async def settled(url: str, kills: Kills) -> tuple[int, Decimal]:
    """Return how many browsers there were and what they have cost, as the server's books say after the last start.

    Raises:
        AssertionError: One is still open, lost, or charged more than its minute; or the balance is another.
    """
    async with cdpbridge.at(url, KEY) as client:
        found = {browser.id: browser async for browser in client.browsers.list()}
        account = await client.billing.account()
        cost = Decimal(0)
        for browser in found.values():
            assert browser.status == "stopped", browser
            assert browser.finished_at is not None, browser
            assert browser.browser_cost is not None, browser
            assert Decimal(browser.browser_cost) <= Decimal("0.01"), browser
            cost += Decimal(browser.browser_cost)
        lost = kills.known - set(found)
        assert not lost, lost
        assert account.total_credits_balance_usd == CREDITS - cost, (account, cost)
        assert account.active_session_count == 0, account
        return len(found), cost
