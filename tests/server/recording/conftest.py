"""Pages of one colour, and videos read back."""

import asyncio
import base64
from contextlib import asynccontextmanager

import av
import pytest

from cdpbridge.cdp import connect

COLOURS = {"red": (81, 90, 240), "lime": (145, 54, 34), "blue": (41, 240, 110)}  # as Y, Cb, Cr


def page_of(colour, script=""):
    html = f"<title>{colour}</title><body style='margin:0;background:{colour}'><script>{script}</script>"
    return "data:text/html;base64," + base64.b64encode(html.encode()).decode()


def colour_of(frame):
    """The name of the colour in the middle of a picture; None for others."""
    values = []
    for plane, scale in zip(frame.planes, (1, 2, 2), strict=True):
        row, column = frame.height // scale // 2, frame.width // scale // 2
        values.append(bytes(plane)[row * plane.line_size + column])
    return next(
        (name for name, known in COLOURS.items() if max(map(abs, map(int.__sub__, known, values))) < 25), None
    )


class Video:
    """What is in a file: times in seconds, and the colours that were seen, one after another."""

    def __init__(self, path):
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0))
            self.duration = container.duration and container.duration / 1_000_000
        self.size = path.stat().st_size
        self.shape = frames[0].width, frames[0].height
        self.times = [frame.time for frame in frames]
        self.colours = []
        for frame in frames:
            colour = colour_of(frame)
            if colour and self.colours[-1:] != [colour]:
                self.colours.append(colour)


@pytest.fixture
def video_of(tmp_path):
    """The video of a browser, fetched as anybody can who has its address."""

    async def video_of(server, record):
        answer = await server.http.get(record["recordingUrl"], headers={"X-Browser-Use-API-Key": ""})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "video/webm"
        path = tmp_path / "fetched.webm"
        path.write_bytes(answer.content)
        return Video(path)

    return video_of


class Recorded:
    """A rented browser that is recorded, and what drives it."""

    def __init__(self, server, record, automation):
        self.server, self.record, self.automation = server, record, automation

    async def open(self, colour, script=""):
        return await self.automation.new_tab(page_of(colour, script))

    @property
    def folder(self):
        return self.server.data_dir / "files" / "browsers" / self.record["id"] / "recording"

    async def about(self):
        return (await self.server.http.get(f"/browsers/{self.record['id']}/recording")).json()

    async def seen(self, colour, *, last=False, timeout=60):
        """Wait until the colour is in the file, which grows while the browser runs; with `last`, at its end."""
        async with asyncio.timeout(timeout):
            while colour not in (await asyncio.to_thread(self._colours))[-1 if last else 0 :]:
                await asyncio.sleep(0.1)

    def _colours(self):
        try:
            return Video(self.folder / ".recording.webm").colours
        except (av.FFmpegError, OSError, IndexError):  # not there yet, or nothing in it
            return []


@pytest.fixture
def recorded():
    """A browser that is recorded, as a block; who drives it may lose it there."""

    @asynccontextmanager
    async def recorded(server, **body):
        record = await server.rent(timeout=5, enableRecording=True, **body)
        async with connect(record["cdpUrl"]) as automation:
            yield Recorded(server, record, automation)

    return recorded


@pytest.fixture
def quick(monkeypatch):
    """What is seen is on the disk sooner than the seconds it takes otherwise."""
    from cdpbridge.server.recording import _recorder, _video

    monkeypatch.setattr(_recorder, "_HOLD_SECONDS", 0.3)
    monkeypatch.setattr(_video, "_CLUSTER_MS", 100)
