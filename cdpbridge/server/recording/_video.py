"""Pictures into a WebM file with the times at which they came. The one place that knows PyAV; all of it blocks.

VP8, one thread, realtime settings: measured on a page in motion, 1280 x 800, at 5 pictures a second it takes 6 % of a core,
decoding the JPEGs included; VP9 takes half as much again for 20 % smaller files. The file is a chain of clusters, each
written when it is 1 s long, so what a killed process leaves can be played up to then.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import av.filter
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

__all__ = ["VideoWriter", "check_encoder", "mend"]

_ENCODER: Final = "libvpx"
_OPTIONS: Final = {
    "deadline": "realtime",
    "cpu-used": "8",
    "lag-in-frames": "0",
    "auto-alt-ref": "0",
    # A page that rests is not made finer and finer: that would take most of its bytes and gain nothing to be seen.
    "qmin": "10",
    "static-thresh": "200",
}
_BITS_PER_SECOND: Final = 600_000
_KEYFRAME_EVERY: Final = 100
"""Pictures; a player jumps to these only."""
_MAX_SIDE: Final = 1280
"""Pixels. Larger pages are made smaller."""
_TICK: Final = Fraction(1, 1000)  # WebM's own
_CLUSTER_MS: Final = 1000
# Of the file's frame: its head and tail, and a cluster's head and place in the index, rounded up.
_ENDS_BYTES: Final = 2048
_CLUSTER_BYTES: Final = 64
_BLOCK_BYTES: Final = 16


def check_encoder() -> None:
    """Raise unless there is an encoder.

    Raises:
        ValueError: This build of PyAV has none.
    """
    av.Codec(_ENCODER, "w")


class VideoWriter:
    """A video that grows. Its size is fixed by the first picture; others are fitted into it, with black beside them.

    Args:
        path: A new file.
        per_second: About how many pictures there will be.

    Attributes:
        size: Bytes, once it is closed; at most a little more than there will be.
    """

    def __init__(self, path: Path, *, per_second: float) -> None:
        self.size = _ENDS_BYTES
        self._per_second = per_second
        self._decoder = VideoCodecContext.create("mjpeg", "r")
        self._decoder.thread_count = 1
        muxer = {"cluster_time_limit": str(_CLUSTER_MS), "flush_packets": "1"}
        self._container = av.open(str(path), "w", format="webm", options=muxer)
        self._stream: VideoStream | None = None
        self._fit: _Fit | None = None
        self._last: VideoFrame | None = None
        self._time = -1
        self._cluster = -_CLUSTER_MS

    def add(self, jpeg: bytes, at: float, *, max_bytes: int) -> bool:
        """Show a picture from `at` on, seconds from the beginning; False when the file would be longer than `max_bytes`."""
        for frame in self._decoder.decode(av.Packet(jpeg)):
            self._last = self._fitted(frame)
        return self._show(at, max_bytes)

    def hold(self, at: float, *, max_bytes: int) -> bool:
        """Show the last picture until `at`. Called now and then, it writes what there is to the disk."""
        return self._show(at, max_bytes)

    def close(self) -> None:
        """End the file, so that players know its length and can jump."""
        if self._stream is not None:
            for packet in self._stream.encode(None):
                self._container.mux(packet)
        self._container.close()

    def _fitted(self, frame: VideoFrame) -> VideoFrame:
        if self._stream is None:
            self._stream = self._make_stream(*_bounded(frame.width, frame.height))
        shape = (frame.width, frame.height, frame.format.name)
        if self._fit is None or self._fit.shape != shape:
            self._fit = _Fit(frame, self._stream.width, self._stream.height)
        return self._fit(frame)

    def _make_stream(self, width: int, height: int) -> VideoStream:
        stream = self._container.add_stream(_ENCODER, rate=Fraction(self._per_second).limit_denominator(1000))
        assert isinstance(stream, VideoStream)  # says the name of the encoder
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base = _TICK
        context.bit_rate = _BITS_PER_SECOND
        context.gop_size = _KEYFRAME_EVERY
        context.thread_count = 1
        context.options = dict(_OPTIONS)
        return stream

    def _show(self, at: float, max_bytes: int) -> bool:
        if self._last is None or self._stream is None:
            return True
        self._time = max(self._time + 1, int(at * 1000))
        self._last.pts, self._last.time_base = self._time, _TICK
        for packet in self._stream.encode(self._last):
            added = packet.size + _BLOCK_BYTES
            if self._time - self._cluster >= _CLUSTER_MS or packet.is_keyframe:
                added += _CLUSTER_BYTES
                self._cluster = self._time
            if self.size + added > max_bytes:
                return False
            self._container.mux(packet)
            self.size += added
        return True


class _Fit:
    """Brings pictures of one shape into a video's."""

    def __init__(self, frame: VideoFrame, width: int, height: int) -> None:
        self.shape = (frame.width, frame.height, frame.format.name)
        self._graph = graph = av.filter.Graph()
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=_TICK
        )
        fitted = "force_original_aspect_ratio=decrease:force_divisible_by=2"
        graph.link_nodes(
            source,
            # A JPEG uses all values from 0 to 255, VP8 those from 16 to 235.
            graph.add(
                "scale", f"{width}:{height}:{fitted}:in_range=pc:out_range=tv:flags=bilinear:threads=1"
            ),
            graph.add("format", "yuv420p"),
            graph.add("pad", f"{width}:{height}:(ow-iw)/2:(oh-ih)/2"),
            graph.add("buffersink"),
        ).configure()

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        frame.pts = None
        self._graph.push(frame)
        made = self._graph.pull()
        assert isinstance(made, VideoFrame)  # as it was put in
        # A JPEG is a keyframe; this says that nothing else needs to be.
        made.pict_type = PictureType.NONE
        return made


def _bounded(width: int, height: int) -> tuple[int, int]:
    """Return a picture's shape within `_MAX_SIDE`, in even numbers, which the encoder's colours need."""
    scale = min(1.0, _MAX_SIDE / max(width, height))
    return max(2, int(width * scale) // 2 * 2), max(2, int(height * scale) // 2 * 2)


def mend(source: Path, target: Path) -> None:
    """Write anew what a killed process has left of a video, with its length and its index.

    Raises:
        av.FFmpegError: There is no video in it.
    """
    with av.open(str(source)) as old, av.open(str(target), "w", format="webm") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
