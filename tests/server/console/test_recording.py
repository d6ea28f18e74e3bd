"""A recording in the console: asked for in the form, played when the browser has stopped."""

import pytest
from playwright.async_api import expect

from tests.server.console.pages import KEYS, opened


@pytest.mark.one_build("the console is tested, and one browser shows it")
@pytest.mark.chromium
async def test_a_recording_is_asked_for_and_played(make_server):
    async with make_server(**KEYS) as server, opened(server) as page:
        await page.get_by_role("button", name="New browser").click()
        await page.get_by_label("Record a video").check()
        await page.get_by_role("button", name="Start").click()
        await expect(page.get_by_text("It is recorded")).to_be_visible()
        [browser] = (await server.http.get("/browsers?filterBy=active")).json()["items"]
        film = server.data_dir / "files" / "browsers" / browser["id"] / "recording" / ".recording.webm"
        while not film.exists():
            await page.wait_for_timeout(50)
        await page.get_by_role("button", name="Stop and refund").click()
        video = page.get_by_label("Video of this browser")
        await expect(video).to_be_visible()
        await video.evaluate("video => { video.muted = true; return video.play() }")
        assert await video.evaluate("video => [video.videoWidth > 0, video.duration > 0, video.error]") == [
            True,
            True,
            None,
        ]
        still = page.locator(".stills img")
        await expect(still).not_to_have_js_property("naturalWidth", 0)
        async with page.expect_download() as started:
            await page.get_by_role("link", name="Download the video").click()
        assert (await started.value).suggested_filename == "recording.webm"
