"""For balancers, orchestrators and monitoring: `/healthz`, `/readyz`, `/pressure`, `/metrics`. They need no key and name no project."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from fastapi import APIRouter
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import JSONResponse, Response

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
    """Return True if a new browser would be started, and if not, why: `descriptors`, `memory`, `disk`, `cpu` or `stopping`."""
    machine = services.pressure.machine()
    problem = services.pressure.problem(machine)
    if services.rentals.closing:
        problem = "stopping", "the server is stopping"
    states = services.rentals.states()
    return {
        "accepting": problem is None,
        "reason": problem[0] if problem else None,
        "message": problem[1] if problem else None,
        "browsers": {state.value: number for state, number in states.items()},
        "readyBrowsers": services.hosts.ready,
        "maxBrowsersPerProject": services.settings.max_browsers,
        "concurrentStarts": services.settings.concurrent_starts,
        "cpus": machine.cpus,
        "loadPerCpu": round(machine.load_per_cpu, 3),
        "memoryTotalBytes": machine.memory_total,
        "memoryAvailableBytes": machine.memory_available,
        "diskFreeBytes": machine.disk_free,
        "isolation": services.isolation,
        "privateNetwork": "allow" if services.accounts.network_rules.private else "deny",
    }


@router.get("/metrics")
async def metrics(services: ServicesOf) -> Response:
    """Everything countable, as Prometheus reads it."""
    machine = services.pressure.machine()
    moment = Moment(
        browsers={state.value: number for state, number in services.rentals.states().items()},
        ready=services.hosts.ready,
        usage=services.registry.total_usage(),
        booked=await services.store.booked(),
        machine=machine,
        accepting=services.pressure.problem(machine) is None and not services.rentals.closing,
    )
    content, media_type = services.metrics.text(moment)
    return Response(content, media_type=media_type)


async def _database(services: Services) -> str:
    try:
        async with asyncio.timeout(_DATABASE_SECONDS):
            await services.store.has_keys()
    except TimeoutError:
        return f"no answer within {_DATABASE_SECONDS:g} s"
    except (SQLAlchemyError, OSError) as error:
        return type(error).__name__  # its text may hold the database's address
    return "ok"
