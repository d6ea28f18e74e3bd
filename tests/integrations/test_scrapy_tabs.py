"""The tabs of a crawl without Scrapy: how long they are kept, and who waits for them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from scrapy.settings import Settings

import cdpbridge
from cdpbridge.errors import CommandTimeout, LeaseTimeout, PoolClosed
from cdpbridge.integrations.scrapy import CrawlSettings, PageOptions
from cdpbridge.integrations.scrapy._tabs import CrawlTabs
from cdpbridge.integrations.scrapy._visit import Visit
from tests.integrations._site import serve
from tests.integrations.test_scrapy import active, until

pytestmark = pytest.mark.programs

LONG = timedelta(seconds=60)


@pytest.fixture
async def tabs(server):
    """Makes the tabs of a crawl with one tab at a time."""
    made = []

    def make(**settings):
        given = {
            "CDPBRIDGE_PROVIDER": cdpbridge.at(server.base_url, server.key),
            "CDPBRIDGE_TABS_PER_BROWSER": 1,
        }
        made.append(CrawlTabs(CrawlSettings.of(Settings(given | settings))))
        return made[-1]

    yield make
    for each in made:
        await each.close()
    assert active(server) == []


@pytest.fixture
def site():
    with serve() as running:
        yield running


async def test_a_tab_is_kept_for_so_many_pages(tabs, site):
    address, _ = site
    crawl = tabs(CDPBRIDGE_PAGES_PER_TAB=2)
    for number in range(5):
        assert (await crawl.render(Visit(f"{address}/{number}", PageOptions()), timeout=LONG)).status == 200
    assert crawl.pool.stats.granted == 3
    assert crawl.pool.stats.opened == 1


async def test_after_a_failure_the_tab_is_another(tabs, site):
    address, _ = site
    crawl = tabs()
    with pytest.raises(CommandTimeout, match="loading, until load"):
        await crawl.render(Visit(f"{address}/hangs", PageOptions()), timeout=timedelta(seconds=3))
    assert b"After" in (await crawl.render(Visit(f"{address}/scripted", PageOptions()), timeout=LONG)).body
    assert crawl.pool.stats.granted == 2


async def test_who_waits_too_long_for_a_tab_is_told(tabs, site):
    address, running = site
    crawl = tabs(CDPBRIDGE_TAB_TIMEOUT=5)
    first = asyncio.create_task(crawl.render(Visit(f"{address}/hangs", PageOptions()), timeout=LONG))
    await asyncio.to_thread(until, lambda: running.seen["/hangs"])
    with pytest.raises(LeaseTimeout, match="no tab within CDPBRIDGE_TAB_TIMEOUT") as caught:
        await crawl.render(Visit(f"{address}/second", PageOptions()), timeout=LONG)
    assert caught.value.waiting
    assert not running.seen["/second"]
    running.hold.set()
    assert (await first).status == 200


async def test_the_end_of_the_crawl_ends_what_is_rendered_and_what_waits(tabs, site):
    address, running = site
    crawl = tabs()
    visits = [
        asyncio.create_task(crawl.render(Visit(f"{address}/hangs?{number}", PageOptions()), timeout=LONG))
        for number in range(2)
    ]
    await asyncio.to_thread(until, lambda: running.seen["/hangs?0"])
    await crawl.close()
    assert [type(each) for each in await asyncio.gather(*visits, return_exceptions=True)] == [PoolClosed] * 2
    with pytest.raises(PoolClosed):
        await crawl.render(Visit(f"{address}/late", PageOptions()), timeout=LONG)


async def test_a_visit_sees_nothing_of_the_one_before_in_its_tab(tabs, site):
    address, _ = site
    crawl = tabs()
    for path in ("/cookies", "/storage", "/storage"):
        visited = await crawl.render(
            Visit(address + path, PageOptions(script="document.cookie")), timeout=LONG
        )
        assert visited.script == ("b=2" if path == "/cookies" else "")
    assert b"<title>11</title>" in visited.body
    assert crawl.pool.stats.granted == 1
