"""Downloads of one client: what it has asked for, and the way of each file into its folder.

The browser saves each file under the download's id in a folder of the browser context, whatever clients ask for. So clients with
wishes that differ do not disturb each other, and the path of a file tells the context. `completed` is kept back until the file is whole in
the client's folder.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from cdpbridge._concurrency import TaskSet
from cdpbridge._file_names import NAME_BYTES, safe_file_name
from cdpbridge.errors import DownloadFailed

from ._control import Control
from ._disk import Disk, log_failure

__all__ = ["Downloads", "SendEvent"]

logger = logging.getLogger("cdpbridge")

SendEvent = Callable[[str, str, dict[str, Any]], None]
"""Takes session id, method and parameters of an event for the client."""

DEFAULT: Final = "default"  # the folder of the browser's own context
_CONTEXT_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
# ids of downloads that are remembered
_SETTLED: Final = 10_000
_AT_ONCE: Final = 6
# Other clients of the browser may fetch the same file; the server removes it after this time, seconds.
_REMOVE_DELAY: Final = 60.0
_REMOVAL_SECONDS: Final = 3.0
# Events of the domain `Page` name no path: the one of `Browser` comes at the same time, or never.
_ALONE_SECONDS: Final = 2.0
_FINAL: Final = frozenset({"completed", "canceled"})


@dataclass(frozen=True, slots=True)
class _Wish:
    """Where a client wants the files of a context."""

    folder: Path
    by_id: bool


@dataclass(frozen=True, slots=True)
class _Settled:
    """A download that has ended for the client; `path` is None where it is as the browser says."""

    path: str | None
    failed: bool


@dataclass(slots=True)
class _Arrival:
    """A download that the browser has completed."""

    held: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    alone: asyncio.TimerHandle | None = None


class Downloads:
    """The downloads of one client.

    Args:
        send: Sends an event to the client.

    Attributes:
        asked: The client has said what becomes of downloads.
    """

    def __init__(self, disk: Disk, control: Control, send: SendEvent) -> None:
        self.asked = False
        self._disk = disk
        self._control = control
        self._send = send
        self._wishes: dict[str, _Wish] = {}
        self._hears: dict[str, bool] = {}
        self._names: dict[str, str] = {}
        self._arrivals: dict[str, _Arrival] = {}
        self._settled: dict[str, _Settled] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._removals = TaskSet(logger)
        self._closed = False

    # --- what the client asks for ---------------------------------------------------------------------------------

    def rewritten(self, session: str, parameters: dict[str, Any]) -> dict[str, Any] | None:
        """Return the parameters to send instead of a client's of `Browser.setDownloadBehavior`; None: they pass as they are.

        A behaviour that saves no file, and one that Chromium will refuse, is passed on.
        """
        self.asked = True
        behaviour, folder = parameters.get("behavior"), parameters.get("downloadPath")
        context_id = parameters.get("browserContextId")
        key = DEFAULT if context_id is None else context_id
        if not isinstance(key, str) or not _CONTEXT_ID.fullmatch(key):
            return None
        hears = parameters.get("eventsEnabled") is True
        if behaviour not in {"allow", "allowAndName"}:
            if behaviour in {"deny", "default"}:
                self._wishes.pop(key, None)
                self._hears[session] = hears
            return None
        if not isinstance(folder, str) or not folder:
            return None
        self._wishes[key] = _Wish(Path(folder), behaviour == "allowAndName")
        self._hears[session] = hears
        return parameters | {
            "behavior": "allowAndName",
            "downloadPath": self.folder(context_id),
            "eventsEnabled": True,
        }

    def folder(self, context_id: str | None) -> str:
        """Return the folder in which the browser saves the files of a context."""
        return f"{self._disk.folders.downloads}/{context_id or DEFAULT}"

    @property
    def contexts(self) -> list[str | None]:
        """The contexts whose files the client wants; None for the browser's own."""
        return [None if key == DEFAULT else key for key in self._wishes]

    # --- what the browser says ------------------------------------------------------------------------------------

    def event(self, session: str | None, method: str, parameters: dict[str, Any]) -> bool:
        """Take an event; True: it goes on to the client.

        Args:
            session: Of the client's connection; None: it comes from the tunnel's own.
        """
        guid = parameters.get("guid")
        if not isinstance(guid, str):
            return True
        hidden = self._control.hidden_downloads
        if guid in hidden or parameters.get("frameId") in self._control.hidden:
            hidden.add(guid)
            return False
        ours = method.startswith("Browser.")
        passes = session is not None and (not ours or self._hears.get(session, True))
        if method.endswith(".downloadWillBegin"):
            if self._wishes:
                self._names.setdefault(guid, str(parameters.get("suggestedFilename") or ""))
            return passes
        if parameters.get("state") not in _FINAL:
            return passes
        return self._ended(guid, (session or "", method, parameters), passes=passes)

    def _ended(self, guid: str, event: tuple[str, str, dict[str, Any]], *, passes: bool) -> bool:
        """Take an event of the end of a download; see `event`."""
        session, method, parameters = event
        settled = self._settled.get(guid)
        if settled is not None:
            if passes:
                self._send(session, method, _as_local(parameters, settled))
            return False
        if parameters["state"] == "canceled":
            self._names.pop(guid, None)
            return passes
        if guid not in self._arrivals and not self._wishes:
            return passes
        arrival = self._arrivals.setdefault(guid, _Arrival())
        if passes:
            arrival.held.append(event)
        loop = asyncio.get_running_loop()
        if method.startswith("Browser.") and arrival.task is None:
            arrival.task = loop.create_task(self._arrive(guid, arrival, parameters))
        elif arrival.task is None and arrival.alone is None:
            arrival.alone = loop.call_later(_ALONE_SECONDS, self._let_go, guid, arrival)
        return False

    def _let_go(self, guid: str, arrival: _Arrival) -> None:
        """Pass on the events of a page's download whose path the browser does not say, as nothing was asked for in its context."""
        if arrival.task is None and not self._closed and self._arrivals.pop(guid, None) is arrival:
            for session, method, held in arrival.held:
                self._send(session, method, held)

    async def _arrive(self, guid: str, arrival: _Arrival, parameters: dict[str, Any]) -> None:
        """Carry a file into the client's folder, and let the kept events go."""
        path = str(parameters.get("filePath") or "")
        local: Path | None = None
        failed = False
        try:
            wish = await self._wish(path)
            if wish is not None:
                async with self._turns:
                    local = await self._carry(guid, path, wish, int(parameters.get("receivedBytes") or 0))
        except Exception as error:  # noqa: BLE001  # whatever it is: the client hears of the end
            failed = True
            log_failure("a download could not be brought here", error)
        except asyncio.CancelledError:
            if self._closed:
                raise
            failed = True
        finally:
            self._arrivals.pop(guid, None)
            self._names.pop(guid, None)
            settled = self._settled[guid] = _Settled(None if local is None else str(local), failed)
            while len(self._settled) > _SETTLED:
                del self._settled[next(iter(self._settled))]
        for session, method, held in arrival.held:
            self._send(session, method, _as_local(held, settled))
        if local is not None:
            self._removals.start(self._disk.remove(path, delay=_REMOVE_DELAY), "removing a download there")

    async def _wish(self, path: str) -> _Wish | None:
        """Return what the client wants with a file of the browser; None: it did not ask for it."""
        folders = self._disk.folders
        above, _, parent = path.replace("\\", "/").rpartition("/")[0].rpartition("/")
        if above == folders.downloads.replace("\\", "/"):
            key = parent
        elif folders.kept is not None and path.startswith(f"{folders.kept}/"):
            key = DEFAULT  # the server has set its own folder again, as another client has left
        else:
            return None
        wish = self._wishes.get(key)
        if wish is None and (default := await self._control.default_context()) is not None:
            same = {DEFAULT: default, default: DEFAULT}.get(key)
            wish = self._wishes.get(same or "")
        return wish

    async def _carry(self, guid: str, path: str, wish: _Wish, size: int) -> Path:
        name = _local_name(guid if wish.by_id else self._names.get(guid, ""))
        draft = wish.folder / f".{secrets.token_hex(8)}.part"
        sink = _create(draft)  # in a thread, it would be made behind a cancellation, too
        try:
            arrived = await self._disk.fetch(path, sink, size)
            if arrived != size:
                raise DownloadFailed(name, f"it has {size} bytes, {arrived} arrived")
            sink.close()
            # Chromium replaces a file with that name, too, when a client has said where downloads go. Not in a thread: a file
            # that is cancelled does not appear, and one that has appeared is not cancelled.
            return draft.replace(wish.folder / name)
        finally:
            sink.close()
            with suppress(OSError):
                draft.unlink(missing_ok=True)

    def cancel(self, guid: str) -> bool:
        """Cancel a file on its way here; return False if none has that id."""
        arrival = self._arrivals.get(guid)
        if arrival is None or arrival.task is None:
            return False
        arrival.task.cancel()
        return True

    async def close(self) -> None:
        """Cancel what is on its way; nothing of it stays here."""
        self._closed = True
        tasks = [each.task for each in self._arrivals.values() if each.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._removals.wait(_REMOVAL_SECONDS)
        await self._removals.cancel()


def _as_local(parameters: dict[str, Any], settled: _Settled) -> dict[str, Any]:
    """Return an event as a browser on this machine would send it."""
    if settled.failed:
        return {name: value for name, value in parameters.items() if name != "filePath"} | {
            "state": "canceled"
        }
    if settled.path is not None and "filePath" in parameters:
        return parameters | {"filePath": settled.path}
    return parameters


def _local_name(name: str) -> str:
    """Return the name of a file here: the browser's, as clients expect it, unless that does harm. The browser may be another's."""
    plain = os.name == "posix" and name.isprintable() and "/" not in name and not name.startswith(".")
    if plain and 0 < len(name.encode(errors="replace")) <= NAME_BYTES:
        return name
    return safe_file_name(name, otherwise="download")


def _create(draft: Path) -> BinaryIO:
    draft.parent.mkdir(parents=True, exist_ok=True)
    # As Chromium does: what others may do with a download is for the folder to say.
    return os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb", buffering=0)
