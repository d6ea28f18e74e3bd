"""Crawl a site with Scrapy in rented browsers: title, headings, links and a screenshot of every 50th page.

`python scrapy_crawl.py http://127.0.0.1:8000/index.html` writes pages.jsonl and the folder screenshots.
"""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urljoin

from _site import address
from scrapy import Request, Spider
from scrapy.crawler import AsyncCrawlerProcess

HANDLER = "cdpbridge.integrations.scrapy.DownloadHandler"
EVERY = 50


class Site(Spider):
    name = "site"
    custom_settings: ClassVar[dict[str, Any]] = {
        "DOWNLOAD_HANDLERS": {"http": HANDLER, "https": HANDLER},
        "CDPBRIDGE_TABS_PER_BROWSER": 8,
        "FEEDS": {"pages.jsonl": {"format": "jsonlines", "overwrite": True}},
    }

    def __init__(self, url: str) -> None:
        super().__init__()
        self.first = url
        self.top = urljoin(url, ".")
        self.found: dict[str, int] = {}

    async def start(self) -> AsyncIterator[Request]:
        yield self.page(self.first)

    def page(self, url: str) -> Request:
        number = self.found.setdefault(url, len(self.found))
        options = {"screenshot": Path("screenshots", f"{number:04}.png")} if number % EVERY == 0 else {}
        return Request(url, meta={"cdpbridge": options})

    def parse(self, response: Any) -> Iterator[Any]:
        links = [response.urljoin(each) for each in response.css("a::attr(href)").getall()]
        yield {
            "url": response.url,
            "title": response.css("title::text").get(),
            "headings": [each.xpath("normalize-space(.)").get() for each in response.css("h1, h2, h3")],
            "links": links,
        }
        for link in {link.partition("#")[0] for link in links} - self.found.keys():
            if link.startswith(self.top):
                yield self.page(link)


if __name__ == "__main__":
    Path("screenshots").mkdir(exist_ok=True)
    process = AsyncCrawlerProcess({"LOG_LEVEL": "ERROR"})
    crawler = process.create_crawler(Site)
    with address() as first:
        process.crawl(crawler, first)
        process.start()
    stats = crawler.stats.get_stats() if crawler.stats else {}
    print(stats.get("cdpbridge/pages", 0), "pages,", stats.get("cdpbridge/usd", 0), "USD")
    if not stats.get("item_scraped_count"):
        sys.exit("no page was read; the log above says why")
