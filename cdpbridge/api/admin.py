"""The operator's side of a cdpbridge server: keys, projects, credits and workers. The cloud has no such API.

    async with AsyncClient(admin_key, "http://127.0.0.1:8700/admin/v1") as client:
        made = await client.send(admin.create_key("team-a", name="crawler"))
        print(made.key)                                     # the only time that it is shown

`cdpbridge keys`, `projects`, `credits` and `workers` are these calls. An admin key is needed; a key of a project is refused.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import Field

from ._models import ADMIN_PATH, Answer, Instant, Integer, Request, UsdText
from .calls import Call

__all__ = [
    "ADMIN_PATH",
    "ChangeProjectRequest",
    "CreateKeyRequest",
    "CreateProjectRequest",
    "Credits",
    "GrantRequest",
    "Key",
    "Keys",
    "NewKey",
    "Project",
    "Projects",
    "RevokedKey",
    "Worker",
    "Workers",
    "change_project",
    "create_key",
    "create_project",
    "drain_worker",
    "grant_credits",
    "list_keys",
    "list_projects",
    "list_workers",
    "revoke_key",
]

MAX_GRANT_USD: Final = Decimal(10**9)
Plan = Literal["free", "paid"]
ProjectName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^\S(.*\S)?$")]
_Limit = Annotated[Integer, Field(ge=1, le=10_000)]


class Key(Answer):
    """An API key, without the key.

    Attributes:
        hint: The beginning of the key; None for those of the configuration.
        admin: Whether it may use this API; it is a key of its project too.
        configured: Whether it comes from the settings `api_keys` or `admin_keys`.
        last_used_at: Of its last request, to the half minute.
        revoked_at: None while it is good.
    """

    id: UUID
    project_id: UUID
    project: str
    name: str | None = None
    hint: str | None = None
    admin: bool
    configured: bool
    created_at: Instant
    last_used_at: Instant | None = None
    revoked_at: Instant | None = None


class Keys(Answer):
    """Every key, oldest first."""

    items: list[Key]


class NewKey(Key):
    """A key that was made.

    Attributes:
        key: The key itself: only its hash is kept, so it is shown this once.
    """

    key: str = Field(repr=False)


class RevokedKey(Key):
    """A key that was revoked.

    Attributes:
        stopped_browsers: Those that were stopped and refunded with it.
    """

    stopped_browsers: list[UUID]


class Project(Answer):
    """An account.

    Attributes:
        plan: `"free"` or `"paid"`.
        max_browsers: Concurrent browsers.
        active_browsers: Browsers that hold a slot now.
        keys: Keys that are good.
        last_used_at: Of the last request with any of its keys.
    """

    id: UUID
    name: str
    plan: str
    max_browsers: int
    balance_usd: UsdText
    active_browsers: int
    keys: int
    created_at: Instant
    last_used_at: Instant | None = None


class Projects(Answer):
    """Every project, by name."""

    items: list[Project]


class Credits(Answer):
    """What a grant has brought."""

    project_id: UUID
    amount_usd: UsdText
    balance_usd: UsdText


class Worker(Answer):
    """A worker, which runs browsers for all servers of its database.

    Attributes:
        id: Of this start of it.
        address: `host:port`, where servers reach it.
        slots: Browsers that it can run at once.
        running: Browsers that have a slot of it; those that start are among them.
        starting: Of them, those that start.
        draining: It gets no further browser.
        accepting: It gets browsers while it has free slots: it does not drain, and a server has heard from it.
        joined_at: When it has registered.
        tls: What passes between servers and it is encrypted.
        problem: Why a server does not reach it, and what to do.
    """

    id: UUID
    name: str
    address: str
    slots: int
    running: int
    starting: int
    draining: bool
    accepting: bool
    joined_at: Instant
    tls: bool = False
    problem: str | None = None


class Workers(Answer):
    """Every worker, by name.

    Attributes:
        waiting_orders: Browsers that wait for a slot.
    """

    items: list[Worker]
    waiting_orders: int


class CreateKeyRequest(Request):
    """Body of `POST /keys`."""

    project: ProjectName = "default"
    name: Annotated[str, Field(max_length=100)] | None = None
    admin: Annotated[bool, Field(strict=True)] = False


class CreateProjectRequest(Request):
    """Body of `POST /projects`; what is left out is as the settings say.

    Attributes:
        credits_usd: Its first credits; default: the setting `credits_usd`.
    """

    name: ProjectName
    plan: Plan | None = None
    max_browsers: _Limit | None = None
    credits_usd: Annotated[Decimal, Field(ge=0, le=MAX_GRANT_USD, decimal_places=6)] | None = None


class ChangeProjectRequest(Request):
    """Body of `PATCH /projects/{id}`; null puts a field back to what the settings say."""

    plan: Plan | None = None
    max_browsers: _Limit | None = None


class GrantRequest(Request):
    """Body of `POST /projects/{id}/credits`.

    Attributes:
        amount_usd: A number, or better a text, which no program on the way rounds.
        note: What the ledger says it is for.
    """

    amount_usd: Annotated[Decimal, Field(gt=0, le=MAX_GRANT_USD, decimal_places=6)]
    note: Annotated[str, Field(min_length=1, max_length=40)] = "granted"


def list_keys() -> Call[Keys]:
    """List all keys."""
    return Call("GET", "/keys", Keys)


def create_key(project: str = "default", *, name: str | None = None, admin: bool = False) -> Call[NewKey]:
    """Create a key of a project."""
    body = CreateKeyRequest(project=project, name=name, admin=admin)
    return Call("POST", "/keys", NewKey, body=_body(body), repeatable=False)


def revoke_key(key_id: UUID, *, all_browsers: bool = False) -> Call[RevokedKey]:
    """Revoke a key, and stop what was rented with it."""
    query = {"allBrowsers": "true"} if all_browsers else {}
    return Call("DELETE", f"/keys/{key_id}", RevokedKey, query=query, slow=True)


def list_projects() -> Call[Projects]:
    """List all projects."""
    return Call("GET", "/projects", Projects)


def list_workers() -> Call[Workers]:
    """List all workers."""
    return Call("GET", "/workers", Workers)


def drain_worker(worker_id: UUID) -> Call[Worker]:
    """Give a worker no further browser; those that it has go on."""
    return Call("POST", f"/workers/{worker_id}/drain", Worker, repeatable=True)


def create_project(body: CreateProjectRequest) -> Call[Project]:
    """Create a project."""
    return Call("POST", "/projects", Project, body=_body(body), repeatable=False)


def change_project(project_id: UUID, body: ChangeProjectRequest) -> Call[Project]:
    """Change plan or limit of a project."""
    return Call("PATCH", f"/projects/{project_id}", Project, body=_body(body))


def grant_credits(project_id: UUID, body: GrantRequest) -> Call[Credits]:
    """Add credits. Not repeatable: twice is twice."""
    path = f"/projects/{project_id}/credits"
    return Call("POST", path, Credits, body=_body(body), repeatable=False)


def _body(request: Request) -> dict[str, Any]:
    return request.model_dump(mode="json", by_alias=True, exclude_unset=True)
