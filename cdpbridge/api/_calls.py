"""Each REST operation as a value. Pure: builds paths, bodies and units, sends nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Any, Final, Generic, Literal, TypeVar
from uuid import UUID

from cdpbridge.errors import ConfigurationError

from ._models import Account, BrowserSession, Page, Profile

__all__ = [
    "Call",
    "ServerChoice",
    "create_browser",
    "create_profile",
    "delete_profile",
    "get_account",
    "get_browser",
    "get_profile",
    "list_browsers",
    "list_profiles",
    "server_default",
    "stop_browser",
    "update_profile",
]

T = TypeVar("T")

MAX_PAGE_SIZE: Final = 100  # REST reference, "List Browser Sessions"
_MIN_MINUTES: Final = 1
_MAX_MINUTES: Final = 240  # REST reference, "Create Browser Session", section Session Limits
_MINUTE: Final = timedelta(minutes=1)
# What a header carries unchanged, and as much of it as the embedded server takes.
_IDEMPOTENCY_KEY: Final = re.compile(r"[!-~]{1,255}")


class ServerChoice(Enum):
    """The type of `server_default`."""

    SERVER_DEFAULT = "server_default"

    def __repr__(self) -> str:
        return "server_default"


server_default: Final = ServerChoice.SERVER_DEFAULT
"""As an argument: left out of the request, so that the server chooses. None is an answer of its own."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One REST request.

    Attributes:
        method: HTTP method.
        path: Below the base URL.
        answer: Class of the answer; None when there is no body.
        query: Parameters of the address.
        body: JSON object, None without a body.
        headers: Besides those of every request.
        repeatable: Whether doing it twice is the same as once.
        slow: Whether the server may take its time: it starts or stops a browser before it answers.
    """

    method: Literal["DELETE", "GET", "PATCH", "POST"]
    path: str
    answer: type[T] | None
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    slow: bool = False


# --- billing ----------------------------------------------------------------------------------------------------------


def get_account() -> Call[Account]:
    return Call("GET", "/billing/account", Account)


# --- profiles ---------------------------------------------------------------------------------------------------------


def list_profiles(*, page_number: int = 1, page_size: int = MAX_PAGE_SIZE) -> Call[Page[Profile]]:
    return Call("GET", "/profiles", Page[Profile], query=_paging(page_number, page_size))


def create_profile(*, name: str | None = None) -> Call[Profile]:
    return Call("POST", "/profiles", Profile, body=_without_none(name=name), repeatable=False)


def get_profile(profile_id: UUID | str) -> Call[Profile]:
    return Call("GET", f"/profiles/{_id(profile_id)}", Profile)


def update_profile(profile_id: UUID | str, *, name: str | None) -> Call[Profile]:
    return Call("PATCH", f"/profiles/{_id(profile_id)}", Profile, body={"name": name})


def delete_profile(profile_id: UUID | str) -> Call[None]:
    return Call("DELETE", f"/profiles/{_id(profile_id)}", None)


# --- browsers ---------------------------------------------------------------------------------------------------------


def list_browsers(
    *, status: str | None = None, page_number: int = 1, page_size: int = MAX_PAGE_SIZE
) -> Call[Page[BrowserSession]]:
    query = _paging(page_number, page_size) | ({} if status is None else {"filterBy": status})
    return Call("GET", "/browsers", Page[BrowserSession], query=query)


def create_browser(
    *,
    profile_id: UUID | str | None = None,
    proxy_country: str | ServerChoice | None = server_default,
    timeout: timedelta | None = None,
    idempotency_key: str | None = None,
) -> Call[BrowserSession]:
    """`POST /browsers`; what is not given is left to the server.

    Raises:
        ConfigurationError: `timeout` is not 1 to 240 whole minutes, or an id or country is malformed.
    """
    body: dict[str, Any] = {}
    if profile_id is not None:
        body["profileId"] = _id(profile_id)
    if not isinstance(proxy_country, ServerChoice):
        body["proxyCountryCode"] = None if proxy_country is None else country_code(proxy_country)
    if timeout is not None:
        body["timeout"] = timeout_minutes(timeout)
    headers = {} if idempotency_key is None else {"Idempotency-Key": _checked_key(idempotency_key)}
    return Call("POST", "/browsers", BrowserSession, body=body, headers=headers, repeatable=False, slow=True)


def get_browser(browser_id: UUID | str) -> Call[BrowserSession]:
    return Call("GET", f"/browsers/{_id(browser_id)}", BrowserSession)


def stop_browser(browser_id: UUID | str) -> Call[BrowserSession]:
    return Call("PATCH", f"/browsers/{_id(browser_id)}", BrowserSession, body={"action": "stop"}, slow=True)


# --- units ------------------------------------------------------------------------------------------------------------


def timeout_minutes(timeout: timedelta) -> int:
    """A browser's timeout in the API's unit.

    Raises:
        ConfigurationError: It is not whole minutes, or not 1 to 240 of them.
    """
    if not isinstance(timeout, timedelta):
        raise ConfigurationError(f"timeout must be a timedelta, e.g. timedelta(minutes=5), not {timeout!r}")
    minutes, rest = divmod(timeout, _MINUTE)
    if rest:
        raise ConfigurationError(
            f"timeout must be whole minutes, as the API counts; {timeout} is not: use timedelta(minutes={minutes + 1})"
        )
    if not _MIN_MINUTES <= minutes <= _MAX_MINUTES:
        raise ConfigurationError(f"timeout must be {_MIN_MINUTES} to {_MAX_MINUTES} minutes, not {minutes}")
    return minutes


def country_code(country: str) -> str:
    """A country as the API spells it: two lower-case letters, and `uk` for the ISO code `gb`.

    Raises:
        ConfigurationError: It is not two letters.
    """
    code = str(country).strip().lower()
    if len(code) != 2 or not code.isascii() or not code.isalpha():
        raise ConfigurationError(f"proxy_country must be two letters, e.g. 'de', not {country!r}")
    return "uk" if code == "gb" else code


def _id(value: UUID | str) -> str:
    if isinstance(value, UUID):
        return str(value)
    try:
        return str(UUID(value))
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{value!r} is no id; ids look like {UUID(int=0)}") from error


def _checked_key(idempotency_key: str) -> str:
    if not _IDEMPOTENCY_KEY.fullmatch(idempotency_key):
        raise ConfigurationError("idempotency_key must be 1 to 255 visible ASCII characters without spaces")
    return idempotency_key


def _paging(page_number: int, page_size: int) -> dict[str, str]:
    if page_number < 1:
        raise ConfigurationError(f"page_number must be 1 or more, not {page_number}")
    if not 1 <= page_size <= MAX_PAGE_SIZE:
        raise ConfigurationError(f"page_size must be 1 to {MAX_PAGE_SIZE}, not {page_size}")
    return {"pageNumber": str(page_number), "pageSize": str(page_size)}


def _without_none(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
