"""The files of a project in the console: who gets which, and the page that lists them."""

import re
from uuid import uuid4

import httpx
import pytest
from playwright.async_api import expect

from tests.server.console.pages import KEYS, opened
from tests.server.scripted_agents import agents_for_a_server

ONE_BUILD = pytest.mark.one_build("the console is tested, and one browser shows it")

ROOT = "http://test"
OTHER_KEY = "key-of-others"


async def upload(http, browser_id, name, content=b"0123456789"):
    """A file for a browser, as a client of the API brings it."""
    body = {"fileName": name, "contentType": "text/csv", "sizeBytes": len(content)}
    signed = (await http.post(f"/files/browsers/{browser_id}/presigned-url", json=body)).json()
    answer = await http.post(signed["url"], data=signed["fields"], files={"file": (name, content)})
    assert answer.status_code == 204, answer.text


async def sign_in(api, key="key-of-tests"):
    api.client.cookies.clear()
    answer = await api.client.post(f"{ROOT}/console/sign-in", json={"key": key})
    assert answer.status_code == 200
    api.client.headers["X-Cdpbridge-Console"] = answer.json()["proof"]


async def listing(api):
    return (await api.client.get(f"{ROOT}/console/files")).json()


async def test_uploads_downloads_and_outputs_are_listed_and_served(api):
    created, run = await api.give(task="look")
    run.finish("done", files={"answer.txt": b"forty-two"})
    await api.over(created)
    browser = await api.rent()
    files = api.services.files
    uploads = files.make(files.uploads(browser["id"]))
    downloads = files.make(files.downloads(browser["id"]))
    (uploads / "prices of the week.csv").write_bytes(b"1;2")
    (downloads / "r%C3é#?.pdf").write_bytes(b"%PDF")
    (downloads / "half.pdf.crdownload").write_bytes(b"%P")
    (downloads / ".hidden").write_bytes(b"x")
    (downloads / "link.txt").symlink_to("/etc/hostname")
    await sign_in(api)
    found = await listing(api)
    assert found["total"] == 3
    assert {(file["kind"], file["name"], file["size"]) for file in found["files"]} == {
        ("upload", "prices of the week.csv", 3),
        ("download", "r%C3é#?.pdf", 4),
        ("output", "answer.txt", 9),
    }
    contents = {}
    for file in found["files"]:
        answer = await api.client.get(f"{ROOT}/{file['path']}")
        assert answer.status_code == 200
        assert answer.headers["content-disposition"].startswith("attachment")
        assert "sandbox" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        contents[file["name"]] = answer.content
    assert contents == {
        "prices of the week.csv": b"1;2",
        "r%C3é#?.pdf": b"%PDF",
        "answer.txt": b"forty-two",
    }
    output = next(file for file in found["files"] if file["kind"] == "output")
    assert (output["taskId"], output["sessionId"]) == (created["id"], created["sessionId"])


async def test_nobody_elses_files_and_none_that_are_not_listed(api):
    created, run = await api.give(task="look")
    run.finish("done", files={"answer.txt": b"forty-two"})
    await api.over(created)
    browser = await api.rent()
    files = api.services.files
    folder = files.make(files.downloads(browser["id"]))
    for name in ("kept.txt", ".hidden", "half.crdownload"):
        (folder / name).write_text("x")
    await sign_in(api)
    mine = [file["path"] for file in (await listing(api))["files"]]
    assert len(mine) == 2
    base = f"console/files/browsers/{browser['id']}"
    for path in (
        f"{base}/downloads/.hidden",
        f"{base}/downloads/half.crdownload",
        f"{base}/downloads/..%2F..%2Fsigning.key",
        f"{base}/downloads/nothing.txt",
        f"{base}/uploads/kept.txt",
        f"console/files/browsers/{uuid4()}/downloads/kept.txt",
        f"console/files/tasks/{created['id']}/{uuid4()}",
    ):
        assert (await api.client.get(f"{ROOT}/{path}")).status_code == 404, path
    await sign_in(api, OTHER_KEY)
    assert (await listing(api))["files"] == []
    assert {(await api.client.get(f"{ROOT}/{path}")).status_code for path in mine} == {404}
    api.client.cookies.clear()
    assert {(await api.client.get(f"{ROOT}/{path}")).status_code for path in (*mine, "console/files")} == {
        401
    }


@ONE_BUILD
@pytest.mark.chromium
async def test_files_appear_by_themselves_and_can_be_saved(make_server):
    async with make_server(**KEYS, agents=agents_for_a_server) as server, opened(server) as page:
        await page.get_by_role("link", name="Files", exact=True).click()
        await expect(page.get_by_text("No file yet")).to_be_visible()
        session = (await server.http.post("/sessions", json={})).json()
        browser_id = session["browserSessionId"]
        async with httpx.AsyncClient(
            base_url=server.http.base_url, headers=server.http.headers, timeout=60
        ) as http:
            await upload(http, browser_id, "prices.csv")
        body = {"task": "Find the answer", "sessionId": session["id"]}
        created = (await server.http.post("/tasks", json=body)).json()
        for name in ("prices.csv", "answer.txt"):
            async with page.expect_download() as download:
                await page.get_by_role("link", name=name).click()
            file = await download.value
            assert file.suggested_filename == name
            assert (await file.path()).read_bytes() == b"0123456789"
        await page.get_by_role("link", name=f"task {created['id'][:8]}").click()
        await expect(page).to_have_url(re.compile(f"#/tasks/{created['id']}$"))
        await server.http.patch(f"/sessions/{session['id']}", json={"action": "stop"})


@ONE_BUILD
@pytest.mark.chromium
async def test_a_file_is_uploaded_for_a_browser(make_server, tmp_path):
    async with make_server(**KEYS) as server, opened(server) as page:
        await page.get_by_role("link", name="Files", exact=True).click()
        await page.get_by_role("button", name="Upload a file").click()
        await expect(page.get_by_text("none is running")).to_be_visible()
        await page.get_by_role("button", name="Cancel").click()
        await server.stop(await server.rent(timeout=3))
        other = await server.rent(timeout=3)
        browser = await server.rent(timeout=3, profileId=await server.profile("of the file"))
        await page.get_by_role("button", name="Upload a file").click()
        await expect(page.get_by_label("For").get_by_role("option")).to_have_count(2)
        await page.get_by_label("For").select_option(f"browser {browser['id'][:8]}, of the file")
        chosen = page.get_by_label("File", exact=True)
        wrong = [
            ("empty.csv", b"", "empty"),
            ("large.csv", bytes(10_485_761), "limit"),
            ("page.html", b"<p>", "taken"),
        ]
        for name, content, reason in wrong:
            (tmp_path / name).write_bytes(content)
            await chosen.set_input_files(tmp_path / name)
            await page.get_by_role("dialog").get_by_role("button", name="Upload").click()
            assert reason in await chosen.evaluate("field => field.validationMessage")
        (tmp_path / "prices of the week.csv").write_bytes(b"1;2")
        await chosen.set_input_files(tmp_path / "prices of the week.csv")
        await page.get_by_role("dialog").get_by_role("button", name="Upload").click()
        row = page.get_by_role("row", name="prices of the week.csv")
        await expect(row).to_contain_text(f"browser {browser['id'][:8]}")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        files = server.app.state.services.files
        [kept] = files.listing(files.uploads(browser["id"]))
        assert (kept.name, kept.file.read_bytes()) == ("prices of the week.csv", b"1;2")
        for each in (browser, other):
            await server.stop(each)
