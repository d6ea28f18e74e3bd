"""Four ways to crawl the same site with the same browsers: one process each, started by crawl.py.

`python _crawlers.py WAY START_URL OUT_DIR --tabs N --chromium PATH`. Each page gives a line of pages.jsonl: its address, title,
headings and outgoing links, read from the rendered document by the same function; every 50th page found gives a screenshot.
When the last page is done, a JSON object is printed, and the process waits for the end of its standard input, so that it and
what it started can be measured whole.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

from parsel import Selector

SCREENSHOT_EVERY = 50


class Results:
    """What is crawled and what came of it: the frontier of the ways without a framework, and the writer of all."""

    def __init__(self, start: str, out: Path) -> None:
        self.start = start
        self.out = out
        self.found: dict[str, int] = {}
        self.pages = self.missed = 0
        self.began = self.ended = 0.0
        self._file = (out / "pages.jsonl").open("w")

    def begin(self) -> list[str]:
        """The first address; from here on time counts."""
        self.began = time.perf_counter()
        return self.news([self.start])

    def news(self, links: list[str]) -> list[str]:
        """Pages of the site among the links that were not found before."""
        new = []
        for link in links:
            url = link.partition("#")[0].partition("?")[0]
            if (
                url.startswith(self.start.rpartition("/")[0])
                and url.endswith(".html")
                and url not in self.found
            ):
                self.found[url] = len(self.found)
                new.append(url)
        return new

    def screenshot(self, url: str) -> Path | None:
        """Where the page's screenshot goes, if it gets one."""
        number = self.found[url]
        return self.out / f"{number:04}.png" if number % SCREENSHOT_EVERY == 0 else None

    def page(self, url: str, html: str) -> list[str]:
        """Write a page's line; its links that leave the page.

        The documentation's search page adds a link to itself some time after it was loaded; each way would find it by chance.
        """
        document = Selector(html)
        links = [
            link
            for link in dict.fromkeys(
                urljoin(url, href).strip() for href in document.xpath("//a/@href").getall() if href
            )
            if urlsplit(link).scheme in {"http", "https"} and urldefrag(link).url != url
        ]
        line = {
            "url": url,
            "title": document.xpath("normalize-space(//title)").get(),
            "headings": [
                each.xpath("normalize-space(.)").get() for each in document.xpath("//h1 | //h2 | //h3")
            ],
            "links": sorted(links),
        }
        self._file.write(json.dumps(line) + "\n")
        self.pages += 1
        self.ended = time.perf_counter()
        return links

    @property
    def complete(self) -> bool:
        """Whether all that was found is done."""
        return self.pages + self.missed == len(self.found)

    def tell(self) -> None:
        """Print the figures, and wait until they and the process have been read."""
        self._file.close()
        print(json.dumps({"pages": self.pages, "seconds": self.ended - self.began}), flush=True)
        sys.stdin.read()


def scrapy_crawl(results: Results, settings: dict[str, Any], meta: Any) -> None:
    """A Scrapy project of one spider. `meta(path)` is a request's, with the path of its screenshot or None."""
    import scrapy
    from scrapy import signals
    from scrapy.crawler import AsyncCrawlerProcess

    class Spider(scrapy.Spider):
        name = "documentation"

        @classmethod
        def from_crawler(cls, crawler, *args, **kwargs):
            spider = super().from_crawler(crawler, *args, **kwargs)
            # The browsers still run then: what is measured includes them.
            crawler.signals.connect(spider.told, signal=signals.spider_idle)
            return spider

        async def start(self):
            for url in results.begin():
                yield self.request(url)

        def request(self, url):
            return scrapy.Request(url, meta=meta(results.screenshot(url)))

        def parse(self, response):
            for url in results.news(results.page(response.request.url, response.text)):
                yield self.request(url)

        def told(self):
            results.tell()

    process = AsyncCrawlerProcess(
        {"LOG_LEVEL": "WARNING", "TELNETCONSOLE_ENABLED": False, "RETRY_TIMES": 0} | settings
    )
    process.crawl(Spider)
    process.start()


def cdpbridge_scrapy(results: Results, tabs: int, _chromium: str) -> None:
    """Scrapy with our handler, over the embedded server."""
    handler = "cdpbridge.integrations.scrapy.DownloadHandler"
    scrapy_crawl(
        results,
        {
            "DOWNLOAD_HANDLERS": {"http": handler, "https": handler},
            "CDPBRIDGE_PROVIDER": "local",
            "CDPBRIDGE_TABS_PER_BROWSER": tabs,
            "CONCURRENT_REQUESTS": tabs,
            "CONCURRENT_REQUESTS_PER_DOMAIN": tabs,
        },
        lambda path: {"cdpbridge": {} if path is None else {"screenshot": path}},
    )


def scrapy_playwright(results: Results, tabs: int, chromium: str) -> None:
    """Scrapy with scrapy-playwright, which launches Chromium."""
    from scrapy_playwright.page import PageMethod

    handler = "scrapy_playwright.handler.ScrapyPlaywrightDownloadHandler"
    scrapy_crawl(
        results,
        {
            "DOWNLOAD_HANDLERS": {"http": handler, "https": handler},
            "PLAYWRIGHT_LAUNCH_OPTIONS": {"executable_path": chromium},
            "PLAYWRIGHT_MAX_PAGES_PER_CONTEXT": tabs,
            "CONCURRENT_REQUESTS": tabs,
            "CONCURRENT_REQUESTS_PER_DOMAIN": tabs,
        },
        lambda path: {
            "playwright": True,
            "playwright_page_methods": [] if path is None else [PageMethod("screenshot", path=str(path))],
        },
    )


def playwright_alone(results: Results, tabs: int, chromium: str) -> None:
    """Playwright and a queue; each worker keeps its page, as one would by hand."""
    from playwright.async_api import async_playwright

    async def main() -> None:
        queue: asyncio.Queue[str] = asyncio.Queue()
        for url in results.begin():
            queue.put_nowait(url)

        async def worker() -> None:
            page = await context.new_page()
            while True:
                url = await queue.get()
                response = await page.goto(url)
                path = results.screenshot(url)
                if not response.ok:  # as the frameworks have it
                    results.missed += 1
                elif path is not None:
                    await page.screenshot(path=path)
                if response.ok:
                    for new in results.news(results.page(url, await page.content())):
                        queue.put_nowait(new)
                queue.task_done()

        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=chromium)
            context = await browser.new_context()
            workers = [asyncio.create_task(worker()) for _ in range(tabs)]
            done = asyncio.create_task(queue.join())
            await asyncio.wait([done, *workers], return_when=asyncio.FIRST_COMPLETED)
            if not done.done():  # a worker failed
                await next(each for each in workers if each.done())
            results.tell()
            for each in workers:
                each.cancel()
            await browser.close()

    asyncio.run(main())


def crawlee(results: Results, tabs: int, chromium: str) -> None:
    """Crawlee's Playwright crawler, which launches Chromium."""
    import logging

    from crawlee import ConcurrencySettings
    from crawlee.configuration import Configuration
    from crawlee.crawlers import PlaywrightCrawler, PlaywrightCrawlingContext
    from crawlee.statistics import Statistics
    from crawlee.storage_clients import MemoryStorageClient

    async def main() -> None:
        crawler = PlaywrightCrawler(
            browser_type="chromium",
            headless=True,
            browser_launch_options={"executable_path": chromium, "chromium_sandbox": False},
            concurrency_settings=ConcurrencySettings(
                min_concurrency=tabs, desired_concurrency=tabs, max_concurrency=tabs
            ),
            storage_client=MemoryStorageClient(),
            configuration=Configuration(max_used_cpu_ratio=1.0, available_memory_ratio=0.9),
            statistics=Statistics.with_default_state(log_interval=timedelta(hours=1)),
            max_request_retries=0,
            configure_logging=False,
        )
        logging.getLogger("crawlee").setLevel(logging.CRITICAL)

        @crawler.router.default_handler
        async def handle(context: PlaywrightCrawlingContext) -> None:
            path = results.screenshot(context.request.url)
            if path is not None:
                await context.page.screenshot(path=path)
            await context.add_requests(
                results.news(results.page(context.request.url, await context.page.content()))
            )
            if results.complete:
                results.tell()  # now, while the browser still runs and can be measured

        @crawler.failed_request_handler
        async def failed(_context, _error) -> None:
            results.missed += 1
            if results.complete:
                results.tell()

        await crawler.run(results.begin())

    asyncio.run(main())


WAYS = {
    "cdpbridge": cdpbridge_scrapy,
    "scrapy-playwright": scrapy_playwright,
    "playwright": playwright_alone,
    "crawlee": crawlee,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("start")
    parser.add_argument("out", type=Path)
    parser.add_argument("--tabs", type=int, required=True)
    parser.add_argument("--chromium", required=True)
    given = parser.parse_args()
    WAYS[given.way](Results(given.start, given.out), given.tabs, given.chromium)
