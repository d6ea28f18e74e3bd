"""What becomes of downloads when a client leaves that had sent them elsewhere: Chromium forgets the setting for all clients."""

import asyncio
import json

import pytest
from httpx import AsyncClient
from playwright.async_api import async_playwright
from websockets.asyncio.client import connect as websocket

from cdpbridge.cdp import connect
from tests.server.hosts.test_network import tab_of

pytestmark = pytest.mark.chromium

LINK = "Object.assign(document.createElement('a'), {{download: '{0}', href: 'data:text/csv,1;2'}}).click()"


async def by_playwright(address, folder):
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(address)
        page = await browser.contexts[0].new_page()
        async with page.expect_download():
            await page.evaluate(LINK.format("theirs.csv"))
        await browser.close()


async def by_a_lost_connection(address, folder):
    """The client's machine has failed: no close frame."""
    async with AsyncClient() as http:
        version = (await http.get(f"{address}/json/version")).json()
    async with websocket(version["webSocketDebuggerUrl"]) as client:
        command = {"behavior": "allow", "downloadPath": folder}
        await client.send(json.dumps({"id": 1, "method": "Browser.setDownloadBehavior", "params": command}))
        await client.recv()
        client.transport.abort()


async def by_leaving(address, folder):
    async with connect(address) as connection:
        await connection.root.send("Browser.setDownloadBehavior", {"behavior": "deny"})


@pytest.mark.parametrize("build", ["shell", "full"])
async def test_files_land_in_the_browsers_folder_again(make_server, build):
    async with make_server(browser_build=build) as server:
        rented = await server.rent()
        files = server.app.state.services.files
        folder = files.downloads(rented["id"])
        elsewhere = str(folder.parent / "elsewhere")
        async with tab_of(rented) as tab:
            for number, client in enumerate((by_playwright, by_a_lost_connection, by_leaving)):
                await client(rented["cdpUrl"], elsewhere)
                name = f"{number}.csv"

                async def lands(name=name):
                    # Until the server has set its folder again, Chromium may drop a file.
                    await tab.send("Runtime.evaluate", {"expression": LINK.format(name)})
                    await asyncio.sleep(0.2)
                    return (folder / name).exists()

                async with asyncio.timeout(60):
                    while not await lands():
                        pass
