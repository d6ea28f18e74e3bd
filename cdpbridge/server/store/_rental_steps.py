"""The four transactions of each rental, as functions of a connection: it is reserved, activated, settled, finished.

Statements are made once, with parameters, because SQLAlchemy takes longer to make one than SQLite to execute it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import BindParameter, Connection, Table, bindparam, delete, func, insert, select, update

from cdpbridge import billing
from cdpbridge._lifecycle import EndReason, State
from cdpbridge.billing import Tariff

from ._database import BALANCE
from ._models import HOLDS_SLOT, AgentSession, ApiKey, Browser, IdempotencyKey, LedgerEntry, Profile
from ._money import TOP_UP, LedgerKind, from_micro_usd, to_micro_usd
from ._projects import OWN_CREDITS
from ._refusals import InsufficientCredits, KeyRevoked, KeyTaken, TooManyBrowsers
from ._slots import freed_on, started_on

__all__ = ["Owned", "Settlement", "activate", "charge_started_hours", "finish", "reserve", "settle"]

_BROWSERS: Final = cast("Table", Browser.__table__)
_KEYS: Final = cast("Table", IdempotencyKey.__table__)
_LEDGER: Final = cast("Table", LedgerEntry.__table__)
_OF: Final[BindParameter[Any]] = bindparam("of")

_STANDING: Final = select(
    func.count(),
    func.count().filter(_BROWSERS.c.state == State.STARTING),
    select(ApiKey.id).where(ApiKey.id == bindparam("key"), ApiKey.revoked_at.is_not(None)).exists(),
).where(_BROWSERS.c.project_id == _OF, _BROWSERS.c.state.in_(HOLDS_SLOT))
_TAKEN: Final = select(_KEYS.c.key).where(_KEYS.c.project_id == _OF, _KEYS.c.key == bindparam("key"))
_INSERT: Final = insert(_BROWSERS)
_BOOK: Final = insert(_LEDGER)
_OWNED: Final = select(_BROWSERS).where(_BROWSERS.c.id == _OF).with_for_update(key_share=True)


def _update(*names: str) -> Any:
    return update(_BROWSERS).where(_BROWSERS.c.id == _OF).values({name: bindparam(name) for name in names})


_ACTIVATE: Final = _update(
    "state",
    "profile_writable",
    "place_id",
    "started_at",
    "last_seen_at",
    "started_uptime_ms",
    "charged_micro_usd",
)
_CHARGED: Final = _update("last_seen_at", "charged_micro_usd")
_SETTLE: Final = _update(
    "state", "end_reason", "last_seen_at", "finished_at", "charged_micro_usd", "refunded_micro_usd"
)
_FINISH: Final = (
    _update("state", "proxy_bytes", "blocked_requests", "host_traffic")
    .where(
        _BROWSERS.c.owner == bindparam("its_owner"),
        _BROWSERS.c.generation == bindparam("its_generation"),
        _BROWSERS.c.state == State.STOPPING,
    )
    .returning(_BROWSERS)
)


@dataclass(frozen=True, slots=True)
class Settlement:
    """The amounts booked at the end of a browser, in USD; once per browser."""

    charged: Decimal
    refunded: Decimal


@dataclass(frozen=True, slots=True)
class Owned:
    """A browser, and the server that may change it.

    Attributes:
        server: As `Database.server_id`.
        generation: As it was reserved or taken over.
    """

    browser_id: UUID
    server: UUID
    generation: int


def reserve(
    connection: Connection,
    browser: Mapping[str, Any],
    *,
    tariff: Tariff,
    limit: int,
    top_up: Decimal | None,
    agent_session: Mapping[str, Any] | None,
    idempotency: Mapping[str, Any] | None,
    others: bool,
    forget_before: datetime | None,
) -> None:
    """Insert a browser that starts; see `Browsers.reserve`.

    Args:
        browser: Its columns.
        agent_session: Columns of the one that is made with it.
        idempotency: Columns of its key.
        others: Other servers use the database: the key may be one of theirs.
        forget_before: Keys that are older are deleted; None to look at none.
    """
    project_id: UUID = browser["project_id"]
    now: datetime = browser["created_at"]
    balance: int = connection.execute(BALANCE, {"of": project_id}).scalar_one()
    active, starting, revoked = connection.execute(
        _STANDING, {"of": project_id, "key": browser["key_id"]}
    ).one()
    if revoked:
        raise KeyRevoked("the API key was revoked")
    if idempotency is not None and others:
        taken = connection.execute(_TAKEN, {"of": project_id, "key": idempotency["key"]})
        if taken.one_or_none() is not None:
            raise KeyTaken("another server has begun the browser of this Idempotency-Key")
    if active >= limit:
        raise TooManyBrowsers(limit)
    price = to_micro_usd(billing.charge(tariff, timedelta(0)))
    missing = price * (starting + 1) - balance
    if price and missing > 0:
        given = connection.execute(OWN_CREDITS, {"of": project_id}).one_or_none()
        if not top_up or given is not None:
            raise InsufficientCredits("the credits do not pay for another hour")
        amount = to_micro_usd(top_up) * -(-missing // to_micro_usd(top_up))
        _book(connection, LedgerKind.GRANT, TOP_UP, amount, project_id=project_id, created_at=now)
    connection.execute(_INSERT, browser)
    if agent_session is not None:
        connection.execute(insert(AgentSession), agent_session)
    if forget_before is not None:
        connection.execute(delete(_KEYS).where(_KEYS.c.created_at < forget_before))
    if idempotency is not None:
        connection.execute(insert(_KEYS), idempotency)


def activate(
    connection: Connection,
    owned: Owned,
    *,
    started_at: datetime,
    profile_writable: bool | None,
    place_id: UUID | None,
    uptime: timedelta,
) -> Browser | None:
    """Move a browser from starting to active and charge its first hour; see `Browsers.activate`."""
    row = _owned(connection, owned, State.STARTING)
    if row is None:
        return None
    if row["profile_id"] is not None:
        profile = update(Profile).where(Profile.id == row["profile_id"])
        connection.execute(profile.values(last_used_at=started_at))
        if profile_writable:
            runs = select(Browser.id).where(Browser.state != State.STOPPED)
            free = Profile.writer.is_(None) | Profile.writer.not_in(runs)
            lease = profile.where(free).values(writer=owned.browser_id)
            profile_writable = bool(connection.execute(lease).rowcount)
    values = {
        "state": State.ACTIVE,
        "profile_writable": profile_writable,
        "place_id": place_id,
        "started_at": started_at,
        "last_seen_at": started_at,
        "started_uptime_ms": uptime // timedelta(milliseconds=1),
        "charged_micro_usd": _charge(connection, row, timedelta(0), started_at),
    }
    connection.execute(_ACTIVATE, {"of": owned.browser_id, **values})
    if row["worker"] is not None:
        connection.execute(started_on(row["worker"]))
    return Browser(**row | values)


def charge_started_hours(connection: Connection, owned: Owned, *, used: timedelta, now: datetime) -> None:
    """Book the hours that have started after `used`; see `Browsers.charge_started_hours`."""
    row = _owned(connection, owned, State.ACTIVE)
    if row is None or row["started_at"] is None:
        return
    charged = _charge(connection, row, used, now)
    # What is charged was seen.
    seen = row["started_at"] + used
    connection.execute(_CHARGED, {"of": owned.browser_id, "last_seen_at": seen, "charged_micro_usd": charged})


def settle(
    connection: Connection,
    owned: Owned,
    *,
    reason: EndReason,
    used: timedelta,
    now: datetime,
    discarded: bool,
) -> Settlement | None:
    """Move a browser from active to stopping; book its last charge and its refund; see `Browsers.settle`."""
    row = _owned(connection, owned, State.ACTIVE)
    if row is None:
        return None
    ended = row["started_at"] + used
    charged = _charge(connection, row, used, now)
    if row["given_out"]:  # by another server: a client has it after all
        discarded = False
    if discarded:  # a client that asks again shall get one that runs
        connection.execute(delete(_KEYS).where(_KEYS.c.browser_id == owned.browser_id))
    # Not `billing.refund`: an hour may be booked that a killed server did not live to see used.
    unused = charged - to_micro_usd(billing.cost(_tariff(row), used))
    refunded = charged if discarded else unused
    if refunded:
        _book(connection, LedgerKind.REFUND, "refund", refunded, **_its(row), created_at=now)
    connection.execute(
        _SETTLE,
        {
            "of": owned.browser_id,
            "state": State.STOPPING,
            "end_reason": reason,
            "last_seen_at": ended,
            "finished_at": ended,
            "charged_micro_usd": charged,
            "refunded_micro_usd": refunded or row["refunded_micro_usd"],
        },
    )
    return Settlement(from_micro_usd(charged), from_micro_usd(refunded))


def finish(
    connection: Connection,
    owned: Owned,
    *,
    proxy_bytes: int,
    blocked_requests: int | None,
    host_traffic: Sequence[tuple[str | None, int, int]] | None,
) -> tuple[Browser | None, bool]:
    """Move a browser from stopping to stopped, see `Browsers.finish`; also return True if another one waits for its slot."""
    values = {
        "state": State.STOPPED,
        "proxy_bytes": proxy_bytes,
        "blocked_requests": blocked_requests,
        "host_traffic": None if host_traffic is None else list(host_traffic),
    }
    its = {"of": owned.browser_id, "its_owner": owned.server, "its_generation": owned.generation}
    row = connection.execute(_FINISH, its | values).mappings().one_or_none()
    if row is None:
        return None, False
    wanted = False
    if row["worker"] is not None:
        wanted = bool(connection.execute(freed_on(row["worker"], starting=False)).scalar())
    return Browser(**row), wanted


def _owned(connection: Connection, owned: Owned, state: State) -> dict[str, Any] | None:
    """Return a browser for a change, if it is in that state, and the server's."""
    row = connection.execute(_OWNED, {"of": owned.browser_id}).mappings().one_or_none()
    if row is None or (row["owner"], row["generation"], row["state"]) != (
        owned.server,
        owned.generation,
        state,
    ):
        return None
    return dict(row)


def _its(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"project_id": row["project_id"], "browser_id": row["id"]}


def _tariff(row: Mapping[str, Any]) -> Tariff:
    return Tariff(Decimal(row["usd_per_hour"]), row["minimum_minutes"])


def _charge(connection: Connection, row: Mapping[str, Any], used: timedelta, now: datetime) -> int:
    """Book what is charged of a browser and not booked yet; return all of it."""
    tariff, before = _tariff(row), int(row["charged_micro_usd"])
    total = to_micro_usd(billing.charge(tariff, used))
    if total <= before:
        return before
    hours = -(-billing.billed_minutes(tariff, used) // 60)
    _book(
        connection,
        LedgerKind.CHARGE,
        f"hour {hours}",
        before - total,
        **_its(row),
        created_at=now,
    )
    return total


def _book(connection: Connection, kind: LedgerKind, entry: str, amount: int, **its: Any) -> None:
    """Book an amount in millionths of a USD; `its` are the other columns of the entry."""
    values = {"browser_id": None, "kind": kind, "entry": entry, "amount_micro_usd": amount}
    connection.execute(_BOOK, values | its)
