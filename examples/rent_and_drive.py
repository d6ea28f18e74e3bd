"""Rent a browser for five minutes, drive it over CDP, and see what it cost.

Runs on this machine as it is; with BROWSER_USE_API_KEY set, the same lines rent from the cloud.
"""

import asyncio
from datetime import timedelta

from _site import address

import cdpbridge
from cdpbridge.protocol import Network


async def main(url: str) -> None:
    async with cdpbridge.open_browser(timeout=timedelta(minutes=5)) as browser:
        tab = await browser.new_tab()

        urls: list[str] = []
        tab.session.on(Network.ResponseReceived, lambda event: urls.append(event.response.url))
        await tab.session.send(Network.enable())

        await tab.goto(url)
        print(await tab.title())
        print(f"{len(urls)} responses, first {urls[0]}")
        await tab.screenshot("page.png")
    print(browser.receipt)


if __name__ == "__main__":
    with address() as url:
        asyncio.run(main(url))
