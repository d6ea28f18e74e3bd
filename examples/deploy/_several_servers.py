"""Two servers and two workers from the image on one PostgreSQL and one object storage, as compose.cluster.yaml has them."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.request import Request, urlopen
from uuid import UUID

from _checks import KEY, Kills, demo, knows, settled
from _container import Container
from _database import PostgreSQL
from _trial import AS_COMPOSE, READY, Rows, Trial, free_port

import cdpbridge
from cdpbridge.errors import ServerError

if TYPE_CHECKING:
    from cdpbridge import BrowserSession

__all__ = ["several_servers"]

_BUCKET: Final = "cdpbridge"
_SLOTS: Final = 4
_WORKER_READY: Final = "cdpbridge: worker "
_TIMEOUT: Final = timedelta(minutes=10)
# A worker that does not answer counts as lost within ten seconds; a busy machine may take longer.
_SECONDS: Final = 120.0
_WRITE: Final = "document.title = 'written before'"


@dataclass(frozen=True)
class _Shared:
    """What all servers have in common.

    Attributes:
        storage: Address of the object storage.
    """

    database: PostgreSQL
    storage: str
    secret_key: str
    worker_secret: str

    def variables(self, port: int, database: str) -> Mapping[str, str]:
        return {
            "CDPBRIDGE_PORT": str(port),
            "CDPBRIDGE_BROWSERS": "workers",
            "CDPBRIDGE_WORKER_SECRET": self.worker_secret,
            "CDPBRIDGE_SECRET_KEY": self.secret_key,
            "CDPBRIDGE_DATABASE_URL": database,
            "CDPBRIDGE_STORAGE_URL": f"s3://{_BUCKET}",
            "CDPBRIDGE_STORAGE_OPTIONS": (
                f'{{"endpoint": "{self.storage}", "region": "us-east-1", '
                '"access_key_id": "cdpbridge", "secret_access_key": "s3cret-of-the-trial"}'
            ),
            "CDPBRIDGE_PUBLIC_URL": f"http://127.0.0.1:{port}",
        }


@contextmanager
def _object_storage() -> Iterator[str]:
    from moto.server import ThreadedMotoServer  # noqa: PLC0415  # may be missing, which verify.py says

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        with urlopen(Request(f"http://{host}:{port}/{_BUCKET}", method="PUT")):
            yield f"http://{host}:{port}"
    finally:
        server.stop()


class _Cluster:
    """Containers of servers and workers.

    Attributes:
        ports: Of the two servers.
    """

    def __init__(self, trial: Trial, shared: _Shared, stack: ExitStack) -> None:
        self._trial = trial
        self._shared = shared
        self._stack = stack
        self._volumes = 0
        self.ports = (free_port(), free_port())

    def url(self, number: int) -> str:
        return f"http://127.0.0.1:{self.ports[number]}/api/v2"

    def server(self, number: int, database: str | None = None) -> Container:
        variables = self._shared.variables(self.ports[number], database or self._shared.database.url())
        return self._stack.enter_context(self._trial.run(self._volume(), variables))

    def worker(self) -> Container:
        addresses = [f"--server=http://127.0.0.1:{port}" for port in self.ports]
        listen = f"--listen=127.0.0.1:{free_port()}"
        options = replace(AS_COMPOSE, command=("worker", *addresses, listen, f"--slots={_SLOTS}"))
        # No other secret: pages that mean harm are opened there.
        variables = {"CDPBRIDGE_WORKER_SECRET": self._shared.worker_secret}
        return self._stack.enter_context(self._trial.run(self._volume(), variables, options))

    def _volume(self) -> Any:
        self._volumes += 1
        return self._trial.data(f"place-{self._volumes}")


def several_servers(trial: Trial, site: str) -> Rows:
    """Rent through both servers, kill a server and a worker, and read the books; restore them from a backup.

    Raises:
        AssertionError: Something is not as it must be.
        RuntimeError: A container or PostgreSQL did not start.
    """
    with PostgreSQL.running(trial.work) as database, _object_storage() as storage, ExitStack() as stack:
        shared = _Shared(database, storage, secrets.token_hex(32), secrets.token_hex(32))
        cluster = _Cluster(trial, shared, stack)
        began = time.monotonic()
        # All at once: workers try again until a server answers, servers wait for each other's tables.
        workers = [cluster.worker(), cluster.worker()]
        servers = [cluster.server(0), cluster.server(1)]
        for container in servers:
            container.wait_for(READY)
        for container in workers:
            container.wait_for(_WORKER_READY)
        asyncio.run(_browser_on_each(cluster))
        yield "two servers, two workers: start to rented", f"{time.monotonic() - began:.1f} s"
        shown = asyncio.run(demo(cluster.url(0), site, trial.work))
        yield "demo through one server", ", ".join(shown)
        asyncio.run(knows(cluster.url(1), site))
        yield "its profile through the other", "login kept"
        yield from asyncio.run(_losses(cluster, servers, workers))
        again = cluster.server(0)
        again.wait_for(READY)
        asyncio.run(knows(cluster.url(0), site))
        for container in (workers[1], again, servers[1]):
            container.kill("TERM")
            assert container.wait() == 0, container.text
        yield "started again, stopped by SIGTERM", "login kept; each ends without an error"
        yield from _restored(cluster, database, site)


async def _browser_on_each(cluster: _Cluster) -> None:
    """Wait until each server finds workers."""
    for url in (cluster.url(0), cluster.url(1)):
        async with cdpbridge.at(url, KEY) as client:
            browser = await client.browsers.create(timeout=_TIMEOUT)
            await client.browsers.stop(browser.id)


async def _losses(
    cluster: _Cluster, servers: list[Container], workers: list[Container]
) -> list[tuple[str, str]]:
    """Kill a server, then a worker, while browsers of both servers run on both workers."""
    rows = []
    known: set[UUID] = set()
    async with AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(cdpbridge.at(cluster.url(number), KEY)) for number in (0, 1)
        ]
        for client in (first, second) * _SLOTS:  # every slot, or a worker might have none
            browser = await client.browsers.create(timeout=_TIMEOUT)
            known.add(browser.id)
            await _evaluate(browser, _WRITE)
        servers[0].kill("KILL")
        servers[0].wait()
        for each in known:
            assert await _evaluate(await second.browsers.get(each), "document.title") == "written before"
        rows.append((f"a server is killed, {len(known)} browsers run", "all go on at the other server"))

        began = time.monotonic()
        workers[0].kill("KILL")
        workers[0].wait()
        lost = await _lost(second, known)
        seconds = time.monotonic() - began
        for each in known - lost:
            assert await _evaluate(await second.browsers.get(each), "document.title") == "written before"
            await second.browsers.stop(each)
        # The dead worker gets no order.
        browser = await second.browsers.create(timeout=_TIMEOUT)
        known.add(browser.id)
        await second.browsers.stop(browser.id)
        rows.append(
            (
                "a worker is killed",
                f"its {len(lost)} are stopped and refunded after {seconds:.1f} s, the others run",
            )
        )
    browsers, cost = await settled(cluster.url(1), Kills(known))
    rows.append(("ledger of both servers", f"settled: {browsers} browsers, {cost} USD"))
    return rows


async def _lost(client: cdpbridge.AsyncClient, known: set[UUID]) -> set[UUID]:
    """Return the browsers of the killed worker, once they are stopped."""
    async with asyncio.timeout(_SECONDS):
        while True:
            found = [await client.browsers.get(each) for each in known]
            stopped = {each.id for each in found if each.status == "stopped"}
            if len(stopped) == _SLOTS:
                # Where its server was killed just before, no one had taken over the browser: both are lost.
                reasons = {each.end_reason for each in found if each.id in stopped}
                assert reasons <= {"worker_lost", "server_lost"}, reasons
                return stopped
            await asyncio.sleep(0.2)


async def _evaluate(browser: BrowserSession, expression: str) -> Any:
    """Evaluate in the one page that a new browser has."""
    assert browser.cdp_url is not None, browser
    async with cdpbridge.cdp.connect(browser.cdp_url) as connection:
        found = (await connection.root.send("Target.getTargets"))["targetInfos"]
        [page] = [each["targetId"] for each in found if each["type"] == "page"]
        session = await connection.attach(page)
        answer = await session.send("Runtime.evaluate", {"expression": expression, "returnByValue": True})
        return answer["result"].get("value")


async def _forgotten(url: str) -> None:
    """Wait until a worker that the backup names counts as lost: its last sign of life is some seconds old."""
    async with cdpbridge.at(url, KEY, max_retries=0) as client, asyncio.timeout(_SECONDS):
        while True:
            try:
                browser = await client.browsers.create(timeout=_TIMEOUT)
            except ServerError:
                await asyncio.sleep(0.2)
            else:
                await client.browsers.stop(browser.id)
                return


def _restored(cluster: _Cluster, database: PostgreSQL, site: str) -> Rows:
    """Restore the database into another one beside the same storage, as docs/docker.md says, and go on with it."""
    dump = database.dump()
    database.restore(dump, "restored")
    server, worker = cluster.server(0, database.url("restored")), cluster.worker()
    server.wait_for(READY)
    worker.wait_for(_WORKER_READY)
    asyncio.run(_forgotten(cluster.url(0)))
    asyncio.run(knows(cluster.url(0), site))
    yield "pg_dump, restored into another database", f"{len(dump) / 1e3:.0f} kB; login and balance kept"
