"""One server per data folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cdpbridge.errors import ConfigurationError

__all__ = ["locked"]


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Hold `data_dir` for this process; it is made if missing. The kernel lets go when the process dies.

    Raises:
        ConfigurationError: Another server holds it, or it cannot be written.
    """
    path = data_dir / "lock"
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"data_dir {data_dir} cannot be used: {error.strerror}; choose another `data_dir`"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            raise ConfigurationError(
                f"data_dir {data_dir} is used by another server (process {owner}); choose another `data_dir`, or share one server: "
                "`cdpbridge serve`, and its address as CDPBRIDGE_PROVIDER"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
