"""The tables."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    DDL,
    JSON,
    BigInteger,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    MetaData,
    String,
    UniqueConstraint,
    Uuid,
    event,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from cdpbridge._lifecycle import EndReason, State
from cdpbridge.billing import Tariff
from cdpbridge.server.tasks._task_states import WORKING, TaskEnd

from ._column_types import Instant, LongUnicode, RowNumber, Unicode
from ._money import from_micro_usd
from ._recording_states import RecordingState

__all__ = [
    "HOLDS_SLOT",
    "NOT_STOPPED",
    "OVER",
    "ApiKey",
    "Base",
    "Browser",
    "EngineRow",
    "IdempotencyKey",
    "LedgerEntry",
    "Profile",
    "Project",
    "Server",
    "SignIn",
    "Waiter",
    "Worker",
    "not_rented_with",
]

HOLDS_SLOT: Final = (State.STARTING, State.ACTIVE)
OVER: Final = (State.STOPPING, State.STOPPED)
NOT_STOPPED: Final = (State.STARTING, State.ACTIVE, State.STOPPING)


class Base(DeclarativeBase):
    """All tables. Constraints have names, so that migrations can change them on every database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Project(Base):
    """An account: its keys see its browsers and profiles and no other project's. None in `plan` and `max_browsers`: the settings'."""

    __tablename__ = "projects"

    id: Mapped[UUID] = mapped_column(Uuid(), primary_key=True)
    name: Mapped[str] = mapped_column(Unicode(200), unique=True)
    created_at: Mapped[datetime] = mapped_column(Instant())
    plan: Mapped[str | None] = mapped_column(String(20))
    max_browsers: Mapped[int | None] = mapped_column()
    # The sum of its ledger: a trigger adds each entry, whichever version of the server books it. Never written here.
    balance_micro_usd: Mapped[int] = mapped_column(BigInteger(), default=0, server_default="0")


class Server(Base):
    """One start of a server that uses the database, until its end; `beats` moves while it lives.

    Or what such a server has handed over: browsers that run on workers, until others have taken them.
    """

    __tablename__ = "servers"

    id: Mapped[UUID] = mapped_column(Uuid(), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    beats: Mapped[int] = mapped_column(BigInteger())
    # By its own monotonic clock, at its last beat: how long its browsers have been known to live needs no other clock.
    uptime_ms: Mapped[int] = mapped_column(BigInteger())
    joined_at: Mapped[datetime] = mapped_column(Instant())
    # When that was, by the database's clock; None before the first beat.
    beaten_at: Mapped[datetime | None] = mapped_column(Instant())
    # Its browsers are to be taken over at once.
    leaving: Mapped[bool] = mapped_column(default=False, server_default=false())


class Worker(Base):
    """One start of a worker, which runs browsers for all servers; `beats` moves while one of them hears from it.

    `running` counts the browsers that have a slot of it, until they are stopped, and `starting` those of them that still start.
    """

    __tablename__ = "workers"

    id: Mapped[UUID] = mapped_column(Uuid(), primary_key=True)
    name: Mapped[str] = mapped_column(Unicode(200))
    # host:port, where servers reach it.
    address: Mapped[str] = mapped_column(Unicode(300))
    # Version of the messages that it understands.
    protocol: Mapped[int] = mapped_column()
    slots: Mapped[int] = mapped_column()
    running: Mapped[int] = mapped_column()
    starting: Mapped[int] = mapped_column()
    # It gets no further browser.
    draining: Mapped[bool] = mapped_column()
    # 0: no server has heard from it yet.
    beats: Mapped[int] = mapped_column(BigInteger())
    joined_at: Mapped[datetime] = mapped_column(Instant())
    # Its port speaks TLS.
    tls: Mapped[bool] = mapped_column(default=False, server_default=false())
    # Why a server that has tried last does not reach it, and what to do; for people.
    problem: Mapped[str | None] = mapped_column(Unicode(1000))

    @property
    def accepting(self) -> bool:
        """True if it gets browsers while it has free slots."""
        return not self.draining and self.beats > 0

    @property
    def free(self) -> int:
        """Slots that an order can get."""
        return max(self.slots - self.running, 0) if self.accepting else 0


class EngineRow(Base):
    """What starts workers, e.g. Ray, and the one server that tells it how many; `beats` moves while that one lives.

    `generation` is the how many-th server it is. The report is for people, as `EngineReport` has it.
    """

    __tablename__ = "engines"

    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    # No foreign key: servers end.
    owner: Mapped[UUID | None] = mapped_column(Uuid())
    generation: Mapped[int] = mapped_column(BigInteger())
    beats: Mapped[int] = mapped_column(BigInteger())
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class Waiter(Base):
    """A browser that waits for a slot of a worker: it is given one in the order of `round`, then of `number`."""

    __tablename__ = "waiters"

    number: Mapped[int] = mapped_column(RowNumber, primary_key=True, autoincrement=True)
    # No foreign key: it goes with the browser's start, in the same transaction.
    browser_id: Mapped[UUID] = mapped_column(Uuid(), unique=True)
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    # Whose client waits. None: its server has ended, and it counts only for a repeat with its `Idempotency-Key`.
    server: Mapped[UUID | None] = mapped_column(Uuid())
    key: Mapped[str | None] = mapped_column(String(255))
    # See `fair_round`.
    round: Mapped[int] = mapped_column(BigInteger())
    joined_at: Mapped[datetime] = mapped_column(Instant())


class Tables(Base):
    """One row: the oldest version of the tables whose servers may work with these."""

    __tablename__ = "tables"

    id: Mapped[int] = mapped_column(primary_key=True)
    oldest: Mapped[str] = mapped_column(String(32))


class ApiKey(Base):
    """A key, as its SHA-256: a key has enough entropy of its own to need no salt. A revoked one stays, for the record."""

    __tablename__ = "api_keys"
    __table_args__ = (UniqueConstraint("id"),)

    id: Mapped[UUID] = mapped_column(Uuid())
    key_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"), index=True)
    configured: Mapped[bool] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(Instant())
    name: Mapped[str | None] = mapped_column(Unicode(100))
    # The beginning of a generated key, by which a person knows it.
    hint: Mapped[str | None] = mapped_column(String(20))
    # May use the operator's routes.
    admin: Mapped[bool] = mapped_column(default=False, server_default=false())
    last_used_at: Mapped[datetime | None] = mapped_column(Instant())
    revoked_at: Mapped[datetime | None] = mapped_column(Instant())
    # Of the embedded server whose programs have it: it ends with that server.
    server: Mapped[UUID | None] = mapped_column(Uuid())


class SignIn(Base):
    """A sign-in to the console. The secrets of the page and the key are not kept, only their digests."""

    __tablename__ = "sign_ins"
    __table_args__ = (Index(None, "until"),)

    token_digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    proof_digest: Mapped[str] = mapped_column(String(64))
    key_hash: Mapped[str] = mapped_column(String(64))
    until: Mapped[datetime] = mapped_column(Instant())


class Profile(Base):
    """Saved browser state; the state itself is in the profile store, under the same id.

    `version` counts the saves, and `archive` names the object that has the last one, without object storage none. The browser
    `writer` is the last that may save.
    """

    __tablename__ = "profiles"
    __table_args__ = (Index(None, "project_id", "created_at"),)

    id: Mapped[UUID] = mapped_column(Uuid(), primary_key=True)
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str | None] = mapped_column(Unicode(100))
    created_at: Mapped[datetime] = mapped_column(Instant())
    updated_at: Mapped[datetime] = mapped_column(Instant())
    last_used_at: Mapped[datetime | None] = mapped_column(Instant())
    cookie_domains: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    allowed_hosts: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    denied_hosts: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    version: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    archive: Mapped[str | None] = mapped_column(String(200))
    writer: Mapped[UUID | None] = mapped_column(Uuid())


class Browser(Base):
    """A rented browser, by itself or of an agent session. `started_at` plus the used time, not the wall clock, gives `last_seen_at` and `finished_at`."""

    __tablename__ = "browsers"
    __table_args__ = (
        Index(None, "project_id", "created_at"),
        Index(None, "state"),
        Index(None, "agent_session_id"),
        Index(None, "key_id"),
    )

    id: Mapped[UUID] = mapped_column(Uuid(), primary_key=True)
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    # No foreign key: a profile may be deleted, and the record of its browsers stays.
    profile_id: Mapped[UUID | None] = mapped_column(Uuid())
    profile_writable: Mapped[bool | None] = mapped_column()
    # By what its folders on the machine are named; None before it is active.
    place_id: Mapped[UUID | None] = mapped_column(Uuid())
    proxy_country: Mapped[str | None] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(20))
    end_reason: Mapped[str | None] = mapped_column(String(40))
    timeout_minutes: Mapped[int] = mapped_column()
    usd_per_hour: Mapped[str] = mapped_column(String(60))
    minimum_minutes: Mapped[int] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(Instant())
    started_at: Mapped[datetime | None] = mapped_column(Instant())
    last_seen_at: Mapped[datetime | None] = mapped_column(Instant())
    finished_at: Mapped[datetime | None] = mapped_column(Instant())
    charged_micro_usd: Mapped[int] = mapped_column(BigInteger())
    refunded_micro_usd: Mapped[int] = mapped_column(BigInteger())
    proxy_bytes: Mapped[int] = mapped_column(BigInteger())
    blocked_requests: Mapped[int | None] = mapped_column(BigInteger())
    # "metadata" in the API, a word that SQLAlchemy keeps for itself.
    labels: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    # No foreign key: a session may be deleted, and the record of its browser stays for the ledger.
    agent_session_id: Mapped[UUID | None] = mapped_column(Uuid())
    # A `RecordingState`; None when it is not recorded.
    recording: Mapped[str | None] = mapped_column(String(20))
    # The key that rented it. No foreign key: configured keys come and go with the configuration.
    key_id: Mapped[UUID | None] = mapped_column(Uuid())
    proxy_simulated: Mapped[bool | None] = mapped_column()
    ignored_fields: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    # Of the order; a profile's and the server's apply, too.
    allowed_hosts: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    denied_hosts: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    # [host, bytes sent, bytes received], the host null for all others; written at its end.
    host_traffic: Mapped[list[tuple[str | None, int, int]] | None] = mapped_column(JSON(none_as_null=True))
    # The server that may change it, and the how many-th it is; None of a version that knew one server. No foreign key: servers end.
    owner: Mapped[UUID | None] = mapped_column(Uuid())
    generation: Mapped[int] = mapped_column(default=0, server_default="0")
    # `Server.uptime_ms` of its owner when it started.
    started_uptime_ms: Mapped[int | None] = mapped_column(BigInteger())
    # Another server was asked to stop it; its owner does.
    stop_asked: Mapped[bool] = mapped_column(default=False, server_default=false())
    # True: another server has answered a repeated request with it. False: its owner takes it back, as no client has it.
    given_out: Mapped[bool | None] = mapped_column()
    # Of its files in object storage: their bytes, and whether the video is among them. None before they were moved there.
    kept_bytes: Mapped[int | None] = mapped_column(BigInteger())
    kept_video: Mapped[bool | None] = mapped_column()
    # The worker that runs it, or has run it; None for the server's own machine. No foreign key: workers end.
    worker: Mapped[UUID | None] = mapped_column(Uuid())

    @property
    def tariff(self) -> Tariff:
        """The price rule in force when it was created."""
        return Tariff(Decimal(self.usd_per_hour), self.minimum_minutes)

    @property
    def timeout(self) -> timedelta:
        return timedelta(minutes=self.timeout_minutes)

    @property
    def timeout_at(self) -> datetime:
        """When the server stops it."""
        return (self.started_at or self.created_at) + self.timeout

    @property
    def over(self) -> bool:
        return self.state in {State.STOPPING, State.STOPPED}

    @property
    def cost(self) -> Decimal:
        """USD charged less refunded, so far."""
        return from_micro_usd(self.charged_micro_usd - self.refunded_micro_usd)

    @property
    def refunded(self) -> Decimal:
        """USD given back at its end."""
        return from_micro_usd(self.refunded_micro_usd)

    @property
    def reason(self) -> EndReason | None:
        return EndReason(self.end_reason) if self.end_reason else None

    @property
    def recording_state(self) -> RecordingState | None:
        return RecordingState(self.recording) if self.recording else None


class LedgerEntry(Base):
    """Money that moved. Never changed, never deleted; the balance is the sum."""

    __tablename__ = "ledger"
    # A second booking of the same hour or refund is impossible, whatever races.
    __table_args__ = (UniqueConstraint("browser_id", "entry"), Index(None, "project_id"))

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True, autoincrement=True)
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    browser_id: Mapped[UUID | None] = mapped_column(ForeignKey("browsers.id"))
    kind: Mapped[str] = mapped_column(String(20))
    entry: Mapped[str] = mapped_column(Unicode(40))
    amount_micro_usd: Mapped[int] = mapped_column(BigInteger())
    created_at: Mapped[datetime] = mapped_column(Instant())


# In every migration that makes the table `ledger` again, the trigger must be made again, too.
event.listen(
    LedgerEntry.__table__,
    "after_create",
    DDL(  # type: ignore[no-untyped-call]
        "CREATE TRIGGER ledger_balance AFTER INSERT ON ledger BEGIN "
        "UPDATE projects SET balance_micro_usd = balance_micro_usd + NEW.amount_micro_usd WHERE id = NEW.project_id; END"
    ).execute_if(dialect="sqlite"),
)


class IdempotencyKey(Base):
    """Which browser a request with this `Idempotency-Key` made."""

    __tablename__ = "idempotency_keys"

    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body_hash: Mapped[str] = mapped_column(String(64))
    browser_id: Mapped[UUID] = mapped_column(ForeignKey("browsers.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(Instant())


class AgentSession(Base):
    """A session that runs tasks. Whether it is active, and until when, is what its browser says: nothing to keep in step."""

    __tablename__ = "agent_sessions"
    __table_args__ = (Index(None, "project_id", "created_at"), UniqueConstraint("browser_id"))

    id: Mapped[UUID] = mapped_column(Uuid(), primary_key=True)
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    browser_id: Mapped[UUID] = mapped_column(ForeignKey("browsers.id"))
    start_url: Mapped[str | None] = mapped_column(LongUnicode())
    keep_alive: Mapped[bool] = mapped_column()
    persist_memory: Mapped[bool] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(Instant())


_WORKING_SQL: Final = f"state IN ({', '.join(repr(str(state)) for state in WORKING)})"


def not_rented_with(keys: Collection[UUID]) -> ColumnElement[bool]:
    """Return the condition that a browser was rented with none of these keys."""
    return Browser.key_id.is_(None) | Browser.key_id.not_in(keys)


class Task(Base):
    """A task. Secrets are never in here, only the names of their placeholders."""

    __tablename__ = "tasks"
    __table_args__ = (
        Index(None, "project_id", "created_at"),
        Index(None, "session_id", "created_at"),
        # One agent at a time in a session, whatever races.
        Index(
            "uq_tasks_working_session_id",
            "session_id",
            unique=True,
            # PostgreSQL has it by the migrations alone: to name its dialect here would load it with every server.
            sqlite_where=text(_WORKING_SQL),
        ),
        UniqueConstraint("project_id", "idempotency_key"),
    )

    id: Mapped[UUID] = mapped_column(Uuid(), primary_key=True)
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    session_id: Mapped[UUID] = mapped_column(ForeignKey("agent_sessions.id", ondelete="CASCADE"))
    llm: Mapped[str] = mapped_column(Unicode(200))
    task: Mapped[str] = mapped_column(LongUnicode())
    labels: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    secret_names: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    state: Mapped[str] = mapped_column(String(20))
    end_reason: Mapped[str | None] = mapped_column(String(40))
    created_at: Mapped[datetime] = mapped_column(Instant())
    finished_at: Mapped[datetime | None] = mapped_column(Instant())
    output: Mapped[str | None] = mapped_column(LongUnicode())
    is_success: Mapped[bool | None] = mapped_column()
    # The fields of the agents' `Judgement`; None when no judge was asked.
    judgement: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    browser_use_version: Mapped[str | None] = mapped_column(String(40))
    log: Mapped[str | None] = mapped_column(LongUnicode())
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    body_hash: Mapped[str | None] = mapped_column(String(64))
    ignored_fields: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    # The server whose agent works on it.
    owner: Mapped[UUID | None] = mapped_column(Uuid())

    @property
    def working(self) -> bool:
        """True if its agent is not done yet."""
        return self.state in WORKING

    @property
    def end(self) -> TaskEnd | None:
        return TaskEnd(self.end_reason) if self.end_reason else None


class TaskStep(Base):
    """One step of a task's agent. The screenshot is a path in the file store."""

    __tablename__ = "task_steps"

    task_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    memory: Mapped[str] = mapped_column(LongUnicode())
    evaluation_previous_goal: Mapped[str] = mapped_column(LongUnicode())
    next_goal: Mapped[str] = mapped_column(LongUnicode())
    url: Mapped[str] = mapped_column(LongUnicode())
    actions: Mapped[list[str]] = mapped_column(JSON())
    screenshot: Mapped[str | None] = mapped_column(LongUnicode())
    duration_seconds: Mapped[float] = mapped_column(Float())


class TaskFile(Base):
    """A file that a task has written, as a path in the file store."""

    __tablename__ = "task_files"
    __table_args__ = (Index(None, "task_id"),)

    id: Mapped[UUID] = mapped_column(Uuid(), primary_key=True)
    task_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"))
    file_name: Mapped[str] = mapped_column(Unicode(255))
    path: Mapped[str] = mapped_column(LongUnicode())


class Share(Base):
    """A public view of an agent session."""

    __tablename__ = "shares"
    __table_args__ = (UniqueConstraint("session_id"),)

    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("agent_sessions.id", ondelete="CASCADE"))
    view_count: Mapped[int] = mapped_column(BigInteger())
    last_viewed_at: Mapped[datetime | None] = mapped_column(Instant())
    created_at: Mapped[datetime] = mapped_column(Instant())
