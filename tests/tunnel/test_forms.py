"""Each form of asking for downloads and of giving files to pages, by a client that speaks CDP itself."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from cdpbridge import Tab
from cdpbridge.cdp import connect
from cdpbridge.errors import CommandError
from cdpbridge.tunnel import open_tunnel
from cdpbridge.tunnel._server_disk import ServerDisk
from tests.tunnel.file_site import content
from tests.tunnel.test_settings import Client, click, until

pytestmark = pytest.mark.chromium


@pytest.fixture
async def address(far_browser):
    async with open_tunnel(far_browser) as address:
        yield address


@pytest.fixture
async def connection(address):
    async with connect(address.cdp_url) as connection:
        yield connection


@pytest.fixture
async def tab(connection, site_url):
    tab = Tab(await connection.new_tab())
    await tab.goto(site_url)
    return tab


def files_in(folder):
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file())


async def folder_of_uploads(server, browser):
    """As the server's process sees it."""
    disk = await ServerDisk.find(browser.cdp_url)
    await disk.close()
    return Path(f"/proc/{server.process.pid}/root{disk.folders.uploads}")


async def there(path, size):
    async def whole():
        return path.exists() and path.stat().st_size == size

    await until(whole)


async def test_deny_and_default(connection, tab, here):
    client = Client(connection.root)
    await client.set("allow", here)
    await client.set("deny")
    await click(tab)
    assert (await client.one())["state"] == "canceled"
    await client.set("default")
    await click(tab, "b.txt")
    await client.one(2)
    with pytest.raises(CommandError, match="downloadPath"):
        await client.set("allow")
    assert files_in(here) == []


async def test_without_events_the_file_comes_all_the_same(connection, tab, here):
    client = Client(connection.root)
    await client.set("allow", here, eventsEnabled=False)
    await click(tab)
    await there(here / "märz.csv", 4)
    assert client.begun == client.ended == {}


async def test_a_pages_own_form(connection, tab, here):
    """Of a context that has no other client, with events of the domain `Page`, which know no path."""
    reply = await connection.root.send("Target.createBrowserContext")
    page = await connection.new_tab(browser_context_id=reply["browserContextId"])
    await Tab(page).goto(await tab.current_url())
    seen = Counter()
    page.on("Page.downloadProgress", lambda e: seen.update([e["state"], *files_in(here)]))
    page.on("Browser.downloadProgress", lambda e: seen.update(["not asked for"]))
    await page.send("Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(here)})
    await click(Tab(page), "of-a-page.bin", 100_000)

    async def completed():
        return seen["completed"]

    await until(completed)
    assert seen["of-a-page.bin"] == seen["completed"] == 1
    assert "not asked for" not in seen
    assert (here / "of-a-page.bin").read_bytes() == content("of-a-page.bin", 100_000)


async def test_a_page_asks_for_the_downloads_of_another(connection, tab, here):
    """The setting is the context's; only the asking page's own downloads are told to it."""
    other = Tab(await connection.new_tab())
    await other.goto(await tab.current_url())
    client = Client(other.session)
    await client.set("allow", here)
    await click(tab, "of-another.bin", 1000)
    await there(here / "of-another.bin", 1000)
    await click(other, "own.bin", 1000)
    assert (await client.one())["filePath"] == str(here / "own.bin")
    assert len(client.begun) == 1


async def test_the_socket_of_a_page(address, tab, here):
    async with connect(f"ws://{address}/devtools/page/{tab.target_id}") as connection:
        client = Client(connection.root)
        await client.set("allow", here)
        await click(tab)
        assert (await client.one())["filePath"] == str(here / "märz.csv")
        (here / "up.txt").write_text("up")
        found = await connection.root.send("Runtime.evaluate", {"expression": "one"})
        files = {"files": [str(here / "up.txt")], "objectId": found["result"]["objectId"]}
        await connection.root.send("DOM.setFileInputFiles", files)
    assert json.loads(await tab.evaluate("read(one.files)"))[0][:2] == ["up.txt", 2]


async def test_two_contexts_with_a_folder_each(connection, tab, here):
    client = Client(connection.root)
    reply = await connection.root.send("Target.createBrowserContext")
    other = Tab(await connection.new_tab(browser_context_id=reply["browserContextId"]))
    await other.goto(await tab.current_url())
    await client.set("allow", here / "own")
    await client.set("allow", here / "other", browserContextId=reply["browserContextId"])
    await click(tab)
    await click(other)
    await client.one(2)
    assert files_in(here) == ["other/märz.csv", "own/märz.csv"]


async def test_hundreds_of_small_files(connection, here):
    client = Client(connection.root)
    await client.set("allow", here)
    tabs = [Tab(await connection.new_tab()) for _ in range(20)]
    for number in range(200):  # Chromium takes ten from one page, each with a gesture of the user
        tab = tabs[number % 20]
        await tab.evaluate(
            f"link = Object.assign(document.createElement('a'), {{download: '{number}.bin'}});"
            f"link.href = URL.createObjectURL(new Blob(['{number}'])); link.click()"
        )
    await client.one(200)
    assert {each["state"] for each in client.ended.values()} == {"completed"}
    assert {name: (here / name).read_text() for name in files_in(here)} == {
        f"{i}.bin": f"{i}" for i in range(200)
    }


# --- what goes wrong ----------------------------------------------------------------------------------------------------


async def test_a_folder_that_cannot_be_written(connection, tab, here):
    client = Client(connection.root)
    (here / "file").write_text("")
    await client.set("allow", here / "file" / "inner")
    await click(tab)
    ended = await client.one()
    assert ended["state"] == "canceled"
    assert "filePath" not in ended
    await client.set("allow", here / "good")
    await click(tab)
    assert (await client.one(2))["state"] == "completed"
    assert files_in(here) == ["file", "good/märz.csv"]


async def test_a_download_that_the_client_cancels(connection, tab, here):
    client = Client(connection.root)
    await client.set("allow", here)
    await tab.evaluate("slow.click()")

    async def begun():
        return client.begun

    await until(begun)
    guid = next(iter(client.begun))
    await connection.root.send("Browser.cancelDownload", {"guid": guid})
    assert (await client.one())["state"] == "canceled"
    assert files_in(here) == []


async def test_the_tunnel_is_closed_meanwhile(far_browser, site_url, here):
    async with open_tunnel(far_browser) as address, connect(address.cdp_url) as connection:
        tab = Tab(await connection.new_tab())
        await tab.goto(site_url)
        client = Client(connection.root)
        await client.set("allow", here)
        await click(tab, "large.bin", 200_000_000)

        async def on_its_way():
            return any(each.suffix == ".part" for each in here.iterdir())

        await until(on_its_way)
    assert files_in(here) == []


# --- uploads ------------------------------------------------------------------------------------------------------------


async def element(tab, name):
    found = await tab.session.send("Runtime.evaluate", {"expression": name})
    return found["result"]["objectId"]


async def test_by_node_by_backend_node_and_by_object(tab, here):
    (here / "a.txt").write_text("a")
    session = tab.session
    object_id = await element(tab, "many")
    await session.send("DOM.getDocument")
    node = await session.send("DOM.requestNode", {"objectId": object_id})
    described = await session.send("DOM.describeNode", {"objectId": object_id})
    for how in (
        {"objectId": object_id},
        node,
        {"backendNodeId": described["node"]["backendNodeId"]},
    ):
        await tab.evaluate("many.value = ''")
        await session.send("DOM.setFileInputFiles", {"files": [str(here / "a.txt")]} | how)
        assert json.loads(await tab.evaluate("read(many.files)"))[0][:2] == ["a.txt", 1]


async def test_names_that_are_hard(tab, here):
    names = [".hidden", "mit Leerzeichen & ä%20.txt", "日本.txt", "a?b#c+d.txt", "x" * 200 + ".txt"]
    for name in names:
        (here / name).write_text(name)
    files = {"files": [str(here / name) for name in names], "objectId": await element(tab, "many")}
    await tab.session.send("DOM.setFileInputFiles", files)
    assert [each[0] for each in json.loads(await tab.evaluate("read(many.files)"))] == names


async def test_missing_files_pass_as_they_are(tab, far_browser, here):
    """The answer is Chromium's own, the same as without a tunnel."""
    missing = str(here / "missing.txt")
    files = {"files": [missing], "objectId": await element(tab, "one")}
    through = await tab.session.send("DOM.setFileInputFiles", files)
    direct = await far_browser.connection.attach(tab.target_id)
    there = (await direct.send("Runtime.evaluate", {"expression": "one"}))["result"]["objectId"]
    assert await direct.send("DOM.setFileInputFiles", {"files": [missing], "objectId": there}) == through
    assert await tab.evaluate("one.files[0].name") == "missing.txt"


async def test_order_is_kept_in_a_session_and_others_go_on(connection, tab, here):
    big = here / "big.bin"
    with big.open("wb") as file:
        file.truncate(150_000_000)
    other = await connection.new_tab()
    order = []

    async def send(name, session, method, parameters):
        reply = await session.send(method, parameters)
        order.append(name)
        return reply

    files = {"files": [str(big)], "objectId": await element(tab, "one")}
    length = {"expression": "one.files.length"}
    results = await asyncio.gather(
        send("files", tab.session, "DOM.setFileInputFiles", files),
        *(send("behind", tab.session, "Runtime.evaluate", length) for _ in range(3)),
        send("other", other, "Runtime.evaluate", {"expression": "1"}),
    )
    assert order == ["other", "files", "behind", "behind", "behind"]
    assert [each["result"]["value"] for each in results[1:4]] == [1, 1, 1]


async def test_an_intercepted_drag(tab, here):
    (here / "dragged.txt").write_text("dragged")
    data = {"items": [], "files": [str(here / "dragged.txt")], "dragOperationsMask": 1}
    box = await tab.evaluate("JSON.stringify(drop.getBoundingClientRect())")
    at = {"x": json.loads(box)["x"] + 20, "y": json.loads(box)["y"] + 20}
    for kind in ("dragEnter", "dragOver", "drop"):
        await tab.session.send("Input.dispatchDragEvent", {"type": kind, "data": data} | at)

    async def dropped():
        return await tab.evaluate("drop.title")

    assert json.loads(await until(dropped))[0][:2] == ["dragged.txt", 7]


async def test_what_was_put_there_goes_with_the_page_and_with_the_tunnel(
    far_browser, far_server, site_url, here
):
    (here / "a.txt").write_text("a")
    uploads = await folder_of_uploads(far_server, far_browser)
    async with open_tunnel(far_browser) as address, connect(address.cdp_url) as connection:
        tabs = [Tab(await connection.new_tab()) for _ in range(2)]
        for tab in tabs:
            await tab.goto(site_url)
            files = {"files": [str(here / "a.txt")], "objectId": await element(tab, "one")}
            await tab.session.send("DOM.setFileInputFiles", files)
        assert len(files_in(uploads)) == 2
        await tabs[0].close()

        async def removed():
            return len(files_in(uploads)) == 1

        await until(removed)
    assert files_in(uploads) == []


async def test_a_file_that_is_shorter_than_it_says(tab, here):
    """What cannot be brought whole is not given to the page, and the client hears why."""
    path = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not path.exists() or path.stat().st_size <= len(path.read_bytes()):
        pytest.skip("no such file on this machine")
    files = {"files": [str(path)], "objectId": await element(tab, "one")}
    with pytest.raises(CommandError, match="became shorter"):
        await tab.session.send("DOM.setFileInputFiles", files)
    assert await tab.evaluate("one.files.length") == 0
