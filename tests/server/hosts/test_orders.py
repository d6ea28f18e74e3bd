"""What a request may ask of a browser, on real ones: its screen, start page, uploads and downloads, a proxy of the caller's own."""

import asyncio
from uuid import UUID

import httpx
import pytest

from cdpbridge.cdp import connect
from tests.conftest import until

ONE_BUILD = pytest.mark.one_build(
    "what the host tells a browser at its start and takes from its folder; pages are tested in tests/browser"
)

pytestmark = pytest.mark.chromium


async def page(connection):
    [target] = [each for each in await connection.targets() if each.type == "page"]
    return await connection.attach(target.target_id)


async def evaluate(session, expression):
    reply = await session.send("Runtime.evaluate", {"expression": expression, "returnByValue": True})
    return reply["result"].get("value")


@ONE_BUILD
async def test_a_session_begins_on_its_start_page_in_a_window_of_its_size(make_server, site):
    async with make_server() as server:
        body = {"startUrl": site, "browserScreenWidth": 901, "browserScreenHeight": 702}
        answer = await server.http.post("/sessions", json=body)
        assert answer.status_code == 201, answer.text
        browser = await server.browser({"id": answer.json()["browserSessionId"]})
        async with connect(browser["cdpUrl"]) as connection:
            tab = await page(connection)
            assert await evaluate(tab, "location.href") == f"{site.rstrip('/')}/"
            assert await evaluate(tab, "[outerWidth, outerHeight]") == [901, 702]


@ONE_BUILD
async def test_a_browser_that_downloads_nothing_leaves_nothing(make_server):
    async with make_server() as server:
        browser = await server.rent()
        folder = server.app.state.services.files.downloads(UUID(browser["id"]))
        assert folder.is_dir()
        await server.stop(browser)
        await until(lambda: not folder.exists())  # it is removed after the answer
        assert not list((server.data_dir / "files").glob("browsers/*"))


@ONE_BUILD
async def test_a_start_page_that_nobody_serves_is_no_failed_start(make_server, nobody):
    async with make_server() as server:
        answer = await server.http.post("/sessions", json={"startUrl": nobody})
        assert answer.status_code == 201, answer.text


@ONE_BUILD
async def test_an_uploaded_file_in_a_form_of_a_page(make_server):
    async with make_server() as server:
        browser = await server.rent()
        body = {"fileName": "hello.txt", "contentType": "text/plain", "sizeBytes": 5}
        given = (await server.http.post(f"/files/browsers/{browser['id']}/presigned-url", json=body)).json()
        async with httpx.AsyncClient() as anybody:
            sent = await anybody.post(
                given["url"], data=given["fields"], files={"file": ("hello.txt", b"hello")}
            )
        assert sent.status_code == 204, sent.text
        async with connect(browser["cdpUrl"]) as connection:
            tab = await page(connection)
            await tab.send("DOM.enable")
            await evaluate(tab, "document.body.innerHTML = '<input type=file>'")
            root = (await tab.send("DOM.getDocument"))["root"]["nodeId"]
            query = {"nodeId": root, "selector": "input"}
            node = (await tab.send("DOM.querySelector", query))["nodeId"]
            await tab.send("DOM.setFileInputFiles", {"files": [given["path"]], "nodeId": node})
            reply = await tab.send(
                "Runtime.evaluate",
                {
                    "expression": "document.querySelector('input').files[0].text()",
                    "awaitPromise": True,
                    "returnByValue": True,
                },
            )
            assert reply["result"]["value"] == "hello"


@pytest.mark.parametrize("build", ["shell", "full"])
async def test_what_a_page_downloads_is_listed(make_server, build):
    async with make_server(browser_build=build) as server:
        browser = await server.rent()
        async with connect(browser["cdpUrl"]) as connection:
            tab = await page(connection)
            await evaluate(
                tab,
                "const a = document.createElement('a'); a.download = 'report.txt';"
                "a.href = URL.createObjectURL(new Blob(['numbers'])); a.click()",
            )
            path = f"/browsers/{browser['id']}/downloads?includeUrls=true"
            async with asyncio.timeout(60):
                while not (files := (await server.http.get(path)).json()["files"]):
                    await asyncio.sleep(0.02)
        assert [(file["path"], file["size"]) for file in files] == [("report.txt", 7)]
        async with httpx.AsyncClient() as anybody:
            assert (await anybody.get(files[0]["url"])).text == "numbers"


@ONE_BUILD
async def test_a_session_whose_browser_is_killed(make_server):
    """Seen at once, and the slot is free."""
    import os
    import signal

    from tests.server.scripted_agents import agents_for_a_server

    async with make_server(agents=agents_for_a_server, max_browsers=1) as server:
        task = (await server.http.post("/tasks", json={"task": "Wait"})).json()
        session = (await server.http.get(f"/sessions/{task['sessionId']}")).json()
        browser = {"id": session["browserSessionId"]}
        os.kill(server.main_process(browser), signal.SIGKILL)
        await server.stopped(browser)
        async with asyncio.timeout(60):
            while (shown := (await server.http.get(f"/tasks/{task['id']}")).json())["finishedAt"] is None:
                await asyncio.sleep(0.02)
        assert (shown["status"], shown["endReason"], shown["isSuccess"]) == (
            "stopped",
            "browser_exited",
            False,
        )
        assert (await server.http.post("/tasks", json={"task": "Go"})).status_code == 202
