"""What forks of this program close: a server waits for the end of this program, and not of its forks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakSet

__all__ = ["close_in_forks", "closed_in_forks"]


class _Closable(Protocol):
    def close(self) -> None: ...


_streams: WeakSet[_Closable] = WeakSet()
_descriptors: set[int] = set()


def close_in_forks(stream: _Closable) -> None:
    """Let forks close a socket or a pipe as long as this process has it."""
    _streams.add(stream)


@contextmanager
def closed_in_forks(descriptor: int) -> Iterator[None]:
    """Let forks that are made in this block close a descriptor; it is closed here at the end."""
    _descriptors.add(descriptor)
    try:
        yield
    finally:
        _descriptors.discard(descriptor)
        os.close(descriptor)


def _forked() -> None:
    for stream in tuple(_streams):
        stream.close()
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_forked)
