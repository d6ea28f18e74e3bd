"""Cookies of a browser on this machine.

Chromium's are encrypted with a key that the browser keeps in the desktop's key ring. So nothing is decrypted here: the
browser's own binary is started on a copy of what it needs, and asked over CDP.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from cdpbridge._cookies import export_cookies
from cdpbridge.cdp import connect_pipe
from cdpbridge.chromium import Build, Chromium, find
from cdpbridge.errors import BrowserNotFound, ConfigurationError

from ._firefox import default_profile, firefox_cookies

__all__ = ["LocalCookies", "read_local"]

_FOLDERS: Final = {  # below the configuration folder, except the last two
    "chrome": ("google-chrome", "google-chrome-beta"),
    "chromium": ("chromium", "~/snap/chromium/common/chromium"),
    "edge": ("microsoft-edge",),
    "firefox": ("~/.mozilla/firefox", "~/snap/firefox/common/.mozilla/firefox"),
}
_BINARIES: Final = {
    "chrome": ("/opt/google/chrome/chrome", "google-chrome-stable", "google-chrome"),
    "edge": ("/opt/microsoft/msedge/msedge", "microsoft-edge-stable", "microsoft-edge"),
}
_DATABASES: Final = ("Cookies", "Network/Cookies")
_CHROMIUM_EPOCH_SECONDS: Final = 11_644_473_600  # from 1601-01-01, base/time/time.h
_KEPT_FOR_SECONDS: Final = 24 * 3600
# The desktop's own choice again, instead of the one that our browsers get; they come last, so they win.
_ARGUMENTS: Final = ("--password-store=", "--no-startup-window", "--disable-extensions")


@dataclass(frozen=True, slots=True)
class LocalCookies:
    """What was found.

    Attributes:
        cookies: As `Storage.getCookies` gives them; secrets.
        source: Browser and folder, for messages.
        skipped: How many were left out: of containers, or unreadable.
        running: The browser is running, so what it set in the last half minute may be missing.
    """

    cookies: list[dict[str, Any]] = field(repr=False)
    source: str
    skipped: int = 0
    running: bool = False


async def read_local(source: str | Path) -> LocalCookies:
    """The cookies of a browser on this machine; it may be running.

    Args:
        source: `chrome`, `chromium`, `edge`, `firefox`, or a folder: of a profile, or one with profiles in it.

    Raises:
        ConfigurationError: There is no such profile, or it cannot be read.
        BrowserNotFound: The browser that wrote it is not installed.
        ChromiumError: It does not start on the copy.
    """
    kind, folder = _located(str(source))
    if kind == "firefox":
        profile = folder if (folder / "cookies.sqlite").is_file() else default_profile(folder)
        running = await asyncio.to_thread(os.path.lexists, profile / "lock")
        cookies, skipped = await asyncio.to_thread(firefox_cookies, profile)
        return LocalCookies(cookies, f"Firefox, {profile}", skipped, running)
    user_data_dir, profile, database = _chromium_profile(folder)
    build = _build(kind)
    with tempfile.TemporaryDirectory(prefix="cdpbridge-sync-") as name:
        copy = Path(name) / "profile"
        keys, count = await asyncio.to_thread(_copied, user_data_dir, profile, database, copy)
        async with (
            await Chromium.start(build=build, user_data_dir=copy, args=_ARGUMENTS) as chromium,
            connect_pipe(*chromium.take_pipe()) as connection,
        ):
            cookies = await export_cookies(connection.root.send)
            await connection.root.send("Browser.close")
    for cookie in cookies:
        if (cookie["domain"], cookie["name"], cookie["path"]) in keys:
            cookie["session"] = True
            cookie["expires"] = -1
    running = await asyncio.to_thread(os.path.lexists, user_data_dir / "SingletonLock")
    return LocalCookies(cookies, f"{kind}, {profile}", max(count - len(cookies), 0), running)


_Kind = Literal["chrome", "chromium", "edge", "firefox"]


def _located(source: str) -> tuple[_Kind, Path]:
    if source not in _FOLDERS:
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise ConfigurationError(f"{source!r} is neither {', '.join(_FOLDERS)} nor a folder")
        if (folder / "cookies.sqlite").is_file() or (folder / "profiles.ini").is_file():
            return "firefox", folder
        known = {"google-chrome": "chrome", "microsoft-edge": "edge"}
        kind = next((word for name, word in known.items() if name in str(folder.resolve())), "chromium")
        return kind, folder  # type: ignore[return-value]  # one of the table's words
    config = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    places = [
        config / Path(each).expanduser() for each in _FOLDERS[source]
    ]  # an absolute one stands for itself
    for place in places:
        if place.is_dir():
            return source, place  # type: ignore[return-value]  # one of the table's words
    looked = ", ".join(map(str, places))
    raise ConfigurationError(
        f"no {source} profile was found (looked in {looked}); name its folder with --from"
    )


def _chromium_profile(folder: Path) -> tuple[Path, Path, Path]:
    """User data folder, profile, cookie database."""
    profiles = [folder]
    state = folder / "Local State"
    if state.is_file():
        try:
            last = json.loads(state.read_text(encoding="utf-8")).get("profile", {}).get("last_used")
        except (ValueError, AttributeError):  # damaged; the browser makes it anew
            last = None
        profiles = [folder / name for name in (last, "Default") if isinstance(name, str)]
    elif (folder / "Default").is_dir():
        profiles = [folder / "Default"]
    for profile in profiles:
        for name in _DATABASES:
            if (profile / name).is_file():
                return (profile.parent if profile is folder else folder), profile, profile / name
    raise ConfigurationError(f"{folder} has no cookies of a Chromium or Firefox profile")


def _build(kind: str) -> Build:
    if kind == "chromium":
        return find("full")
    for name in _BINARIES[kind]:
        found = shutil.which(name)
        if found is not None:
            return Build(Path(found), "full")
    raise BrowserNotFound(
        f"{kind} is not installed here, and only it can read its cookies; looked for {', '.join(_BINARIES[kind])}"
    )


def _copied(
    user_data_dir: Path, profile: Path, database: Path, copy: Path
) -> tuple[set[tuple[str, str, str]], int]:
    """Copy what the cookies need; the keys of those of the session, and the count of all that have not expired.

    Chromium drops cookies of the session when it starts, so the copy has them as cookies of a day.
    """
    target = copy / "Default" / database.relative_to(profile)
    target.parent.mkdir(mode=0o700, parents=True)
    for name in (database.name, f"{database.name}-journal"):
        if database.with_name(name).is_file():
            shutil.copyfile(database.with_name(name), target.with_name(name))
    if (user_data_dir / "Local State").is_file():  # says how the key is kept
        shutil.copyfile(user_data_dir / "Local State", copy / "Local State")
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
