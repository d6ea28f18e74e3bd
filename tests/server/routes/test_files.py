"""Presigned uploads and downloads: what is allowed works without a key, and nothing else does."""

import asyncio
import os
import uuid
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest

from tests.cases import cases

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
        part = (name, content, given["fields"]["Content-Type"])
        return await api.client.post(given["url"], data=fields, files=[("file", part), *more])

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
        again = (await presign(path)).json()
        assert (await send(again, b"c,d")).status_code == 204
        if path.startswith("sessions"):  # agents know both by their names
            assert again["fileName"] == "list (2).csv"
            assert (folder / "list.csv").read_bytes() == b"a,b"
        else:
            assert again["fileName"] == "list.csv"  # replaced, in one step
        assert (folder / again["fileName"]).read_bytes() == b"c,d"
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


@cases("content", [b"", b"a", b"a,bc", b"x" * 100_000])
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


@cases(
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


async def test_fault_d15_an_address_is_good_for_one_upload(api, presign, send):
    browser = await api.rent()
    given = (await presign(f"browsers/{browser['id']}")).json()
    same = (await presign(f"browsers/{browser['id']}")).json()  # another address for the same name
    assert (await send(given, b"a,b")).status_code == 204
    for content in (b"a,b", b"c,d"):
        again = await send(given, content)
        assert (again.status_code, "has been used" in again.json()["detail"]) == (409, True)
    folder = api.services.files.uploads(uuid.UUID(browser["id"]))
    assert (folder / "list.csv").read_bytes() == b"a,b"
    assert (await send(same, b"c,d")).status_code == 204
    assert [path.name for path in folder.iterdir()] == ["list.csv"]


async def test_fault_d15_two_uploads_at_the_same_time(api, presign, send):
    browser = await api.rent()
    given = (await presign(f"browsers/{browser['id']}", size=100_000)).json()
    contents = [bytes([number]) * 100_000 for number in range(8)]
    answers = await asyncio.gather(*(send(given, content) for content in contents))
    assert sorted(answer.status_code for answer in answers) == [204] + [409] * 7
    folder = api.services.files.uploads(uuid.UUID(browser["id"]))
    [won] = [content for content, answer in zip(contents, answers, strict=True) if answer.status_code == 204]
    assert [path.read_bytes() for path in folder.iterdir()] == [won]


async def test_fault_d15_an_upload_that_failed_may_be_repeated(api, presign, send):
    browser = await api.rent()
    given = (await presign(f"browsers/{browser['id']}")).json()
    assert (await send(given, b"a")).status_code == 400
    assert (await send(given, b"a,bc")).status_code == 413
    assert (await send(given, b"a,b")).status_code == 204
    assert (await send(given, b"a,b")).status_code == 409


async def test_fault_d15_not_after_the_stop(api, presign, send):
    session, browser = await api.open_session(), await api.rent()
    for path, stop in (
        (f"sessions/{session['id']}", {"id": session["browserSessionId"]}),
        (f"browsers/{browser['id']}", browser),
    ):
        given = (await presign(path)).json()
        await api.stop(stop)
        late = await send(given)
        assert (late.status_code, "stopped" in late.json()["detail"]) == (404, True)
        folder = api.services.files.uploads(uuid.UUID(stop["id"]))
        assert not folder.exists() or list(folder.iterdir()) == []


async def test_fault_d15_not_when_the_browser_is_stopped_while_the_file_comes(api, presign):
    browser = await api.rent()
    given = (await presign(f"browsers/{browser['id']}")).json()
    head = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in given["fields"].items()
    )
    head += '--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\na,'

    async def form():
        yield head.encode()
        await api.stop(browser)
        yield b"b\r\n--b--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = await api.client.post(given["url"], content=form(), headers=headers)
    assert answer.status_code == 404
    assert list(api.services.files.uploads(uuid.UUID(browser["id"])).iterdir()) == []


async def test_fault_d15_once_over_a_restart(spawn_server):
    """A real server; a cut upload does not count, a whole one does, also for the server after it."""
    async with spawn_server() as server, httpx.AsyncClient() as anybody:
        browser = await server.rent()
        body = {"fileName": "a.txt", "contentType": "text/plain", "sizeBytes": 5}
        given = (await server.http.post(f"/files/browsers/{browser['id']}/presigned-url", json=body)).json()

        async def cut():
            for name, value in given["fields"].items():
                yield f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nhe'
            raise ConnectionAbortedError

        with pytest.raises(ConnectionAbortedError):
            await anybody.post(
                given["url"], content=cut(), headers={"Content-Type": "multipart/form-data; boundary=b"}
            )
        sent = await anybody.post(given["url"], data=given["fields"], files={"file": ("x", b"hello")})
        assert sent.status_code == 204, sent.text
    async with spawn_server() as server, httpx.AsyncClient() as anybody:
        url = f"{str(server.http.base_url).removesuffix('/api/v2/')}{urlsplit(given['url']).path}"
        again = await anybody.post(url, data=given["fields"], files={"file": ("x", b"other")})
        assert again.status_code in {404, 409}
        folder = server.data_dir / "files" / "browsers" / browser["id"]
        assert [path.name for path in (folder / "uploaded").iterdir()] != []
        assert (folder / "uploads" / "a.txt").read_bytes() == b"hello"


async def test_fault_d15_the_mark_of_a_use_outlives_the_server(make_api, tmp_path):
    """The same database and folder, the browser still running in the books: only the mark refuses it."""
    from cdpbridge.server.files import Grant, UploadLimits, UploadRefused, receive_upload

    grant = Grant("browsers/x/uploads/a", "text/plain", 3, 2_000_000_000, "n")
    final = tmp_path / "uploads" / "a"
    final.parent.mkdir()

    async def place(_grant):
        return final

    async def send(content, now=1_999_999_999):
        async def chunks():
            yield b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + content + b"\r\n--b--\r\n"

        await receive_upload(
            "multipart/form-data; boundary=b",
            chunks(),
            check=lambda _fields: grant,
            target=place,
            limits=UploadLimits(9, 9),
            now=lambda: now,
        )

    await send(b"abc")
    for _ in range(2):
        with pytest.raises(UploadRefused, match="has been used"):
            await send(b"def")
    assert final.read_bytes() == b"abc"
    grant = Grant("browsers/x/uploads/a", "text/plain", 3, 2_000_009_999, "m")
    await send(b"ghi", now=2_000_009_000)
    assert [path.name for path in (tmp_path / "uploaded").iterdir()] == [
        "2000009999-m"
    ]  # the old one is forgotten


async def test_numbers_and_sizes_of_uploads(make_api, contract):
    async with make_api(max_uploads_per_browser=2, max_upload_mb_per_browser=1) as api:
        browser = await api.rent()

        async def presign(name, size):
            body = {"fileName": name, "contentType": "text/csv", "sizeBytes": size}
            answer = await api.post(f"/files/browsers/{browser['id']}/presigned-url", body)
            contract.check("POST", "/files/browsers/{session_id}/presigned-url", answer)
            return answer

        async def send(given, size):
            given = given.json()
            files = [("file", ("x", b"x" * size))]
            return await api.client.post(given["url"], data=given["fields"], files=files)

        # Promised while there was place for each alone, sent at once.
        given = [await presign(f"{number}.csv", 3) for number in range(6)]
        answers = await asyncio.gather(*(send(each, 3) for each in given))
        assert sorted(answer.status_code for answer in answers) == [204, 204, 413, 413, 413, 413]
        [why] = {answer.json()["detail"] for answer in answers if answer.status_code == 413}
        assert "max_uploads_per_browser" in why
        folder = api.services.files.uploads(uuid.UUID(browser["id"]))
        kept = sorted(path.name for path in folder.iterdir())
        assert len(kept) == 2
        refused = await presign("more.csv", 3)
        assert (refused.status_code, "max_uploads_per_browser" in refused.json()["detail"]) == (400, True)
        refused = await presign(kept[0], 1024**2)
        assert (refused.status_code, "max_upload_mb_per_browser" in refused.json()["detail"]) == (400, True)
        assert (await send(await presign(kept[0], 1000), 1000)).status_code == 204  # it replaces one


async def test_a_project_keeps_files_up_to_a_limit_and_can_remove_them(make_api):
    async with make_api(max_files_mb_per_project=1) as api:
        browser, other = await api.rent(), await api.rent()
        path = f"/browsers/{browser['id']}/files"
        folder = api.services.files.make(api.services.files.downloads(uuid.UUID(browser["id"])))
        (folder / "big").write_bytes(os.urandom(1_100_000))
        api.services.quota.forget(await api.project())  # as after some seconds
        body = {"fileName": "a", "contentType": "text/csv", "sizeBytes": 1}
        for answer, status in (
            (await api.post(f"/files/browsers/{other['id']}/presigned-url", body), 400),
            (await api.post("/browsers", {}), 403),
            (await api.post("/sessions", {}), 403),
        ):
            assert (answer.status_code, "max_files_mb_per_project" in answer.json()["detail"]) == (
                status,
                True,
            )
        assert (await api.post("/browsers", {}, key="key-of-others")).status_code == 201
        running = await api.request("DELETE", path)
        assert (running.status_code, "still runs" in running.json()["detail"]) == (400, True)
        assert (await api.request("DELETE", path, key="key-of-others")).status_code == 404
        await api.stop(browser)
        for _ in range(2):
            assert (await api.request("DELETE", path)).status_code == 204
        assert not folder.exists()
        assert (await api.get(f"/browsers/{browser['id']}/downloads")).json()["files"] == []
        await api.rent()


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


async def test_files_of_the_same_name_are_told_apart(api, presign, send):
    session = await api.open_session()
    folder = api.services.files.uploads(uuid.UUID(session["browserSessionId"]))
    path = f"sessions/{session['id']}"
    first, second = (await presign(path)).json(), (await presign(path)).json()  # before either is there
    assert (first["fileName"], second["fileName"]) == ("list.csv", "list (2).csv")
    assert (await send(second, b"222")).status_code == 204
    assert (await send(first, b"111")).status_code == 204
    third = (await presign(path)).json()
    assert third["fileName"] == "list (3).csv"
    assert {file.name: file.file.read_bytes() for file in api.services.files.listing(folder)} == {
        "list.csv": b"111",
        "list (2).csv": b"222",
    }
    # A promise that is not kept is forgotten with its address; names without an ending and very long ones have a number too.
    api.clock.advance(601)
    assert (await presign(path)).json()["fileName"] == "list (3).csv"
    assert [(await presign(path, name="notes")).json()["fileName"] for _ in range(2)] == [
        "notes",
        "notes (2)",
    ]
    long = "x" * 251 + ".csv"
    names = [(await presign(path, name=long)).json()["fileName"] for _ in range(2)]
    assert names == [long, "x" * 247 + " (2).csv"]


@cases(
    ("granted", "sent", "status"),
    [
        ("text/csv", "text/csv", 204),
        ("text/csv", "Text/CSV; charset=utf-8", 204),
        ("text/csv", None, 204),
        ("text/csv", "application/octet-stream", 204),
        ("image/jpg", "image/jpeg", 204),
        ("text/csv", "image/png", 400),
        ("text/csv", "text/plain", 400),
        ("image/png", "image/svg+xml", 400),
    ],
)
async def test_the_announced_type_is_the_parts_type(api, presign, granted, sent, status):
    browser = await api.rent()
    given = (await presign(f"browsers/{browser['id']}", content_type=granted)).json()
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n'
    part += b"" if sent is None else f"Content-Type: {sent}\r\n".encode()
    body = b"".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in given["fields"].items()
    )
    answer = await api.client.post(
        given["url"],
        content=body + part + b"\r\na,b\r\n--b--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert answer.status_code == status, answer.text
    kept = list(api.services.files.uploads(uuid.UUID(browser["id"])).iterdir())
    assert len(kept) == (status == 204)
    if status == 400:
        assert granted in answer.json()["detail"]
