"""Cookies and localStorage of a Firefox profile, from copies of its databases and its session store."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cdpbridge.errors import ConfigurationError

from ._snappy import decompress

__all__ = ["firefox_cookies", "firefox_storage"]

_DATABASE: Final = "cookies.sqlite"
_SESSION_STORES: Final = ("sessionstore-backups/recovery.jsonlz4", "sessionstore.jsonlz4")
_MAGIC: Final = b"mozLz40\0"
_MAX_SESSION_BYTES: Final = 256 * 1024 * 1024
# nsICookie.idl; 256 is "not given".
_SAME_SITE: Final = {0: "None", 1: "Lax", 2: "Strict"}
_PARTITION: Final = re.compile(r"\^partitionKey=%28(https?)%2C([^%&]+)(?:%2C(\d+))?%29")
# Since schema 16 (Firefox 142) expiry is in milliseconds; seconds have ten digits until the year 2286.
_MILLISECONDS_FROM: Final = 10_000_000_000


def firefox_cookies(profile: Path) -> tuple[list[dict[str, Any]], int]:
    """Read the cookies of a profile, as `Network.CookieParam`, and how many were left out: those of containers.

    Firefox may be running.

    Raises:
        ConfigurationError: The profile cannot be read.
    """
    try:
        with _copy_of(profile / _DATABASE) as database:
            rows = database.execute(
                "SELECT name, value, host, path, expiry, isSecure, isHttpOnly, sameSite, originAttributes "
                "FROM moz_cookies"
            ).fetchall()
    except sqlite3.Error as error:
        raise ConfigurationError(f"the cookies of {profile} cannot be read: {error}") from error
    found = [_cookie(_Row(*row)) for row in rows]
    found += [_session_cookie(each) for each in _session_store(profile)]
    cookies = {_key(cookie): cookie for cookie in found if cookie is not None}
    return list(cookies.values()), sum(cookie is None for cookie in found)


def firefox_storage(profile: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the localStorage of a profile's origins, in the form of Playwright's `storage_state`, and what was left out, as sentences.

    Storage of containers, of private windows, and of sites inside other sites is left out. Firefox may be running.
    """
    found: list[dict[str, Any]] = []
    lost: list[str] = []
    for folder in sorted((profile / "storage" / "default").glob("http*")):
        if "^" in folder.name:  # of a container, or partitioned
            continue
        database = folder / "ls" / "data.sqlite"
        if database.is_file():
            try:
                found += _items_of(database)
            except (sqlite3.Error, ValueError) as error:
                lost.append(f"the localStorage of {folder.name} cannot be read: {error}")
        if (folder / "idb").is_dir():
            lost.append(f"the IndexedDB of {folder.name}: only Firefox reads its format")
    return found, lost


def _items_of(file: Path) -> list[dict[str, Any]]:
    with _copy_of(file) as database:
        [[origin]] = database.execute("SELECT origin FROM database").fetchall()
        rows = database.execute("SELECT key, conversion_type, compression_type, value FROM data").fetchall()
    items = [
        {"name": str(key), "value": _text(bytes(value), conversion, compression)}
        for key, conversion, compression, value in rows
    ]
    return [{"origin": str(origin), "localStorage": items}] if items else []


def _text(value: bytes, conversion: int, compression: int) -> str:
    """Decode as dom/localstorage/LSValue.h keeps it: UTF-16 or UTF-8, perhaps compressed with Snappy."""
    if compression not in {0, 1} or conversion not in {0, 1}:
        raise ValueError(f"a value of an unknown kind ({conversion}, {compression})")
    raw = decompress(value) if compression else value
    return raw.decode("utf-8" if conversion else "utf-16-le", errors="surrogatepass")


@contextmanager
def _copy_of(file: Path) -> Iterator[sqlite3.Connection]:
    """Open a copy: the original stays untouched, and its browser may write to it meanwhile."""
    with tempfile.TemporaryDirectory(prefix="cdpbridge-sync-") as folder:
        for name in (file.name, f"{file.name}-wal"):  # the index beside it, `-shm`, is made again
            if file.with_name(name).is_file():
                shutil.copyfile(file.with_name(name), Path(folder) / name)
        with closing(sqlite3.connect(Path(folder) / file.name)) as database:
            yield database


@dataclass(frozen=True, slots=True)
class _Row:
    """As in `moz_cookies`."""

    name: str
    value: str = field(repr=False)
    host: str
    path: str
    expiry: int
    secure: int
    http_only: int
    same_site: int
    attributes: str


def _cookie(row: _Row) -> dict[str, Any] | None:
    partition = _partition(row.attributes or "")
    if row.attributes and partition is None:
        return None
    cookie: dict[str, Any] = {
        "name": row.name,
        "value": row.value,
        "domain": row.host,
        "path": row.path,
        "expires": row.expiry / 1000 if row.expiry >= _MILLISECONDS_FROM else row.expiry,
        "secure": bool(row.secure),
        "httpOnly": bool(row.http_only),
    }
    if row.same_site in _SAME_SITE and (row.same_site != 0 or row.secure):
        cookie["sameSite"] = _SAME_SITE[row.same_site]
    if partition is not None:
        cookie["partitionKey"] = partition
    return cookie


def _session_cookie(found: dict[str, Any]) -> dict[str, Any] | None:
    attributes = found.get("originAttributes") or {}
    if attributes.get("userContextId") or attributes.get("privateBrowsingId"):
        return None
    suffix = attributes.get("partitionKey") or ""
    quoted = suffix.replace("(", "%28").replace(",", "%2C").replace(")", "%29")
    row = _Row(
        name=str(found.get("name", "")),
        value=str(found.get("value", "")),
        host=str(found.get("host", "")),
        path=str(found.get("path", "/")),
        expiry=-1,
        secure=int(bool(found.get("secure"))),
        http_only=int(bool(found.get("httponly"))),
        same_site=int(found.get("sameSite", 256)),
        attributes=f"^partitionKey={quoted}" if suffix else "",
    )
    cookie = _cookie(row)
    if cookie is not None:
        cookie["session"] = True
        del cookie["expires"]
    return cookie


def _partition(attributes: str) -> dict[str, Any] | None:
    match = _PARTITION.fullmatch(attributes)
    if match is None:
        return None
    port = f":{match[3]}" if match[3] else ""
    return {"topLevelSite": f"{match[1]}://{match[2]}{port}", "hasCrossSiteAncestor": True}


def _key(cookie: dict[str, Any]) -> tuple[object, ...]:
    partition = cookie.get("partitionKey") or {}
    return cookie["name"], cookie["domain"], cookie["path"], partition.get("topLevelSite")


def _session_store(profile: Path) -> Iterator[dict[str, Any]]:
    for name in _SESSION_STORES:
        file = profile / name
        if not file.is_file():
            continue
        try:
            state = json.loads(_unpacked(file.read_bytes()))
            now = time.time()
            for cookie in state.get("cookies", ()):
                if (cookie.get("expiry") or now + 1) > now:
                    yield cookie
        except (ValueError, AttributeError, TypeError, IndexError) as error:
            raise ConfigurationError(
                f"the session store {file} cannot be read: {type(error).__name__}"
            ) from error
        return


def _unpacked(data: bytes) -> bytes:
    """Unpack Mozilla's wrapping of one LZ4 block: magic, size, block (https://github.com/lz4/lz4 doc/lz4_Block_format.md)."""
    if data[:8] != _MAGIC:
        raise ValueError("no mozLz4 file")
    size = int.from_bytes(data[8:12], "little")
    if size > _MAX_SESSION_BYTES:
        raise ValueError("too big")
    out = bytearray()
    at = 12
    while at < len(data):
        token = data[at]
        count, at = _length(data, at + 1, token >> 4)
        out += data[at : at + count]
        at += count
        if at >= len(data):
            break
        offset = int.from_bytes(data[at : at + 2], "little")
        count, at = _length(data, at + 2, token & 15)
        if not 0 < offset <= len(out):
            raise ValueError("damaged")
        count += 4
        if len(out) + count > size:
            raise ValueError("damaged")
        for _ in range(count // offset + 1):  # a match may overlap what it makes
            piece = out[-offset:][:count]
            out += piece
            count -= len(piece)
    if len(out) != size:
        raise ValueError("damaged")
    return bytes(out)


def _length(data: bytes, at: int, count: int) -> tuple[int, int]:
    if count == 15:
        while True:
            more = data[at]
            at += 1
            count += more
            if more != 255:
                break
    return count, at
