"""A browser of no server of ours: files are carried over CDP alone, and what that takes is not seen by the client."""

import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from cdpbridge import Tab, playwright
from cdpbridge.cdp import connect
from cdpbridge.tunnel import open_tunnel, shares_files
from tests.conftest import until
from tests.tunnel.file_site import content

pytestmark = pytest.mark.chromium


async def test_files_over_cdp_alone(bare_address, site_url, here):
    assert await shares_files(bare_address) is None
    big = here / "big.bin"
    big.write_bytes(os.urandom(3_000_017))
    async with playwright.connect(bare_address, tunnel=True) as connected:
        for context in (connected.contexts[0], await connected.new_context()):
            pages, downloads = len(context.pages), []
            page = await context.new_page()
            page.on("download", lambda found, downloads=downloads: downloads.append(found))
            await page.goto(site_url)
            async with page.expect_download() as info:
                await page.click("#big")
            path = await (await info.value).path()
            assert Path(path).read_bytes() == content("big.bin", 3_000_017)
            await page.set_input_files("#one", big)
            found = json.loads(await page.evaluate("read(one.files)"))
            assert found[0][0] == "big.bin"
            assert found[0][4] == hashlib.sha256(big.read_bytes()).hexdigest()
            assert len(context.pages) == pages + 1
            assert len(downloads) == 1
        assert len(connected.contexts) == 2


async def test_nothing_of_the_tunnels_own_is_seen(bare_address, site_url, here):
    """By a client that asks to be told of everything."""
    (here / "a.txt").write_text("a")
    events = Counter()
    async with open_tunnel(bare_address) as address, connect(address.cdp_url) as client:
        root = client.root
        methods = ("targetCreated", "targetDestroyed", "targetInfoChanged", "attachedToTarget")
        for method in methods:
            root.on(f"Target.{method}", lambda _event, method=method: events.update([method]))
        for method in ("downloadWillBegin", "downloadProgress"):
            root.on(f"Browser.{method}", lambda event: events.update([event["guid"]]))
        page = await client.new_tab()
        await Tab(page).goto(site_url)
        await root.send("Target.setDiscoverTargets", {"discover": True, "filter": [{}]})
        wait = {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": True}
        await root.send("Target.setAutoAttach", wait)
        folder = {"behavior": "allow", "downloadPath": str(here / "got"), "eventsEnabled": True}
        await root.send("Browser.setDownloadBehavior", folder)
        before, contexts = await root.send("Target.getTargets"), await root.send("Target.getBrowserContexts")
        at_first = Counter(events)
        element = await page.send("Runtime.evaluate", {"expression": "document.querySelector('#one')"})
        files = {"files": [str(here / "a.txt")], "objectId": element["result"]["objectId"]}
        await page.send("DOM.setFileInputFiles", files)
        count = await page.send("Runtime.evaluate", {"expression": "one.files[0].size"})
        assert count["result"]["value"] == 1
        assert events - at_first - Counter(targetInfoChanged=100) == Counter()
        after = await root.send("Target.getTargets")
        assert {each["targetId"] for each in after["targetInfos"]} == {
            each["targetId"] for each in before["targetInfos"]
        }
        assert await root.send("Target.getBrowserContexts") == contexts


async def test_more_files_than_chromium_takes_from_one_page(bare_address, site_url, here):
    """It asks the user after ten downloads of a page, and each file comes as one."""
    tree = here / "tree"
    tree.mkdir()
    names = sorted(f"{number}{'.txt' if number % 2 else ''}" for number in range(25))
    for name in names:
        (tree / name).write_text(name)
    async with open_tunnel(bare_address) as address, connect(address.cdp_url) as client:
        page = await client.new_tab()
        await Tab(page).goto(site_url)
        for name in ("folder", "many"):
            element = await page.send("Runtime.evaluate", {"expression": name})
            paths = [tree] if name == "folder" else sorted(tree.iterdir())
            files = {"files": [str(path) for path in paths], "objectId": element["result"]["objectId"]}
            await page.send("DOM.setFileInputFiles", files)

            async def taken(name=name):
                return await Tab(page).evaluate(f"{name}.files.length")

            assert await until(taken) == 25
        found = json.loads(await Tab(page).evaluate("read(many.files)"))
        assert [each[:2] for each in found] == [[name, len(name)] for name in names]
        await Tab(page).close()
