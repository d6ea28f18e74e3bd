"""Each form of giving files to pages, by a client that speaks CDP itself."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from cdpbridge import Tab
from cdpbridge.cdp import connect
from cdpbridge.errors import CommandError
from cdpbridge.tunnel import open_tunnel
from tests.conftest import until
from tests.tunnel.client import click, element, files_in, folder_of_uploads, opened
from tests.tunnel.file_site import content

pytestmark = pytest.mark.chromium


@pytest.fixture
async def direct_connection(far_session):
    """To the browser, without the tunnel."""
    async with connect(far_session.cdp_url) as connection:
        yield connection


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


async def test_missing_files_pass_as_they_are(tab, direct_connection, here):
    """The answer is Chromium's own, the same as without a tunnel."""
    missing = str(here / "missing.txt")
    files = {"files": [missing], "objectId": await element(tab, "one")}
    through = await tab.session.send("DOM.setFileInputFiles", files)
    direct = await direct_connection.attach(tab.target_id)
    there = (await direct.send("Runtime.evaluate", {"expression": "one"}))["result"]["objectId"]
    assert await direct.send("DOM.setFileInputFiles", {"files": [missing], "objectId": there}) == through
    assert await tab.evaluate("one.files[0].name") == "missing.txt"


NO_FILES = {
    "pipe": lambda here: str(here / "pipe"),
    "no letter": lambda here: f"{here}/\ud800",
    "relative": lambda here: "pipe",
    "empty": lambda here: "",
    "slash": lambda here: f"{here / 'pipe'}/",
    "zero": lambda here: "/a\0b",
}


async def test_what_is_no_file_passes_as_it_is(tab, direct_connection, here):
    """A pipe would be read for ever, and a path need not be one. The answer is Chromium's own, and the connection lives on."""
    os.mkfifo(here / "pipe")
    direct = await direct_connection.attach(tab.target_id)
    here_id = await element(tab, "many")
    there_id = (await direct.send("Runtime.evaluate", {"expression": "many"}))["result"]["objectId"]
    for name, path in NO_FILES.items():
        seen = []
        for session, object_id in ((direct, there_id), (tab.session, here_id)):
            answer = await answered(session, {"files": [path(here)], "objectId": object_id})
            seen.append((answer, await tab.evaluate("[...many.files].map(each => each.name)")))
        assert seen[0] == seen[1], name


async def answered(session, files):
    try:
        return await session.send("DOM.setFileInputFiles", files)
    except CommandError as error:
        return error.message


async def test_the_path_of_a_file_is_the_one_that_was_given(tab, here):
    (here / "tree" / "deep").mkdir(parents=True)
    for path, name in ((here / "a.txt", "one"), (here / "tree" / "deep" / "b.txt", "folder")):
        path.write_text("a")
        given = path if name == "one" else here / "tree"
        files = {"files": [str(given)], "objectId": await element(tab, name)}
        await tab.session.send("DOM.setFileInputFiles", files)

        async def taken(name=name):
            return await tab.evaluate(f"{name}.files.length")

        await until(taken)
        file = {"objectId": await element(tab, f"{name}.files[0]")}
        assert await tab.session.send("DOM.getFileInfo", file) == {"path": str(path)}
    with pytest.raises(CommandError, match="Cannot find context"):
        await tab.session.send("DOM.getFileInfo", {"objectId": "1.2.3"})


async def test_a_folder_with_links(tab, here):
    """Chromium leaves them out, so a circle of them has an end."""
    tree = here / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "a.txt").write_text("a")
    (tree / "link.txt").symlink_to(tree / "deep" / "a.txt")
    (tree / "broken").symlink_to(here / "missing")
    (tree / "deep" / "circle").symlink_to(tree)
    await tab.session.send(
        "DOM.setFileInputFiles", {"files": [str(tree)], "objectId": await element(tab, "folder")}
    )

    async def taken():
        return await tab.evaluate("folder.files.length")

    await until(taken)
    found = json.loads(await tab.evaluate("read(folder.files)"))
    assert [each[2] for each in found] == ["tree/deep/a.txt"]


class Nested:
    """A session in messages of the root session, as clients made it before `flatten` came."""

    def __init__(self, root, session_id):
        self._root = root
        self._id = session_id
        self._number = 0
        self.events = []
        self._replies = {}
        root.on("Target.receivedMessageFromTarget", self._received)

    def _received(self, event):
        assert event["sessionId"] == self._id
        message = json.loads(event["message"])
        if "id" in message:
            self._replies[message["id"]].set_result(message)
        else:
            self.events.append(message)

    async def send(self, method, parameters):
        self._number += 1
        reply = self._replies[self._number] = asyncio.get_running_loop().create_future()
        message = {"id": self._number, "method": method, "params": parameters}
        wrapped = {"sessionId": self._id, "message": json.dumps(message)}
        assert await self._root.send("Target.sendMessageToTarget", wrapped) == {}
        return await asyncio.wait_for(reply, 60)


async def test_a_session_in_messages_of_another(connection, tab, here):
    (here / "a.txt").write_text("a")
    attach = {"targetId": tab.target_id, "flatten": False}
    reply = await connection.root.send("Target.attachToTarget", attach)
    nested = Nested(connection.root, reply["sessionId"])
    found = await nested.send("Runtime.evaluate", {"expression": "one"})
    files = {"files": [str(here / "a.txt")], "objectId": found["result"]["result"]["objectId"]}
    assert (await nested.send("DOM.setFileInputFiles", files))["result"] == {}
    assert await tab.evaluate("one.files[0].size") == 1
    found = await nested.send("Runtime.evaluate", {"expression": "one.files[0]"})
    file = {"objectId": found["result"]["result"]["objectId"]}
    assert (await nested.send("DOM.getFileInfo", file))["result"] == {"path": str(here / "a.txt")}
    await nested.send("Page.enable", {})
    setting = {"behavior": "allow", "downloadPath": str(here / "got")}
    assert (await nested.send("Page.setDownloadBehavior", setting))["result"] == {}
    await click(tab, "of-a-page.bin", 100_000)

    async def completed():
        found = [each["params"] for each in nested.events if each["method"] == "Page.downloadProgress"]
        return [each["state"] for each in found if each["state"] != "inProgress"]

    assert await until(completed) == ["completed"]
    assert (here / "got" / "of-a-page.bin").read_bytes() == content("of-a-page.bin", 100_000)


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
    far_session, far_server, site_url, here
):
    (here / "a.txt").write_text("a")
    uploads = await folder_of_uploads(far_server, far_session)
    async with open_tunnel(far_session) as address, connect(address.cdp_url) as connection:
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


@pytest.mark.parametrize("turns", range(0, 20, 4))
async def test_it_goes_whenever_the_tunnel_is_closed_after_its_client(
    far_session, far_server, site_url, here, turns
):
    (here / "a.txt").write_text("a")
    uploads = await folder_of_uploads(far_server, far_session)
    async with open_tunnel(far_session) as address:
        async with connect(address.cdp_url) as connection:
            tab = await opened(connection, site_url)
            files = {"files": [str(here / "a.txt")], "objectId": await element(tab, "one")}
            await tab.session.send("DOM.setFileInputFiles", files)
        for _ in range(turns):  # of the loop, in which the end of the client is dealt with
            await asyncio.sleep(0)
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
