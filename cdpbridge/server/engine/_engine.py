"""`Engine`: keeps the wanted number of workers, by Ray, while this server holds the row of the engine.

Two loops: one gives signs of life in the database, the other looks at actors, workers and orders and does what the `Scaler` plans. Without
the head of Ray, or without the database, nothing is done; workers and their rentals need neither.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from cdpbridge._concurrency import TaskSet
from cdpbridge.server.rentals._membership import boot_time
from cdpbridge.server.settings import Settings
from cdpbridge.server.store import Store

from ._lease import Lease
from ._link import DriverLink, EngineAway, check_ray
from ._nodes import node_problems
from ._scaling import Actor, ActorState, Plan, Scale, Scaler, WorkerCount

__all__ = ["Engine", "EngineLimits", "open_engine"]

logger = logging.getLogger("cdpbridge.server")

_NAME: Final = "ray"


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Times; tests shorten them.

    Attributes:
        every: Between two signs of life, and between two looks.
        retry: Before the next try to reach Ray.
    """

    every: timedelta = timedelta(seconds=2)
    retry: timedelta = timedelta(seconds=5)


@asynccontextmanager
async def open_engine(
    settings: Settings, store: Store, *, own_ports: Collection[int]
) -> AsyncIterator[Engine]:
    """Let Ray have the workers that are wanted; leaving the block leaves that to another server.

    Args:
        settings: With `engine = "ray"`.
        store: Open.
        own_ports: Ports that this server listens on.

    Raises:
        ConfigurationError: Ray is not installed.
    """
    check_ray()
    servers = settings.register_urls or [settings.public_url or _own_address(settings, own_ports)]
    engine = Engine(store, settings, servers)
    engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def _own_address(settings: Settings, own_ports: Collection[int]) -> str:
    host, port = settings.host, next(iter(own_ports), settings.port)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Engine:
    """The workers that Ray runs for the servers of a database.

    Args:
        store: Open.
        settings: `ray_address` and the limits.
        servers: Addresses where workers register.
        limits: Of time.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        servers: Sequence[str],
        *,
        limits: EngineLimits | None = None,
    ) -> None:
        assert settings.ray_address is not None  # the settings are checked
        self._store = store
        self._address = settings.ray_address
        self._namespace = settings.ray_namespace
        self._servers = servers
        self._limits = limits or EngineLimits()
        self._scale = Scale(
            minimum=settings.min_workers,
            maximum=settings.max_workers,
            spare=settings.spare_slots,
            slots=settings.slots_per_worker,
            idle=timedelta(seconds=settings.scale_down_seconds),
        )
        self._lease = Lease(store, _NAME)
        self._report: Mapping[str, Any] = _starting()
        # Why the last start has failed, until none has for some time.
        self._failure: str | None = None
        self._driver: DriverLink | None = None
        self._loops = TaskSet(logger)

    @property
    def report(self) -> Mapping[str, Any]:
        """What `/pressure` says: of the server that holds the engine, whichever that is.

        `state` is `starting`, `running`, or `away`: then workers and rentals go on, and no worker is started.
        """
        other = None if self._lease.held else self._lease.report
        return other or self._report

    @property
    def held(self) -> bool:
        """True if this server tells Ray how many workers are wanted."""
        return self._lease.held

    def start(self) -> None:
        """Begin."""
        self._loops.start(self._beat_often(), "the lease of the engine")
        self._loops.start(self._work_often(), "the work of the engine")

    async def close(self) -> None:
        """Start and end nothing more, and leave it to another server. The workers stay."""
        await self._loops.cancel()
        await self._close_driver()
        with suppress(SQLAlchemyError):  # another server takes it in some seconds
            await self._lease.leave()

    # --- signs of life --------------------------------------------------------------------------------------------

    async def _beat_often(self) -> None:
        away = False
        while True:
            try:
                await self._lease.beat(self._report)
            except SQLAlchemyError as error:
                if not away:  # said once for each time
                    logger.warning("the engine's row cannot be written, so no worker is started: %s", error)
                away = True
            except Exception:  # what was not foreseen must not end this loop
                logger.exception("a sign of life of the engine failed; the next one follows")
            else:
                away = False
            await asyncio.sleep(self._limits.every.total_seconds())

    # --- work -----------------------------------------------------------------------------------------------------

    async def _work_often(self) -> None:
        said = ""
        scaler: Scaler | None = None
        while True:
            pause = self._limits.every
            if not self._lease.held:
                # What another server does meanwhile is seen when it is this one's turn again.
                scaler = None
                await self._close_driver()
            else:
                scaler = scaler or Scaler(self._scale)
                try:
                    await self._step(scaler)
                    said = ""
                except EngineAway as error:
                    await self._close_driver()
                    self._report = {**self._report, "state": "away", "message": _away(self._address, error)}
                    pause = self._limits.retry
                    if said != str(error):
                        said = str(error)
                        logger.warning("%s", self._report["message"])
                except SQLAlchemyError as error:
                    self._report = {
                        **self._report,
                        "state": "away",
                        "message": "the database does not answer; no worker is started",
                    }
                    logger.debug("the engine waits for the database: %s", error)
                except Exception:  # as above
                    logger.exception("workers could not be looked after; the next try follows")
                    await self._close_driver()
                    pause = self._limits.retry
            await asyncio.sleep(pause.total_seconds())

    async def _step(self, scaler: Scaler) -> None:
        if self._driver is None:
            self._driver = await DriverLink.open(
                self._address, namespace=self._namespace, slots=self._scale.slots, servers=self._servers
            )
            logger.info("connected to Ray at %s", self._address)
        found = (await self._driver.ask("look"))["actors"]
        actors = [_actor(each) for each in found if each["state"] != "failed"]
        rows = await self._store.workers()
        workers = [WorkerCount(each.id, each.slots, each.running, each.draining) for each in rows]
        plan = scaler.plan(boot_time(), actors, workers, await self._store.waiting())
        failed = [f"{each['name']}: {each['error']}" for each in found if each["state"] == "failed"]
        for failure in failed:
            logger.error("a worker did not start: %s", failure)
        self._report = self._reported(found, actors, workers, plan, failed=failed, failures=scaler.failures)
        await self._do(plan, actors)

    async def _do(self, plan: Plan, actors: Collection[Actor]) -> None:
        # All this is right whichever server does it, and twice, too; without the lease it is another one's.
        assert self._driver is not None
        for worker_id in plan.use:
            await self._store.use_worker_again(worker_id)
        for worker_id in plan.drain:
            logger.info("worker %s drains: fewer are wanted", worker_id)
            await self._store.drain_worker(worker_id)
        for what, names in (("start", plan.start), ("withdraw", plan.withdraw), ("end", plan.end)):
            if not self._lease.held:
                return
            if names:
                logger.info("%s %s", what, ", ".join(names))
                await self._driver.ask(what, names)
        for actor in actors:
            if actor.name in plan.end and actor.worker is not None:
                await self._store.forget_worker(actor.worker)

    def _reported(
        self,
        found: Sequence[Mapping[str, Any]],
        actors: Collection[Actor],
        workers: Collection[WorkerCount],
        plan: Plan,
        *,
        failed: Sequence[str],
        failures: int,
    ) -> Mapping[str, Any]:
        states = {state: sum(each.state is state for each in actors) for state in ActorState}
        draining = {each.id for each in workers if each.draining}
        if failed or not failures:
            self._failure = failed[-1] if failed else None
        nodes = {each["node"]["address"]: each["node"] for each in found if "node" in each}
        return {
            "name": _NAME,
            "state": "running",
            "message": self._failure,
            "wanted": plan.wanted,
            "pending": states[ActorState.PENDING],
            "starting": states[ActorState.STARTING],
            "running": states[ActorState.RUNNING],
            "draining": sum(actor.worker in draining for actor in actors),
            "warnings": [str(problem) for node in nodes.values() for problem in node_problems(node)],
        }

    async def _close_driver(self) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            await driver.close()


def _starting() -> Mapping[str, Any]:
    return {
        "name": _NAME,
        "state": "starting",
        "message": None,
        "wanted": None,
        "pending": 0,
        "starting": 0,
        "running": 0,
        "draining": 0,
        "warnings": [],
    }


def _actor(found: Mapping[str, Any]) -> Actor:
    worker = found.get("worker")
    return Actor(found["name"], ActorState(found["state"]), None if worker is None else UUID(worker))


def _away(address: str, error: EngineAway) -> str:
    return f"Ray at {address} does not answer: workers and their rentals go on, and no worker is started ({error})"
