"""`/admin/v1`: keys, projects, credits and workers, for the operator: `Authentication` asks for an admin key."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from cdpbridge.api import admin
from cdpbridge.server._cluster import drained_worker, listed_workers

from ._fields import FieldsRoute
from ._problems import not_found
from ._services import ServicesOf

__all__ = ["router"]

router = APIRouter(prefix=admin.ADMIN_PATH, route_class=FieldsRoute, include_in_schema=False)


@router.get("/keys")
async def list_keys(services: ServicesOf) -> admin.Keys:
    """Every key, oldest first, without the keys themselves."""
    return await services.accounts.list_keys()


@router.post("/keys", status_code=201)
async def create_key(services: ServicesOf, body: admin.CreateKeyRequest) -> admin.NewKey:
    """Create a key; this is the only answer that has it."""
    return await services.accounts.create_key(body, sharing_refusal=services.sharing_refusal)


@router.delete("/keys/{key_id}")
async def revoke_key(
    services: ServicesOf,
    key_id: UUID,
    all_browsers: Annotated[bool, Query(alias="allBrowsers")] = False,
) -> admin.RevokedKey:
    """Revoke a key, and stop what was rented with it; answered when that has ended."""
    return await services.accounts.revoke_key(key_id, all_browsers=all_browsers, stop=services.rentals.stop)


@router.get("/projects")
async def list_projects(services: ServicesOf) -> admin.Projects:
    """Every project, by name."""
    return await services.accounts.list_projects()


@router.post("/projects", status_code=201)
async def create_project(services: ServicesOf, body: admin.CreateProjectRequest) -> admin.Project:
    """Create a project."""
    return await services.accounts.create_project(body)


@router.patch("/projects/{project_id}")
async def change_project(
    services: ServicesOf, project_id: UUID, body: admin.ChangeProjectRequest
) -> admin.Project:
    """Another plan or limit."""
    return await services.accounts.change_project(project_id, body)


@router.post("/projects/{project_id}/credits", status_code=201)
async def grant_credits(services: ServicesOf, project_id: UUID, body: admin.GrantRequest) -> admin.Credits:
    """Add credits."""
    return await services.accounts.grant_credits(project_id, body)


@router.get("/workers")
async def list_workers(services: ServicesOf) -> admin.Workers:
    """Every worker, by name."""
    return await listed_workers(services.store)


@router.post("/workers/{worker_id}/drain")
async def drain_worker(services: ServicesOf, worker_id: UUID) -> admin.Worker:
    """No further browser for it; those that it has go on."""
    worker = await drained_worker(services.store, worker_id)
    if worker is None:
        raise not_found("Worker")
    return worker
