"""`Accounts`: projects, keys and credits while the server runs. The operator's routes and commands all end here.

A key is kept as its hash and shown once. Each request looks its key up; where no other server can use the database, with SQLite, who
has it is remembered until a key is revoked here. So a revoked key is refused from that moment; what was rented with it is stopped and
refunded, which closes its gateway sockets and live views. Every change is a line in the log of `cdpbridge.server.audit`, with ids and
names and without keys.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

from sqlalchemy.exc import SQLAlchemyError

from cdpbridge._on_use import ModuleOnUse
from cdpbridge.errors import CDPBridgeError
from cdpbridge.server._tenants import Tenants
from cdpbridge.server.proxy import Rules
from cdpbridge.server.settings import Plan, Settings
from cdpbridge.server.store import ApiKey, ProjectOverview, Store, key_hash_of

if TYPE_CHECKING:
    from cdpbridge.api import admin
else:
    admin = ModuleOnUse("cdpbridge.api.admin")

__all__ = ["AccountRefused", "Accounts", "Identity", "Program", "new_key"]

logger = logging.getLogger("cdpbridge.server")
audit = logging.getLogger("cdpbridge.server.audit")
audit.setLevel(logging.INFO)  # shown whatever the level of the rest

_KEY_BYTES: Final = 24
_FLUSH_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = 1.0


class AccountRefused(CDPBridgeError):
    """A request of the operator that cannot be done.

    Attributes:
        status: HTTP status of the answer: 404 or 409; 503 where another server can do it.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Identity:
    """The sender of a request.

    Attributes:
        key_id: None for the key in the data folder, which is no key of a project.
        program: Whose key it is, when it is that of one that shares the server.
    """

    project_id: UUID
    key_id: UUID | None
    admin: bool
    program: Program | None = None


@dataclass(eq=False, slots=True)
class Program:
    """A program that shares this server with others of its user; see `server/_programs.py`.

    Attributes:
        id: Of its key, which is in memory only.
        settings: As it was given them; those of an order are its own.
        readable: Files and folders of this machine that its browsers may read.
        left: It has ended: what it has rented is being stopped, and it rents nothing more.
    """

    id: UUID
    project_id: UUID
    settings: Settings = field(repr=False)
    readable: tuple[Path, ...] = ()
    left: bool = False


def new_key() -> str:
    """Return a key from 192 random bits."""
    return f"cdpb_{secrets.token_urlsafe(_KEY_BYTES)}"


class Accounts:
    """Projects, keys and credits of one server.

    Args:
        store: Open.
        settings: Plans and limits of projects that have none of their own.
        tenants: Is kept up to date.
        wall: Where dates come from.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        tenants: Tenants,
        *,
        wall: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._settings = settings
        self._wall = wall
        self._tenants = tenants
        self._names: dict[UUID, str] = {}
        self._terms: dict[UUID, tuple[Plan, int]] = {}
        self._used: dict[UUID, datetime] = {}
        # By the hash of the key; replaced, so that what was read before a key was revoked is not kept after that.
        self._identities: dict[str, Identity] = {}
        self._local_key_hash: str | None = None
        # By the hash of the key, until what it has rented is stopped.
        self._programs: dict[str, Program] = {}
        self._flushing: asyncio.Task[None] | None = None

    # --- life -----------------------------------------------------------------------------------------------------

    async def prepare(self, show_key: Callable[[str], object]) -> None:
        """Bring the configured projects and keys up to date; make a key when there never was one."""
        await self._configure()
        if not await self._store.has_keys():
            made = new_key()
            await self._store.add_key(made, now=self._wall())
            show_key(made)
        await self.load()

    async def _configure(self) -> None:
        settings = self._settings
        keys = {
            project: [key.get_secret_value() for key in secret_keys]
            for project, secret_keys in settings.api_keys.items()
        }
        revoked = await self._store.prepare(
            keys,
            credits=settings.first_credits,
            now=self._wall(),
            admin_keys=[key.get_secret_value() for key in settings.admin_keys],
            of_this_server=settings.embedded,
        )
        for key in revoked:
            logger.warning("key %s of the configuration was revoked and stays so; remove it there", key.id)

    async def load(self) -> None:
        """Read what projects there are; `default` is made if it is missing."""
        if "default" not in (await self._store.project_names()).values():
            await self._store.create_project(
                "default",
                plan=None,
                max_browsers=None,
                credits=self._settings.first_credits,
                now=self._wall(),
            )
        for overview in await self._store.projects():
            self._learn(overview)
        await self._count_projects()

    async def _count_projects(self) -> None:
        self._tenants.number = await self._store.projects_with_keys()

    def start(self) -> None:
        """Note from time to time when keys were used."""
        self._flushing = asyncio.get_running_loop().create_task(self._flush_often())

    async def close(self) -> None:
        """Note it once more. Keys of an embedded server end with it, also on the other servers of its database."""
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.wait({self._flushing})
            self._flushing = None
        await self._flush()
        if self._settings.embedded and not self._store.one_writer:  # SQLite's are forgotten at the next start
            keys = [key.get_secret_value() for each in self._settings.api_keys.values() for key in each]
            try:
                await self._store.forget_keys(keys)
            except SQLAlchemyError:
                logger.exception(
                    "the keys of this server could not be removed from its database; revoke them"
                )

    async def _flush_often(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            await self._flush()
            if not self._store.one_writer:
                try:
                    await self.load()  # plans and limits that another server has changed
                except SQLAlchemyError:
                    logger.exception("projects could not be read; what was known of them holds on")

    async def _flush(self) -> None:
        used, self._used = self._used, {}
        try:
            if used:
                await self._store.keys_used(used)
        except SQLAlchemyError:
            logger.exception("the last use of keys could not be stored; it will be retried")
            self._used = used | self._used

    # --- who asks, and what a project may -------------------------------------------------------------------------

    def accept_local(self, key: str) -> None:
        """Take this key for the operator's, as long as this server runs; only who may read the data folder knows it."""
        self._local_key_hash = key_hash_of(key)

    async def identify(self, key_hash: str) -> Identity | None:
        """Return who has the key with this hash; None when it is unknown or revoked."""
        if (program := self._programs.get(key_hash)) is not None:
            return None if program.left else Identity(program.project_id, program.id, False, program)
        identities = self._identities
        identity = identities.get(key_hash)
        if identity is None:
            key = await self._store.key_of_hash(key_hash)
            if key is None and self._is_embedded(key_hash):
                # Another server may have taken this one for dead, and have ended its keys.
                await self._configure()
                key = await self._store.key_of_hash(key_hash)
            if key is None:
                return None
            if key.project_id not in self._terms:  # made by another server
                await self.load()
            identity = Identity(key.project_id, key.id, key.admin)
            if self._store.one_writer:
                identities[key_hash] = identity
        if identity.key_id is not None:
            self._used[identity.key_id] = self._wall()
        return identity

    def _is_embedded(self, key_hash: str) -> bool:
        """Return True for a key of the programs that this server is embedded in, where other servers have the database too."""
        if self._store.one_writer or not self._settings.embedded:
            return False
        keys = [key.get_secret_value() for each in self._settings.api_keys.values() for key in each]
        return key_hash in {key_hash_of(key) for key in keys}

    async def operator(self, key_hash: str) -> Identity | None:
        """Return the same for the operator's routes, where the key in the data folder is good too."""
        if self._local_key_hash is not None and hmac.compare_digest(key_hash, self._local_key_hash):
            return Identity(UUID(int=0), None, admin=True)
        return await self.identify(key_hash)

    # --- programs that share the server ---------------------------------------------------------------------------

    def admit(self, settings: Settings, *, readable: tuple[Path, ...] = ()) -> tuple[Program, str]:
        """Return a program that joins, and the key that is its own until `dismiss`.

        Args:
            settings: As it was given them.
            readable: Files and folders of this machine that its browsers may read.
        """
        [project_id] = [each for each, name in self._names.items() if name == "default"]
        key, program = new_key(), Program(uuid4(), project_id, settings, readable)
        self._programs[key_hash_of(key)] = program
        return program, key

    async def dismiss(self, program: Program, *, stop: Callable[[UUID, UUID], Awaitable[object]]) -> None:
        """Take the key from a program that has ended, and stop what it has rented; return when that has ended.

        Args:
            stop: Stops a browser, by project and id.
        """
        program.left = True
        while True:
            try:
                browsers = await self._store.running_of_key(program.id)
                break
            except SQLAlchemyError:
                logger.exception("the browsers of a program that has ended could not be found; it is retried")
                await asyncio.sleep(_RETRY_SECONDS)
        ends = await asyncio.gather(
            *(stop(program.project_id, each) for each in browsers), return_exceptions=True
        )
        for browser_id, end in zip(browsers, ends, strict=True):
            if isinstance(end, Exception):
                logger.error(
                    "browser %s of a program that has ended: its stop failed", browser_id, exc_info=end
                )
        self._programs = {key: each for key, each in self._programs.items() if each is not program}

    def others(self, program: Program | None) -> frozenset[UUID]:
        """Return the keys of the other programs: what they rent is theirs alone. None for a key that sees everything."""
        if program is None:
            return frozenset()
        return frozenset(each.id for each in self._programs.values() if each is not program)

    def plan(self, project_id: UUID) -> Plan:
        """Return the plan of a project."""
        return self._terms[project_id][0]

    def limit(self, project_id: UUID) -> int:
        """Browsers that a project may have at once."""
        return self._terms[project_id][1]

    def vault_refusal(self, project_id: UUID, vault: str) -> str | None:
        """Return why tasks of a project may not name a 1Password vault; None when they may."""
        return self._settings.vault_refusal(self._names[project_id], vault, projects=self._tenants.number)

    @property
    def projects_with_keys(self) -> int:
        """How many projects can rent browsers now."""
        return self._tenants.number

    async def check_alone(self, sharing_refusal: str) -> None:
        """Refuse an order where the browsers of several projects would run beside each other, and may not.

        Asked for each order: another server may have made a key of a second project.

        Args:
            sharing_refusal: Why only one project may use this server; empty when several may.

        Raises:
            AccountRefused: Several projects have keys.
        """
        if not sharing_refusal:
            return
        if not self._store.one_writer:
            await self._count_projects()
        if self._tenants.number > 1:
            raise AccountRefused(503, f"several projects have keys, and {sharing_refusal}")

    @property
    def network_rules(self) -> Rules:
        """The rules for browsers that start from now on: projects are kept from each other, and from this machine."""
        return self._settings.network_rules(self._tenants.number)

    def _learn(self, overview: ProjectOverview) -> None:
        project = overview.project
        self._names[project.id] = project.name
        plan: Plan = self._settings.plan_of(project.name)
        if project.plan is not None:
            plan = "free" if project.plan == "free" else "paid"
        self._terms[project.id] = plan, project.max_browsers or self._settings.max_browsers

    # --- keys -----------------------------------------------------------------------------------------------------

    async def list_keys(self) -> admin.Keys:
        """Return every key, oldest first."""
        await self._flush()
        return admin.Keys(items=[_key(key, project) for key, project in await self._store.keys()])

    async def create_key(self, body: admin.CreateKeyRequest, *, sharing_refusal: str = "") -> admin.NewKey:
        """Create a key.

        Args:
            sharing_refusal: Why only one project may have keys; empty when several may.

        Raises:
            AccountRefused: There is no such project, or it would be a second one with keys.
        """
        if body.project not in {each.project.name for each in await self._store.projects()}:
            raise AccountRefused(404, "Project not found")
        holders = {project for key, project in await self._store.keys() if key.revoked_at is None}
        if sharing_refusal and holders - {body.project}:
            raise AccountRefused(409, f"another project has keys, and {sharing_refusal}")
        made = new_key()
        row = await self._store.add_key(
            made, project=body.project, now=self._wall(), name=body.name, admin=body.admin
        )
        await self._count_projects()
        audit.info(
            "key %s was made: project %r, name %r, admin %s", row.id, body.project, body.name, body.admin
        )
        return admin.NewKey(**_key(row, body.project).model_dump(), key=made)

    async def revoke_key(
        self,
        key_id: UUID,
        *,
        all_browsers: bool = False,
        stop: Callable[[UUID, UUID], Awaitable[object]] | None = None,
    ) -> admin.RevokedKey:
        """Revoke a key and stop what was rented with it; answered when that has ended. May be repeated.

        Args:
            key_id: Of the key.
            all_browsers: Stop every browser of its project: a client that had the key may know their addresses.
            stop: Stops a browser, by project and id; None when no server runs, so that no browser does.

        Raises:
            AccountRefused: There is no such key.
        """
        found = await self._store.revoke_key(key_id, all_browsers=all_browsers, now=self._wall())
        self._identities = {}
        if found is None:
            raise AccountRefused(404, "Key not found")
        key, browsers = found
        audit.info(
            "key %s was revoked; browsers to stop: %s", key.id, ", ".join(map(str, browsers)) or "none"
        )
        if stop is not None:
            await asyncio.gather(*(stop(key.project_id, browser) for browser in browsers))
        await self._count_projects()
        names = await self._store.project_names()
        view = _key(key, names[key.project_id])
        return admin.RevokedKey(**view.model_dump(), stopped_browsers=list(browsers))

    # --- projects -------------------------------------------------------------------------------------------------

    async def list_projects(self) -> admin.Projects:
        """Return every project, by name."""
        await self._flush()
        keys: dict[UUID, list[ApiKey]] = {}
        for key, _ in await self._store.keys():
            keys.setdefault(key.project_id, []).append(key)
        found = await self._store.projects()
        return admin.Projects(items=[self._project(each, keys.get(each.project.id, ())) for each in found])

    async def create_project(self, body: admin.CreateProjectRequest) -> admin.Project:
        """Create a project with its first credits.

        Raises:
            AccountRefused: There is one of this name.
        """
        credits_usd = self._settings.first_credits if body.credits_usd is None else body.credits_usd
        project = await self._store.create_project(
            body.name,
            plan=body.plan,
            max_browsers=body.max_browsers,
            credits=credits_usd,
            now=self._wall(),
            **({} if body.credits_usd is None else {"entry": "first credits"}),
        )
        if project is None:
            raise AccountRefused(409, f"there is a project {body.name!r} already")
        audit.info("project %s %r was made with %s USD", project.id, body.name, credits_usd)
        return await self._found(project.id)

    async def change_project(self, project_id: UUID, body: admin.ChangeProjectRequest) -> admin.Project:
        """Another plan or limit, for what is created from now on.

        Raises:
            AccountRefused: There is no such project.
        """
        values: Mapping[str, Any] = body.model_dump(exclude_unset=True)
        if await self._store.change_project(project_id, values) is None:
            raise AccountRefused(404, "Project not found")
        audit.info("project %s was changed: %s", project_id, ", ".join(f"{k}={v}" for k, v in values.items()))
        return await self._found(project_id)

    async def grant_credits(self, project_id: UUID, body: admin.GrantRequest) -> admin.Credits:
        """Add credits: one more entry of the ledger.

        Raises:
            AccountRefused: There is no such project.
        """
        if project_id not in await self._store.project_names():
            raise AccountRefused(404, "Project not found")
        balance = await self._store.grant(project_id, body.amount_usd, entry=body.note, now=self._wall())
        audit.info("project %s was granted %s USD: %r", project_id, body.amount_usd, body.note)
        return admin.Credits(project_id=project_id, amount_usd=Decimal(body.amount_usd), balance_usd=balance)

    async def _found(self, project_id: UUID) -> admin.Project:
        [overview] = [each for each in await self._store.projects() if each.project.id == project_id]
        self._learn(overview)
        keys = [key for key, _ in await self._store.keys() if key.project_id == project_id]
        return self._project(overview, keys)

    def _project(self, overview: ProjectOverview, keys: Sequence[ApiKey]) -> admin.Project:
        self._learn(overview)
        project = overview.project
        used = [key.last_used_at for key in keys if key.last_used_at is not None]
        return admin.Project(
            id=project.id,
            name=project.name,
            plan=self.plan(project.id),
            max_browsers=self.limit(project.id),
            balance_usd=overview.balance,
            active_browsers=overview.active,
            keys=sum(key.revoked_at is None for key in keys),
            created_at=project.created_at,
            last_used_at=max(used, default=None),
        )


def _key(key: ApiKey, project: str) -> admin.Key:
    return admin.Key(
        id=key.id,
        project_id=key.project_id,
        project=project,
        name=key.name,
        hint=key.hint,
        admin=key.admin,
        configured=key.configured,
        created_at=key.created_at,
        last_used_at=key.last_used_at,
        revoked_at=key.revoked_at,
    )
