"""Screenshots right after a browser has come up, when a headless shell refuses them, and failures that are for good."""

from pathlib import Path

import pytest

import cdpbridge
from cdpbridge.browser import _screenshot
from cdpbridge.browser._screenshot import image_format
from cdpbridge.errors import CommandError, ConfigurationError
from cdpbridge.protocol import Page
from tests.cases import cases

PNG = b"\x89PNG"


class Session:
    """Answers as Chromium does while it has no surface, then otherwise."""

    def __init__(self, refusals, text="Unable to capture screenshot"):
        self.refusals = refusals
        self.text = text
        self.asked = 0

    async def send(self, command):
        self.asked += 1
        if self.asked <= self.refusals:
            raise CommandError("Page.captureScreenshot", -32000, self.text)
        return Page.CaptureScreenshotResult(data=PNG)


async def test_it_waits_for_a_surface():
    session = Session(3)
    assert await _screenshot.captured(session, Page.capture_screenshot()) == PNG
    assert session.asked == 4


async def test_it_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(_screenshot, "_SURFACE_SECONDS", 0.1)
    with pytest.raises(CommandError, match="Unable to capture screenshot"):
        await _screenshot.captured(Session(10**6), Page.capture_screenshot())


async def test_other_failures_are_told_at_once():
    session = Session(1, "Cannot take screenshot with 0 width.")
    with pytest.raises(CommandError, match="0 width"):
        await _screenshot.captured(session, Page.capture_screenshot())
    assert session.asked == 1


@pytest.mark.one_build("only the headless shell has no surface at first")
@pytest.mark.chromium
async def test_the_first_thing_that_a_new_browser_does(server):
    for _ in range(4):
        async with cdpbridge.open_browser(cdpbridge.at(server.base_url, server.key)) as browser:
            tab = await browser.new_tab("data:text/html,<h1>here</h1>")
            assert (await tab.screenshot()).startswith(PNG)


@cases(
    ("path", "given", "found"),
    [
        (None, None, "png"),
        (None, "webp", "webp"),
        ("a.png", None, "png"),
        ("a.b/shot", None, "png"),
        ("shot", "jpeg", "jpeg"),
        ("a.jpg", None, "jpeg"),
        (Path("A.JPEG"), "jpeg", "jpeg"),
        ("a.WebP", None, "webp"),
    ],
)
def test_the_format_follows_the_suffix(path, given, found):
    assert image_format(path, given) == found


@cases(
    ("path", "given", "quality", "words"),
    [
        ("a.gif", None, None, "cannot be a '.gif' file: the path must end with .png, .jpg, .jpeg, .webp"),
        ("a.pdf", "png", None, "cannot be a '.pdf' file"),
        ("a.jpg", "png", None, "format 'png' contradicts the path, which ends with '.jpg'"),
        ("a.png", "webp", None, "contradicts"),
        (None, "jpg", None, "format must be 'png', 'jpeg' or 'webp', not 'jpg'"),
        ("a.png", None, 50, "quality is for 'jpeg' and 'webp'"),
    ],
)
def test_a_format_that_is_none(path, given, quality, words):
    with pytest.raises(ConfigurationError) as caught:
        image_format(path, given, quality)
    assert words in str(caught.value)
