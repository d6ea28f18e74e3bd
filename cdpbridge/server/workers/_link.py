"""`WorkerLink`: a server's control connection to one worker, opened again whenever it is lost, until the worker counts as dead.

A worker is dead when so many contacts in a row had no answer, when another worker answers at its address, or when it is not known
any more. Contacts are counted, and not the time: a server that was suspended has missed none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from cdpbridge._concurrency import mark_retrieved
from cdpbridge._streams import write_to

from ._auth import Status
from ._dial import Dialler, NotAdmitted
from ._protocol import (
    BadMessage,
    Contact,
    Event,
    Hello,
    Refused,
    Welcome,
    encoded,
    error_of,
    frame,
    loaded,
    read_frame,
)
from ._slots import WorkerAddress

__all__ = ["LinkLimits", "LinkLost", "WorkerLink"]

logger = logging.getLogger("cdpbridge.server")

# A start takes as long as the worker lets it; everything else is done at once, or in a stop's bounded time.
_REQUEST_SECONDS: Final = 60.0
_LARGEST_BACKLOG_BYTES: Final = 64 * 1024**2


class LinkLost(OSError):
    """The connection to a worker was lost, or the worker is dead: what was asked may have been done."""


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """When a worker counts as dead.

    Attributes:
        every: Between two contacts, and how long an answer may take.
        misses: So many contacts in a row without an answer.
    """

    every: timedelta = timedelta(seconds=2)
    misses: int = 3


class WorkerLink:
    """One worker, as a server sees it.

    Args:
        worker: Which.
        dialler: To workers.
        limits: When it is dead.
        on_event: Called with what it says unasked.
        on_contact: Called with each answer to a contact.
        on_dead: Called once.
        on_problem: Called with why it is not reached, and with None when it is, each time that this changes.

    Attributes:
        worker: As above.
        dead: It is; the link does nothing more.
        replaced: Another worker has answered at its address.
    """

    def __init__(
        self,
        worker: WorkerAddress,
        dialler: Dialler,
        limits: LinkLimits,
        *,
        on_event: Callable[[Event], object],
        on_contact: Callable[[Contact], object],
        on_dead: Callable[[], object],
        on_problem: Callable[[str | None], object],
    ) -> None:
        self.worker = worker
        self.dead = False
        self.replaced = False
        self._dialler = dialler
        self._limits = limits
        self._on_event, self._on_contact, self._on_dead = on_event, on_contact, on_dead
        self._on_problem = on_problem
        # Nothing is known yet.
        self._problem: str | None = ""
        self._misses = 0
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._connected = asyncio.Event()
        self._keeping = asyncio.get_running_loop().create_task(self._keep())

    def hello(self, **more: Any) -> Hello:
        """Return the first words of a connection to it."""
        return Hello(self.worker.id, **more)

    async def close(self) -> None:
        """Close the connection; the worker runs on."""
        self._keeping.cancel()
        await asyncio.wait({self._keeping})
        self._lose("the server is closing")

    async def contacted(self) -> None:
        """Wait until it has answered a contact on the present connection, or is dead."""
        await self._connected.wait()

    # --- requests --------------------------------------------------------------------------------------------------

    async def ask(self, do: str, message: object = None, *, timeout: float | None = _REQUEST_SECONDS) -> Any:
        """Return the answer to a request as JSON values, once there is a connection.

        Raises:
            LinkLost: The connection was lost before there was an answer, or the worker is dead.
            TimeoutError: There was no answer in time.
            BrowserStartFailed: The worker's refusal, as are `ConfigurationError`, `Superseded` and `OSError`.
        """
        async with asyncio.timeout(timeout):
            while self._writer is None:
                if self.dead:
                    raise LinkLost(f"worker {self.worker.address} does not answer any more")
                await self._connected.wait()
            return await self._asked(do, message)

    async def _asked(self, do: str, message: object) -> Any:
        writer = self._writer
        if writer is None:
            raise LinkLost(f"there is no connection to worker {self.worker.address}")
        self._number += 1
        number = self._number
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(mark_retrieved)
        self._waiting[number] = answer
        try:
            if writer.transport.get_write_buffer_size() > _LARGEST_BACKLOG_BYTES:
                raise LinkLost(f"worker {self.worker.address} reads nothing")
            given = None if message is None else encoded(message)
            try:
                write_to(writer, frame({"id": number, "do": do, "with": given}))
            except OSError as error:
                raise LinkLost(f"worker {self.worker.address} has closed the connection") from error
            return await answer
        finally:
            self._waiting.pop(number, None)

    # --- the connection --------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Keep a connection until the worker is dead."""
        every = self._limits.every.total_seconds()
        loop = asyncio.get_running_loop()
        while not self.dead:
            began = loop.time()
            try:
                async with asyncio.timeout(every):
                    reader, writer = await self._open()
            except NotAdmitted as error:
                self._note(str(error))
                if error.status is Status.OTHER_WORKER:
                    self.replaced = True
                    self._die("another worker runs at its address")
                    return
                self._missed()
            except (OSError, TimeoutError, EOFError, BadMessage) as error:
                logger.debug("worker %s cannot be reached: %r", self.worker.address, error)
                # One that has just ended in order is forgotten before that.
                if self._misses > 1:
                    why = str(error) or "it does not answer in time"
                    self._note(f"worker {self.worker.address} cannot be reached: {why}")
                self._missed()
            else:
                await self._while_connected(reader, writer)
                self._missed()
            await asyncio.sleep(
                max(0.0, min(every, began + every - loop.time())) if self._misses > 1 else 0.05
            )

    def _note(self, problem: str | None) -> None:
        if problem != self._problem:
            self._problem = problem
            self._on_problem(problem)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        hello = self.hello(purpose="control")
        reader, writer = await self._dialler.streams(self.worker, hello)
        try:
            loaded(Welcome, await read_frame(reader))
        except BaseException:
            writer.transport.abort()
            raise
        return reader, writer

    async def _while_connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        reading = asyncio.get_running_loop().create_task(self._read(reader))
        calling = asyncio.get_running_loop().create_task(self._call())
        try:
            await asyncio.wait({reading, calling}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reading, calling):
                task.cancel()
                task.add_done_callback(mark_retrieved)
            writer.transport.abort()
            self._lose("the connection was lost")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                self._take(await read_frame(reader))
        except (OSError, EOFError) as error:
            logger.debug("the connection to worker %s has ended: %r", self.worker.address, error)
        except BadMessage as error:
            logger.warning("worker %s: %s; the connection is opened again", self.worker.address, error)

    def _take(self, message: dict[str, Any]) -> None:
        if "event" in message:
            self._on_event(loaded(Event, message))
            return
        answer = self._waiting.get(message.get("id", 0))
        if answer is None or answer.done():  # its asker has left
            return
        if "refused" in message:
            answer.set_exception(error_of(loaded(Refused, message["refused"])))
        else:
            answer.set_result(message.get("ok"))

    async def _call(self) -> None:
        """Call the worker again and again, until it does not answer."""
        every = self._limits.every.total_seconds()
        while not self.dead:
            try:
                async with asyncio.timeout(every):
                    contact = loaded(Contact, await self._asked("contact", None))
            except TimeoutError:
                self._missed()
                continue
            except (OSError, BadMessage) as error:
                logger.warning("worker %s: %s", self.worker.address, error)
                return
            self._misses = 0
            self._connected.set()
            self._note(None)
            self._on_contact(contact)
            await asyncio.sleep(every)

    def _missed(self) -> None:
        self._misses += 1
        if self._misses >= self._limits.misses:
            self._die(f"it has not answered {self._misses} times")

    def _die(self, why: str) -> None:
        if self.dead:
            return
        self.dead = True
        logger.error("worker %s (%s) is dead: %s", self.worker.id, self.worker.address, why)
        self._lose(why)
        self._connected.set()
        self._on_dead()

    def _lose(self, why: str) -> None:
        self._writer = None
        if not self.dead:
            self._connected.clear()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(LinkLost(f"worker {self.worker.address}: {why}"))
        self._waiting.clear()

    def forget(self) -> None:
        """Take the worker for dead, as it is not known any more."""
        self._die("it has been removed")
        self._keeping.cancel()
