"""Claim: a browser far away is rented and used in few round trips, fewer than Playwright needs to connect to one.

A server on this machine behind a relay that adds a delay to each direction, and a round trip to each new connection, REST and CDP
alike; the site is near the browser. `python benchmarks/far.py [--build shell|full] [--rounds N] [--delays MS ...]`.

* The table has milliseconds, medians of the rounds, at each round trip; Playwright's `connect_over_cdp` goes to the browser that was
  rented in the same round.
* "trips" is what the delay adds: the median of the longest round trip less that of none, by the length of the round trip.
* "flights" is counted by another relay, which holds answers back until the client has nothing more to send.

Then pages a second at 100 ms, of a `BrowserPool` and of Playwright, a context a page. `--rounds 0` does only that.

TLS adds a round trip, or two, to each new connection; there is none here. Prints the load of the machine, writes results/far.json.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import _harness as harness
from _site import site

sys.path.insert(0, str(Path(__file__).parents[1]))

from playwright.async_api import async_playwright

import cdpbridge
from cdpbridge import playwright as bridged
from cdpbridge import sync
from cdpbridge.browser import Tab
from tests.far import CountingRelay, DelayingRelay

PAGE = b"<!doctype html><title>far</title><h1>far</h1>"
TABS = 8
"""Pages at once in the crawl."""
CRAWL_MS = 100
WARM = 3
"""HTTP connections that are open before a rental begins."""

QUIET_SECONDS = 0.3
"""A round trip of the relay that counts: enough for the process of a page to start."""

STEPS = (
    "open_browser",
    "  and the first new_tab(url)",
    "new_tab()",
    "first goto of a tab",
    "new_tab(url)",
    "stop, with receipt",
    "open_browser, profile by name",
    "connect_over_cdp",
    "connect_over_cdp, by cdpbridge.playwright",
    "new_page()",
    "first goto of a page",
)
OURS = 7
"""Steps of the table that are ours; the others are Playwright's."""


class Round:
    """One pass through all steps.

    Attributes:
        found: Figures of the steps: milliseconds, or flights where a counting relay is between.
    """

    def __init__(
        self, relay: CountingRelay | DelayingRelay, client: cdpbridge.AsyncClient, page: str
    ) -> None:
        self._relay = relay
        self._client = client
        self._page = page
        self.found: dict[str, float] = {}

    @asynccontextmanager
    async def _step(self, name: str) -> AsyncIterator[None]:
        if isinstance(self._relay, CountingRelay):
            before = self._relay.flights
            yield
            self.found[name] = self._relay.flights - before
            return
        began = time.perf_counter()
        yield
        self.found[name] = (time.perf_counter() - began) * 1000

    async def _warm(self) -> None:
        await asyncio.gather(*(self._client.billing.account() for _ in range(WARM)))

    async def run(self, profile: str) -> None:
        """Go through all steps; while flights are counted, the network is one where they take long."""
        held = self._relay.counting() if isinstance(self._relay, CountingRelay) else nullcontext()
        async with held:
            await self._run(profile)

    async def _run(self, profile: str) -> None:
        await self._warm()
        async with self._step(STEPS[0]):
            browser = await cdpbridge.open_browser(self._client)
        try:
            async with self._step(STEPS[1]):
                await browser.new_tab(self._page)
            await browser.connection.root.send("Browser.getVersion")
            async with self._step(STEPS[2]):
                tab = await browser.new_tab()
            async with self._step(STEPS[3]):
                await tab.goto(self._page)
            async with self._step(STEPS[4]):
                await browser.new_tab(self._page)
            await self._playwright(browser)
        finally:
            await self._warm()
            async with self._step(STEPS[5]):
                await browser.stop()
        await self._warm()
        async with self._step(STEPS[6]):
            browser = await cdpbridge.open_browser(self._client, profile=profile)
        await browser.stop()

    async def _playwright(self, browser: cdpbridge.Browser) -> None:
        async with async_playwright() as playwright:
            async with self._step(STEPS[7]):
                connected = await playwright.chromium.connect_over_cdp(browser.cdp_url)
            async with self._step(STEPS[9]):
                page = await connected.contexts[0].new_page()
            async with self._step(STEPS[10]):
                await page.goto(self._page)
            await connected.close()
        # Its driver starts within the block; that takes as long without a relay.
        async with self._step(STEPS[8]):
            entered = bridged.connect(browser)
            await entered.__aenter__()
        await entered.__aexit__(None, None, None)


async def measure(local: Any, page: str, delays: list[int], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Figures by step, then by the delay in milliseconds, or `"flights"`."""
    where = urlsplit(local.address()["base_url"])
    assert where.hostname is not None
    assert where.port is not None
    figures: dict[str, dict[str, list[float]]] = {step: {} for step in STEPS}
    for turn in range(rounds):
        profile = f"far-{uuid.uuid4().hex[:8]}"
        for delay in [*delays, None]:
            relay: CountingRelay | DelayingRelay
            if delay is None:
                relay = CountingRelay(where.hostname, where.port, QUIET_SECONDS)
            else:
                relay = DelayingRelay(where.hostname, where.port, delay / 1000)
            async with relay.serving() as port:
                base_url = where._replace(netloc=f"127.0.0.1:{port}").geturl()
                async with cdpbridge.at(base_url, local.address()["api_key"]) as client:
                    done = Round(relay, client, page)
                    await done.run(profile)
            for step, value in done.found.items():
                figures[step].setdefault("flights" if delay is None else str(delay), []).append(value)
            harness.progress(
                f"round {turn + 1} of {rounds}, {'counting' if delay is None else f'{delay} ms'}"
            )
    harness.progress("")
    return figures


# --- many pages -------------------------------------------------------------------------------------------------------


async def crawl_ours(client: cdpbridge.AsyncClient, page: str, pages: int) -> float:
    """Pages a second of a pool, from its first browser on; each page has a context of its own."""

    async def visit(tab: Tab, url: str) -> int:
        await tab.goto(url)
        return len(await tab.content())

    async with cdpbridge.BrowserPool(client, size=1, tabs_per_browser=TABS) as pool:
        await pool.run(visit, page)
        began = time.perf_counter()
        sizes = [size async for size in pool.map(visit, [page] * pages)]
        seconds = time.perf_counter() - began
    assert len(sizes) == pages
    return pages / seconds


async def crawl_playwright(client: cdpbridge.AsyncClient, page: str, pages: int) -> float:
    """The same by Playwright, over the address of a rented browser."""
    async with cdpbridge.open_browser(client) as browser, async_playwright() as playwright:
        connected = await playwright.chromium.connect_over_cdp(browser.cdp_url)
        left = [page] * pages

        async def work() -> None:
            while left:
                url = left.pop()
                context = await connected.new_context()
                tab = await context.new_page()
                await tab.goto(url)
                await tab.content()
                await context.close()

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(TABS)))
        seconds = time.perf_counter() - began
        await connected.close()
    return pages / seconds


async def crawl(local: Any, page: str, pages: int, delay: int, rounds: int) -> dict[str, list[float]]:
    """Pages a second, by who brought them."""
    where = urlsplit(local.address()["base_url"])
    assert where.hostname is not None
    assert where.port is not None
    found: dict[str, list[float]] = {"BrowserPool": [], "Playwright": []}
    async with DelayingRelay(where.hostname, where.port, delay / 1000).serving() as port:
        base_url = where._replace(netloc=f"127.0.0.1:{port}").geturl()
        async with cdpbridge.at(base_url, local.address()["api_key"]) as client:
            for _ in range(rounds):
                found["BrowserPool"].append(await crawl_ours(client, page, pages))
                found["Playwright"].append(await crawl_playwright(client, page, pages))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build", choices=["shell", "full"], default="shell")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--delays", type=int, nargs="+", default=[0, 20, 100, 300], metavar="MS")
    parser.add_argument("--pages", type=int, default=100, help="of the crawl; 0 for none")
    options = parser.parse_args()
    logging.getLogger("cdpbridge").setLevel(logging.ERROR)
    with (
        site(PAGE) as page,
        tempfile.TemporaryDirectory() as folder,
        sync.local(data_dir=folder, browser_build=options.build) as local,
    ):
        figures = asyncio.run(measure(local, page, options.delays, options.rounds)) if options.rounds else {}
        crawled = (
            asyncio.run(crawl(local, page, options.pages, CRAWL_MS, max(options.rounds, 1)))
            if options.pages
            else {}
        )
    longest, none = str(max(options.delays)), str(min(options.delays))
    rows = []
    for at, step in enumerate(STEPS if figures else ()):
        medians = {name: statistics.median(values) for name, values in figures[step].items()}
        trips = (medians[longest] - medians[none]) / max(int(longest) - int(none), 1)
        row = [step if at < OURS else f"Playwright: {step}"]
        row += [f"{medians[str(delay)]:.0f}" for delay in options.delays]
        rows.append([*row, f"{trips:.1f}", f"{medians['flights']:.0f}"])
    head = ["step, ms at a round trip of", *(f"{delay} ms" for delay in options.delays), "trips", "flights"]
    if rows:
        harness.print_table(f"a browser far away, {options.build}", head, rows)
    for who, rates in crawled.items():
        print(f"  {who}: {statistics.median(rates):.1f} pages/s at {CRAWL_MS} ms, {TABS} tabs at once")
    about = harness.machine()
    print(f"\n{harness.describe_machine(about)}")
    harness.save("far", {"machine": about, "build": options.build, "figures": figures, "pages": crawled})


if __name__ == "__main__":
    main()
