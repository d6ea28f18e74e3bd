"""axe-core on every state of the live page, in both palettes and on a phone. Slow: it fetches axe-core from npm."""

import asyncio
import shutil
import subprocess
import tarfile

import pytest

pytestmark = [pytest.mark.chromium, pytest.mark.slow]

AXE = "4.14.1"


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    if shutil.which("npm") is None:
        pytest.skip("there is no npm")
    folder = tmp_path_factory.mktemp("axe")
    subprocess.run(
        ["npm", "pack", "--silent", f"axe-core@{AXE}"], cwd=folder, check=True, capture_output=True
    )
    with tarfile.open(folder / f"axe-core-{AXE}.tgz") as archive:
        return archive.extractfile("package/axe.min.js").read().decode()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (390, 780)], ids=["desktop", "phone"])
async def test_axe_finds_nothing_serious(rented, viewers_browser, axe, theme, size):
    watched = await rented.open("<title>orders</title><h1>Orders</h1>")
    page = await viewers_browser.new_page(
        viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce"
    )
    faults = []

    async def check(state):
        await page.evaluate(axe)
        found = (await page.evaluate("axe.run(document)"))["violations"]
        faults.extend(
            (state, each["id"], each["impact"], [node["html"] for node in each["nodes"]])
            for each in found
            if each["impact"] in {"serious", "critical"}
        )

    await page.goto(f"{rented.live_url}?theme={theme}")
    await page.wait_for_selector("body[data-state=live]")
    await check("watching")
    await page.click("#drive")
    await page.wait_for_selector("body[data-driving]")
    await check("driving")
    asking = asyncio.ensure_future(watched.run("prompt('How many?', '3')"))
    await page.wait_for_selector("text=How many?")
    await check("dialog")
    await page.click("#question-yes")
    await asking
    crash = asyncio.ensure_future(watched.session.send("Page.crash"))
    await page.wait_for_selector("body[data-state=crashed]")
    await asyncio.wait({crash})
    assert crash.exception() is not None
    await check("crashed")
    await rented.stop()
    await page.wait_for_selector("body[data-state=ended]")
    await check("ended")
    assert not faults
