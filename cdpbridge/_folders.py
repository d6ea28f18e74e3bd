"""The folder of a file that is to be written: made when it is missing, and checked before money is spent."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from cdpbridge.errors import ConfigurationError

__all__ = ["check_writable", "in_its_folder", "names_a_folder", "write_bytes"]


def in_its_folder(path: Path) -> Path:
    """Make the folder of `path` if it is missing, and return `path`.

    Raises:
        OSError: It cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file into its folder, which is made when it is missing.

    Raises:
        OSError: With the file's name, also when the disk is full.
    """
    try:
        in_its_folder(path).write_bytes(data)
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def names_a_folder(path: Path | str) -> bool:
    """Return True if a user means a folder: it is one, or the name ends with a slash."""
    return str(path).endswith(tuple(filter(None, (os.sep, os.altsep)))) or Path(path).is_dir()


def check_writable(path: Path) -> None:
    """Make the folder of a file that a command will write at its end.

    Raises:
        ConfigurationError: The file cannot be written there.
    """
    if path.is_dir():
        raise ConfigurationError(f"{path} cannot be written: it is a folder; name a file in it")
    try:
        in_its_folder(path)
        if path.exists():
            with path.open("ab"):
                pass
        else:  # tried, and not asked with `os.access`, which says yes to a superuser everywhere
            with tempfile.TemporaryFile(dir=path.parent):
                pass
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
