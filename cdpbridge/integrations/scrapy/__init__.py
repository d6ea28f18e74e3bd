"""Scrapy on rented browsers: `DOWNLOAD_HANDLERS = {"https": "cdpbridge.integrations.scrapy.DownloadHandler", ...}`.

Requests with `meta={"cdpbridge": True}`, or a dict of options, are rendered in a browser; the others go to Scrapy's own handler.
Needs the extra `scrapy`.
"""

from __future__ import annotations

from cdpbridge.integrations.scrapy._handler import DownloadHandler
from cdpbridge.integrations.scrapy._options import PageOptions
from cdpbridge.integrations.scrapy._settings import CrawlSettings, settings_table

__all__ = ["CrawlSettings", "DownloadHandler", "PageOptions", "settings_table"]
