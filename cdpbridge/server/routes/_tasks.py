"""`/tasks`: work for agents."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import HTTPException, Query
from starlette.requests import Request

from cdpbridge._concurrency import to_the_end
from cdpbridge.api._models import Page
from cdpbridge.api._task_models import (
    CreateSessionRequest,
    CreateTaskRequest,
    Task,
    TaskCreated,
    TaskItem,
    TaskLogFile,
    TaskStatusView,
    UpdateTaskRequest,
)
from cdpbridge.server import store
from cdpbridge.server.accounts import Program
from cdpbridge.server.store import SessionOver
from cdpbridge.server.tasks._task_states import TaskSignal, TaskState
from cdpbridge.server.tasks.agent import allowed_domains, check_schema, split_secrets

from ._addresses import cdp_url, signed_url
from ._fields import FieldsRoute, IgnoredFields, Unused
from ._files_here import check_path_here
from ._orders import body_hash, session_order
from ._problems import not_found, unprocessable
from ._rest import rest_router
from ._services import (
    Hidden,
    IdempotencyKey,
    KeyId,
    Paging,
    ProgramOf,
    ProjectId,
    Services,
    ServicesOf,
    client_left,
    external_base,
)
from ._task_views import shown_status, task_item, task_view

__all__ = ["router"]

router = rest_router("/tasks", tags=["Tasks"], route_class=FieldsRoute)

_SIGNALS: Final = {
    "stop": TaskSignal.STOP,
    "stop_task_and_session": TaskSignal.STOP,
    "pause": TaskSignal.PAUSE,
    "resume": TaskSignal.RESUME,
}
_SHOWN: Final = {
    "created": (),  # a task is at work as soon as it is accepted
    "started": (TaskState.STARTED,),
    "paused": (TaskState.PAUSED,),
    "finished": (TaskState.FINISHED,),
    "stopped": (TaskState.STOPPED, TaskState.STOPPING),
    "failed": (),
}


async def _find(services: Services, project_id: UUID, task_id: UUID) -> store.Task:
    task = await services.store.task(project_id, task_id)
    if task is None:
        raise not_found("Task")
    return task


async def _view(request: Request, services: Services, task: store.Task) -> Task:
    steps, files = await services.store.task_details(task.id)
    return task_view(request, services, task, steps, files)


@router.get("")
async def list_tasks(
    services: ServicesOf,
    project_id: ProjectId,
    paging: Paging,
    *,
    session_id: Annotated[UUID | None, Query(alias="sessionId")] = None,
    filter_by: Annotated[
        Literal["created", "started", "paused", "finished", "stopped", "failed"] | None,
        Query(alias="filterBy"),
    ] = None,
    after: datetime | None = None,
    before: datetime | None = None,
    hidden: Hidden,
) -> Page[TaskItem]:
    """Get paginated list of AI agent tasks with optional filtering by session and status, newest first."""
    found, total = await services.store.tasks(
        project_id,
        offset=paging.offset,
        limit=paging.size,
        session_id=session_id,
        states=None if filter_by is None else _SHOWN[filter_by],
        after=_instant("after", after),
        before=_instant("before", before),
        hidden=hidden,
    )
    items = [task_item(task) for task in found]
    return Page[TaskItem](items=items, total_items=total, page_number=paging.number, page_size=paging.size)


def _instant(field: str, value: datetime | None) -> datetime | None:
    """Return a date-time in UTC, which it is without a zone; refuse one at the ends of the calendar."""
    if value is None:
        return None
    try:
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        raise unprocessable(field, "out of the calendar", where="query") from None


@router.post("", status_code=202)
async def create_task(
    request: Request,
    services: ServicesOf,
    project_id: ProjectId,
    body: CreateTaskRequest,
    *,
    idempotency_key: IdempotencyKey,
    key_id: KeyId,
    program: ProgramOf,
    unused: IgnoredFields,
) -> TaskCreated:
    """Put an agent to work, in a session or in a new one.

    A new session stays open when the task is done, until its time is over or it is stopped, and is charged meanwhile; with
    `sessionSettings.keepAlive: false`, or the setting `sessions_after_task = "stop"`, it ends with the task.

    400 when this server runs no agents, and when the session is stopped or has a running task. Nothing is charged then.
    Two requests with the same `Idempotency-Key` and body get the same task; with another body the second gets 409.
    """
    _check(services, project_id, body)
    if body.session_id is not None and body.session_settings is not None:
        unused.add("sessionSettings")  # the session has its own already
    asked = _Asked(project_id, key_id, program, body, unused)
    if idempotency_key is None:
        task = await _create(request, services, asked, None)
    else:
        digest = body_hash("/tasks", body)
        task = await services.tasks.once(
            project_id,
            idempotency_key,
            digest,
            lambda: _create(request, services, asked, (idempotency_key, digest)),
        )
    return TaskCreated(id=task.id, session_id=task.session_id)


def _check(services: Services, project_id: UUID, body: CreateTaskRequest) -> None:
    """Refuse what can be refused before anything is started."""
    refusal = services.tasks.agents.refusal()
    if refusal is not None:
        raise HTTPException(400, refusal)
    if body.op_vault_id is not None:
        refusal = services.tasks.agents.refusal(
            op_vault_id=body.op_vault_id
        ) or services.accounts.vault_refusal(project_id, body.op_vault_id)
        if refusal is not None:
            raise unprocessable("opVaultId", refusal)
    if not services.tasks.agents.knows(body.llm):
        known = ", ".join(services.tasks.agents.known())
        text = (
            f"this server knows no such model; one of: {known}; others are added by the setting `llm_models`"
        )
        raise unprocessable("llm", text)
    if body.allowed_domains:
        try:
            allowed_domains(body.allowed_domains)
        except ValueError as error:
            raise unprocessable("allowedDomains", str(error)) from error
    if body.structured_output is not None:
        try:
            check_schema(body.structured_output)
        except ValueError as error:
            raise unprocessable("structuredOutput", str(error)) from error
    if body.secrets:
        try:
            split_secrets(body.secrets, body.allowed_domains or ())
        except ValueError as error:
            raise unprocessable("secrets", str(error)) from error


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request for a task, with its sender."""

    project_id: UUID
    key_id: UUID | None
    program: Program | None
    body: CreateTaskRequest
    unused: Unused


async def _create(
    request: Request,
    services: Services,
    asked: _Asked,
    idempotency: tuple[str, str] | None,
) -> store.Task:
    project_id, body = asked.project_id, asked.body
    start = partial(_start, request, services, asked, idempotency=idempotency)
    if body.session_id is not None:
        found = await services.store.agent_session(project_id, body.session_id)
        others = services.accounts.others(asked.program)
        if found is None or found[1].key_id in others:
            raise not_found("Session")
        session, browser = found
        return await start(session=session, browser=browser)
    settings = body.session_settings or CreateSessionRequest()
    kept = settings.keep_alive
    if "keep_alive" not in settings.model_fields_set:
        kept = services.settings.sessions_after_task == "keep"
    order = await session_order(
        services,
        project_id,
        settings,
        unused=asked.unused,
        key_id=asked.key_id,
        program=asked.program,
        within="sessionSettings",
    )
    if body.allowed_domains and order.start_url is not None:
        # The session's page is opened under the task's limits, so by the task.
        body = body.model_copy(update={"start_url": body.start_url or order.start_url})
        order = replace(order, start_url=None)
        start = partial(_start, request, services, replace(asked, body=body), idempotency=idempotency)
    session, browser = await services.agent_sessions.create(
        project_id,
        order,
        keep_alive=kept,
        persist_memory=settings.persist_memory,
        # With a key, a client that was cut off comes back for its task.
        client_left=(lambda: client_left(request)) if idempotency is None else _never,
    )
    try:
        return await start(session=session, browser=browser, own_session=True)
    except BaseException:
        await to_the_end(services.agent_sessions.stop(project_id, session))
        raise


async def _never() -> None:
    await asyncio.Event().wait()


async def _start(
    request: Request,
    services: Services,
    asked: _Asked,
    *,
    session: store.AgentSession,
    browser: store.Browser,
    idempotency: tuple[str, str] | None,
    own_session: bool = False,
) -> store.Task:
    local = request.app.state.local_address or external_base(request)
    address = cdp_url(local, services, browser)
    if address is None:
        raise SessionOver("the session has been stopped")
    await services.resolver.reach(browser)
    return await services.tasks.start(
        asked.project_id,
        session,
        asked.body,
        cdp_url=address,
        own_session=own_session,
        idempotency=idempotency,
        ignored_fields=asked.unused.record,
    )


@router.get("/{task_id}")
async def get_task(request: Request, services: ServicesOf, project_id: ProjectId, task_id: UUID) -> Task:
    """Get detailed task information including status, progress, steps, and file outputs."""
    return await _view(request, services, await _find(services, project_id, task_id))


@router.patch("/{task_id}")
async def update_task(
    request: Request, services: ServicesOf, project_id: ProjectId, task_id: UUID, body: UpdateTaskRequest
) -> Task:
    """Control task execution with stop, pause, resume, or stop task and session actions.

    A task that has ended stays as it is; stops are answered when the agent has ended.
    """
    task = await _find(services, project_id, task_id)
    # With its session, a task ends wherever its agent works.
    if body.action != "stop_task_and_session" or services.resolver.is_own(task):
        services.resolver.check_agent(task)
        await services.tasks.signal(task.id, _SIGNALS[body.action])
    if body.action == "stop_task_and_session":
        found = await services.store.agent_session(project_id, task.session_id)
        if found is not None:
            await services.agent_sessions.stop(project_id, found[0])
    return await get_task(request, services, project_id, task_id)


@router.get("/{task_id}/status")
async def get_task_status(services: ServicesOf, project_id: ProjectId, task_id: UUID) -> TaskStatusView:
    """Return the status alone: cheaper to ask for than the task."""
    task = await _find(services, project_id, task_id)
    return TaskStatusView(
        id=task.id,
        status=shown_status(task),
        output=None if task.working else task.output,
        finished_at=task.finished_at,
        is_success=task.is_success,
    )


@router.get("/{task_id}/logs")
async def get_task_logs(
    request: Request, services: ServicesOf, project_id: ProjectId, task_id: UUID
) -> TaskLogFile:
    """Get secure download URL for task execution logs with step-by-step details; 404 before the first line is written."""
    task = await _find(services, project_id, task_id)
    path = task.log
    if path is None and task.working:
        folder = services.files.task_folder(task.id)
        listed = await asyncio.to_thread(services.files.listing, folder)
        path = next((file.path for file in listed if file.name.endswith(".log")), None)
    if path is None or await asyncio.to_thread(services.files.find, path) is None:
        await check_path_here(services, f"tasks/{task.id}")
        raise not_found("Task log")
    return TaskLogFile(download_url=signed_url(request, services, path))
