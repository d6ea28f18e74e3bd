"""Where browsers of this machine keep their profiles, and which binary reads them."""

from __future__ import annotations

import configparser
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cdpbridge.chromium import Build, find
from cdpbridge.errors import BrowserNotFound, ConfigurationError

__all__ = ["COOKIE_DATABASES", "KINDS", "LocalProfile", "build_of", "installed_profiles", "locate"]

COOKIE_DATABASES: Final = ("Cookies", "Network/Cookies")
"""Below a profile of Chromium, the older place first."""

# Below the configuration folder; absolute ones stand for themselves.
_FOLDERS: Final = {
    "chrome": ("google-chrome", "google-chrome-beta"),
    "chromium": ("chromium", "~/snap/chromium/common/chromium"),
    "edge": ("microsoft-edge",),
    "brave": ("BraveSoftware/Brave-Browser",),
    "firefox": ("~/.mozilla/firefox", "~/snap/firefox/common/.mozilla/firefox"),
}
_BINARIES: Final = {
    "chrome": ("/opt/google/chrome/chrome", "google-chrome-stable", "google-chrome"),
    "edge": ("/opt/microsoft/msedge/msedge", "microsoft-edge-stable", "microsoft-edge"),
    "brave": ("/opt/brave.com/brave/brave", "brave-browser-stable", "brave-browser", "brave"),
}
_IN_PATHS: Final = {"google-chrome": "chrome", "microsoft-edge": "edge", "Brave-Browser": "brave"}
KINDS: Final = tuple(_FOLDERS)
"""The names of browsers that `--from` takes."""


@dataclass(frozen=True, slots=True)
class LocalProfile:
    """A profile of a browser on this machine.

    Attributes:
        kind: One of `KINDS`.
        folder: Of the profile.
        user_data_dir: Of the browser; for Firefox the same as `folder`.
        name: As the browser shows it.
    """

    kind: str
    folder: Path
    user_data_dir: Path
    name: str

    def __str__(self) -> str:
        return f"{self.kind}, {self.name} ({self.folder})"


def installed_profiles() -> list[LocalProfile]:
    """List the profiles in the usual places, the one that its browser starts with first."""
    return [
        profile for kind in KINDS for place in _places(kind) if place.is_dir() for profile in _in(kind, place)
    ]


def locate(source: str) -> LocalProfile:
    """Find the profile that `source` means: the one a browser starts with, or a folder.

    Raises:
        ConfigurationError: There is none.
    """
    if source in _FOLDERS:
        places = _places(source)
        for place in places:
            if place.is_dir():
                return _first(source, place)
        looked = ", ".join(map(str, places))
        raise ConfigurationError(
            f"no {source} profile was found (looked in {looked}); name its folder with --from"
        )
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise ConfigurationError(f"{source!r} is neither {', '.join(_FOLDERS)} nor a folder")
    if (folder / "cookies.sqlite").is_file() or (folder / "profiles.ini").is_file():
        return _first("firefox", folder)
    resolved = str(folder.resolve())
    return _first(next((kind for part, kind in _IN_PATHS.items() if part in resolved), "chromium"), folder)


def build_of(kind: str) -> Build:
    """Find the binary that reads profiles of `kind`: their cookies are encrypted with a key that it alone knows.

    Raises:
        BrowserNotFound: It is not installed.
    """
    if kind == "chromium":
        return find("full")
    for name in _BINARIES[kind]:
        found = shutil.which(name)
        if found is not None:
            return Build(Path(found), "full")
    raise BrowserNotFound(
        f"{kind} is not installed here, and only it can read its cookies; looked for {', '.join(_BINARIES[kind])}"
    )


def _places(kind: str) -> list[Path]:
    config = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    return [config / Path(each).expanduser() for each in _FOLDERS[kind]]


def _first(kind: str, folder: Path) -> LocalProfile:
    found = next(_in(kind, folder), None)
    if found is not None:
        return found
    if kind == "firefox":
        raise ConfigurationError(f"no Firefox profile was found in {folder}; name its folder with --from")
    raise ConfigurationError(f"{folder} has no cookies of a Chromium or Firefox profile")


def _in(kind: str, folder: Path) -> Iterator[LocalProfile]:
    """List the profiles of a browser's folder, or the folder itself where it is one."""
    if kind == "firefox":
        profiles = [folder] if (folder / "cookies.sqlite").is_file() else _firefox_profiles(folder)
        for profile in dict.fromkeys(profiles):
            if profile.is_dir():
                yield LocalProfile(kind, profile, profile, profile.name)
        return
    if _has_cookies(folder):
        yield LocalProfile(kind, folder, folder.parent, folder.name)
        return
    last, names = _local_state(folder)
    candidates = [
        last,
        "Default",
        *names,
        *(each.parent.name for each in sorted(folder.glob("*/Preferences"))),
    ]
    for name in dict.fromkeys(filter(None, candidates)):
        if _has_cookies(folder / name):
            yield LocalProfile(kind, folder / name, folder, names.get(name) or name)


def _has_cookies(profile: Path) -> bool:
    return any((profile / name).is_file() for name in COOKIE_DATABASES)


def _local_state(folder: Path) -> tuple[str | None, dict[str, str]]:
    """Return the profile that was used last, and the names of all by their folders."""
    try:
        state = json.loads((folder / "Local State").read_text(encoding="utf-8")).get("profile", {})
        last = state.get("last_used")
        names = {
            str(key): str(value.get("name") or key) for key, value in state.get("info_cache", {}).items()
        }
    except (OSError, ValueError, AttributeError):  # not there, or damaged: the browser makes a new one
        return None, {}
    return last if isinstance(last, str) else None, names


def _firefox_profiles(root: Path) -> list[Path]:
    """List the profiles of `profiles.ini`, the one that Firefox starts with first."""
    ini = configparser.ConfigParser(interpolation=None)
    ini.read(root / "profiles.ini", encoding="utf-8")
    found = [
        root / ini.get(name, "Default")
        for name in ini.sections()
        if name.startswith("Install") and ini.has_option(name, "Default")
    ]
    profiles = [
        name for name in ini.sections() if name.startswith("Profile") and ini.has_option(name, "Path")
    ]
    profiles.sort(key=lambda name: ini.get(name, "Default", fallback="") != "1")
    return found + [root / ini.get(name, "Path") for name in profiles]
