"""Where a client sends its requests, and with which key: the one rule of every client, command, plugin and setting."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Final, TypedDict
from urllib.parse import SplitResult, urlsplit, urlunsplit

from cdpbridge._environment import check_variables
from cdpbridge.errors import ConfigurationError

__all__ = [
    "BASE_URL_VARIABLE",
    "DEFAULT_BASE_URL",
    "KEY_VARIABLE",
    "LOCAL",
    "PROVIDER_VARIABLE",
    "Address",
    "Place",
    "checked_base_url",
    "checked_key",
    "find_place",
    "place_name",
    "shown_setting",
]

DEFAULT_BASE_URL: Final = "https://api.browser-use.com/api/v2"
"""The Browser Use Cloud (REST reference, servers)."""

LOCAL: Final = "local"
"""The word for the embedded server."""
PROVIDER_VARIABLE: Final = "CDPBRIDGE_PROVIDER"
BASE_URL_VARIABLE: Final = "CDPBRIDGE_BASE_URL"
KEY_VARIABLE: Final = "BROWSER_USE_API_KEY"

_PORTS: Final = {"http": 80, "https": 443}
_NOT_IN_A_URL: Final = re.compile(r"""[\s\x00-\x1f\x7f\\<>"`{}|^]""")
_NO_KEY: Final = (
    f"no API key: set {KEY_VARIABLE}, or give it as an argument; for browsers on this machine set {PROVIDER_VARIABLE}=local, "
    "or use local()"
)


class Address(TypedDict):
    """Where a client sends requests, with the key: keyword arguments of another client. A password."""

    base_url: str
    api_key: str


@dataclass(frozen=True, slots=True)
class Place:
    """A server and its key.

    Attributes:
        base_url: Of the REST API; None for the embedded server, which chooses its address and key itself.
        api_key: The key that was given for this server.
    """

    base_url: str | None
    api_key: str = field(default="", repr=False)

    @property
    def is_local(self) -> bool:
        """True for the embedded server."""
        return self.base_url is None


def find_place(
    environment: Mapping[str, str],
    where: str | None = None,
    api_key: str | None = None,
    *,
    otherwise_local: bool = False,
) -> Place:
    """Return the server that a call and the environment name, with the key that was given for it.

    1. **Where.** What the call names comes first: `cloud`, `local`, or a base URL. Without it, the environment decides:
       `CDPBRIDGE_PROVIDER` (the same words), or `CDPBRIDGE_BASE_URL`. When both are set they must name the same server.
       When neither is set, `BROWSER_USE_API_KEY` or a key in the call means the cloud. Without any of these,
       `open_browser`, commands and frameworks use the embedded server (`otherwise_local`); `Client` and `AsyncClient` ask
       for a key.
    2. **A key in the call** is for the server of the call. The embedded server makes its own key, so it takes none.
    3. **`BROWSER_USE_API_KEY`** is for the server that the environment names. If it names none, or `local`, the variable is
       for the cloud, or for the base URL that the call names without a key.
    4. **Anything else is refused**, and the message names both settings. No key is sent to a host (scheme, name, port) that
       it was not given for.

    When the call names a server and a key, or `local`, the environment is not read.

    Args:
        environment: Environment variables; an empty value counts as not set.
        where: `cloud`, `local` (in any case), or a base URL; None when the call does not say.
        api_key: None when the call does not say.
        otherwise_local: Whether the embedded server is used when nothing is said.

    Raises:
        ConfigurationError: Settings contradict each other, a word means nothing, a variable has a typo, a base URL is malformed, or there is no key.
    """
    named = None if where is None else _read(where)
    if named is not None and named.is_local:
        return _local(api_key, "local")
    if named is not None and api_key is not None:
        return Place(named.base_url, checked_key(api_key or _missing()))
    check_variables(environment)
    chosen, source = _of_environment(environment)
    key = environment.get(KEY_VARIABLE) or None
    if named is not None:
        assert named.base_url is not None
        if key is not None and chosen is not None and chosen.base_url is not None:
            _check_owner(named.base_url, chosen.base_url, source)
        if where is not None and _word(where) == "cloud" and chosen is not None and _same_host(chosen, named):
            named = chosen  # another version of the cloud's API
        return Place(named.base_url, checked_key(key or _missing()))
    if chosen is not None and chosen.is_local:
        return _local(api_key, source)
    if api_key is None and key is None and chosen is None and otherwise_local:
        return Place(None)
    found = chosen or Place(DEFAULT_BASE_URL)
    return Place(found.base_url, checked_key((key if api_key is None else api_key) or _missing()))


def _local(api_key: str | None, source: str) -> Place:
    if api_key is not None:
        raise ConfigurationError(
            f"api_key and {source} contradict each other: the embedded server makes its own key; leave the key out, or name "
            "its server by cloud(api_key) or at(base_url, api_key)"
        )
    return Place(None)


def _of_environment(environment: Mapping[str, str]) -> tuple[Place | None, str]:
    """Return the server that the environment names, if any, and the variable."""
    word, address = environment.get(PROVIDER_VARIABLE), environment.get(BASE_URL_VARIABLE)
    by_word = _read(word, PROVIDER_VARIABLE) if word else None
    by_address = Place(checked_base_url(address, BASE_URL_VARIABLE)) if address else None
    if by_word is None:
        return by_address, f"{BASE_URL_VARIABLE}={shown_setting(address or '')}"
    source = f"{PROVIDER_VARIABLE}={shown_setting(word or '')}"
    if by_address is None or by_word == by_address:
        return by_word, source
    if by_word.base_url == DEFAULT_BASE_URL and _same_host(by_word, by_address):
        return by_address, source  # another version of the cloud's API
    raise ConfigurationError(
        f"{source} and {BASE_URL_VARIABLE}={shown_setting(address or '')} name different servers: unset one of them, so that it "
        f"is clear whose key {KEY_VARIABLE} is"
    )


def _check_owner(base_url: str, owner: str, source: str) -> None:
    if _origin(base_url) != _origin(owner):
        raise ConfigurationError(
            f"{KEY_VARIABLE} was given for {source} and is not sent to {shown_setting(base_url)}: give that server's key as an "
            f"argument, or set {PROVIDER_VARIABLE}={shown_setting(base_url)} and {KEY_VARIABLE} together"
        )


def _missing() -> str:
    raise ConfigurationError(_NO_KEY)


def _read(where: str, variable: str | None = None) -> Place:
    """Return the server that a word or a base URL stands for, still without its key."""
    word = _word(where)
    if word == "cloud":
        return Place(DEFAULT_BASE_URL)
    if word == "local":
        return Place(None)
    if word.startswith(("http:", "https:")):
        return Place(checked_base_url(where, variable))
    shown = repr(shown_setting(where)) if variable is None else f"{variable}={shown_setting(where)!r}"
    raise ConfigurationError(f"unknown provider {shown}; use `cloud`, `local`, or a base URL (http://...)")


def _word(where: str) -> str:
    return where.strip().casefold()


def place_name(place: str) -> str:
    """Return the word for a server in receipts, progress and tables: `cloud`, `this machine`, or its host and port."""
    if place == LOCAL:
        return "this machine"
    if place == DEFAULT_BASE_URL:
        return "cloud"
    return urlsplit(place).netloc.rpartition("@")[2] or place


# --- addresses and keys -----------------------------------------------------------------------------------------------


def checked_key(api_key: str) -> str:
    """Check that an API key can stand in a header, and return it.

    Raises:
        ConfigurationError: It cannot; the message does not repeat it.
    """
    if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise ConfigurationError(
            "the API key must be printable ASCII without spaces; check for a line break or a quote"
        )
    return api_key


def checked_base_url(base_url: str, variable: str | None = None) -> str:
    """Return a base URL in one spelling: scheme and host in lower case, no default port, no slash at its end.

    Args:
        base_url: `http(s)://host[:port][/path]`.
        variable: Where it was set, for the message.

    Raises:
        ConfigurationError: It is something else. The message repeats no credentials.
    """
    text = base_url.strip()
    if problem := _problem(text):
        source = "the base URL" if variable is None else f"the base URL in {variable}"
        raise ConfigurationError(
            f"{source} must be http(s)://host[:port][/path], e.g. {DEFAULT_BASE_URL}: {problem}"
        )
    parts = urlsplit(text)
    return urlunsplit((parts.scheme, _authority(parts), parts.path.rstrip("/"), "", ""))


def _problem(text: str) -> str:
    """Return what is wrong with a base URL; empty if nothing is."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        return str(error).removesuffix(".")
    if "@" in parts.netloc:
        return f"it holds credentials; the API key is given beside it, as an argument or in {KEY_VARIABLE}"
    if parts.scheme not in _PORTS:
        return f"{shown_setting(text)!r} does not begin with http:// or https://"
    if not parts.hostname or port == 0 or _NOT_IN_A_URL.search(text):
        return f"{shown_setting(text)!r} names no host and port"
    if parts.query or parts.fragment:
        return "it has a query or a fragment"
    return ""


def _authority(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if ":" in host:
        with suppress(ValueError):  # an address with a zone stays as it is
            host = IPv6Address(host).compressed
        host = f"[{host}]"
    return host if parts.port in {None, _PORTS[parts.scheme]} else f"{host}:{parts.port}"


def _origin(base_url: str) -> tuple[str, str]:
    parts = urlsplit(base_url)
    return parts.scheme, parts.netloc


def _same_host(one: Place, other: Place) -> bool:
    if one.base_url is None or other.base_url is None:
        return False
    return _origin(one.base_url) == _origin(other.base_url)


def shown_setting(text: str) -> str:
    """Return a setting's value for a message, without parts that may be a password."""
    head, at, tail = text.strip().rpartition("@")
    if at:
        scheme, separator, _ = head.partition("://")
        text = f"{scheme}://***@{tail}" if separator else f"***@{tail}"
    return text.split("?", maxsplit=1)[0].split("#", maxsplit=1)[0]
