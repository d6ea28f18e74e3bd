"""A Scrapy process: requests and settings as JSON on standard input, what came of them as JSON lines on standard output."""

import hashlib
import json
import resource
import sys

import scrapy
from scrapy.crawler import AsyncCrawlerProcess
from scrapy.http import TextResponse

LARGE = 100_000
HANDLER = "cdpbridge.integrations.scrapy.DownloadHandler"


class Spider(scrapy.Spider):
    name = "spider"

    async def start(self):
        self.before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        for number, given in self.job["requests"].items():
            then = given.pop("then", None)
            yield scrapy.Request(
                callback=self.parse,
                errback=self.failed,
                dont_filter=True,
                cb_kwargs={"number": number, "then": then},
                **given,
            )

    def parse(self, response, number, then):
        result = dict(response.meta.get("cdpbridge_result", {}))
        if isinstance(result.get("screenshot"), bytes):
            result["screenshot"] = result["screenshot"][:8].hex()
        tell(
            number=number,
            url=response.url,
            status=response.status,
            headers={
                name.decode().lower(): [each.decode("latin-1") for each in values]
                for name, values in response.headers.items()
            },
            body=response.body.decode("latin-1") if len(response.body) < LARGE else None,
            size=len(response.body),
            digest=hashlib.sha256(response.body).hexdigest(),
            text=response.text if isinstance(response, TextResponse) and len(response.body) < LARGE else None,
            kind=type(response).__name__,
            flags=response.flags,
            redirects=response.meta.get("redirect_urls"),
            result=json.loads(json.dumps(result, default=str)),
            retries=response.meta.get("retry_times", 0),
            ip=str(response.ip_address),
        )
        if response.meta.get("memory"):
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            tell(number=f"{number}, memory", peak=peak - self.before)
        if then:
            yield scrapy.Request(
                callback=self.parse,
                errback=self.failed,
                dont_filter=True,
                cb_kwargs={"number": f"{number}, then", "then": None},
                **then,
            )

    def failed(self, failure):
        request = failure.request
        tell(
            number=request.cb_kwargs["number"],
            error=type(failure.value).__name__,
            text=str(failure.value),
            notes=getattr(failure.value, "__notes__", []),
            retries=request.meta.get("retry_times", 0),
        )


def tell(**values):
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    Spider.job = json.load(sys.stdin)
    for name, value in Spider.job.get("spider", {}).items():
        setattr(Spider, name, value)
    handler = Spider.job.get("handler", HANDLER)
    settings = {
        "DOWNLOAD_HANDLERS": {"http": handler, "https": handler},
        "RETRY_TIMES": 1,
        "RETRY_PRIORITY_ADJUST": 0,
        "LOG_LEVEL": "WARNING",
        "TELNETCONSOLE_ENABLED": False,
        "CDPBRIDGE_TABS_PER_BROWSER": 3,
    }
    process = AsyncCrawlerProcess(settings | Spider.job["settings"])
    crawler = process.create_crawler(Spider)
    process.crawl(crawler)
    process.start()
    tell(
        stats={
            name: value
            for name, value in crawler.stats.get_stats().items()
            if "cdpbridge" in name or "playwright" in name
        }
    )
