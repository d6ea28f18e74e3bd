"""A tab goes on after its connection was lost and re-established, in both builds."""

import asyncio
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from cdpbridge.browser import Tab
from cdpbridge.cdp import connect
from cdpbridge.cdp._http_auth import log_in
from cdpbridge.cdp._http_credentials import HttpCredentials
from tests.cdp.test_reconnect_chromium import CuttingProxy
from tests.conftest import until

pytestmark = pytest.mark.chromium


async def test_a_tab_goes_on(cdp_url, pages):
    pages.pages |= {
        "/outer": f"<button id=here onclick=\"console.log('here')\">a</button><iframe src='{pages.other}/inner'></iframe>",
        "/inner": "<input id=field><button id=there onclick='console.log(field.value)'>b</button><img src=/a.png>",
        "/second": "<img src=/a.png>",
    }
    parts = urlsplit(cdp_url)
    async with CuttingProxy(parts.port) as proxy:
        address = cdp_url.replace(f":{parts.port}/", f":{proxy.port}/")
        async with connect(address, reconnect=True) as connection:
            reports = asyncio.Queue()
            connection.on("reconnected", reports.put_nowait)
            tab = Tab(await connection.new_tab())
            heard = []
            tab.on("console", lambda message: heard.append(message.text))
            await tab.block(types=["image"])
            await tab.route("*/answer", lambda route: route.fulfill(body="mine"))
            await tab.goto(f"{pages.url}/outer")
            for number in ("1", "2"):
                await tab.click("#here")
                await tab.fill("#field", number)
                await tab.click("#there")
                await until(lambda: heard[-2:] == ["here", number])  # it is awaited here
                assert await tab.evaluate("fetch('/answer').then(answer => answer.text())") == "mine"
                if number == "1":
                    waits = [
                        asyncio.create_task(tab.wait_for_selector("#late")),
                        asyncio.create_task(tab.wait_for_expression("window.late")),
                    ]
                    await tab.evaluate("1")
                    proxy.cut()
                    async with asyncio.timeout(60):
                        await reports.get()
                    await tab.evaluate(
                        "document.body.append(Object.assign(document.createElement('p'), {id: 'late'}))"
                    )
                    await tab.evaluate("late.textContent = window.late = 'late'")
                    await asyncio.gather(*waits)
            assert (await tab.goto(f"{pages.url}/second")).ok
            assert ("GET", "/a.png") not in pages.seen
            await tab.close()


async def test_fault_c13_logins_go_on(cdp_url, pages):
    """Of the whole browser, and of one tab."""

    def answer(headers):
        known = headers["Authorization"] is not None
        return (200 if known else 401), {"WWW-Authenticate": f'Basic realm="{len(pages.seen)}"'}, b""

    pages.answers |= {"/before": answer, "/after": answer}
    mine = HttpCredentials("ada", "lovelace", pages.url)
    parts = urlsplit(cdp_url)
    async with CuttingProxy(parts.port) as proxy:
        address = cdp_url.replace(f":{parts.port}/", f":{proxy.port}/")
        async with connect(address, reconnect=True) as connection:
            reports = asyncio.Queue()
            connection.on("reconnected", reports.put_nowait)
            await log_in(connection, [mine])
            tab = Tab(await connection.new_tab())
            assert (await tab.goto(f"{pages.other}/before", http_credentials=replace(mine, origin=None))).ok
            proxy.cut()
            async with asyncio.timeout(60):
                await reports.get()
            assert (await tab.goto(f"{pages.url}/after")).ok
            assert (await tab.goto(f"{pages.other}/after")).ok
            await tab.close()
