"""`Writer`: transactions of SQLite in a thread of their own, each in one visit.

A statement by way of `aiosqlite` wakes up a thread and then the event loop, and SQLAlchemy's asynchronous layer adds a greenlet: a
rental's four transactions took four times the processor time that they take here.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Final, TypeVar

from sqlalchemy import URL, Connection, create_engine
from sqlalchemy.pool import QueuePool

from cdpbridge._concurrency import to_the_end
from cdpbridge.errors import CDPBridgeError

from ._sqlite import prepare_sqlite

__all__ = ["Writer"]

logger = logging.getLogger("cdpbridge.server")

T = TypeVar("T")

_SYNCHRONOUS: Final = {True: "FULL", False: "NORMAL"}


class Writer:
    """One connection to an SQLite database, and the thread that uses it; both begin with the first transaction.

    Args:
        address: Of the database; its driver is of no account.
    """

    def __init__(self, address: URL) -> None:
        self._engine = create_engine(
            address.set(drivername="sqlite"),
            hide_parameters=True,
            connect_args={"check_same_thread": False},
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=0,
        )
        prepare_sqlite(self._engine)
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        # Of that thread.
        self._connection: Connection | None = None
        self._durable = True

    async def run(self, work: Callable[[Connection], T], *, durable: bool) -> T:
        """Return what `work` returns, which is called in a transaction that is committed then; an error rolls it back.

        Not to be called again before it has ended. It ends, however often the caller is cancelled.

        Args:
            work: Called in the thread.
            durable: It is on the disk before this returns. Otherwise a power cut may take it back, with all that was written after
                it, until the next one that is durable; the end of this process does not.

        Raises:
            SQLAlchemyError: From the database.
        """
        return await to_the_end(self._in_thread(partial(self._transaction, work, durable=durable)))

    def _transaction(self, work: Callable[[Connection], T], *, durable: bool) -> T:
        # It is kept: a pool takes longer to lend it than SQLite for a statement.
        connection = self._connection or self._engine.connect()
        self._connection = connection
        try:
            self._set_durable(connection, durable)
            with connection.begin():
                return work(connection)
        except CDPBridgeError:  # a refusal, which was rolled back
            raise
        except BaseException:
            self._drop()
            raise

    def _set_durable(self, connection: Connection, durable: bool) -> None:
        if durable != self._durable:  # it cannot be changed within a transaction
            raw = connection.connection.driver_connection
            assert raw is not None  # it is open
            raw.execute(f"PRAGMA synchronous={_SYNCHRONOUS[durable]}").close()
            self._durable = durable

    def _drop(self) -> None:
        """Close the connection: what it is in after an error is not looked into."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()
        self._durable = True
        self._engine.dispose()

    def _in_thread(self, work: Callable[[], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            settle: Callable[[], None]
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001  # it is raised in the caller
                settle = partial(done.set_exception, error)
            else:
                settle = partial(done.set_result, result)
            try:
                loop.call_soon_threadsafe(settle)
            except RuntimeError:
                logger.debug("a transaction has no reader: its event loop is closed")

        if self._thread is None:
            # It must not hold up the interpreter's end.
            self._thread = threading.Thread(target=self._serve, name="cdpbridge-sqlite", daemon=True)
            self._thread.start()
        self._jobs.put(run)
        return done

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    async def close(self) -> None:
        """Close the connection and end the thread. Again, it does nothing; another transaction would open both again."""
        if self._thread is not None:
            await to_the_end(self._in_thread(self._drop))
            self._jobs.put(None)
            self._thread = None
