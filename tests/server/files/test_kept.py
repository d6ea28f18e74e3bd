"""Files of ended browsers and tasks in object storage: the same paths, names, times and answers as before."""

import asyncio
import os
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update

from cdpbridge.server import _parts
from cdpbridge.server._keeping import Keeping
from cdpbridge.server.files import FileStore, KeptFiles
from cdpbridge.server.objects import ObjectStorage, ObjectStorageError
from cdpbridge.server.store import Browser, RecordingState

TEXT = bytes(range(256)) * 10


@pytest.fixture
def files(tmp_path, storage):
    return FileStore(tmp_path / "files", kept=KeptFiles(storage))


def write(folder, name, data=TEXT, modified=1_700_000_000.5):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_bytes(data)
    os.utime(file, (modified, modified))
    return file


def test_a_listing_is_the_same_before_and_after(files, tmp_path):
    browser, task = uuid4(), uuid4()
    for name in ("report.txt", "ü (2)#1.csv", "50%.txt"):
        write(files.downloads(browser), name)
    write(files.downloads(browser), "half.bin.crdownload")
    write(files.recording(browser), "recording.webm")
    write(files.task_folder(task), "step-1.png")
    write(files.task_folder(task) / "output" / "deep", "out.txt")
    before = files.listing(files.downloads(browser))
    assert files.keep("browsers", browser) == (4 * len(TEXT), True)
    assert files.keep("tasks", task) == (2 * len(TEXT), False)
    after = files.listing(files.downloads(browser))
    assert [(each.name, each.path, each.size, each.modified) for each in after] == [
        (each.name, each.path, each.size, each.modified) for each in before
    ]
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []
    assert files.owners("browsers") == files.owners("tasks") == []
    for each in after:
        assert files.find(each.path) == each
        assert files.file(each.path) is None
    assert files.find(f"tasks/{task}/output/deep/out.txt").size == len(TEXT)
    assert [each.name for each in files.listing(files.task_folder(task))] == ["step-1.png"]
    files.remove(browser_id=browser)
    assert files.listing(files.downloads(browser)) == []
    assert files.find(after[0].path) is None
    assert files.find(f"tasks/{task}/step-1.png") is not None


@pytest.mark.parametrize("path", ["", "browsers", "../x", "browsers/../../x", "tasks/\0/x", "elsewhere/a/b"])
def test_paths_that_lead_nowhere(files, path):
    assert files.find(path) is None


def test_a_move_that_breaks_off_is_repeated(files, monkeypatch, storage):
    """Until all files of a browser are in the storage, all are listed from the disk."""
    browser = uuid4()
    for name in ("a.txt", "b.txt", "c.txt"):
        write(files.downloads(browser), name)
    put, done = ObjectStorage.put_file, []

    def breaking(self, name, file, **options):
        if len(done) == 1:
            raise ObjectStorageError("cut here")
        done.append(name)
        put(self, name, file, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStorage, "put_file", breaking)
        with pytest.raises(ObjectStorageError, match="cut here"):
            files.keep("browsers", browser)
    assert [each.kept_as for each in files.listing(files.downloads(browser))] == [None] * 3
    assert files.keep("browsers", browser) == (3 * len(TEXT), False)
    assert [each.name for each in files.listing(files.downloads(browser))] == ["a.txt", "b.txt", "c.txt"]
    assert len(list(storage.listing("files"))) == 3


def test_files_removed_while_they_are_moved_stay_removed(files, monkeypatch, storage):
    browser = uuid4()
    for name in ("a.txt", "b.txt"):
        write(files.downloads(browser), name)
    put = ObjectStorage.put_file

    def removed_meanwhile(self, name, file, **options):
        put(self, name, file, **options)
        if "a.txt" in name or "b.txt" in name:
            files.remove(browser_id=browser)

    monkeypatch.setattr(ObjectStorage, "put_file", removed_meanwhile)
    try:
        assert files.keep("browsers", browser) == (0, False)
    except OSError:
        pass  # the second file was removed before it was opened
    assert list(storage.listing("files")) == []
    assert files.listing(files.downloads(browser)) == []


def test_links_are_not_followed(files, tmp_path, storage):
    browser = uuid4()
    write(tmp_path, "secret")
    write(files.downloads(browser), "plain.txt")
    (files.downloads(browser) / "link.txt").symlink_to(tmp_path / "secret")
    (files.downloads(browser) / "folder").symlink_to(tmp_path)
    assert files.keep("browsers", browser) == (len(TEXT), False)
    assert len(list(storage.listing("files"))) == 1
    assert (tmp_path / "secret").read_bytes() == TEXT


# --- behind a server --------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def kept_when_asked(monkeypatch):
    """A server looks at its start, and then only when a test asks."""
    monkeypatch.setattr(_parts, "_KEEP_EVERY_SECONDS", 3600)


@pytest.fixture
async def kept_api(make_api, storage_place):
    async with make_api(storage_url=storage_place.url, storage_options=storage_place.options) as api:
        yield api


async def ended_browser(api, *names):
    """A stopped browser that has downloaded files, which were moved."""
    browser = await api.rent()
    downloads = api.services.files.downloads(UUID(browser["id"]))
    for name in names:
        write(downloads, name)
    await api.stop(browser)
    keeping = Keeping(api.services.store, api.services.files)
    await keeping.once()
    assert not downloads.exists()
    return browser


async def test_downloads_of_an_ended_browser_are_answered_as_before(kept_api):
    api = kept_api
    browser = await ended_browser(api, "data.bin", "note.txt")
    listed = (await api.get(f"/browsers/{browser['id']}/downloads?includeUrls=true")).json()["files"]
    assert [(each["path"], each["size"]) for each in listed] == [
        ("data.bin", len(TEXT)),
        ("note.txt", len(TEXT)),
    ]
    assert listed[0]["lastModified"].startswith("2023-11-14T22:13:20.5")
    url = api.path(listed[0]["url"])
    whole = await api.client.get(url)
    assert (whole.status_code, whole.content) == (200, TEXT)
    assert whole.headers["content-disposition"].startswith("attachment")
    assert whole.headers["content-security-policy"].startswith("sandbox")
    head = await api.client.head(url)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(TEXT)))
    for asked, start, end in (("bytes=5-9", 5, 10), ("bytes=2550-", 2550, 2560), ("bytes=-4", 2556, 2560)):
        part = await api.client.get(url, headers={"Range": asked})
        assert (part.status_code, part.content) == (206, TEXT[start:end])
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{len(TEXT)}"
    assert (await api.client.get(url, headers={"Range": "bytes=5-2,7-8"})).content == TEXT
    assert (await api.client.get(url, headers={"Range": "bytes=9999-"})).status_code == 416
    inline = await api.client.get(api.path(listed[1]["url"]))
    assert inline.headers["content-disposition"].startswith("inline")
    assert (await api.client.get(url.replace("data.bin", "other.bin"))).status_code == 401

    assert await api.services.store.kept_bytes(await api.project()) == 2 * len(TEXT)
    assert (await api.request("DELETE", f"/browsers/{browser['id']}/files")).status_code == 204
    assert (await api.get(f"/browsers/{browser['id']}/downloads")).json()["files"] == []
    assert (await api.client.get(url)).status_code == 404
    assert await api.services.store.kept_bytes(await api.project()) == 0


async def test_a_recording_is_found_after_it_was_moved(kept_api):
    api = kept_api
    browser = await api.rent()
    folder = api.services.files.recording(UUID(browser["id"]))
    write(folder, "recording.webm")
    write(folder, "at-000-min.jpg", b"jpeg")
    await api.stop(browser)
    keeping = Keeping(api.services.store, api.services.files)
    for state in (RecordingState.RUNNING, RecordingState.SAVED):  # it is not moved before its end
        async with api.services.store._write() as session:
            await session.execute(update(Browser).values(recording=state))
        assert folder.exists()
        await keeping.once()
    assert not folder.exists()
    seen = await api.browser(browser)
    assert (await api.client.get(api.path(seen["recordingUrl"]))).content == TEXT
    recording = (await api.get(f"/browsers/{browser['id']}/recording")).json()
    assert recording["size"] == len(TEXT)
    [still] = recording["stills"]
    assert still["takenAt"].startswith("2023-11-14T22:13:20.5")
    assert (await api.client.get(api.path(still["url"]))).content == b"jpeg"


async def test_a_running_browser_keeps_its_files(kept_api, storage):
    browser = await kept_api.rent()
    file = write(kept_api.services.files.downloads(UUID(browser["id"])), "now.txt")
    keeping = Keeping(kept_api.services.store, kept_api.services.files)
    await keeping.once()
    assert file.exists()
    assert list(storage.listing("files")) == []
    await kept_api.stop(browser)


async def test_files_that_cannot_be_moved_hold_up_no_others(kept_api, monkeypatch):
    store, files = kept_api.services.store, kept_api.services.files
    folders = {}
    for _ in range(2):
        browser = await kept_api.rent()
        folders[browser["id"]] = files.downloads(UUID(browser["id"]))
        write(folders[browser["id"]], "note.txt")
        await kept_api.stop(browser)
    first, second = sorted(folders)
    keep = files.keep

    def broken(kind, owner):
        if str(owner) == first:
            raise OSError("no plain file any more")
        return keep(kind, owner)

    monkeypatch.setattr(files, "keep", broken)
    keeping = Keeping(store, files)
    for _ in range(2):
        with pytest.raises(OSError, match="no plain file"):
            await keeping.once()
    assert [folders[each].exists() for each in (first, second)] == [True, False]
    monkeypatch.undo()
    await keeping.once()
    assert not folders[first].exists()


async def test_the_quota_counts_what_was_moved(make_api, storage_place):
    options = {"storage_url": storage_place.url, "storage_options": storage_place.options}
    async with make_api(**options, max_files_mb_per_project=1) as api:
        browser = await api.rent()
        write(api.services.files.downloads(UUID(browser["id"])), "big.bin", bytes(1_100_000))
        await api.stop(browser)
        keeping = Keeping(api.services.store, api.services.files)
        await keeping.once()
        api.services.quota.forget(await api.project())
        refused = await api.post("/browsers", {})
        assert refused.status_code == 403
        assert "max_files_mb_per_project" in refused.text


async def test_an_address_that_the_storage_has_signed(make_api, s3):
    settings = {
        "storage_url": f"s3://{s3.bucket()}",
        "storage_options": s3.options,
        "storage_presigned": True,
    }
    async with make_api(**settings) as api:
        browser = await ended_browser(api, "page.html")
        listed = (await api.get(f"/browsers/{browser['id']}/downloads?includeUrls=true")).json()["files"]
        answer = await api.client.get(api.path(listed[0]["url"]))
        assert answer.status_code == 307
        assert answer.headers["location"].startswith(s3.address)
        from urllib.request import urlopen

        def fetch():
            with urlopen(answer.headers["location"]) as found:
                return found.read(), found.headers["Content-Disposition"]

        assert await asyncio.to_thread(fetch) == (TEXT, "attachment")


async def test_a_storage_that_is_away_loses_nothing(kept_api, monkeypatch, caplog):
    api = kept_api
    kept = await ended_browser(api, "kept.txt")
    late = await api.rent()
    file = write(api.services.files.downloads(UUID(late["id"])), "late.txt")
    await api.stop(late)

    def away(self, *_arguments, **_options):
        raise ObjectStorageError("the bucket is away")

    with monkeypatch.context() as patch:
        for name in ("put_file", "listing", "find"):
            patch.setattr(ObjectStorage, name, away)
        keeping = Keeping(api.services.store, api.services.files)
        with pytest.raises(ObjectStorageError):
            await keeping.once()
        listed = (await api.get(f"/browsers/{late['id']}/downloads")).json()["files"]
        assert [each["path"] for each in listed] == ["late.txt"]
        away_answer = await api.get(f"/browsers/{kept['id']}/downloads")
        assert away_answer.status_code == 503
        assert "object storage" in away_answer.json()["detail"]
    await keeping.once()
    assert not file.exists()
    assert len((await api.get(f"/browsers/{kept['id']}/downloads")).json()["files"]) == 1


async def test_what_a_task_has_written_is_answered_after_it_was_moved(kept_api):
    api = kept_api
    created, run = await api.give(task="look")
    run.finish("done", files={"answer.txt": b"forty-two"})
    await api.over(created)
    folder = api.services.files.task_folder(UUID(created["id"]))
    assert folder.exists()
    await Keeping(api.services.store, api.services.files).once()
    assert not folder.exists()
    task = await api.task(created)
    [output] = task["outputFiles"]
    signed = (await api.get(f"/files/tasks/{created['id']}/output-files/{output['id']}")).json()
    assert (await api.client.get(api.path(signed["downloadUrl"]))).content == b"forty-two"
    log = (await api.get(f"/tasks/{created['id']}/logs")).json()
    assert (await api.client.get(api.path(log["downloadUrl"]))).status_code == 200
    assert (await api.request("DELETE", f"/sessions/{created['sessionId']}")).status_code == 204
    assert (await api.client.get(api.path(signed["downloadUrl"]))).status_code == 404


async def test_files_of_a_session_that_works_are_not_moved(kept_api):
    api = kept_api
    created, run = await api.give(task="look")
    folder = api.services.files.task_folder(UUID(created["id"]))
    await Keeping(api.services.store, api.services.files).once()
    assert folder.exists()
    run.finish("done")
    await api.over(created)
