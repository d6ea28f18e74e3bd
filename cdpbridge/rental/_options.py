"""What to rent, and how: `RentalOptions` as a caller writes it, `CheckedOptions` once it is checked."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict
from uuid import UUID

from cdpbridge._durations import paid_minutes, waiting_time
from cdpbridge._environment import check_variables
from cdpbridge.api._place import place_name
from cdpbridge.api._server_default import ServerDefault, server_default
from cdpbridge.billing import Tariff
from cdpbridge.errors import ConfigurationError
from cdpbridge.providers import provider as client_of

from ._budget import Budget
from .journal import Journal, journal_at

# Models are imported while a server starts, or starts a browser.
if TYPE_CHECKING:
    from cdpbridge.api import AsyncClient, Profile
    from cdpbridge.browser import Browser
    from cdpbridge.cdp._connection import HandlerErrorHook
    from cdpbridge.cdp._http_credentials import HttpCredentials

__all__ = ["CheckedOptions", "Renew", "RentalOptions", "check", "tell_where"]

_CONNECT_TIMEOUT: Final = timedelta(seconds=30)
_STOP_TIMEOUT: Final = timedelta(seconds=30)
_EXPIRING_BEFORE: Final = timedelta(seconds=60)
_REAP: Final = "CDPBRIDGE_REAP"
_YES_OR_NO: Final = {
    **dict.fromkeys(("", "0", "no", "false", "off"), False),
    **dict.fromkeys(("1", "yes", "true", "on"), True),
}

Renew = bool | Callable[["Browser"], Awaitable[object]]
"""False, True, or a coroutine function to call with the `Browser` after each renewal."""


class RentalOptions(TypedDict, total=False):
    """The keyword arguments of `open_browser`, which describes them.

    `BrowserPool`, `cdpbridge.sync.open_browser`, the pytest plugin and the integrations take them under the same names.
    """

    profile: str | UUID | Profile | None
    proxy_country: str | ServerDefault | None
    timeout: timedelta | None
    tariff: Tariff | None
    connect_timeout: float | timedelta
    stop_timeout: float | timedelta
    on_progress: Callable[[str], object] | None
    on_handler_error: HandlerErrorHook | None
    recording: bool
    allowed_hosts: Sequence[str] | None
    denied_hosts: Sequence[str] | None
    label: str | None
    budget: Budget | Sequence[Budget]
    slot_timeout: float | timedelta
    expiring_before: float | timedelta
    renew: Renew
    reap: bool | None
    journal: Journal | Path | str | None
    http_credentials: (
        HttpCredentials | Mapping[str, str] | Iterable[HttpCredentials | Mapping[str, str]] | None
    )


@dataclass(frozen=True, slots=True)
class CheckedOptions:
    """`RentalOptions` with a client, every value checked and every default filled in.

    Attributes:
        client: Where to rent.
        tariff: The caller's price rule; None for the server's.
        budgets: The caller's, and the one of the environment.
        reap: True to stop first what killed programs have left.
        http_credentials: Each with its origin.
    """

    client: AsyncClient
    profile: str | UUID | Profile | None
    proxy_country: str | ServerDefault | None
    timeout: timedelta | None
    tariff: Tariff | None
    connect_timeout: timedelta
    stop_timeout: timedelta
    on_progress: Callable[[str], object]
    on_handler_error: HandlerErrorHook | None
    recording: bool
    label: str | None
    budgets: tuple[Budget, ...]
    slot_timeout: timedelta
    expiring_before: timedelta
    renew: Renew
    reap: bool
    journal: Journal
    http_credentials: tuple[HttpCredentials, ...] = ()
    allowed_hosts: tuple[str, ...] | None = None
    denied_hosts: tuple[str, ...] | None = None


def check(provider: AsyncClient | str | None, options: RentalOptions) -> CheckedOptions:
    """Check every option; rent nothing and send nothing.

    Raises:
        ConfigurationError: A value is out of range, or the environment contradicts it.
        TypeError: There is no such option.
    """
    unknown = options.keys() - RentalOptions.__annotations__.keys()
    if unknown:
        wrong = min(unknown)
        close = get_close_matches(wrong, RentalOptions.__annotations__, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise TypeError(f"a rental has no option {wrong!r}{hint}")
    timeout = options.get("timeout")
    if timeout is not None:
        paid_minutes("timeout", timeout)
    budget = options.get("budget", ())
    budgets = _budgets(budget)
    check_variables(os.environ)  # a budget with a typo would be none
    machine = Budget.of_environment(os.environ)
    reap = options.get("reap")
    return CheckedOptions(
        client=client_of(provider),
        profile=options.get("profile"),
        proxy_country=options.get("proxy_country", server_default),
        timeout=timeout,
        tariff=options.get("tariff"),
        connect_timeout=waiting_time("connect_timeout", options.get("connect_timeout", _CONNECT_TIMEOUT)),
        stop_timeout=waiting_time("stop_timeout", options.get("stop_timeout", _STOP_TIMEOUT)),
        on_progress=options.get("on_progress") or (lambda _text: None),
        on_handler_error=options.get("on_handler_error"),
        recording=options.get("recording", False),
        label=options.get("label"),
        budgets=(*budgets, *([] if machine is None else [machine])),
        slot_timeout=waiting_time("slot_timeout", options.get("slot_timeout", timedelta(0)), zero=True),
        expiring_before=waiting_time(
            "expiring_before", options.get("expiring_before", _EXPIRING_BEFORE), zero=True
        ),
        renew=options.get("renew", False),
        reap=_reap_by_environment() if reap is None else reap,
        journal=journal_at(options.get("journal")),
        http_credentials=_credentials(options.get("http_credentials")),
        allowed_hosts=_hosts("allowed_hosts", options.get("allowed_hosts")),
        denied_hosts=_hosts("denied_hosts", options.get("denied_hosts")),
    )


def _hosts(name: str, given: Sequence[str] | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    from cdpbridge.api.calls._base import checked_hosts  # noqa: PLC0415  # most browsers may reach every host

    return tuple(checked_hosts(name, given) or ())


def _budgets(given: object) -> list[Budget]:
    """Return one budget or several as a list. A number is refused: which unit is meant?"""
    budgets: list[Any] = list(given) if isinstance(given, Iterable) else [given]
    for each in budgets:
        if not isinstance(each, Budget):
            raise ConfigurationError(
                f'budget must be a Budget, e.g. Budget(usd="5.00"), or several, not {each!r}'
            )
    return budgets


def _reap_by_environment() -> bool:
    given = os.environ.get(_REAP, "")
    if given.lower() not in _YES_OR_NO:
        raise ConfigurationError(f"{_REAP} must be 1 or 0, not {given!r}")
    return _YES_OR_NO[given.lower()]


def _credentials(given: Any) -> tuple[HttpCredentials, ...]:
    if given is None:
        return ()
    from cdpbridge.cdp._http_credentials import checked_credentials_list  # noqa: PLC0415  # most browsers have none

    return checked_credentials_list(given)


def tell_where(options: CheckedOptions) -> None:
    """Report which server will be asked, before anything else is done."""
    client = options.client
    reaching = f"reaching {place_name(client.place)}"
    options.on_progress("starting browsers on this machine" if client.is_local else reaching)
