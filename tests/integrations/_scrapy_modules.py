"""What a crawl imports, Scrapy's default components included: imported by the process that forks crawls, see `tests/programs.py`."""

import scrapy.crawler
import scrapy.http
from scrapy.settings import default_settings
from scrapy.utils.misc import load_object

import cdpbridge.integrations.scrapy
import cdpbridge.server._serve

LOADED = (scrapy.crawler, scrapy.http, cdpbridge.integrations.scrapy.DownloadHandler, cdpbridge.server._serve)


def names(value: object) -> list[object]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return [value]


for setting in dir(default_settings):
    for name in names(getattr(default_settings, setting)):
        if isinstance(name, str) and name.startswith("scrapy."):
            load_object(name)
