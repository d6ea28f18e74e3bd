"""The whole way: a program rents with a recording and brings the video to its own disk."""

from datetime import timedelta

import pytest

from cdpbridge import open_browser
from cdpbridge.api import AsyncClient
from cdpbridge.errors import NotFoundError, RecordingUnavailable
from tests.server.conftest import KEY
from tests.server.recording.conftest import Video, page_of


@pytest.mark.one_build("the recorder gets pictures as any viewer does; test_viewers.py has both builds")
@pytest.mark.chromium
async def test_a_program_records_and_fetches_the_video(make_server, tmp_path, wait_until):
    async with make_server() as server, AsyncClient(KEY, str(server.http.base_url)) as client:
        minutes = timedelta(minutes=5)
        async with open_browser(client, timeout=minutes, recording=True, journal="off") as browser:
            await browser.new_tab(page_of("lime"))
            folder = server.data_dir / "files" / "browsers" / str(browser.id) / "recording"
            await wait_until((folder / ".recording.webm").exists)
            with pytest.raises(RecordingUnavailable, match="yet") as running:
                await client.browsers.download_recording(browser.id, tmp_path)
            assert running.value.pending
        path = await client.browsers.download_recording(browser.id, tmp_path)
        assert path == tmp_path / f"{browser.id}.webm"
        assert Video(path).times
        about = await client.browsers.recording(browser.id)
        assert (about.status, about.size) == ("saved", path.stat().st_size)
        assert "signature" not in repr(about)
        assert "signature" not in repr(browser.record)
        async with open_browser(client, timeout=minutes, journal="off") as plain:
            with pytest.raises(NotFoundError):
                await client.browsers.recording(plain.id)
        with pytest.raises(RecordingUnavailable, match="enable_recording=True") as never:
            await client.browsers.download_recording(plain.id, tmp_path)
        assert not never.value.pending
        assert [file.name for file in tmp_path.glob("*.webm*")] == [path.name]
