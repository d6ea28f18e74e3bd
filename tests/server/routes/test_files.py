"""Presigned uploads and downloads: what is allowed works without a key, and nothing else does."""

import os
import uuid
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

UNKNOWN = "00000000-0000-4000-8000-000000000000"
LIMIT = 10_485_760


@pytest.fixture
def presign(api, contract):
    async def presign(path, name="list.csv", content_type="text/csv", size=3):
        template = f"/files/{path.split('/')[0]}/{{session_id}}/presigned-url"
        body = {"fileName": name, "contentType": content_type, "sizeBytes": size}
        answer = await api.post(f"/files/{path}/presigned-url", body)
        contract.check("POST", template, answer)
        return answer

    return presign


@pytest.fixture
def send(api):
    async def send(given, content=b"a,b", *, fields=None, name="x.csv", more=()):
        fields = given["fields"] if fields is None else fields
        return await api.client.post(given["url"], data=fields, files=[("file", (name, content)), *more])

    return send


async def test_uploads_of_sessions_and_browsers(api, presign, send):
    session = await api.open_session()
    browser = await api.rent()
    for path, browser_id in (
        (f"sessions/{session['id']}", session["browserSessionId"]),
        (f"browsers/{browser['id']}", browser["id"]),
    ):
        given = (await presign(path)).json()
        assert (given["method"], given["fileName"], given["expiresIn"]) == ("POST", "list.csv", 600)
        answer = await send(given)
        assert (answer.status_code, answer.content) == (204, b"")
        folder = api.services.files.uploads(uuid.UUID(browser_id))
        assert [path.name for path in folder.iterdir()] == ["list.csv"]
        assert (folder / "list.csv").read_bytes() == b"a,b"
        assert given["path"] == str(folder / "list.csv")
        assert (await send(given, b"c,d")).status_code == 204  # replaced, in one step
        assert (folder / "list.csv").read_bytes() == b"c,d"
        assert (folder / "list.csv").stat().st_mode & 0o777 == 0o600


async def test_refused_presigned_addresses(api, presign):
    browser = await api.rent()
    for kind in ("sessions", "browsers"):
        missing = await presign(f"{kind}/{UNKNOWN}")
        assert (missing.status_code, missing.json()) == (404, {"detail": "Session not found"})
    refused = await presign(f"browsers/{browser['id']}", content_type="application/x-sh")
    assert (refused.status_code, refused.json()) == (400, {"detail": "Unsupported content type"})
    for size in (0, -1, LIMIT + 1, 1.5):
        assert (await presign(f"browsers/{browser['id']}", size=size)).status_code == 422
    for name in ("", "x" * 256):
        assert (await presign(f"browsers/{browser['id']}", name=name)).status_code == 422
    assert (await presign(f"browsers/{browser['id']}", size=LIMIT)).status_code == 200
    await api.stop(browser)
    assert (await presign(f"browsers/{browser['id']}")).status_code == 400


@pytest.mark.parametrize("content", [b"", b"a", b"a,bc", b"x" * 100_000])
async def test_an_upload_of_another_size(api, presign, send, content):
    browser = await api.rent()
    given = (await presign(f"browsers/{browser['id']}")).json()
    answer = await send(given, content)
    assert answer.status_code in {400, 413}
    assert "announced" in answer.json()["detail"]
    assert list(api.services.files.uploads(uuid.UUID(browser["id"])).iterdir()) == []


async def test_fault_b33_forged_fields_are_refused(api, presign, send):
    browser = await api.rent()
    given = (await presign(f"browsers/{browser['id']}")).json()
    other = (await presign(f"browsers/{browser['id']}", name="other.csv")).json()
    fields = given["fields"]
    for forged in (
        {},
        fields | {"signature": ""},
        fields | {"signature": "0" * 64},
        fields | {"signature": "é" * 64},
        fields | {"key": other["fields"]["key"]},
        fields | {"key": "../../../etc/passwd"},
        fields | {"Content-Type": "text/plain"},
        fields | {"policy": other["fields"]["policy"]},
        {name: value for name, value in fields.items() if name != "key"},
    ):
        answer = await send(given, fields=forged)
        assert answer.status_code == 401, forged
    api.clock.advance(601)
    late = await send(given)
    assert (late.status_code, "expired" in late.json()["detail"]) == (401, True)
    assert list(api.services.files.uploads(uuid.UUID(browser["id"])).iterdir()) == []


async def test_forms_that_are_none(api, presign, send):
    browser = await api.rent()
    given = (await presign(f"browsers/{browser['id']}")).json()
    url = given["url"]
    post = api.client.post
    assert (await post(url, json={})).status_code == 400
    assert (
        await post(url, content=b"xx", headers={"Content-Type": "multipart/form-data"})
    ).status_code == 400
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    assert (await post(url, content=b"--nonsense", headers=form)).status_code == 400
    assert (
        await post(url, content=b"--b\r\nContent-Disposition: form-data; name=a", headers=form)
    ).status_code == 400
    assert (await post(url, data=given["fields"], files=[("upload", ("x", b"a,b"))])).status_code == 400
    assert (await send(given, more=[("file", ("y", b"a,b"))])).status_code == 400  # a second file
    assert (await send(given, fields=given["fields"] | {"x": "y" * 20_000})).status_code == 400
    many = given["fields"] | {f"x{n}": "" for n in range(30)}
    assert (await send(given, fields=many)).status_code == 400
    cut = b"\r\n".join(
        [
            *(
                f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()
                for name, value in given["fields"].items()
            ),
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\na,b',
        ]
    )
    assert (await post(url, content=cut, headers=form)).status_code == 400
    assert (await post(url, content=cut + b"\r\n--b--\r\n", headers=form)).status_code == 204
    folder = api.services.files.uploads(uuid.UUID(browser["id"]))
    assert [path.name for path in folder.iterdir()] == ["list.csv"]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("..", "file"),
        ("C:\\temp\\a.txt", "a.txt"),
        (".bashrc", "bashrc"),
        ("a\0b\n.txt", "a_b_.txt"),
        ("ä/ö.txt", "ö.txt"),
        ("x" * 251 + ".csv", "x" * 251 + ".csv"),
        ("ü" * 200 + ".csv", "ü" * 125 + ".csv"),
        ("con?.txt", "con_.txt"),
    ],
)
async def test_fault_b45_names_cannot_leave_the_folder(api, presign, send, name, kept):
    browser = await api.rent()
    given = (await presign(f"browsers/{browser['id']}", name=name)).json()
    assert given["fileName"] == kept
    assert (await send(given, name=name)).status_code == 204
    folder = api.services.files.uploads(uuid.UUID(browser["id"]))
    assert [path.name for path in folder.iterdir()] == [kept]


async def test_an_upload_after_everything_was_deleted(api, presign, send):
    session = await api.open_session()
    given = (await presign(f"sessions/{session['id']}")).json()
    await api.request("DELETE", f"/sessions/{session['id']}")
    assert (await send(given)).status_code == 404


async def test_output_files_with_ranges(api, checked):
    created, run = await api.give()
    run.finish(files={"out ü.txt": b"0123456789", "page.html": b"<script>"})
    task = await api.over(created)
    ids = {file["fileName"]: file["id"] for file in task["outputFiles"]}
    template = "/files/tasks/{task_id}/output-files/{file_id}"
    answer = await checked(
        api, "GET", f"/files/tasks/{created['id']}/output-files/{ids['out ü.txt']}", template
    )
    url = answer.json()["downloadUrl"]
    got = await api.client.get(url)
    assert (got.status_code, got.content) == (200, b"0123456789")
    part = await api.client.get(url, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    assert (await api.client.get(url, headers={"Range": "bytes=99-"})).status_code == 416
    head = await api.client.head(url)
    assert (head.headers["content-length"], head.content) == ("10", b"")
    page = (await api.get(f"/files/tasks/{created['id']}/output-files/{ids['page.html']}")).json()
    got = await api.client.get(page["downloadUrl"])  # never a page of ours
    assert got.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in got.headers["content-security-policy"]
    for task_id, file_id, text in (
        (UNKNOWN, ids["page.html"], "Task not found"),
        (created["id"], UNKNOWN, "Output file not found"),
    ):
        missing = await checked(api, "GET", f"/files/tasks/{task_id}/output-files/{file_id}", template)
        assert (missing.status_code, missing.json()) == (404, {"detail": text})
    assert (await checked(api, "GET", "/files/tasks/x/output-files/y", template)).status_code == 422


async def test_fault_b33_forged_addresses_are_refused(api):
    created, run = await api.give()
    await run.step()
    url = (await api.task(created))["steps"][0]["screenshotUrl"]
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    base = f"http://test{parts.path}"
    later = str(int(query["expires"]) + 1)
    for forged in (
        base,
        f"{base}?{urlencode(query | {'expires': later})}",
        f"{base}?{urlencode(query | {'signature': '0' * 64})}",
        f"{base}?{urlencode(query | {'signature': 'é'})}",
        f"{base}?{urlencode(query | {'expires': 'never'})}",
        f"{base.replace('step-1.png', 'agent.log')}?{parts.query}",
        f"http://test/files/signing.key?{parts.query}",
        f"http://test/files/..%2Fsigning.key?{parts.query}",
    ):
        answer = await api.client.get(forged)
        assert answer.status_code == 401, forged
    assert (await api.client.get(url)).status_code == 200
    api.clock.advance(15 * 60 + 1)
    assert (await api.client.get(url)).status_code == 401


async def test_addresses_stay_valid_over_a_restart(make_api, tmp_path):
    async with make_api() as api:
        created, run = await api.give()
        await run.step()
        url = (await api.task(created))["steps"][0]["screenshotUrl"]
    assert (tmp_path / "data" / "signing.key").stat().st_mode & 0o777 == 0o600
    async with make_api() as api:
        assert (await api.client.get(url)).status_code == 200


async def test_downloads_of_a_browser(api):
    browser = await api.rent()
    path = f"/browsers/{browser['id']}/downloads"
    assert (await api.get(path)).json() == {"files": [], "nextCursor": None, "hasMore": False}
    folder = api.services.files.make(api.services.files.downloads(uuid.UUID(browser["id"])))
    for name in ("b.pdf", "a.pdf", "c.pdf"):
        (folder / name).write_bytes(name.encode())
    (folder / "d.pdf.crdownload").write_bytes(b"half")
    (folder / "passwd").symlink_to("/etc/passwd")
    first = (await api.get(f"{path}?limit=2&includeUrls=true")).json()
    assert [(file["path"], file["size"]) for file in first["files"]] == [("a.pdf", 5), ("b.pdf", 5)]
    assert (first["hasMore"], first["nextCursor"]) == (True, "b.pdf")
    assert (await api.client.get(first["files"][0]["url"])).content == b"a.pdf"
    rest = (await api.get(path, params={"cursor": first["nextCursor"]})).json()
    assert [file["path"] for file in rest["files"]] == ["c.pdf"]
    assert (rest["hasMore"], rest["files"][0]["url"]) == (False, None)
    await api.stop(browser)
    assert len((await api.get(path)).json()["files"]) == 3
    assert (await api.get(f"/browsers/{UNKNOWN}/downloads")).status_code == 404
    assert (await api.get(f"{path}?limit=0")).status_code == 422


async def test_a_signing_key_that_is_unreadable_is_said(make_api, tmp_path):
    from cdpbridge.errors import ConfigurationError

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "signing.key").write_text("ab")
    with pytest.raises(ConfigurationError, match="cut short; remove the file"):
        async with make_api():
            pass
    (tmp_path / "data" / "signing.key").write_bytes(os.urandom(40))
    with pytest.raises(ConfigurationError, match="remove the file"):
        async with make_api():
            pass
