"""Each form of asking for downloads, by a client that speaks CDP itself."""

import json
from collections import Counter
from itertools import count

import pytest

from cdpbridge import Tab
from cdpbridge.cdp import connect
from cdpbridge.errors import CommandError
from cdpbridge.tunnel import open_tunnel
from tests.conftest import until
from tests.tunnel.client import Client, click, files_in, opened, there
from tests.tunnel.file_site import content

pytestmark = pytest.mark.chromium


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


async def test_a_page_of_a_context_that_the_client_has_not_set(connection, tab, here):
    """Its events are the browser's own, also while the client has a folder for another context."""
    reply = await connection.root.send("Target.createBrowserContext")
    await Client(connection.root).set("allow", here, browserContextId=reply["browserContextId"])
    await tab.session.send("Page.enable")
    async with tab.session.expect(
        "Page.downloadProgress", lambda event: event["state"] != "inProgress"
    ) as end:
        await click(tab)
    assert end.event["state"] == "completed"
    assert files_in(here) == []


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


async def large_file_comes(client, tab, here):
    """Download a large file, and return when some of its bytes are in the folder of the client."""
    await client.set("allow", here)
    await click(tab, "large.bin", 200_000_000)
    await until(lambda: any(each.suffix == ".part" for each in here.iterdir()))


async def test_a_download_that_is_cancelled_while_its_bytes_come(connection, tab, here):
    client = Client(connection.root)
    await large_file_comes(client, tab, here)
    assert client.ended == {}
    await connection.root.send("Browser.cancelDownload", {"guid": next(iter(client.begun))})
    ended = await client.one()
    assert ended["state"] == "canceled"
    assert "filePath" not in ended
    assert list(here.iterdir()) == []
    await click(tab)
    assert (await client.one(2))["state"] == "completed"


async def test_names_are_the_browsers(connection, tab, here):
    """Its suggestion is where clients look for the file; one that is too long for a disk is cut, where Chromium has no file."""
    client = Client(connection.root)
    await client.set("allow", here)
    names = ["con.txt", "e\u0301.txt", "\u65e5\u672c.txt", "a b~.txt", "x" * 300 + ".txt"]
    for number, name in enumerate(names, 1):
        await tab.evaluate(
            "Object.assign(document.createElement('a'), "
            f"{{download: {name!r}, href: URL.createObjectURL(new Blob(['{number}']))}}).click()"
        )
        assert (await client.one(number))["state"] == "completed"
    names[-1] = "x" * 251 + ".txt"
    assert {name: (here / name).read_text() for name in files_in(here)} == {
        name: f"{number}" for number, name in enumerate(names, 1)
    }


async def test_one_name_twice_at_once(connection, tab, here):
    """As Chromium does it: the later one stays, whole, and both are told as completed."""
    client = Client(connection.root)
    await client.set("allow", here)
    await tab.evaluate(
        "for (const text of ['first', 'second']) Object.assign(document.createElement('a'), "
        "{download: 'same.txt', href: URL.createObjectURL(new Blob([text]))}).click()"
    )
    await client.one(2)
    assert {each["filePath"] for each in client.ended.values()} == {str(here / "same.txt")}
    assert files_in(here) == ["same.txt"]
    assert (here / "same.txt").read_text() in {"first", "second"}


async def test_events_that_are_turned_on_later(connection, tab, here):
    client = Client(connection.root)
    await client.set("allow", here, eventsEnabled=False)
    await click(tab, "silent.bin", 10)
    await there(here / "silent.bin", 10)
    await client.set("allow", here)
    await click(tab, "loud.bin", 10)
    assert (await client.one())["filePath"] == str(here / "loud.bin")
    assert len(client.begun) == len(client.ended) == 1


async def test_a_client_that_leaves_meanwhile_and_comes_back(address, site_url, here):
    async with connect(address.cdp_url) as first:
        tab = await opened(first, site_url)
        client = Client(first.root)
        await large_file_comes(client, tab, here)

    await until(lambda: list(here.iterdir()) == [])
    async with connect(address.cdp_url) as second:
        tab = await opened(second, site_url)
        client = Client(second.root)
        await client.set("allow", here)
        numbers = count(1)

        async def arrives():  # until the setting of the server, which holds again as the first has left, is overtaken
            await click(tab, "again.bin", 1000)
            return (await client.one(next(numbers)))["state"] == "completed"

        await until(arrives)
        assert (here / "again.bin").read_bytes() == content("again.bin", 1000)


async def test_the_tunnel_is_closed_meanwhile(far_session, site_url, here):
    async with open_tunnel(far_session) as address, connect(address.cdp_url) as connection:
        tab = Tab(await connection.new_tab())
        await tab.goto(site_url)
        client = Client(connection.root)
        await large_file_comes(client, tab, here)
    assert files_in(here) == []
