"""The data folder as programs and servers see it: where it is, who holds its lock, and where its server is joined.

One server at a time holds a data folder, by a lock that the kernel releases when its process ends. Beside the lock stands a note
of the holder's kind: a server that programs join, or another one. So a program that finds the lock taken knows what to do:
connect, wait for one that starts or ends, or say who has it.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from cdpbridge.errors import ConfigurationError

__all__ = [
    "HOLDER_FILE",
    "LOCK_FILE",
    "LOG_FILE",
    "SOCKET_FILE",
    "Holder",
    "Kind",
    "data_folder",
    "hold",
    "holder_of",
    "make_socket_folder",
    "note_holder",
    "open_lock",
    "socket_folder",
    "socket_path",
    "take",
]

LOCK_FILE: Final = "lock"
HOLDER_FILE: Final = "holder"
SOCKET_FILE: Final = "server.sock"
LOG_FILE: Final = "server.log"
# Of an address of a Unix socket, without its last byte: 104 on macOS, 108 on Linux.
_MOST_BYTES: Final = 100
_FOLDER_MODE: Final = 0o700


class Kind(StrEnum):
    """What holds a data folder."""

    SHARED = "shared"
    """The server that programs of `local()` share."""
    PRIVATE = "private"
    """A server of one program: `local(private=True)`."""
    SERVER = "server"
    """`cdpbridge serve`."""
    COMMAND = "command"
    """A command that works on the database of a server that does not run."""
    UNKNOWN = "unknown"
    """It has not said yet, or is an older version that does not."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a data folder.

    Attributes:
        pid: None when it is not known.
        ending: It stops its browsers and lets go then.
    """

    pid: int | None
    kind: Kind
    ending: bool = False


def data_folder(settings: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[Path, bool]:
    """Return the data folder that settings name, and whether they do; the server reads them in the same order.

    Args:
        settings: Arguments of `local()`: `data_dir`, `config`.
        environment: Of the program.

    Raises:
        ConfigurationError: The configuration file cannot be read.
    """
    variables = {name.upper(): value for name, value in environment.items()}
    given = settings.get("data_dir") or variables.get("CDPBRIDGE_DATA_DIR")
    config = settings.get("config") or variables.get("CDPBRIDGE_CONFIG")
    if not given and config:
        given = _in_file(Path(config))
    if given:
        return Path(given).expanduser().resolve(), True
    import platformdirs  # noqa: PLC0415  # of the extra `local`

    return Path(platformdirs.user_data_dir("cdpbridge")).resolve(), False


def _in_file(config: Path) -> str | None:
    import tomllib  # noqa: PLC0415  # only with a file

    try:
        with config.open("rb") as file:
            found = tomllib.load(file).get("data_dir")
    except FileNotFoundError:
        return None  # the server says so, with the source
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"configuration file {config}: {error}") from error
    return found if isinstance(found, str) else None


# --- the lock ---------------------------------------------------------------------------------------------------------


def open_lock(data_dir: Path) -> int:
    """Return a descriptor of the lock file; the folder is made if it is missing.

    Raises:
        ConfigurationError: It cannot be written.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
        return os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"data_dir {data_dir} cannot be used: {error.strerror}; choose another `data_dir`, or in a container give "
            "its user a volume there (Docker: --volume cdpbridge:/data; Kubernetes: fsGroup)"
        ) from error


def take(data_dir: Path) -> int | None:
    """Return a descriptor that holds the lock, for this process or one that inherits it; None while another holds it.

    Raises:
        ConfigurationError: The folder cannot be written.
    """
    import fcntl  # noqa: PLC0415  # not on Windows

    descriptor = open_lock(data_dir)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hold(descriptor)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def hold(descriptor: int) -> None:
    """Write into the lock file that this process holds it."""
    text = f"{os.getpid()}\n".encode()
    os.pwrite(descriptor, text, 0)  # first, so that the file is never empty
    os.ftruncate(descriptor, len(text))


def holder_of(data_dir: Path) -> Holder:
    """Return what is known about the process that holds the lock."""
    try:
        pid = int((data_dir / LOCK_FILE).read_text())
    except (OSError, ValueError):
        pid = None
    try:
        written, kind, *states = (data_dir / HOLDER_FILE).read_text().split()
        if int(written) == pid:
            return Holder(pid, Kind(kind), "ending" in states)
    except (OSError, ValueError):
        pass
    return Holder(pid, Kind.UNKNOWN)


def note_holder(data_dir: Path, kind: Kind, *, ending: bool = False) -> None:
    """Say what this process, which holds the lock, is.

    Raises:
        OSError: The folder cannot be written.
    """
    path = data_dir / HOLDER_FILE
    draft = path.with_name(f".{HOLDER_FILE}.new")
    # What another process has left there is not followed, if it is a link.
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{os.getpid()} {kind}{' ending' if ending else ''}\n")
    draft.replace(path)


# --- the socket -------------------------------------------------------------------------------------------------------


def socket_path(data_dir: Path) -> Path:
    """Return where the server of a data folder is joined: in it, or in a folder of this user when that path is too long.

    The same for all programs of a user, whatever their environment.
    """
    path = data_dir / SOCKET_FILE
    if len(os.fsencode(path)) <= _MOST_BYTES:
        return path
    return socket_folder() / f"{sha256(os.fsencode(data_dir)).hexdigest()[:16]}.sock"


def socket_folder() -> Path:
    """Return the folder of sockets whose data folder has a long path; it may not be there yet."""
    uid = os.geteuid() if sys.platform != "win32" else 0
    runtime = Path("/run/user", str(uid))
    if runtime.is_dir():
        return runtime / "cdpbridge"
    if uid == 0 and Path("/run").is_dir():
        return Path("/run/cdpbridge")
    return Path(f"/tmp/cdpbridge-{uid}")  # noqa: S108  # its owner is checked


def make_socket_folder(path: Path) -> None:
    """Make the folder of a socket, if it is one of `socket_folder`; no other user may write in it.

    Raises:
        OSError: It cannot be made, or is another user's.
    """
    folder = path.parent
    if path.name == SOCKET_FILE:
        return
    folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(f"{folder} is not this user's alone; remove it")
