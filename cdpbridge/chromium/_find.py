"""Where Chromium is on this machine."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from cdpbridge.errors import BrowserNotFound, ConfigurationError

__all__ = ["Build", "Kind", "find"]

Kind: TypeAlias = Literal["full", "shell"]

_VARIABLE: Final = "CDPBRIDGE_CHROMIUM"
# The shell first: it starts in a quarter of the time and needs a third of the memory.
_KINDS: Final[tuple[Kind, ...]] = ("shell", "full")
# Real binaries, because the distributions' wrapper scripts cost 100 to 200 ms and add flags of their own.
_PLACES: Final[dict[Kind, tuple[str, ...]]] = {
    "full": (
        "/usr/lib/chromium/chromium",  # Debian
        "/usr/lib64/chromium-browser/chromium-browser",  # Fedora
        "/usr/lib/chromium-browser/chromium-browser",
        "/opt/google/chrome/chrome",
    ),
    "shell": (
        "/usr/lib/chromium/chromium-headless-shell",  # Debian
        "/usr/lib64/chromium-browser/headless_shell",  # Fedora
        "/headless-shell/headless-shell",  # chromedp's container image
    ),
}
# Below the applications of the machine and of the user.
_MAC_APPLICATIONS: Final = (
    "Google Chrome.app/Contents/MacOS/Google Chrome",
    "Chromium.app/Contents/MacOS/Chromium",
    "Google Chrome for Testing.app/Contents/MacOS/Google Chrome for Testing",
)
_COMMANDS: Final[dict[Kind, tuple[str, ...]]] = {
    "full": ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome"),
    "shell": ("chromium-headless-shell", "chrome-headless-shell", "headless_shell", "headless-shell"),
}
# Folders below Playwright's cache, as its registry lays them out.
_PLAYWRIGHT: Final[dict[Kind, tuple[str, ...]]] = {
    "full": ("chromium-*/chrome-linux*/chrome",),
    "shell": (
        "chromium_headless_shell-*/chrome-headless-shell-linux*/chrome-headless-shell",
        "chromium_headless_shell-*/chrome-linux*/headless_shell",
    ),
}
_PLAYWRIGHT_MAC: Final[dict[Kind, tuple[str, ...]]] = {
    "full": (
        "chromium-*/chrome-mac*/Google Chrome for Testing.app/Contents/MacOS/Google Chrome for Testing",
        "chromium-*/chrome-mac*/Chromium.app/Contents/MacOS/Chromium",
    ),
    "shell": (
        "chromium_headless_shell-*/chrome-headless-shell-mac*/chrome-headless-shell",
        "chromium_headless_shell-*/chrome-mac*/headless_shell",
    ),
}
_MAC_NAMES: Final = frozenset(application.rpartition("/")[2] for application in _MAC_APPLICATIONS)
_ADVICE: Final = (
    "install it (Debian: apt-get install chromium chromium-headless-shell; macOS: brew install --cask google-chrome; "
    "anywhere: playwright install chromium), "
    f"or name the binary with {_VARIABLE} or browser_path"
)


@dataclass(frozen=True, slots=True)
class Build:
    """A Chromium binary.

    Attributes:
        path: The binary.
        kind: `"full"` is the whole browser (new headless mode, extensions, policies, `chrome://` pages), `"shell"` the
            small headless one.
    """

    path: Path
    kind: Kind


def find(kind: Kind | None = None, path: Path | None = None) -> Build:
    """Return a Chromium binary: `path`, else the variable CDPBRIDGE_CHROMIUM, else the usual places.

    The usual places are those of the distributions, or macOS's applications, then Playwright's cache, then PATH.

    Args:
        kind: Default: that of the named binary, by its name; else the shell, or the full build where there is no shell.
        path: The binary, or a command on PATH.

    Raises:
        BrowserNotFound: There is none, or the named one cannot be run.
        ConfigurationError: The named one is of the other kind.
    """
    if path is not None:
        return _named(str(path), kind, "browser_path")
    if named := os.environ.get(_VARIABLE):
        return _named(named, kind, _VARIABLE)
    kinds = _KINDS if kind is None else (kind,)
    for candidate in kinds:
        for place in _usual(candidate):
            if _is_executable(place):
                return Build(place, candidate)
    what = {"full": "full Chromium", "shell": "Chromium headless shell", None: "Chromium"}[kind]
    raise BrowserNotFound(f"no {what} was found on this machine: {_ADVICE}")


def _named(name: str, kind: Kind | None, source: str) -> Build:
    given = Path(name).expanduser()
    if os.sep not in name and not given.exists() and (on_path := shutil.which(name)):
        given = Path(on_path)
    if not _is_executable(given):
        what = (
            "is a folder" if given.is_dir() else "cannot be executed" if given.exists() else "does not exist"
        )
        raise BrowserNotFound(f"{source}: {given} {what}: {_ADVICE}")
    recognised = _recognise(given.name) or _recognise(given.resolve().name)
    if kind is not None and recognised is not None and recognised != kind:
        raise ConfigurationError(
            f"{source}: {given} is the {recognised} build, but {kind} is asked for; name the other binary, or ask for "
            f"{recognised}"
        )
    return Build(given.absolute(), kind or recognised or "full")


def _recognise(name: str) -> Kind | None:
    if re.search("headless[-_]shell", name):
        return "shell"
    return "full" if name in _COMMANDS["full"] or name in _MAC_NAMES else None


@dataclass(frozen=True, slots=True)
class Usual:
    """Where one kind of build is on a system.

    Attributes:
        places: Binaries, the first choice first.
        cache: Playwright's.
        patterns: Of binaries below `cache`.
    """

    places: tuple[Path, ...]
    cache: Path
    patterns: tuple[str, ...]


def usual_places(kind: Kind, system: str, home: Path, environ: Mapping[str, str]) -> Usual:
    """Return where a kind of build is looked for; touches no disk.

    Args:
        system: As `sys.platform` has it; `"darwin"` is macOS, every other one is looked through as Linux.
        home: The user's folder.
        environ: The environment's variables.

    Source:
        Playwright 1.65, its registry of browsers: the cache's place and the folders below it.
    """
    if system == "darwin":
        folders = (Path("/Applications"), home / "Applications")
        places = [folder / name for name in _MAC_APPLICATIONS for folder in folders] if kind == "full" else []
        cache, patterns = home / "Library/Caches/ms-playwright", _PLAYWRIGHT_MAC[kind]
    else:
        places = [Path(place) for place in _PLACES[kind]]
        cache, patterns = home / ".cache/ms-playwright", _PLAYWRIGHT[kind]
    if named := environ.get("PLAYWRIGHT_BROWSERS_PATH"):
        cache = home / named[2:] if named.startswith("~/") else Path(named)
    return Usual(tuple(places), cache, patterns)


def _usual(kind: Kind) -> Iterator[Path]:
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  # `Path.home()` fails for a user that is in no list of users
    usual = usual_places(kind, sys.platform, home, os.environ)
    yield from usual.places
    for pattern in usual.patterns:
        yield from sorted(
            usual.cache.glob(pattern), key=lambda each: _revision(each.relative_to(usual.cache)), reverse=True
        )
    for command in _COMMANDS[kind]:
        if on_path := shutil.which(command):
            yield Path(on_path)


def _revision(below_cache: Path) -> int:
    """Return the number in the name of the build's folder."""
    digits = below_cache.parts[0].rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0


def _is_executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
