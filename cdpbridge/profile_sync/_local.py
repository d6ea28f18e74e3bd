"""What a browser on this machine has: cookies, storage, preferences.

Chromium's cookies are encrypted with a key that the browser keeps in the desktop's key ring. So nothing is decrypted here:
the browser's own binary is started on a copy of what it needs, without a network, and asked over CDP.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cdpbridge.cdp import Connection, connect_pipe
from cdpbridge.cdp._cookies import export_cookies
from cdpbridge.chromium import Chromium, scratch_parent, uses_browser_uids
from cdpbridge.errors import ConfigurationError

from ._domains import in_domains
from ._firefox import firefox_cookies, firefox_storage
from ._places import COOKIE_DATABASES, LocalProfile, build_of, locate
from ._preferences import chosen_preferences, extensions_of, read_preferences, storage_origins
from ._storage import read_storage

__all__ = ["LocalState", "read_local"]

_CHROMIUM_EPOCH_SECONDS: Final = 11_644_473_600  # from 1601-01-01, base/time/time.h
_KEPT_FOR_SECONDS: Final = 24 * 3600
_ARGUMENTS: Final = (
    # The desktop's own choice again, instead of the one that our browsers get; it comes last, so it wins.
    "--password-store=",
    "--no-startup-window",
    "--disable-extensions",
    # A page of a site is answered here; nothing of the copy may reach the site.
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
_LARGEST_FOLDER_BYTES: Final = 512 * 1024 * 1024
"""Of one origin's IndexedDB, or of all origins' localStorage: more is not copied."""


@dataclass(frozen=True, slots=True)
class LocalState:
    """What was found.

    Attributes:
        cookies: As `Storage.getCookies` gives them; secrets.
        source: Browser and folder, for messages.
        skipped: How many cookies were left out: of containers, or unreadable.
        running: The browser is running, so what it set in the last half minute may be missing.
        origins: localStorage and IndexedDB, in the form of Playwright's `storage_state`; secrets.
        preferences: Those that a person has changed, by name, with their values.
        lost: What was found and cannot be brought, as sentences without values.
    """

    cookies: list[dict[str, Any]] = field(repr=False)
    source: str
    skipped: int = 0
    running: bool = False
    origins: list[dict[str, Any]] = field(default_factory=list, repr=False)
    preferences: list[tuple[str, Any]] = field(default_factory=list, repr=False)
    lost: list[str] = field(default_factory=list)


async def read_local(source: str | Path | LocalProfile, *, domains: Iterable[str] = ()) -> LocalState:
    """Read what a browser on this machine has; it may be running.

    Args:
        source: `chrome`, `chromium`, `edge`, `brave`, `firefox`, a folder (of a profile, or one with profiles in it), or one
            of `installed_profiles()`.
        domains: Only storage of these, with what is below them; all of it by default. Cookies are all read.

    Raises:
        ConfigurationError: There is no such profile, or it cannot be read.
        BrowserNotFound: The browser that wrote it is not installed.
        ChromiumError: It does not start on the copy.
    """
    profile = source if isinstance(source, LocalProfile) else locate(str(source))
    wanted = list(domains)
    if profile.kind == "firefox":
        return await _read_firefox(profile, wanted)
    return await _read_chromium(profile, wanted)


async def _read_firefox(profile: LocalProfile, domains: list[str]) -> LocalState:
    running = await asyncio.to_thread(os.path.lexists, profile.folder / "lock")
    cookies, skipped = await asyncio.to_thread(firefox_cookies, profile.folder)
    origins, lost = await asyncio.to_thread(firefox_storage, profile.folder)
    chosen = [entry for entry in origins if in_domains(entry["origin"], domains)]
    if await asyncio.to_thread((profile.folder / "logins.json").is_file):
        lost.append("saved passwords: Firefox lets no other program read them")
    lost.append("preferences and extensions: Firefox's are not Chromium's")
    return LocalState(cookies, f"Firefox, {profile.folder}", skipped, running, chosen, [], lost)


async def _read_chromium(profile: LocalProfile, domains: list[str]) -> LocalState:
    build = build_of(profile.kind)
    others = uses_browser_uids()
    place = scratch_parent("cdpbridge-sync-12345678", for_others=others)
    with tempfile.TemporaryDirectory(prefix="cdpbridge-sync-", dir=place) as name:
        if others:  # Chromium runs under a uid of its own, which owns the profile in it
            os.chmod(name, 0o711)  # noqa: PTH101, S103  # a name; to pass through is not to list
        copy = Path(name) / "profile"
        keys, count = await asyncio.to_thread(_copy_cookies, profile, copy)
        lost = await asyncio.to_thread(_copy_rest, profile, copy / "Default", domains)
        async with (
            await Chromium.start(build=build, user_data_dir=copy, args=_ARGUMENTS) as chromium,
            connect_pipe(*chromium.take_pipe()) as connection,
        ):
            cookies = await export_cookies(connection.root.send)
            chosen = await asyncio.to_thread(chosen_preferences, profile.folder)
            preferences = await read_preferences(connection, chosen)
            origins, unread = await read_storage(
                connection, await _origins(connection, cookies, profile.folder, domains)
            )
            await connection.root.send("Browser.close")
    for cookie in cookies:
        if (cookie["domain"], cookie["name"], cookie["path"]) in keys:
            cookie["session"] = True
            cookie["expires"] = -1
    running = await asyncio.to_thread(os.path.lexists, profile.user_data_dir / "SingletonLock")
    return LocalState(
        cookies,
        f"{profile.kind}, {profile.folder}",
        max(count - len(cookies), 0),
        running,
        origins,
        preferences,
        [*lost, *unread],
    )


async def _origins(
    connection: Connection, cookies: Iterable[dict[str, Any]], profile: Path, domains: list[str]
) -> list[str]:
    """Return the origins with storage: as the browser tells, or those it has cookies of; and those with a folder of databases."""
    found = await storage_origins(connection)
    if found is None:
        found = [
            f"{scheme}://{str(cookie['domain']).lstrip('.')}"
            for cookie in cookies
            for scheme in ("https", "http")
        ]
    # The copy's list of databases is empty: the browser keeps it elsewhere.
    found += [origin for folder in _databases(profile) if (origin := _origin_of(folder)) is not None]
    return [each for each in dict.fromkeys(found) if each.startswith("http") and in_domains(each, domains)]


def _databases(profile: Path) -> list[Path]:
    return sorted((profile / "IndexedDB").glob("http*.indexeddb.*"))


def _origin_of(folder: Path) -> str | None:
    """Return the origin of a folder of IndexedDB: `https_example.com_0`, with the port, or 0 for the usual one."""
    scheme, _, rest = folder.name.partition(".indexeddb")[0].partition("_")
    host, _, port = rest.rpartition("_")
    if not host or not port.isdecimal():  # of a site inside another one
        return None
    return f"{scheme}://{host}" if port == "0" else f"{scheme}://{host}:{port}"


def _copy_cookies(profile: LocalProfile, copy: Path) -> tuple[set[tuple[str, str, str]], int]:
    """Copy what the cookies need; the keys of those of the session, and the count of all that have not expired.

    Chromium drops cookies of the session when it starts, so the copy has them as cookies of a day.
    """
    database = next(file for name in COOKIE_DATABASES if (file := profile.folder / name).is_file())
    target = copy / "Default" / database.relative_to(profile.folder)
    target.parent.mkdir(mode=0o700, parents=True)
    for name in (database.name, f"{database.name}-journal"):
        if database.with_name(name).is_file():
            shutil.copyfile(database.with_name(name), target.with_name(name))
    if (profile.user_data_dir / "Local State").is_file():  # says how the key is kept
        shutil.copyfile(profile.user_data_dir / "Local State", copy / "Local State")
    now = int((time.time() + _CHROMIUM_EPOCH_SECONDS) * 1_000_000)
    try:
        with closing(sqlite3.connect(target)) as opened, opened:
            keys = set(opened.execute("SELECT host_key, name, path FROM cookies WHERE is_persistent = 0"))
            opened.execute(
                "UPDATE cookies SET is_persistent = 1, has_expires = 1, expires_utc = ? WHERE is_persistent = 0",
                (now + _KEPT_FOR_SECONDS * 1_000_000,),
            )
            [count] = opened.execute("SELECT count(*) FROM cookies WHERE expires_utc > ?", (now,)).fetchone()
    except sqlite3.Error as error:
        raise ConfigurationError(f"the cookies in {database} cannot be read: {error}") from error
    return keys, int(count)


def _copy_rest(profile: LocalProfile, target: Path, domains: list[str]) -> list[str]:
    """Copy storage and preferences; return what is not copied, as sentences."""
    folder = profile.folder
    lost = []
    for name in ("Preferences", "Secure Preferences"):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)
    sources = [folder / "Local Storage"]
    for database in _databases(folder):
        origin = _origin_of(database)
        if origin is None or in_domains(origin, domains):
            sources.append(database)
    for source in sources:
        if source.is_dir() and _size(source) > _LARGEST_FOLDER_BYTES:
            lost.append(f"{source.name}: it is larger than 512 MiB")
        elif source.is_dir():
            _copy_folder(source, target / source.relative_to(folder))
    passwords = _count_passwords(folder)
    if passwords:
        lost.append(f"{passwords} saved passwords: the browser lets no other program read them")
    if extensions := extensions_of(folder):
        lost.append(f"extensions and their settings: {', '.join(extensions)}")
    return lost


def _size(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


def _copy_folder(source: Path, target: Path) -> None:
    """Copy a folder that a running browser may change: what vanishes meanwhile is not needed any more."""
    for file in source.rglob("*"):
        if file.name == "LOCK" or not file.is_file():
            continue
        kept = target / file.relative_to(source)
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            shutil.copyfile(file, kept)
        except FileNotFoundError:
            continue


def _count_passwords(profile: Path) -> int:
    file = profile / "Login Data"
    if not file.is_file():
        return 0
    with tempfile.TemporaryDirectory(prefix="cdpbridge-sync-") as folder:
        copy = shutil.copyfile(file, Path(folder) / "logins")
        try:
            with closing(sqlite3.connect(copy)) as opened:
                [count] = opened.execute(
                    "SELECT count(*) FROM logins WHERE blacklisted_by_user = 0"
                ).fetchone()
        except sqlite3.Error:  # a form that this version does not know: there may be some
            return 1
    return int(count)
