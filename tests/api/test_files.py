"""Files: checked before they are sent, posted as the signed form says, and whole or not there when they come."""

import asyncio
import json
import logging
from uuid import UUID

import httpx
import pytest

from cdpbridge.api import MAX_UPLOAD_BYTES, UPLOAD_CONTENT_TYPES, AsyncClient, Client
from cdpbridge.api._file_rules import Partial, plan_upload
from cdpbridge.errors import APIConnectionError, ConfigurationError, NotFoundError, PermissionDeniedError

from .conftest import BASE_URL, KEY

ID = UUID("22222222-2222-4333-8444-555555555555")
STORE = "https://store.test/bucket"
SIGNED = f"{STORE}/a.csv?X-Amz-Signature=secret-signature"
FORM = {"key": "uploads/a.csv", "policy": "secret-policy", "x-amz-signature": "secret-signature"}
CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Store:
    """The API's part, and a store of files that can break off, change the file, or refuse."""

    def __init__(self):
        self.log = []
        self.file_name = "report.csv"
        self.content = CONTENT
        self.tag = '"one"'
        self.breaks = []  # after how many bytes each answer ends; None for whole
        self.answers = []  # instead of the store's own
        self.posted = None

    def __call__(self, request):
        self.log.append(request)
        if request.url.host == "store.test":
            if self.answers:
                return self.answers.pop(0)
            return self.post(request) if request.method == "POST" else self.get(request)
        if "presigned-url" in request.url.path:
            self.asked = json.loads(request.content)
            body = {"url": STORE, "method": "POST", "fields": FORM, "fileName": "a.csv", "expiresIn": 60}
            return httpx.Response(200, json=body)
        if request.url.path.endswith("/logs"):
            return httpx.Response(200, json={"downloadUrl": SIGNED})
        body = {"id": str(ID), "fileName": self.file_name, "downloadUrl": SIGNED}
        return httpx.Response(200, json=body)

    def post(self, request):
        self.posted = request
        return httpx.Response(204)

    def get(self, request):
        start, status, headers = 0, 200, {"ETag": self.tag}
        wanted = request.headers.get("Range")
        if wanted and request.headers["If-Range"] == self.tag:
            start, status = int(wanted.removeprefix("bytes=").removesuffix("-")), 206
            headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        headers["Content-Length"] = str(len(self.content) - start)
        end = self.breaks.pop(0) if self.breaks else None
        return httpx.Response(status, headers=headers, stream=Body(self.content[start:], end))

    def to_store(self, method="GET"):
        return [r for r in self.log if r.url.host == "store.test" and r.method == method]


class Body(httpx.AsyncByteStream, httpx.SyncByteStream):
    def __init__(self, content, end):
        self.content, self.end = content, end

    def __iter__(self):
        yield self.content[: self.end]
        if self.end is not None:
            raise httpx.ReadError("reset")

    async def __aiter__(self):
        for chunk in self:
            yield chunk


@pytest.fixture
def store(monkeypatch):
    async def no_pause(seconds):
        pass

    monkeypatch.setattr("cdpbridge.api._async_io.sleep", no_pause)
    monkeypatch.setattr("cdpbridge.api._sync_io.sleep", lambda seconds: None)
    return Store()


@pytest.fixture
async def client(store):
    async with httpx.AsyncClient(transport=httpx.MockTransport(store)) as http:
        yield AsyncClient(KEY, BASE_URL, http_client=http)


# --- up ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", ["session", "browser"])
async def test_upload_a_path(store, client, tmp_path, owner):
    path = tmp_path / "prices.csv"
    path.write_bytes(b"a,b\n")
    assert await client.files.upload(path, **{f"{owner}_id": ID}) == "a.csv"
    assert store.asked == {"fileName": "prices.csv", "contentType": "text/csv", "sizeBytes": 4}
    assert store.log[0].url.path == f"/api/v2/files/{owner}s/{ID}/presigned-url"
    body = store.posted.content
    for name, value in FORM.items():
        assert f'name="{name}"\r\n\r\n{value}\r\n'.encode() in body
    assert b"Content-Type: text/csv\r\n\r\na,b\n\r\n" in body
    assert body.index(b'name="policy"') < body.index(b'name="file"')  # what is behind the file is not read
    assert "X-Browser-Use-API-Key" not in store.posted.headers


async def test_upload_bytes(store, client):
    await client.files.upload(b"x", session_id=ID, file_name="note", content_type="text/markdown")
    assert store.asked == {"fileName": "note", "contentType": "text/markdown", "sizeBytes": 1}


@pytest.mark.parametrize(
    ("source", "arguments", "words"),
    [
        (b"x", {}, "no name"),
        (b"x", {"file_name": "a.exe"}, "cannot be uploaded"),
        (b"x", {"file_name": "a.txt", "content_type": "text/html"}, "text/html"),
        (b"x", {"file_name": "../a.txt"}, "no name for an upload"),
        (b"x", {"file_name": ""}, "no name for an upload"),
        (b"x", {"file_name": "n" * 256 + ".txt"}, "no name for an upload"),
        (b"", {"file_name": "a.txt"}, "0 bytes"),
        (bytes(MAX_UPLOAD_BYTES + 1), {"file_name": "a.txt"}, "10 MiB"),
        (b"x", {"file_name": "a.txt", "browser_id": ID}, "one of them"),
        (b"x", {"file_name": "a.txt", "session_id": None}, "one of them"),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_what_cannot_be_uploaded_is_not_sent(store, client, source, arguments, words):
    with pytest.raises(ConfigurationError, match=words):
        await client.files.upload(source, **({"session_id": ID} | arguments))
    assert store.log == []


async def test_a_file_that_is_too_big_is_not_even_read(store, client, tmp_path):
    path = tmp_path / "big.txt"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigurationError, match="10 MiB"):
        await client.files.upload(path, session_id=ID)


def test_types_by_name():
    for name in ("a.CSV", "a.md", "a.docx", "a.svg", "a.jpeg", "a.log"):
        assert plan_upload(None, name, None).content_type in UPLOAD_CONTENT_TYPES


REFUSAL = b"<Error><Code>EntityTooLarge</Code><Message>Too big</Message><StringToSign>secret-policy</StringToSign></Error>"


async def test_a_refusal_of_the_store_shows_its_reason_and_no_signature(store, client, caplog):
    caplog.set_level(logging.DEBUG, "cdpbridge")
    store.answers = [httpx.Response(403, content=REFUSAL)]
    with pytest.raises(PermissionDeniedError, match="EntityTooLarge: Too big") as caught:
        await client.files.upload(b"x", session_id=ID, file_name="a.txt")
    assert "secret" not in str(caught.value) + repr(caught.value) + caplog.text


async def test_an_upload_is_tried_again(store, client):
    store.answers = [httpx.Response(503)]
    await client.files.upload(b"x", session_id=ID, file_name="a.txt")
    assert len(store.to_store("POST")) == 2


# --- down -------------------------------------------------------------------------------------------------------------


async def test_download(store, client, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("what was there")
    assert await client.files.download(ID, ID, path) == path
    assert path.read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["mine.csv"]
    [request] = store.to_store()
    assert "X-Browser-Use-API-Key" not in request.headers


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("report.csv", "report.csv"),
        ("../../etc/passwd", "passwd"),
        ("a\\b\\c.txt", "c.txt"),
        ("..", "download"),
        ("", "download"),
        ("a\x00b\n.txt", "a_b_.txt"),
    ],
)
async def test_into_a_folder_under_a_name_that_leads_nowhere_else(store, client, tmp_path, theirs, ours):
    store.file_name = theirs
    folder = tmp_path / "folder"
    folder.mkdir()
    assert await client.files.download(ID, ID, folder) == folder / ours
    assert [file.name for file in tmp_path.rglob("*")] == ["folder", ours]


@pytest.mark.parametrize(
    ("given", "saved"),
    [("new/mine.csv", "new/mine.csv"), ("new/", "new/report.csv"), ("new/of/it/", "new/of/it/report.csv")],
)
async def test_fault_e04_a_missing_folder_is_made(store, client, tmp_path, given, saved):
    """A name that ends with a slash is a folder's, as in README: `download(..., "downloads/")`."""
    store.file_name = "report.csv"
    for _ in range(2):
        assert await client.files.download(ID, ID, f"{tmp_path}/{given}") == tmp_path / saved
    assert (tmp_path / saved).read_bytes() == CONTENT


async def test_a_broken_download_goes_on_where_it_broke(store, client, tmp_path):
    store.breaks = [300_000, 100_000]
    await client.files.download(ID, ID, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [r.headers.get("Range") for r in store.to_store()] == [None, "bytes=300000-", "bytes=400000-"]
    assert len(store.log) == 6  # a fresh address for each


async def test_a_file_that_has_changed_meanwhile_is_fetched_anew(store, client, tmp_path):
    store.breaks = [300_000]
    get = store.get

    def change(request):
        answer = get(request)
        store.content, store.tag = b"another" * 1000, '"two"'
        return answer

    store.get = change
    await client.files.download(ID, ID, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"another" * 1000


async def test_a_download_that_never_ends_well_leaves_nothing(store, client, tmp_path):
    store.breaks = [10, 10, 10]
    path = tmp_path / "a"
    path.write_text("what was there")
    with pytest.raises(APIConnectionError) as caught:
        await client.files.download(ID, ID, path)
    assert "secret" not in str(caught.value)
    assert path.read_text() == "what was there"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


async def test_a_download_that_is_cancelled_leaves_nothing(store, client, tmp_path):
    begun = asyncio.Event()

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self):
            yield b"x"
            begun.set()
            await asyncio.Event().wait()

    store.answers = [httpx.Response(200, stream=Endless())]
    task = asyncio.create_task(client.files.download(ID, ID, tmp_path / "a"))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_is_gone(store, client, tmp_path):
    store.answers = [httpx.Response(404, json={"detail": "Output file not found"})]
    with pytest.raises(NotFoundError, match="Output file not found"):
        await client.files.download(ID, ID, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


async def test_logs(store, client, tmp_path):
    store.content = b"step 1\n"
    assert await client.tasks.download_logs(ID, tmp_path) == tmp_path / f"{ID}.log"
    assert (tmp_path / f"{ID}.log").read_bytes() == b"step 1\n"


def test_both_ways_without_an_event_loop(store, tmp_path):
    store.breaks = [300_000]
    with (
        httpx.Client(transport=httpx.MockTransport(store)) as http,
        Client(KEY, BASE_URL, http_client=http) as client,
    ):
        client.files.upload(b"x", browser_id=ID, file_name="a.txt")
        client.files.download(ID, ID, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert b"\r\n\r\nx\r\n" in store.posted.content


# --- parts ------------------------------------------------------------------------------------------------------------


def test_a_length_that_is_not_kept():
    state = Partial()
    assert not state.begin(200, httpx.Headers({"Content-Length": "10"}))
    state.received = 7
    assert state.missing() == "7 of 10 bytes came"
    state.received = 10
    assert state.missing() is None


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
def test_without_a_strong_tag_nothing_is_continued(tag):
    state = Partial()
    state.begin(200, httpx.Headers({"Content-Length": "10", "ETag": tag}))
    state.received = 5
    assert "Range" not in state.headers()


@pytest.mark.parametrize("part", ["bytes 3-9/10", "bytes 0-9/10", "nonsense", ""])
def test_a_part_from_somewhere_else_is_not_put_behind(part):
    state = Partial(received=5, tag='"one"')
    with pytest.raises(ValueError, match="not asked for"):
        state.begin(206, httpx.Headers({"Content-Range": part}))
    assert (state.received, "Range" in state.headers()) == (0, False)
    with pytest.raises(ValueError, match="not asked for"):
        Partial().begin(206, httpx.Headers({"Content-Range": "bytes 0-9/10"}))


async def test_a_store_that_sends_another_part_is_asked_for_the_whole(store, client, tmp_path):
    store.breaks = [300_000]
    wrong = httpx.Response(206, headers={"Content-Range": "bytes 5-9/1048576"}, content=b"wrong")
    get = store.get

    def once_wrong(request):
        if request.headers.get("Range"):
            return wrong
        return get(request)

    store.get = once_wrong
    await client.files.download(ID, ID, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_compressed_length_is_no_length():
    state = Partial()
    state.begin(200, httpx.Headers({"Content-Length": "10", "Content-Encoding": "gzip"}))
    assert state.total is None
