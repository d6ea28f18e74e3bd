"""A REST call as a value, and the API's units. Pure: builds paths, bodies and units, sends nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from cdpbridge._durations import paid_minutes
from cdpbridge.api._models import MAX_METADATA_BYTES, country_spelling, metadata_bytes
from cdpbridge.api._server_default import ServerDefault, server_default
from cdpbridge.errors import ConfigurationError

__all__ = [
    "IDEMPOTENCY_HEADER",
    "MAX_PAGE_SIZE",
    "Call",
    "ServerDefault",
    "checked_hosts",
    "checked_metadata",
    "country_code",
    "country_field",
    "id_text",
    "idempotency",
    "instant_text",
    "paging",
    "server_default",
    "timeout_minutes",
    "without_none",
]

T = TypeVar("T")

MAX_PAGE_SIZE: Final = 100  # REST reference, "List Browser Sessions"
IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
# What a header carries unchanged, and as much of it as the embedded server takes.
_IDEMPOTENCY_KEY: Final = re.compile(r"[!-~]{1,255}")


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
        repeatable: True if sending it twice has the same effect as once.
        slow: True if the server starts or stops a browser before it answers.
    """

    method: Literal["DELETE", "GET", "PATCH", "POST"]
    path: str
    answer: type[T] | None
    query: Mapping[str, str | list[str]] = field(default_factory=dict)
    body: Mapping[str, Any] | None = field(default=None, repr=False)  # passwords of proxies and pages
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    slow: bool = False


# --- units ------------------------------------------------------------------------------------------------------------


def timeout_minutes(timeout: timedelta) -> int:
    """Return a browser's timeout in the API's unit.

    Raises:
        ConfigurationError: It is no timedelta, not whole minutes, or not 1 to 240 of them.
    """
    return paid_minutes("timeout", timeout)


def country_code(country: str) -> str:
    """Return a country as the API spells it: two lower-case letters, and `uk` for the ISO code `gb`.

    Raises:
        ConfigurationError: It is not two letters.
    """
    code = country_spelling(str(country))
    if len(code) != 2 or not code.isascii() or not code.isalpha():
        raise ConfigurationError(f"proxy_country must be two letters, e.g. 'de', not {country!r}")
    return code


def id_text(value: UUID | str) -> str:
    """Return an id as it stands in a path or a body.

    Raises:
        ConfigurationError: It is no id.
    """
    if isinstance(value, UUID):
        return str(value)
    try:
        return str(UUID(value))
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{value!r} is no id; ids look like {UUID(int=0)}") from error


def instant_text(name: str, value: datetime) -> str:
    """Return an instant as it stands in an address.

    Raises:
        ConfigurationError: It has no time zone, so the instant is not known.
    """
    if value.tzinfo is None:
        raise ConfigurationError(f"{name} must have a time zone, e.g. datetime.now(UTC), not {value!r}")
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def idempotency(key: str | None) -> dict[str, str]:
    """Return the header that makes two requests one, on servers that honour it."""
    if key is None:
        return {}
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise ConfigurationError("idempotency_key must be 1 to 255 visible ASCII characters without spaces")
    return {IDEMPOTENCY_HEADER: key}


def checked_metadata(metadata: Mapping[str, str] | None) -> dict[str, str] | None:
    """Check labels of a browser or a task, and return them.

    Raises:
        ConfigurationError: They are more than the API takes, or not text.
    """
    if metadata is None:
        return None
    for name, value in metadata.items():
        if type(value) is not str:
            raise ConfigurationError(f"metadata must be text, not {name!r}: {type(value).__name__}")
    size = metadata_bytes(dict(metadata))
    if size > MAX_METADATA_BYTES:
        raise ConfigurationError(
            f"metadata may have {MAX_METADATA_BYTES} bytes as JSON, not {size}; keep the rest in a store of your own"
        )
    return dict(metadata)


def checked_hosts(name: str, hosts: Collection[str] | None) -> list[str] | None:
    """Check a list of patterns of hosts, and return it; what the patterns mean is the server's matter.

    Args:
        name: Of the argument.
        hosts: None for no such list.

    Raises:
        ConfigurationError: It is no list of texts.
    """
    if hosts is None:
        return None
    if isinstance(hosts, str) or not all(isinstance(each, str) for each in hosts):
        raise ConfigurationError(
            f'{name} is a list of hosts, e.g. ["example.com", "*.example.org"], not {hosts!r}'
        )
    return list(hosts)


def country_field(country: str | ServerDefault | None) -> dict[str, Any]:
    """Return the field `proxyCountryCode`: None for "no proxy", absent to leave it to the server."""
    if isinstance(country, ServerDefault):
        return {}
    return {"proxyCountryCode": None if country is None else country_code(country)}


def paging(page_number: int, page_size: int) -> dict[str, str]:
    """Return the query for a page of a list."""
    if page_number < 1:
        raise ConfigurationError(f"page_number must be 1 or more, not {page_number}")
    if not 1 <= page_size <= MAX_PAGE_SIZE:
        raise ConfigurationError(f"page_size must be 1 to {MAX_PAGE_SIZE}, not {page_size}")
    return {"pageNumber": str(page_number), "pageSize": str(page_size)}


def without_none(**fields: Any) -> dict[str, Any]:
    """Return what is not None by the API's names, models as their JSON objects."""
    return {
        to_camel(name): value.model_dump(mode="json", by_alias=True, exclude_none=True)
        if isinstance(value, BaseModel)
        else value
        for name, value in fields.items()
        if value is not None
    }
