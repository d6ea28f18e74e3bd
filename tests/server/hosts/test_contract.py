"""What every `BrowserHosts` does: browsers of this process, and browsers of worker programs."""

import asyncio
import secrets
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from uuid import uuid4

import pytest

from cdpbridge.errors import CDPError, ConfigurationError
from cdpbridge.server.files import FileStore, SharedFolders
from cdpbridge.server.gateway import FileRefused, Registry
from cdpbridge.server.hosts import BrowserSpec, CloseFrame, UnfinishedStop
from cdpbridge.server.profiles import ProfileStore, ProfileVersion
from cdpbridge.server.proxy import Rules
from tests.conftest import until
from tests.server.workers.worker_programs import (
    Calls,
    MemorySlots,
    WorkerProgram,
    answers,
    worker_hosts,
)

pytestmark = pytest.mark.chromium


def one_build(reason):
    """Mark a test that runs on the headless shell alone, and why that is enough."""

    def mark(test):
        marked = pytest.mark.parametrize("build", ["shell"], indirect=True, scope="module")(test)
        return pytest.mark.one_build(reason)(marked)

    return mark


END = CloseFrame(1001, "stopped by the caller")


@pytest.fixture(scope="module", params=["shell", "full"])
def build(request):
    return request.param


@pytest.fixture(scope="module")
def worker(build, tmp_path_factory):
    """One worker for all tests of a build."""
    worker = WorkerProgram(tmp_path_factory.mktemp("worker"), browser_build=build)
    yield worker
    worker.end()


async def ended(hosts, browser_id, frame, *, save):
    """Stop a browser, and wait for what may be left to do then; the report."""
    report = await hosts.stop(browser_id, frame, save=save)
    return await report.finished() if isinstance(report, UnfinishedStop) else report


@asynccontextmanager
async def local_hosts(folder, build, registry):
    from cdpbridge.server._local_browsers import local_browsers
    from cdpbridge.server.settings import Settings

    settings = Settings.load(data_dir=folder, browser_build=build, warm_browsers=0)
    profiles = ProfileStore(folder / "profiles")
    files = FileStore(folder / "files", SharedFolders(settings.runtime_folder))
    found = await local_browsers(
        settings,
        profiles,
        registry,
        files,
        own_ports=set(),
        token_of=lambda _browser_id: secrets.token_urlsafe(),
        rules=Rules,
        strain=lambda: None,
    )
    found.hosts.files = files
    try:
        yield found.hosts
    finally:
        await found.hosts.close()
        profiles.close()


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture(params=["local", "workers"])
async def hosts(request, build, tmp_path, registry):
    if request.param == "local":
        block = local_hosts(tmp_path, build, registry)
    else:
        worker = request.getfixturevalue("worker")
        block = worker_hosts(tmp_path, MemorySlots(worker), registry=registry)
    async with block as hosts:
        yield hosts


async def test_a_browser_is_reached_and_stopped(hosts, registry):
    calls, spec = Calls(), BrowserSpec(uuid4(), lifetime=timedelta(minutes=5))
    placement = await calls.start(hosts, spec)
    assert hosts.placement(spec.id) == placement
    assert placement.profile_writable is None
    upstream = registry.find(placement.token).upstream
    assert await answers(upstream) == "HTTP/1.1 200 OK\r\n"
    connection = await hosts.connection(spec.id)
    assert "Chrome" in (await connection.root.send("Browser.getVersion"))["product"]
    assert await hosts.connection(spec.id) is connection
    report = await ended(hosts, spec.id, END, save=True)
    assert (report.saved, report.proxy_bytes, calls.exits) == (None, 0, [])
    assert connection.closed
    assert registry.find(placement.token) is None
    assert hosts.placement(spec.id) is None
    assert await hosts.connection(spec.id) is None
    assert await ended(hosts, spec.id, END, save=True) is None
    with pytest.raises(OSError):
        await answers(upstream)


async def test_a_browser_that_ends_by_itself_is_told_once(hosts):
    calls, spec = Calls(), BrowserSpec(uuid4())
    await calls.start(hosts, spec)
    with suppress(CDPError):
        await (await hosts.connection(spec.id)).root.send("Browser.close")
    await until(lambda: calls.exits)
    report = await ended(hosts, spec.id, END, save=True)
    assert (report.how, report.saved, calls.exits) == ("exited", None, [spec.id])


async def test_a_profile_goes_from_one_browser_to_the_next(hosts):
    calls, profile_id = Calls(), uuid4()
    first = BrowserSpec(uuid4(), profile_id)
    assert (await calls.start(hosts, first)).profile_writable is True
    cookie = {"name": "kept", "value": "1", "domain": "example.com", "path": "/", "expires": 4e9}
    await (await hosts.connection(first.id)).root.send("Storage.setCookies", {"cookies": [cookie]})
    saved = (await ended(hosts, first.id, END, save=True)).saved
    assert (saved.version, saved.cookie_domains, saved.archive) == (1, ["example.com"], None)

    second = BrowserSpec(uuid4(), profile_id, profile_version=ProfileVersion(1))
    await calls.start(hosts, second)
    found = await (await hosts.connection(second.id)).root.send("Storage.getCookies")
    assert [each["name"] for each in found["cookies"]] == ["kept"]
    assert (await ended(hosts, second.id, END, save=False)).saved is None
    assert calls.exits == []


async def test_downloads_are_with_the_server_when_a_browser_has_ended(hosts, tmp_path):
    calls, spec = Calls(), BrowserSpec(uuid4())
    await calls.start(hosts, spec)
    tab = await (await hosts.connection(spec.id)).new_tab("about:blank")
    script = (
        "const a = document.createElement('a'); a.download = 'note.txt';"
        "a.href = URL.createObjectURL(new Blob(['of the page'])); a.click()"
    )
    await tab.send("Runtime.evaluate", {"expression": script})
    found = FileStore(tmp_path / "files")

    async def brought():
        await hosts.take_downloads(spec.id)
        return hosts.files.listing(hosts.files.downloads(spec.id))

    [file] = await until(brought)
    assert (file.name, file.file.read_bytes()) == ("note.txt", b"of the page")
    await ended(hosts, spec.id, END, save=False)
    [file] = found.listing(found.downloads(spec.id))
    assert (file.name, file.file.read_bytes()) == ("note.txt", b"of the page")


@one_build("folders and paths of the host")
async def test_a_browser_reads_what_is_uploaded_for_it(hosts, tmp_path):
    calls, spec = Calls(), BrowserSpec(uuid4())
    await calls.start(hosts, spec)
    folder = hosts.files.make(hosts.files.uploads(spec.id))
    (folder / "given.txt").write_text("for the page")
    (folder / "given.txt").chmod(0o640)
    await hosts.give_upload(spec.id, folder / "given.txt")
    tab = await (await hosts.connection(spec.id)).new_tab("about:blank")
    made = {"expression": "field = document.createElement('input'); field.type = 'file'; field"}
    field = (await tab.send("Runtime.evaluate", made))["result"]["objectId"]
    path = str(hosts.upload_path(spec.id, folder / "given.txt"))
    await tab.send("DOM.setFileInputFiles", {"files": [path], "objectId": field})
    read = {"expression": "field.files[0].text()", "awaitPromise": True}
    assert (await tab.send("Runtime.evaluate", read))["result"]["value"] == "for the page"
    await ended(hosts, spec.id, END, save=False)


@one_build("folders and paths of the host")
async def test_the_tunnel_reaches_the_files_of_a_browser_and_no_others(hosts, registry):
    calls, spec = Calls(), BrowserSpec(uuid4())
    files = registry.find((await calls.start(hosts, spec)).token).files
    folders = await files.folders()
    place = f"{folders['uploads']}/deep/given.txt"

    async def chunks(*parts):
        for part in parts:
            yield part

    await files.write(place, 6, 1e9, chunks(b"abc", b"def"))
    opened = await files.read(place)
    assert (opened.size, [piece async for piece in opened.chunks()]) == (6, [b"abcdef"])
    await opened.close()
    for size, parts in ((6, (b"abc",)), (3, (b"abc", b"def"))):
        with pytest.raises(FileRefused) as refused:
            await files.write(place, size, None, chunks(*parts))
        assert refused.value.status == 400
    for elsewhere in ("/etc/passwd", f"{folders['uploads']}/../x", folders["uploads"]):
        for work in (
            files.read(elsewhere),
            files.remove(elsewhere, 0),
            files.write(elsewhere, 1, None, chunks(b"x")),
        ):
            with pytest.raises(FileRefused) as refused:
                await work
            assert refused.value.status == 403
    await files.remove(place, 0)
    with pytest.raises(FileRefused) as refused:
        await files.read(place)
    assert refused.value.status == 404
    await ended(hosts, spec.id, END, save=False)
    assert calls.exits == []


@one_build("lists of the host's own forwarder")
async def test_hosts_are_limited_while_a_browser_runs(hosts):
    calls, spec = Calls(), BrowserSpec(uuid4(), agent=True)
    await calls.start(hosts, spec)
    assert await hosts.limit_hosts(spec.id, allowed=["example.com"])
    with pytest.raises(ConfigurationError):
        await hosts.limit_hosts(spec.id, allowed=["http://example.com"])
    await ended(hosts, spec.id, END, save=False)
    assert not await hosts.limit_hosts(spec.id, allowed=None)


@one_build("processes of the host")
async def test_a_start_that_is_cancelled_leaves_nothing(hosts):
    calls, spec = Calls(), BrowserSpec(uuid4())
    start = asyncio.create_task(calls.start(hosts, spec))
    await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert hosts.placement(spec.id) is None
    assert await ended(hosts, spec.id, END, save=False) is None
    # Its slot is free.
    again = [BrowserSpec(uuid4()) for _ in range(3)]
    await asyncio.gather(*(calls.start(hosts, each) for each in again))
    assert calls.exits == []


@one_build("no browser is started")
async def test_what_no_browser_has(hosts):
    calls, unknown = Calls(), uuid4()
    assert await hosts.adopt(BrowserSpec(unknown, generation=2), on_exit=calls, on_limit=calls.over) is None
    assert await hosts.attach(unknown) is None
    assert not await hosts.release(unknown)
    assert hosts.proxy_bytes(unknown) == 0
    assert hosts.traffic(unknown) == ()
    assert hosts.blocked_requests(unknown) is None
    assert calls.exits == []
