"""Check the address of an object storage without loading obstore."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

__all__ = ["check_storage_url", "folder_of"]

_FORMS: Final = "file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"


def check_storage_url(url: str) -> None:
    """Check an address.

    Raises:
        ValueError: It is none that is taken here, or a package is missing. The text has no credentials in it.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"file", "s3", "gs", "az"}:
        raise ValueError(f"write {_FORMS}")
    if parts.query or parts.fragment:
        raise ValueError(f"it has no `?` and no `#`; write {_FORMS}, and options in `storage_options`")
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials go into `storage_options` or the environment, not into the address")
    if parts.scheme == "file":
        if parts.netloc not in {"", "localhost"} or folder_of(url) in {"", "/"}:
            raise ValueError("write file:///folder, with three slashes")
    elif not parts.netloc:
        raise ValueError(f"the name of the bucket is missing; write {_FORMS}")
    if ".." in PurePosixPath(unquote(parts.path)).parts:
        raise ValueError("it may not have `..` in it")
    missing = [name for name in ("obstore", "zstandard") if find_spec(name) is None]
    if missing:
        raise ValueError(f"{' and '.join(missing)} is missing; pip install 'cdpbridge[cluster]'")


def folder_of(url: str) -> str:
    """Return the folder of a `file://` address."""
    return unquote(urlsplit(url).path)
