"""Recordings of real browsers by a real server, read back with PyAV."""

import asyncio
import os
import signal
import time

import pytest

from tests.server.live.conftest import Rented
from tests.server.live.test_viewers import ANIMATED

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("the recorder gets pictures as any viewer does; test_viewers.py has both builds"),
]

# Forty changes in a second, most of which the browser drops, and then rest.
BURST = """count = 0; (function next() {
  document.body.style.background = count++ < 40 ? `rgb(${count * 5} 0 0)` : 'lime'
  count < 42 && setTimeout(next, 16)
})()"""
NOISE = """canvas = document.body.appendChild(document.createElement('canvas')); canvas.width = 300; canvas.height = 200
context = canvas.getContext('2d'); image = context.createImageData(300, 200);
(function draw() {
  for (let i = 0; i < image.data.length; i++) image.data[i] = i % 4 == 3 ? 255 : Math.random() * 255
  context.putImageData(image, 0, 0)
  setTimeout(draw, 50)
})()"""


async def test_a_browser_is_filmed_through_navigations_and_tabs(make_server, recorded, video_of, quick):
    async with make_server() as server:
        began = time.monotonic()
        async with recorded(server) as browser:
            assert browser.record["recordingAvailable"]
            assert browser.record["recordingUrl"] is None
            tab = await browser.open("red")
            await browser.seen("red")
            await tab.send("Page.navigate", {"url": "data:text/html,<body style='background:lime'>"})
            await browser.seen("lime")
            other = await browser.open("blue")
            await browser.seen("blue")
            await other.send("Page.close")  # back to the one before
            await browser.seen("lime", last=True)
        stopped = await server.stop(browser.record)
        took = time.monotonic() - began
        video = await video_of(server, stopped)
        assert video.colours == ["red", "lime", "blue", "lime"]
        assert video.times == sorted(set(video.times))
        assert video.times[-1] <= video.duration <= took + 1
        assert video.duration > 1
        about = await browser.about()
        assert (about["status"], about["note"], about["size"]) == ("saved", None, video.size)
        assert [still["name"] for still in about["stills"]] == ["last.jpg"]
        still = await server.http.get(about["stills"][0]["url"], headers={"X-Browser-Use-API-Key": ""})
        assert still.headers["content-type"] == "image/jpeg"
        assert still.content.startswith(b"\xff\xd8")


async def test_what_a_page_looks_like_at_rest_is_not_missed(make_server, recorded, quick):
    async with make_server(recording_frames_per_second=2) as server, recorded(server) as browser:
        tab = await browser.open("red")
        await browser.seen("red")
        await tab.send("Runtime.evaluate", {"expression": BURST})
        await browser.seen("lime")
        await server.stop(browser.record)


async def test_a_recording_is_no_viewer_and_takes_few_pictures_where_viewers_get_many(
    make_server, recorded, video_of
):
    async with make_server() as server:
        async with recorded(server) as browser:
            rented = Rented(server, browser.record, browser.automation)
            await rented.open(ANIMATED)
            async with rented.watching() as viewer:
                assert viewer.status["viewers"] == 1
                before = viewer.pictures
                await viewer.until(lambda: viewer.pictures >= before + 40)
        video = await video_of(server, await server.stop(browser.record))
        pauses = [later - earlier for earlier, later in zip(video.times, video.times[1:-1], strict=False)]
        assert len(pauses) >= 4
        # About 5 a second, for each picture has the time at which it came, not that at which it was taken; a viewer gets 20.
        assert sum(pauses) / len(pauses) > 0.15


async def test_a_site_does_not_notice_a_recording_but_gives_its_icon_to_people(make_server, recorded, quick):
    asked = []

    async def answer(reader, writer):
        asked.append((await reader.readline()).split()[1].decode())
        page = b"<link rel=icon href=/icon.svg><body style='background:red'>"
        body = page if asked[-1] == "/" else b"<svg xmlns='http://www.w3.org/2000/svg'/>"
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/html\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    site = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with site, make_server() as server, recorded(server) as browser:
        port = site.sockets[0].getsockname()[1]
        await browser.automation.new_tab(f"http://127.0.0.1:{port}/")
        await browser.seen("red")
        await asyncio.sleep(1)  # longer than it takes until people get an icon
        assert asked == ["/"]
        async with Rented(server, browser.record, browser.automation).watching() as viewer:
            await viewer.until(lambda: any(icon["data"] for icon in viewer.told("icon")))
        assert asked == ["/", "/icon.svg"]
        await server.stop(browser.record)


async def test_a_recording_ends_at_its_limit_and_says_so(make_server, recorded, video_of, monkeypatch):
    monkeypatch.setattr("cdpbridge.server.recording._video._BITS_PER_SECOND", 6_000_000)
    async with make_server(recording_max_mb=1) as server, recorded(server) as browser:
        await browser.open("red", NOISE)
        async with asyncio.timeout(90):
            while (about := await browser.about())["status"] == "recording":
                await asyncio.sleep(0.1)
        assert about["status"] == "size_limit"
        assert "limit of 1 MB" in about["note"]
        assert len(browser.automation.sessions) > 1  # the browser goes on
        record = await server.browser(browser.record)
        assert record["status"] == "active"
        video = await video_of(server, record)
        assert sum(file.stat().st_size for file in browser.folder.iterdir()) <= 1_000_000
        assert len(video.times) > 2
        host = server.app.state.services.hosts._browsers
        [own] = [each.connection for each in host.values()]
        async with asyncio.timeout(60):
            while own.sessions[1:]:  # nobody looks at the page any more
                await asyncio.sleep(0.01)
        await server.stop(browser.record)


async def test_fault_a_browser_is_killed_and_its_video_kept(make_server, recorded, video_of, quick):
    async with make_server() as server, recorded(server) as browser:
        await browser.open("red")
        await browser.seen("red")
        os.kill(server.main_process(browser.record), signal.SIGKILL)
        record = await server.stopped(browser.record)
        video = await video_of(server, record)
        assert video.colours == ["red"]
        assert video.duration
        assert (await browser.about())["status"] == "saved"


async def test_fault_b01_a_browser_expires_and_its_video_is_kept(
    make_server, recorded, video_of, quick, clock
):
    async with make_server(clock=clock) as server, recorded(server) as browser:
        await browser.open("red")
        await browser.seen("red")
        clock.advance(5 * 60)
        record = await server.stopped(browser.record)
        assert record["endReason"] == "expired"
        assert (await video_of(server, record)).colours == ["red"]
        assert (await browser.about())["status"] == "saved"


async def test_fault_the_server_stops_and_the_video_is_listed_by_the_next(
    make_server, recorded, video_of, quick
):
    async with make_server() as server, recorded(server) as browser:
        await browser.open("red")
        await browser.seen("red")
    async with make_server() as server:
        browser.server = server
        video = await video_of(server, await server.browser(browser.record))
        assert video.colours == ["red"]
        assert (await browser.about())["status"] == "saved"


async def test_fault_the_server_is_killed_and_what_was_seen_is_listed_by_the_next(
    spawn_server, make_server, recorded, video_of
):
    async with spawn_server() as server, recorded(server) as browser:
        await browser.open("red")
        await browser.seen("red")
        await server.end(signal.SIGKILL)
    async with make_server() as server:
        browser.server = server
        record = await server.browser(browser.record)
        assert (record["status"], record["recordingAvailable"]) == ("stopped", True)
        video = await video_of(server, record)
        assert video.colours == ["red"]
        assert video.duration
        assert (await browser.about())["status"] == "server_lost"
        assert not (browser.folder / ".recording.webm").exists()


async def test_other_projects_see_nothing_and_a_purge_leaves_nothing(make_server, video_of):
    async with make_server(api_keys={"tests": "key-of-tests", "others": "key-of-others"}) as server:
        session = (await server.http.post("/sessions", json={"enableRecording": True})).json()
        browser = session["browserSessionId"]
        plain = await server.rent(timeout=5)
        await server.stop(plain)
        assert not plain["recordingAvailable"]
        assert (await server.http.get(f"/browsers/{plain['id']}/recording")).status_code == 404
        folder = server.data_dir / "files" / "browsers"
        assert not (folder / plain["id"]).exists()
        async with asyncio.timeout(60):
            while not (folder / browser / "recording" / ".recording.webm").exists():
                await asyncio.sleep(0.05)
        stopped = (await server.http.patch(f"/sessions/{session['id']}", json={"action": "stop"})).json()
        await video_of(server, stopped)
        others = {"X-Browser-Use-API-Key": "key-of-others"}
        answer = await server.http.get(f"/browsers/{browser}/recording", headers=others)
        assert answer.status_code == 404
        assert (await server.http.get("/browsers", headers=others)).json()["items"] == []
        assert (await server.http.post(f"/sessions/{session['id']}/purge")).status_code == 204
        assert not (folder / browser).exists()
        record = (await server.http.get(f"/browsers/{browser}")).json()
        assert (record["recordingUrl"], record["recordingAvailable"]) == (None, False)
        assert (await server.http.get(f"/browsers/{browser}/recording")).json()["url"] is None
        assert (await server.http.get(stopped["recordingUrl"])).status_code == 404
