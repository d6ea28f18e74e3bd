"""Files down from a browser and up into its pages, over CDP."""

import asyncio
import hashlib
import os
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath

import pytest

import cdpbridge
from cdpbridge.browser import Tab
from cdpbridge.cdp._switches import downloads_folder, downloads_switch
from cdpbridge.errors import (
    CommandError,
    CommandTimeout,
    DownloadFailed,
    DownloadTimeout,
    TargetClosed,
    TargetCrashed,
    UploadFailed,
)

ONE_BUILD = pytest.mark.one_build("of the rental around it; downloads of both builds are tested below")

pytestmark = pytest.mark.chromium
BIG = os.urandom(3 * 1024 * 1024 + 17)
RELEASE = threading.Event()
PAGE = b"""<a id=report href=/report>r</a> <a id=other target=_blank href=/report>o</a>
<iframe srcdoc="<a href='/report'>f</a>"></iframe><a id=big href=/big download="big file.bin">b</a>
<a id=cut href=/cut download>c</a><input type=file id=one><input type=file id=many multiple><input type=file id=off disabled>
<p id=p></p>"""


@pytest.fixture
def page(own_page):
    """What a download leaves running is not of the next test."""
    return own_page


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body, headers = PAGE, {"Content-Type": "text/html"}
        if self.path == "/report":
            body = b"a,b\n"
            headers = {
                "Content-Type": "text/csv",
                "Content-Disposition": "attachment; filename*=UTF-8''m%C3%A4rz.csv",
            }
        elif self.path == "/big":
            body, headers = BIG, {"Content-Type": "application/octet-stream"}
        self.send_response(200)
        length = len(body) + (1000 if self.path in {"/cut", "/slow"} else 0)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        if self.path == "/cut":
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)
        if self.path == "/slow":
            self.wfile.flush()
            RELEASE.wait(100)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def files():
    RELEASE.clear()  # the tests of this file do not run in a row: those of one build come together
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    RELEASE.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
async def browser(server):
    async with cdpbridge.open_browser(cdpbridge.at(server.base_url, server.key)) as browser:
        yield browser


@pytest.fixture
async def tab(page, files):
    await page.goto(files)
    return page


@ONE_BUILD
async def test_a_download_with_its_real_name(browser, tmp_path, files, server):
    tab = await browser.new_tab(files)
    async with tab.expect_download() as waiter:
        await tab.evaluate("report.click()")
    assert (waiter.download.suggested_filename, waiter.download.url) == ("märz.csv", f"{files}/report")
    (tmp_path / "märz.csv").write_text("mine")
    path = await waiter.download.save(tmp_path)
    assert path.name == "märz (1).csv"
    assert path.read_bytes() == await waiter.download.read() == b"a,b\n"
    assert path.stat().st_mode & 0o777 == 0o666 & ~os.umask(os.umask(0o022) or 0o022)
    assert (await waiter.download.save_as(tmp_path / "märz.csv")).read_bytes() == b"a,b\n"
    assert len(list(tmp_path.iterdir())) == 2
    kept = server.folder(browser.id) / "downloads"
    assert len(list(kept.rglob("*-*"))) >= 1  # goes when the browser goes; the fixture `server` looks


async def test_fault_e04_a_missing_folder_is_made(tab, tmp_path):
    """README's `waiter.download.save("reports")`, and whatever else a tab writes."""
    async with tab.expect_download() as waiter:
        await tab.evaluate("report.click()")
    assert (
        await waiter.download.save(tmp_path / "new" / "reports") == tmp_path / "new" / "reports" / "märz.csv"
    )
    assert (await waiter.download.save_as(tmp_path / "other" / "a.csv")).read_bytes() == b"a,b\n"
    await tab.screenshot(tmp_path / "pictures" / "of" / "it.png")
    await tab.pdf(str(tmp_path / "documents" / "it.pdf"))
    assert (tmp_path / "pictures" / "of" / "it.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "documents" / "it.pdf").read_bytes().startswith(b"%PDF")


async def test_big_and_odd_downloads(tab, tmp_path):
    async with tab.expect_download() as waiter:
        await tab.evaluate("big.click()")
    path = await waiter.download.save(tmp_path)
    assert path.name == "big file.bin"
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(BIG).digest()
    for script in ("other.click()", "frames[0].document.querySelector('a').click()"):
        async with tab.expect_download() as waiter:
            await tab.evaluate(script)
        assert await waiter.download.read() == b"a,b\n"
    async with tab.expect_download() as waiter:
        await tab.evaluate(
            "Object.assign(document.createElement('a'), {download: '../../x', href: URL.createObjectURL(new Blob(['b']))}).click()"
        )
    assert await waiter.download.read() == b"b"
    assert (await waiter.download.save(tmp_path)).parent == tmp_path


@ONE_BUILD
async def test_another_tabs_download_is_not_this_ones(browser, files):
    tab = await browser.new_tab(files)
    other = await browser.new_tab(files)
    async with tab.expect_download() as waiter:
        await other.evaluate("report.click()")
        await tab.evaluate("big.click()")
    assert waiter.download.url == f"{files}/big"
    assert len(await waiter.download.read()) == len(BIG)


# --- whose download it is, in both builds ----------------------------------------------------------------------------


@pytest.fixture
def with_frames(pages):
    csv = {"Content-Disposition": "attachment; filename=a.csv"}
    pages.answers |= {f"/{name}": (200, csv, name.encode()) for name in ("mine", "theirs", "removed", "far")}
    pages.pages["/link"] = "<a href=/theirs>t</a>"
    pages.pages["/framed"] = "<iframe src=/link></iframe><a id=mine href=/mine>m</a>"
    pages.pages["/far-frame"] = "<script>setTimeout(() => location = '/far', 50)</script>"
    return pages


CLICK_IN_FRAME = "frames[0].document.querySelector('a').click()"


async def in_a_context(connection, url):
    context = (await connection.root.send("Target.createBrowserContext"))["browserContextId"]
    tab = Tab(await connection.new_tab(browser_context_id=context))
    await tab.goto(url)
    return tab


@pytest.mark.parametrize("same_context", [True, False])
async def test_a_download_of_a_frame_is_not_one_of_another_tab(page, connection, with_frames, same_context):
    url = f"{with_frames.url}/framed"
    await page.goto(url)
    if same_context:
        [context] = [
            each.browser_context_id for each in await connection.targets() if each.target_id == page.target_id
        ]
        other = Tab(await connection.new_tab(browser_context_id=context))
        await other.goto(url)
    else:
        other = await in_a_context(connection, url)
    async with page.expect_download() as mine:
        async with other.expect_download() as theirs:
            await other.evaluate(CLICK_IN_FRAME)
        await page.evaluate("mine.click()")
    assert await theirs.download.read() == b"theirs"
    assert await mine.download.read() == b"mine"
    await other.close()


async def test_downloads_of_frames_and_popups_of_the_tab_are_its_own(page, with_frames):
    await page.goto(f"{with_frames.url}/framed")
    far = f"{with_frames.other}/far-frame"
    for script, body in (
        (CLICK_IN_FRAME, b"theirs"),
        (
            "const f = document.body.appendChild(document.createElement('iframe')); f.src = '/removed'",
            b"removed",
        ),
        (f"document.body.appendChild(document.createElement('iframe')).src = '{far}'", b"far"),
        ("void window.open('/mine')", b"mine"),
        ("Object.assign(document.createElement('a'), {href: '/mine', target: '_blank'}).click()", b"mine"),
    ):
        async with page.expect_download() as waiter:
            await page.evaluate(f"{{ {script} }}")
        assert await waiter.download.read() == body, script


async def test_a_block_of_a_tab_that_crashes_ends_at_once(page, with_frames):
    await page.goto(with_frames.url)
    async with asyncio.timeout(20):
        with pytest.raises(TargetCrashed):
            async with page.expect_download(timeout=90):
                crashing = asyncio.create_task(page.session.send("Page.crash"))
        with pytest.raises(TargetCrashed):
            await crashing
    await page.goto(with_frames.url)  # a crash is not the end of a tab
    async with page.expect_download() as waiter:
        await page.goto(f"{with_frames.url}/mine")
    assert await waiter.download.read() == b"mine"


async def test_a_block_of_a_tab_that_closes_ends_at_once(page, with_frames):
    await page.goto(f"{with_frames.url}/framed")
    with pytest.raises(TargetClosed):
        async with asyncio.timeout(60), page.expect_download(timeout=timedelta(minutes=10)):
            await page.close()
    with pytest.raises(TargetClosed):
        async with page.expect_download():
            pytest.fail("it is closed")


async def test_listeners_are_counted_once(page, with_frames, failures):
    await page.goto(f"{with_frames.url}/framed")
    downloads, root = page._downloads, page.session.connection.root
    before = {name: len(each) for name, each in root._node.listeners.items()}
    stop = page.on("download", lambda _download: None)
    stop()  # before it began
    stop()
    await page._events.settled()
    assert not downloads.expected
    assert {name: len(each) for name, each in root._node.listeners.items()} == before
    send = root.send
    root.send = refused
    stop = page.on("download", lambda _download: None)
    await page._events.settled()
    root.send = send
    assert [what for _, what in failures] == ["download"]
    stop()
    stop()
    assert not downloads.expected
    async with page.expect_download() as waiter:
        assert await page.goto(f"{with_frames.url}/mine") is None
    assert await waiter.download.read() == b"mine"
    assert not downloads.expected


async def refused(*_arguments, **_options):
    raise CommandError("Browser.setDownloadBehavior", -32000, "not allowed")


async def test_no_download_and_a_broken_one(tab, tmp_path):
    with pytest.raises(CommandTimeout, match="expect_download"):
        async with tab.expect_download(timeout=timedelta(seconds=0.3)):
            pass
    with pytest.raises(KeyError, match="mine"):
        async with tab.expect_download():
            raise KeyError("mine")
    async with tab.expect_download() as waiter:
        with pytest.raises(RuntimeError, match="after the block"):
            _ = waiter.download
        await tab.evaluate("cut.click()")
    with pytest.raises(DownloadFailed, match="canceled"):
        await waiter.download.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_a_download_that_does_not_end(tab, tmp_path):
    async with tab.expect_download() as waiter:
        await tab.evaluate(
            "Object.assign(document.createElement('a'), {href: '/slow', download: ''}).click()"
        )
    with pytest.raises(DownloadTimeout, match=r"slow.*not complete within 0\.2 s") as caught:
        await waiter.download.save(tmp_path, timeout=timedelta(seconds=0.2))
    assert isinstance(caught.value, TimeoutError)
    waiting = asyncio.create_task(waiter.download.save(tmp_path))
    await tab.session.connection.close()
    with pytest.raises(DownloadFailed, match=r"connection has ended|canceled"):
        await waiting
    assert list(tmp_path.iterdir()) == []


@pytest.mark.one_build("no browser is started")
@pytest.mark.parametrize("folder", ["/a/b", "/with space/ä%20", "/a\tb"])
def test_the_switch_for_downloads(folder):
    line = f"/usr/bin/chromium --headless {downloads_switch(PurePosixPath(folder))} about:blank"
    assert downloads_folder(line) == folder
    assert downloads_folder("/usr/bin/chromium --x--cdpbridge-downloads=/a") is None


CONTENT = """
Promise.all([...{id}.files].map(async f => [f.name, f.type, f.size,
    [...new Uint8Array(await crypto.subtle.digest('SHA-256', await f.arrayBuffer()))].map(
        b => b.toString(16).padStart(2, '0')).join('')]))"""


async def test_uploads(tab, tmp_path):
    small, big = tmp_path / "märz.csv", tmp_path / "big.bin"
    small.write_bytes(b"a,b\n")
    big.write_bytes(BIG)
    await tab.evaluate(
        "addEventListener('change', e => p.textContent += e.target.id + e.target.files.length)"
    )
    await tab.evaluate(
        "window.File = window.Blob = window.atob = null; Uint8Array.prototype.map0 = 1"
    )  # a hostile page
    await tab.set_input_files("#one", small)
    await tab.set_input_files("#many", [small, str(big)])
    assert await tab.evaluate("p.textContent") == "one1many2"
    found = await tab.evaluate(CONTENT.format(id="many"))
    expected = [[small, "text/csv"], [big, "application/octet-stream"]]
    assert found == [
        [path.name, kind, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()]
        for path, kind in expected
    ]
    await tab.set_input_files("#many", [])
    assert await tab.evaluate("many.files.length") == 0


async def test_what_cannot_be_uploaded(tab, tmp_path):
    file = tmp_path / "x.txt"
    file.write_text("12345")
    for selector, paths, words in [
        ("#nowhere", [file], "no element '#nowhere'"),
        ("[[", [file], "is no selector"),
        ("#p", [file], "is no file input"),
        ("#off", [file], "is disabled"),
        ("#one", [file, file], "takes one file, not 2"),
        ("#one", [tmp_path], "is a folder"),
        ("#one", [tmp_path / "y"], "is no file"),
    ]:
        with pytest.raises(UploadFailed, match=words):
            await tab.set_input_files(selector, paths)
    with pytest.raises(UploadFailed, match="5 bytes, the limit is 4"):
        await tab.set_input_files("#one", file, max_bytes=4)
    assert await tab.evaluate("one.files.length") == 0
