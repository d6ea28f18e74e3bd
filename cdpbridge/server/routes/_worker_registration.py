"""`/internal/workers`: workers say that they are there. Who knows `worker_secret` may; there is no key."""

from __future__ import annotations

import logging

from fastapi import APIRouter, HTTPException
from starlette.requests import Request

from cdpbridge.server.workers._protocol import BadMessage, decoded, loaded
from cdpbridge.server.workers._register import (
    PROOF_HEADER,
    REGISTRATION_PATH,
    Registration,
    challenge,
    proves,
)

from ._services import Services, ServicesOf, client_address

__all__ = ["router"]

logger = logging.getLogger("cdpbridge.server")

router = APIRouter(prefix=REGISTRATION_PATH, include_in_schema=False)

_MOST_BYTES = 4096


@router.get("")
async def ask(services: ServicesOf) -> dict[str, str]:
    """Return a challenge, which says nothing of the secret."""
    return {"challenge": challenge(_secret(services))}


@router.post("", status_code=201)
async def register(request: Request, services: ServicesOf) -> dict[str, str | None]:
    """Add a worker, or remove one that has ended. The answer says why a server does not reach it."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_BYTES:
            raise HTTPException(413, "a registration is shorter")
    proof = request.headers.get(PROOF_HEADER, "")
    if not proves(_secret(services), proof, body):
        services.border.check_token(client_address(request.scope), proof)
        raise HTTPException(401, "this is no proof of the secret")
    try:
        worker = loaded(Registration, decoded(body))
    except BadMessage as error:
        raise HTTPException(422, str(error)) from None
    if worker.ended:
        found = await services.store.forget_worker(worker.id)
        if found is not None:
            logger.info("worker %s (%s) has ended in order", worker.id, worker.name)
        return {"id": str(worker.id)}
    row = await services.store.register_worker(
        worker.id,
        name=worker.name,
        address=worker.address,
        protocol=worker.protocol,
        slots=worker.slots,
        now=services.wall(),
        tls=worker.tls,
        draining=worker.draining,
    )
    return {"id": str(worker.id), "problem": row.problem}


def _secret(services: Services) -> bytes:
    secret = services.settings.worker_secret
    if services.settings.browsers != "workers" or secret is None:
        raise HTTPException(404, 'this server has no workers; set `browsers = "workers"` and `worker_secret`')
    return secret.get_secret_value().encode()
