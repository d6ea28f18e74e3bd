"""Playwright and our own CDP client on one rented browser, at the same time."""

import asyncio

from _site import address

import cdpbridge
from cdpbridge import playwright
from cdpbridge.protocol import Network


async def main(url: str) -> None:
    async with cdpbridge.open_browser() as browser, playwright.connect(browser) as connected:
        page = await connected.contexts[0].new_page()  # contexts[0] carries the profile
        await page.goto(url)
        print("Playwright sees:", await page.title())

        for tab in await browser.tabs():  # the same pages, over CDP
            if await tab.current_url() == page.url:
                print("CDP sees:", await tab.title())
                await tab.session.send(Network.enable())
                async with tab.session.expect(Network.ResponseReceived) as response:
                    await page.reload()
                print("CDP saw Playwright's reload:", response.event.response.status)
    print(browser.receipt)


if __name__ == "__main__":
    with address() as url:
        asyncio.run(main(url))
