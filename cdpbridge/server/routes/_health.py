"""For balancers, orchestrators and monitoring: `/healthz`, `/readyz`, `/pressure`, `/metrics`. They need no key and name no project."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from fastapi import APIRouter
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import JSONResponse, Response

from cdpbridge.server._cluster import Capacity, capacity_of
from cdpbridge.server._metrics import Moment

from ._services import Services, ServicesOf

__all__ = ["router"]

_DATABASE_SECONDS: Final = 2.0

router = APIRouter(include_in_schema=False)


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """200 while the server's event loop turns: what restarts a server that hangs."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(services: ServicesOf) -> JSONResponse:
    """200 when requests would be served, else 503 with what is wrong: what sends them elsewhere."""
    checks = {
        "database": await _database(services),
        "server": "stopping" if services.rentals.closing else "ok",
    }
    ready = all(state == "ok" for state in checks.values())
    return JSONResponse({"ready": ready, "checks": checks}, status_code=200 if ready else 503)


@router.get("/pressure")
async def pressure(services: ServicesOf) -> dict[str, Any]:
    """Return True if a new browser would be started, and if not, why: `descriptors`, `memory`, `disk`, `cpu`, `slots`, `database` or `stopping`."""
    machine = services.pressure.machine()
    problem = services.pressure.problem(machine)
    cluster: dict[str, Any] = {}
    if services.settings.browsers == "workers":
        capacity = await _capacity(services)
        if capacity is None:
            problem = "database", "the database, which knows the workers, does not answer"
        else:
            cluster = _cluster(capacity)
            if not capacity.free:
                problem = problem or ("slots", "no worker has a free slot; an order waits for one")
    if services.rentals.closing:
        problem = "stopping", "the server is stopping"
    states = services.rentals.states()
    return {
        "accepting": problem is None,
        "reason": problem[0] if problem else None,
        "message": problem[1] if problem else None,
        "browsers": {state.value: number for state, number in states.items()},
        "readyBrowsers": services.hosts.ready,
        "waitingOrders": services.hosts.waiting,
        **cluster,
        "maxBrowsersPerProject": services.settings.max_browsers,
        "concurrentStarts": services.settings.concurrent_starts,
        "cpus": machine.cpus,
        "loadPerCpu": round(machine.load_per_cpu, 3),
        "memoryTotalBytes": machine.memory_total,
        "memoryAvailableBytes": machine.memory_available,
        "diskFreeBytes": machine.disk_free,
        "engine": None if services.engine is None else services.engine.report,
        "isolation": services.isolation,
        "limits": services.limits,
        "privateNetwork": "allow" if services.accounts.network_rules.private else "deny",
    }


@router.get("/metrics")
async def metrics(services: ServicesOf) -> Response:
    """Everything countable, as Prometheus reads it."""
    machine = services.pressure.machine()
    capacity = await capacity_of(services.store) if services.settings.browsers == "workers" else None
    moment = Moment(
        browsers={state.value: number for state, number in services.rentals.states().items()},
        ready=services.hosts.ready,
        waiting=services.hosts.waiting if capacity is None else capacity.waiting,
        capacity=capacity,
        engine=None if services.engine is None else services.engine.report,
        usage=services.registry.total_usage(),
        booked=await services.store.booked(),
        machine=machine,
        accepting=services.pressure.problem(machine) is None
        and not services.rentals.closing
        and (capacity is None or capacity.free > 0),
    )
    content, media_type = services.metrics.text(moment)
    return Response(content, media_type=media_type)


async def _capacity(services: Services) -> Capacity | None:
    try:
        async with asyncio.timeout(_DATABASE_SECONDS):
            return await capacity_of(services.store)
    except (TimeoutError, SQLAlchemyError):
        return None


def _cluster(capacity: Capacity) -> dict[str, Any]:
    """Return what the workers of all servers have; the browsers beside it are this server's."""
    return {
        "waitingOrders": capacity.waiting,
        "workers": {"accepting": capacity.workers, "draining": capacity.draining},
        "slots": {
            "total": capacity.slots,
            "free": capacity.free,
            "running": capacity.running,
            "starting": capacity.starting,
        },
    }


async def _database(services: Services) -> str:
    try:
        async with asyncio.timeout(_DATABASE_SECONDS):
            await services.store.has_keys()
    except TimeoutError:
        return f"no answer within {_DATABASE_SECONDS:g} s"
    except (SQLAlchemyError, OSError) as error:
        return type(error).__name__  # its text may hold the database's address
    return "ok"
