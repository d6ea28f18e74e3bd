"""Visit many pages with a few browsers; a browser that dies on the way is replaced, and each result comes once."""

import asyncio
import sys
from datetime import timedelta

from _site import address

import cdpbridge


async def title(tab: cdpbridge.Tab, url: str) -> str:
    await tab.goto(url)
    return await tab.title()


async def main(url: str) -> None:
    urls = [f"{url}#{number}" for number in range(12)]
    async with cdpbridge.BrowserPool(size=2, tabs_per_browser=3, timeout=timedelta(minutes=5)) as pool:
        titles = [each async for each in pool.map(title, urls, progress=sys.stderr.isatty())]
        print(f"{len(titles)} pages, the first is {titles[0]!r}")

        async with pool.tab() as one, pool.tab() as other:  # each with cookies of its own
            for tab, name in ((one, "one"), (other, "other")):
                await tab.goto(url)
                await tab.evaluate(f"document.cookie = 'owner={name}'")
            print(await one.evaluate("document.cookie"), await other.evaluate("document.cookie"))
    print(pool.receipt)


if __name__ == "__main__":
    with address() as url:
        asyncio.run(main(url))
