"""`DownloadHandler`: Scrapy's requests and responses on one side, visits of rented pages on the other."""

from __future__ import annotations

import ipaddress
import logging
from datetime import timedelta
from decimal import Decimal
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from scrapy import signals
from scrapy.core.downloader.handlers.base import BaseDownloadHandler
from scrapy.exceptions import DownloadCancelledError
from scrapy.http import Headers, HtmlResponse, Request, Response
from scrapy.responsetypes import responsetypes
from scrapy.utils.asyncio import is_asyncio_available
from scrapy.utils.misc import build_from_crawler, load_object

from cdpbridge.errors import ConfigurationError, StopFailed
from cdpbridge.integrations.scrapy._failures import as_scrapys
from cdpbridge.integrations.scrapy._intake import Limits
from cdpbridge.integrations.scrapy._options import options_of
from cdpbridge.integrations.scrapy._settings import CrawlSettings
from cdpbridge.integrations.scrapy._tabs import CrawlTabs
from cdpbridge.integrations.scrapy._visit import Rendered, Visit, cookie_pairs

if TYPE_CHECKING:
    from scrapy.crawler import Crawler

    from cdpbridge.integrations.scrapy._options import PageOptions

__all__ = ["DownloadHandler"]

logger = logging.getLogger("cdpbridge")

_KEY: Final = "cdpbridge"
_RESULT: Final = "cdpbridge_result"
_NOT_FOR_BROWSERS: Final = frozenset({"accept-encoding", "connection", "content-length", "host"})
"""What the browser must decide for itself."""
_NOT_AS_HEADERS: Final = frozenset({"cookie", "referer", "user-agent"})
"""What goes to the browser in its own way, so that the page's scripts and further requests see it too."""

_crawls: WeakKeyDictionary[Crawler, _Crawl] = WeakKeyDictionary()


class DownloadHandler(BaseDownloadHandler):
    """Renders requests with `meta={"cdpbridge": True}` (or a dict: see `PageOptions`) in rented browsers.

    Set it for `http` and `https` in `DOWNLOAD_HANDLERS`; the browsers are shared. The other requests go to the handler that
    Scrapy has for them. A rendered response has the status, headers and final address of the main document and the document
    as it is then; what is no HTML comes as the server sent it. `meta["cdpbridge_result"]` has the value of `script` and the `screenshot`. Cookies are Scrapy's: the
    browser gets what its cookie middleware has, and gives back what redirects and scripts have set.

    Raises:
        ConfigurationError: A setting is unknown or wrong, or Scrapy does not run on asyncio.
    """

    lazy = False  # wrong settings raise before the first request

    def __init__(self, crawler: Crawler) -> None:
        super().__init__(crawler)
        if not is_asyncio_available():
            raise ConfigurationError(
                "rented browsers need asyncio: leave TWISTED_REACTOR as Scrapy has it, "
                "or set it to twisted.internet.asyncioreactor.AsyncioSelectorReactor"
            )
        crawl = _crawls.get(crawler)
        if crawl is None:
            crawl = _crawls[crawler] = _Crawl(crawler)
        self._crawl = crawl
        self._stock: dict[str, Any] = {}

    async def download_request(self, request: Request) -> Response:
        """Return the response to a request, rendered if it asks for that."""
        crawl = self._crawl
        options = options_of(request.meta.get(_KEY, crawl.settings.render_all), crawl.settings.page)
        if options is None:
            return await self._stock_handler(request).download_request(request)  # type: ignore[no-any-return]
        return await crawl.render(request, options)

    def _stock_handler(self, request: Request) -> Any:
        scheme = urlsplit(request.url).scheme
        if scheme not in self._stock:
            path = self.crawler.settings.getdict("DOWNLOAD_HANDLERS_BASE")[scheme]
            self._stock[scheme] = build_from_crawler(load_object(path), self.crawler)
        return self._stock[scheme]

    async def close(self) -> None:
        """Stop the browsers, unless the end of the spider has done so."""
        try:
            await self._crawl.close()
        finally:
            _crawls.pop(self.crawler, None)
            for handler in self._stock.values():
                await handler.close()


class _Crawl:
    """What the handlers of one crawler share."""

    def __init__(self, crawler: Crawler) -> None:
        self.settings = CrawlSettings.of(crawler.settings)
        self._tabs = CrawlTabs(self.settings)
        assert crawler.stats is not None  # a crawler that builds handlers has them
        self._stats = crawler.stats
        self._timeout = crawler.settings.getfloat("DOWNLOAD_TIMEOUT")
        self._limits = Limits(
            max_size=crawler.settings.getint("DOWNLOAD_MAXSIZE"),
            warn_size=crawler.settings.getint("DOWNLOAD_WARNSIZE"),
            fail_on_data_loss=crawler.settings.getbool("DOWNLOAD_FAIL_ON_DATALOSS"),
        )
        self._cookies = crawler.settings.getbool("COOKIES_ENABLED")
        self._defaults = _scrapys_own_headers(crawler)
        self._closed = False
        # Before the stats are written; the handlers' own close comes after.
        crawler.signals.connect(self.close, signal=signals.spider_closed)

    async def render(self, request: Request, options: PageOptions) -> Response:
        if request.meta.get("proxy"):
            raise ConfigurationError(
                f"{request.url}: meta['proxy'] (perhaps from the environment's http_proxy) does not reach a rented "
                "browser; set CDPBRIDGE_PROXY_COUNTRY, and HTTPPROXY_ENABLED=False or meta['proxy']=None"
            )
        if options.isolated and self.settings.rental.get("profile") is not None:
            raise ConfigurationError(
                f"{request.url}: an isolated page sees nothing of CDPBRIDGE_PROFILE: leave one out"
            )
        seconds = float(request.meta.get("download_timeout") or self._timeout)
        begin = monotonic()
        visit = self._visit(request, options)
        try:
            rendered = await self._tabs.render(visit, timeout=timedelta(seconds=seconds))
        except Exception as error:
            self._stats.inc_value("cdpbridge/failures")
            self._stats.inc_value(f"cdpbridge/failures/{type(error).__name__}")
            failure = as_scrapys(error)
            if failure is error:
                raise
            raise failure from error
        request.meta["download_latency"] = monotonic() - begin
        self._stats.inc_value("cdpbridge/pages")
        if rendered.blocked:
            self._stats.inc_value("cdpbridge/blocked", rendered.blocked)
        limit = visit.limits.max_size
        if limit and len(rendered.body) > limit:
            raise DownloadCancelledError(
                f"{request.url} has {len(rendered.body)} bytes, over the limit of {limit} (DOWNLOAD_MAXSIZE)"
            )
        return _response(request, options, rendered)

    def _visit(self, request: Request, options: PageOptions) -> Visit:
        headers = []
        for raw, values in request.headers.items():
            name = raw.decode("latin-1").lower()
            if name not in _NOT_FOR_BROWSERS | _NOT_AS_HEADERS and values != self._defaults.get(name):
                headers += [(raw.decode("latin-1"), _text(request, raw, value)) for value in values]
        agent = request.headers.get("User-Agent")
        if agent is not None and [agent] == self._defaults.get("user-agent"):
            agent = None
        referrer = request.headers.get("Referer")
        limits, meta = self._limits, request.meta
        return Visit(
            url=request.url,
            options=options,
            method=request.method,
            body=request.body,
            headers=headers,
            cookies=cookie_pairs(_text(request, b"Cookie", request.headers.get("Cookie") or b"")),
            referrer=None if referrer is None else _text(request, b"Referer", referrer),
            user_agent=None if agent is None else _text(request, b"User-Agent", agent),
            keep_cookies=self._cookies and not meta.get("dont_merge_cookies"),
            limits=Limits(
                max_size=meta.get("download_maxsize", limits.max_size),
                warn_size=meta.get("download_warnsize", limits.warn_size),
                fail_on_data_loss=meta.get("download_fail_on_dataloss", limits.fail_on_data_loss),
            ),
        )

    async def close(self) -> None:
        """Stop the browsers and say what they cost, once."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._tabs.close()
        except StopFailed as failed:
            logger.error("%s", failed)  # noqa: TRY400  # the message is meant for the user
        pool = self._tabs.pool
        if pool is None:
            return
        receipt, stats = pool.receipt, pool.stats
        paid = receipt.cost
        self._stats.set_value("cdpbridge/browsers", stats.opened)
        self._stats.set_value("cdpbridge/browsers/lost", stats.lost)
        self._stats.set_value("cdpbridge/tabs", stats.granted)
        self._stats.set_value("cdpbridge/minutes", receipt.billed_minutes)
        self._stats.set_value("cdpbridge/usd", float(paid.quantize(Decimal("0.000001"))))


def _scrapys_own_headers(crawler: Crawler) -> dict[str, list[bytes]]:
    """Return the headers that Scrapy sends by default: a browser has better ones of its own."""
    settings, own = crawler.settings, {}
    if settings.getpriority("DEFAULT_REQUEST_HEADERS") == 0:
        for name, value in settings.getdict("DEFAULT_REQUEST_HEADERS").items():
            own[name.lower()] = [value.encode()]
    spiders = getattr(crawler.spider, "user_agent", None)
    if settings.getpriority("USER_AGENT") == 0 and spiders is None:
        own["user-agent"] = [str(settings["USER_AGENT"]).encode()]
    return own


def _text(request: Request, name: bytes, value: bytes) -> str:
    """Return a header for Chromium, which sends text as UTF-8 and has no other way."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ConfigurationError(
            f"{request.url}: a browser can send no bytes but UTF-8 in a header, and {name.decode('latin-1')} has others: "
            "give it as text, or send this request without the browser"
        ) from None


def _response(request: Request, options: PageOptions, rendered: Rendered) -> Response:
    if rendered.redirects:
        request.meta["redirect_times"] = request.meta.get("redirect_times", 0) + len(rendered.redirects)
        urls, reasons = zip(*rendered.redirects, strict=True)
        request.meta["redirect_urls"] = [*request.meta.get("redirect_urls", []), *urls]
        request.meta["redirect_reasons"] = [*request.meta.get("redirect_reasons", []), *reasons]
    result: dict[str, Any] = {}
    if options.script is not None:
        result["script"] = rendered.script
    if options.screenshot is not None:
        result["screenshot"] = options.screenshot.path or rendered.screenshot
    request.meta[_RESULT] = result
    headers = Headers()
    for name, value in rendered.headers:
        headers.appendlist(name, value)
    kind: type[Response] = HtmlResponse
    more: dict[str, Any] = {"encoding": "utf-8"}
    if not rendered.html:
        kind = responsetypes.from_args(headers=headers, url=rendered.url, body=rendered.body)
        more = {}
    return kind(
        rendered.url,
        status=rendered.status,
        headers=headers,
        body=rendered.body,
        request=request,
        flags=["cdpbridge", "dataloss"] if rendered.cut_off else ["cdpbridge"],
        ip_address=None
        if rendered.ip_address is None
        else ipaddress.ip_address(rendered.ip_address.strip("[]")),
        protocol=rendered.protocol,
        **more,
    )
