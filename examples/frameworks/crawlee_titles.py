"""Crawlee on rented browsers: pip install 'cdpbridge[local,crawlee]'"""

import asyncio
import sys

from crawlee.browsers import BrowserPool
from crawlee.crawlers import PlaywrightCrawler, PlaywrightCrawlingContext

from cdpbridge.integrations.crawlee import RentedBrowserPlugin


async def main(url: str) -> None:
    plugin = RentedBrowserPlugin(profile="crawl", max_open_pages_per_browser=8)
    crawler = PlaywrightCrawler(browser_pool=BrowserPool(plugins=[plugin]), max_requests_per_crawl=50)

    @crawler.router.default_handler
    async def visit(context: PlaywrightCrawlingContext) -> None:
        print(await context.page.title())
        await context.enqueue_links()

    await crawler.run([url])
    print(*plugin.receipts)


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "https://example.com"))
