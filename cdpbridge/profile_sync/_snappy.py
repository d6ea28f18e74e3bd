"""Snappy's raw format, which Firefox keeps long values of localStorage in. Pure."""

from __future__ import annotations

from typing import Final

__all__ = ["decompress"]

_MAX_BYTES: Final = 64 * 1024 * 1024


def decompress(data: bytes) -> bytes:
    """Return the text of a raw Snappy block (https://github.com/google/snappy format_description.txt).

    Raises:
        ValueError: The block is damaged, or larger than 64 MiB.
    """
    size, at = _varint(data)
    if size > _MAX_BYTES:
        raise ValueError("larger than 64 MiB")
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        if tag & 3 == 0:  # a literal
            length = tag >> 2
            if length >= 60:
                count = length - 59
                length = int.from_bytes(_taken(data, at, count), "little")
                at += count
            out += _taken(data, at, length + 1)
            at += length + 1
        else:
            width = (0, 1, 2, 4)[tag & 3]
            offset = int.from_bytes(_taken(data, at, width), "little")
            at += width
            length = (tag >> 2) + 1
            if width == 1:
                length = (tag >> 2 & 7) + 4
                offset |= tag >> 5 << 8
            _copy(out, offset, length)
        if len(out) > size:
            raise ValueError("longer than it says")
    if len(out) != size:
        raise ValueError("shorter than it says")
    return bytes(out)


def _varint(data: bytes) -> tuple[int, int]:
    value = shift = 0
    for at, byte in enumerate(data[:5]):
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at + 1
    raise ValueError("no length")


def _taken(data: bytes, at: int, count: int) -> bytes:
    piece = data[at : at + count]
    if len(piece) != count:
        raise ValueError("cut off")
    return piece


def _copy(out: bytearray, offset: int, length: int) -> None:
    """Append `length` bytes from `offset` before the end; a copy may overlap what it makes."""
    if not 0 < offset <= len(out):
        raise ValueError("refers to what is not there")
    while length:
        piece = out[-offset:][:length]
        out += piece
        length -= len(piece)
