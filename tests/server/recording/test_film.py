"""The files of a recording, from pictures made here; and servers that cannot record."""

import random
import sys
from fractions import Fraction

import av
import pytest
from av.video.codeccontext import VideoCodecContext

from cdpbridge.server.recording._film import Film
from cdpbridge.server.recording._folder import recover_folder
from cdpbridge.server.recording._video import mend
from tests.server.recording.conftest import Video


def jpeg(width, height, value=None):
    """A grey picture, or noise."""
    frame = av.VideoFrame(width, height, "yuvj420p")
    for plane in frame.planes:
        plane.update(
            random.randbytes(plane.buffer_size) if value is None else bytes([value]) * plane.buffer_size
        )
    encoder = VideoCodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
    encoder.time_base = Fraction(1, 1000)
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_a_still_a_minute_and_the_last_picture(tmp_path):
    folder = tmp_path / "recording"
    film = Film(folder, per_second=5, max_bytes=10**7)
    assert film.hold(1.0)
    assert not folder.exists()  # nothing was seen
    one, two = jpeg(320, 200, 90), jpeg(320, 200, 180)
    assert film.show(one, 2.0)
    assert film.hold(61.0)
    assert film.show(two, 119.0)
    assert film.show(one, 121.0)
    assert film.show(two, 122.0)
    assert film.hold(125.0)
    assert names(folder) == [".recording.webm", "at-001-min.jpg", "at-002-min.jpg"]
    assert film.close()
    assert names(folder) == ["at-001-min.jpg", "at-002-min.jpg", "last.jpg", "recording.webm"]
    assert (folder / "at-001-min.jpg").read_bytes() == one
    assert (folder / "at-002-min.jpg").read_bytes() == two
    assert (folder / "last.jpg").read_bytes() == two
    video = Video(folder / "recording.webm")
    assert video.times == [2, 61, 119, 121, 122, 125]
    assert video.duration == pytest.approx(125, abs=1)


def test_fault_a_picture_that_is_none(tmp_path):
    film = Film(tmp_path / "recording", per_second=5, max_bytes=10**7)
    with pytest.raises(av.FFmpegError):
        film.show(b"no picture", 1.0)
    assert not film.close()
    assert names(tmp_path) == []
    film = Film(tmp_path / "recording", per_second=5, max_bytes=10**7)
    assert film.show(jpeg(320, 200, 90), 1.0)
    with pytest.raises(av.FFmpegError):
        film.show(b"no picture", 2.0)
    assert film.close()  # what there was is kept
    assert Video(tmp_path / "recording" / "recording.webm").times == [1]


def test_other_shapes_are_fitted_into_the_first(tmp_path):
    film = Film(tmp_path, per_second=5, max_bytes=10**7)
    for number, shape in enumerate([(2561, 1601), (300, 900), (640, 400)]):
        assert film.show(jpeg(*shape, 200), float(number))
    film.close()
    assert Video(tmp_path / "recording.webm").shape == (1280, 800)
    with av.open(str(tmp_path / "recording.webm")) as container:
        large, tall, small = list(container.decode(video=0))
    middle = {
        name: bytes(frame.planes[0])[400 * frame.planes[0].line_size :]
        for name, frame in {"large": large, "tall": tall, "small": small}.items()
    }
    assert abs(middle["large"][10] - middle["large"][640]) < 10
    assert middle["tall"][10] < 30  # black beside it
    assert abs(middle["tall"][640] - middle["large"][640]) < 10
    assert abs(middle["small"][10] - middle["large"][10]) < 10


def test_all_files_together_stay_below_the_limit(tmp_path):
    film = Film(tmp_path, per_second=5, max_bytes=600_000)
    picture = jpeg(320, 200)
    shown = 0
    while film.show(picture, shown * 0.2 + shown // 5 * 55):
        shown += 1
        picture = jpeg(320, 200)
    film.close()
    assert shown > 10
    assert any(name.startswith("at-") for name in names(tmp_path))
    total = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert 300_000 < total <= 600_000
    assert len(Video(tmp_path / "recording.webm").times) == shown


@pytest.mark.parametrize("mender", [mend, None])
def test_what_a_killed_server_left_is_kept(tmp_path, mender):
    film = Film(tmp_path, per_second=5, max_bytes=10**7)
    for number in range(10):
        film.show(jpeg(320, 200), number * 0.5)
    left = (tmp_path / ".recording.webm").read_bytes()
    film.close()
    (tmp_path / "recording.webm").unlink()
    (tmp_path / ".recording.webm").write_bytes(left)
    assert recover_folder(tmp_path, mender)
    assert names(tmp_path) == ["last.jpg", "recording.webm"]
    video = Video(tmp_path / "recording.webm")
    assert len(video.times) >= 5
    assert bool(video.duration) == (mender is not None)


def test_what_cannot_be_mended_is_kept_as_it_is(tmp_path):
    assert not recover_folder(tmp_path, mend)
    (tmp_path / ".recording.webm").write_bytes(b"no video")
    assert recover_folder(tmp_path, mend)
    assert (tmp_path / "recording.webm").read_bytes() == b"no video"
    assert names(tmp_path) == ["recording.webm"]


async def test_without_pyav_a_recording_is_refused_before_anything_is_charged(api, monkeypatch):
    for name in [
        name for name in sys.modules if name == "av" or name.startswith("cdpbridge.server.recording._")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "av", None)
    before = (await api.get("/billing/account")).json()
    for path in ("/browsers", "/sessions"):
        answer = await api.post(path, {"enableRecording": True})
        assert answer.status_code == 400
        assert "pip install 'cdpbridge[recording]'" in answer.json()["detail"]
    assert api.hosts.starts == 0
    assert (await api.get("/billing/account")).json() == before
    assert (await api.rent(enableRecording=False))["recordingAvailable"] is False


async def test_a_browser_that_shows_nothing_has_no_recording(api):
    browser = await api.rent(enableRecording=True)
    answer = await api.patch(f"/browsers/{browser['id']}", {"action": "stop"})
    assert (answer.json()["recordingUrl"], answer.json()["recordingAvailable"]) == (None, False)
    about = (await api.get(f"/browsers/{browser['id']}/recording")).json()
    assert about == {
        "status": "empty",
        "note": "The browser has shown no picture.",
        "url": None,
        "size": None,
        "stills": [],
    }
