"""What isolated browsers may read of this machine besides their own: files, the working directory, fonts and certificates of the user."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import platformdirs

from cdpbridge.chromium import closed_to, uses_browser_uids
from cdpbridge.errors import ConfigurationError
from cdpbridge.server.settings import Settings

__all__ = ["copy_certificates", "hidden_folders", "home_files", "readable_paths"]

logger = logging.getLogger("cdpbridge.server")

# A browser has its own of these, or they are the kernel's view of all processes and devices.
_NEVER: Final = ("/dev", "/proc", "/sys")
_CERTIFICATES: Final = (".local/share/pki/nssdb", ".pki/nssdb")
# cert9.db, key4.db and pkcs11.txt of NSS; anything larger is none of them
_MAX_CERTIFICATE_BYTES: Final = 64 * 1024 * 1024


def readable_paths(settings: Settings) -> tuple[Path, ...]:
    """Return what each browser may read besides its own: `files`, what its command line names, and `working_dir`.

    Raises:
        ConfigurationError: One of `files` cannot be shown; says why.
    """
    for path in settings.files:
        if (problem := _problem(path)) is not None:
            raise ConfigurationError(f"files: {path} cannot be shown to browsers: {problem}")
    given = dict.fromkeys((*settings.files, *_named(settings)))
    folder = settings.working_dir
    if folder is None:
        return tuple(given)
    # It was not asked for by name: it never hinders a start, and is never the whole home by accident.
    home = _home()
    problem = _problem(folder)
    if problem is None and home is not None and _holds(folder, home):
        problem = "it holds your home folder"
    if problem is not None:
        logger.info(
            "browsers cannot read the working directory %s: %s; name what they need: files=[...]",
            folder,
            problem,
        )
        return tuple(given)
    return tuple(given | {folder: None})


def _named(settings: Settings) -> Iterator[Path]:
    """Yield what Chromium is given to read elsewhere: extensions and other files of `browser_args`, the configuration of fonts."""
    values = [value for argument in settings.browser_args for value in argument.partition("=")[2].split(",")]
    values += [os.environ.get(name, "") for name in ("FONTCONFIG_FILE", "FONTCONFIG_PATH")]
    for value in values:
        if value.startswith("/") and _problem(Path(value)) is None:
            yield Path(value)


def _problem(path: Path) -> str | None:
    """Return why a path cannot be shown to a browser; None when it can."""
    if any(path == Path(each) or Path(each) in path.parents for each in _NEVER):
        return "a browser has its own"
    if path.resolve() in {Path("/"), *(each.resolve() for each in _temporary())}:
        return "it holds the temporary files of other programs; name what is needed in it"
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"{error.strerror}"
    if not uses_browser_uids():
        return None if os.access(path, os.R_OK) else "you may not read it"
    ways = (closed_to(each, None) for each in (path, path.resolve()))
    closed = next((each for each in ways if each is not None), None)
    if closed is None and mode & stat.S_IROTH:
        return None
    closed = closed or path
    return (
        f"browsers of a root process run under uids of their own, and {closed} is closed to other users "
        f"(mode {stat.S_IMODE(closed.stat().st_mode):04o}); open it with chmod o+{'r' if closed == path else 'x'}"
    )


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # a user without a name, in a container
        return None


def _temporary() -> list[Path]:
    """Return the folders of temporary files, those of browsers among them."""
    return [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108  # nothing is written there


def _holds(folder: Path, other: Path) -> bool:
    return other.resolve().is_relative_to(folder.resolve())


def hidden_folders(settings: Settings) -> list[Path]:
    """Return the folders that hold secrets of this server, of its browsers, or of other programs that rent."""
    return [
        settings.data_dir,
        settings.runtime_folder,
        *_temporary(),
        *(Path(find("cdpbridge")) for find in (platformdirs.user_data_dir, platformdirs.user_state_dir)),
    ]


def home_files() -> Mapping[Path, str]:
    """Return the user's fonts and their configuration, as far as browsers can be shown them: path -> path below their home."""
    home = _home()
    if home is None:
        return {}
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
    configuration = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    found = {
        home / ".fonts": ".fonts",
        home / ".fonts.conf": ".fonts.conf",
        data / "fonts": ".local/share/fonts",
        configuration / "fontconfig": ".config/fontconfig",
    }
    return {path: name for path, name in found.items() if _problem(path) is None}


def copy_certificates(home: Path) -> None:
    """Copy the certificates that the user has added for Chromium into a browser's home: it would write beside them."""
    users = _home()
    if users is None:
        return
    for name in _CERTIFICATES:
        source = users / name
        if not source.is_dir():  # most users have none
            continue
        try:
            target = home / name
            target.mkdir(mode=0o700, parents=True)
            for file in source.iterdir():
                if file.is_file() and file.stat().st_size <= _MAX_CERTIFICATE_BYTES:
                    shutil.copyfile(file, target / file.name)
        except OSError as error:
            logger.warning("the browser does not have the certificates of %s: %s", source, error)
