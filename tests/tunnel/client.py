"""A client of a tunnel that speaks CDP itself."""

from pathlib import Path
from urllib.parse import quote

from cdpbridge import Tab
from cdpbridge.tunnel._server_disk import ServerDisk
from tests.conftest import until


async def click(tab, name="märz.csv", size=4):
    link = f"/file?name={quote(name)}&size={size}"
    await tab.evaluate(f"Object.assign(document.createElement('a'), {{href: {link!r}}}).click()")


class Client:
    """A client of a tunnel that hears of downloads, and waits for their ends."""

    def __init__(self, session):
        self.session = session
        self.begun = {}
        self.ended = {}
        session.on("Browser.downloadWillBegin", lambda e: self.begun.update({e["guid"]: e}))
        session.on("Browser.downloadProgress", self.progress)

    def progress(self, event):
        if event["state"] != "inProgress":
            self.ended[event["guid"]] = event

    async def set(self, behaviour, folder=None, **more):
        more = {"behavior": behaviour, "eventsEnabled": True} | more
        if folder is not None:
            more["downloadPath"] = str(folder)
        await self.session.send("Browser.setDownloadBehavior", more)

    async def one(self, count=1):
        async def there():
            return len(self.ended) >= count

        await until(there)
        return list(self.ended.values())[-1]


async def opened(connection, site_url):
    tab = Tab(await connection.new_tab())
    await tab.goto(site_url)
    return tab


async def element(tab, name):
    found = await tab.session.send("Runtime.evaluate", {"expression": name})
    return found["result"]["objectId"]


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
