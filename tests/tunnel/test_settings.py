"""What holds for downloads when several clients have said what they want, and when one of them leaves."""

from itertools import count

import pytest

import cdpbridge
from cdpbridge.cdp import connect
from cdpbridge.tunnel import open_tunnel
from cdpbridge.tunnel._server_disk import ServerDisk
from tests.conftest import until
from tests.tunnel.client import Client, click
from tests.tunnel.file_site import content

pytestmark = pytest.mark.chromium


def at(server):
    return cdpbridge.at(server.base_url, server.key)


async def listed(client, browser):
    return [file.path async for file in client.browsers.downloads(browser.id)]


async def test_fault_c22_the_servers_folder_holds_again_when_a_client_leaves(far_server, site_url, here):
    async with at(far_server) as client, cdpbridge.open_browser(client) as browser:
        tab = await browser.new_tab(site_url)
        numbers = count()
        for through in (False, True):
            async with (
                open_tunnel(browser) as address,
                connect(address.cdp_url if through else browser.cdp_url) as other,
            ):
                await Client(other.root).set("allow", here / "theirs")
            before = await listed(client, browser)

            async def kept(before=before):
                await click(
                    tab, f"{next(numbers)}.txt"
                )  # one that comes before the folder holds again is lost
                return len(await listed(client, browser)) > len(before)

            await until(kept)


async def test_who_has_set_nothing_changes_nothing_by_leaving(far_server, site_url, here):
    async with at(far_server) as client, cdpbridge.open_browser(client) as browser:
        tab = await browser.new_tab(site_url)
        mine = Client(browser.connection.root)
        disk = await ServerDisk.find(browser.cdp_url)
        await disk.close()
        folder = f"{disk.folders.downloads}/elsewhere"
        await mine.set("allow", folder)
        async with connect(browser.cdp_url) as other:
            await other.root.send("Browser.getVersion")
        for count in (1, 2):
            await click(tab)
            assert (await mine.one(count))["filePath"].startswith(f"{folder}/")
        assert await listed(client, browser) == []


async def test_clients_with_other_wishes_each_get_their_files(far_browser, site_url, here):
    tab = await far_browser.new_tab(site_url)
    async with (
        open_tunnel(far_browser) as first,
        open_tunnel(far_browser) as second,
        connect(first.cdp_url) as one,
        connect(first.cdp_url) as two,
    ):
        async with connect(second.cdp_url) as three:
            clients = [Client(each.root) for each in (one, two, three)]
            await clients[0].set("allow", here / "one")
            await clients[1].set("allowAndName", here / "two")
            await clients[2].set("allow", here / "three" / "deep")
            await click(tab)
            paths = [(await each.one())["filePath"] for each in clients]
            guid = next(iter(clients[0].ended))
            assert paths == [
                str(here / "one" / "märz.csv"),
                str(here / "two" / guid),
                str(here / "three" / "deep" / "märz.csv"),
            ]
        numbers = count(2)

        # The third has left: until the folder holds again, the browser cancels downloads, or puts them into its own folder.
        async def arrives():
            number = next(numbers)
            await click(tab)
            ends = [await each.one(number) for each in clients[:2]]
            assert ends[0]["state"] == ends[1]["state"]
            here_now = ends[0]["state"] == "completed" and ends[0]["filePath"].startswith(str(here))
            return ends if here_now else None

        ends = await until(arrives)
        assert ends[0]["filePath"] == str(here / "one" / "märz.csv")
        assert ends[1]["filePath"].startswith(str(here / "two"))
    files = [each for each in here.rglob("*") if each.is_file()]
    assert len(files) == 4
    assert {each.read_bytes() for each in files} == {content("märz.csv", 4)}
