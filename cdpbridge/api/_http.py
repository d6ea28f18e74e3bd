"""From httpx to our models and errors: build requests, read answers, name failures."""

from __future__ import annotations

import json
import logging
import os
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any, Final, Generic, Protocol, TypeVar, cast, get_origin
from urllib.parse import unquote, urlsplit
from uuid import UUID

from pydantic import BaseModel, TypeAdapter, ValidationError

from cdpbridge._loopback import is_loopback
from cdpbridge._version import __version__
from cdpbridge.errors import (
    APIConnectionError,
    APIError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ConflictError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    UnprocessableEntityError,
)

from ._httpx import httpx
from ._models import IGNORED_FIELDS_HEADER, Account, BrowserSession, Page
from ._problems import problems_of
from ._retry import retry_after_seconds
from .calls._base import Call

__all__ = [
    "KEY_HEADER",
    "HTTPAnswer",
    "IgnoredFieldsLog",
    "RawResponse",
    "failure",
    "http_options",
    "prepare_http",
    "prepare_models",
    "read_answer",
    "readable_environment",
    "request_of",
    "timeout_of",
    "transfer_error",
    "transfer_timeout",
]

logger = logging.getLogger("cdpbridge")

T = TypeVar("T")

_building: Final = threading.Lock()

KEY_HEADER: Final = "X-Browser-Use-API-Key"
_CONNECT_SECONDS: Final = 10.0
# A hosted browser is answered when it runs, which can take a while on a busy service.
_SLOW_SECONDS: Final = 120.0
_SHOWN_CHARACTERS: Final = 300
_SHORTEST_SECRET: Final = 6  # a test's key `k` would be cut out of every word
_INVISIBLE: Final = re.compile(r"<(script|style)\b.*?</\1>|<!--.*?-->|<[^>]*>", re.DOTALL | re.IGNORECASE)

_VERSIONED: Final = re.compile(r"/v\d+$")

# Amazon's form of a refusal, which stores of other makers follow.
_STORE_REASON: Final = re.compile(r"<Code>([^<]*)</Code>")
_STORE_MESSAGE: Final = re.compile(r"<Message>([^<]*)</Message>")

_STATUS_ERRORS: Final[dict[int, type[APIStatusError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}


def _without_signatures(record: logging.LogRecord) -> bool:
    """Mask signatures: httpx logs the address of every request at INFO, and a presigned address is a password."""
    if isinstance(record.args, tuple):
        record.args = tuple(_masked(arg) if isinstance(arg, httpx.URL) else arg for arg in record.args)
    return True


def _masked(url: httpx.URL) -> httpx.URL | str:
    signed = any(name.lower().endswith("signature") for name in url.params)
    return f"{url.copy_with(query=None)}?..." if signed else url


logging.getLogger("httpx").addFilter(_without_signatures)

_Failure = tuple[type["httpx.TransportError"], type[APIConnectionError], bool, str]


@cache
def _failures() -> tuple[_Failure, ...]:
    """Return httpx's failures by what they prove: whether the request may have reached the server. The first that fits counts."""
    return (
        (httpx.ConnectTimeout, APITimeoutError, False, "no connection in time"),
        (httpx.PoolTimeout, APITimeoutError, False, "no free connection in time"),
        (httpx.TimeoutException, APITimeoutError, True, "no answer in time"),
        (httpx.ConnectError, APIConnectionError, False, "no connection"),
        (httpx.ProxyError, APIConnectionError, False, "the proxy of the environment refused the connection"),
        (httpx.TransportError, APIConnectionError, True, "the connection broke"),
    )


class HTTPAnswer(Protocol):
    """What is read of an answer, httpx's or another one's."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def content(self) -> bytes: ...

    def json(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class RawResponse(Generic[T]):
    """An answer with what came around it.

    Attributes:
        status: HTTP status.
        headers: Names in any case.
        body: Its bytes; they may hold addresses that are passwords.
        parsed: The model in it.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    parsed: T

    @classmethod
    def of(cls, response: HTTPAnswer, parsed: T) -> RawResponse[T]:
        """Make one from what came."""
        return cls(response.status_code, response.headers, response.content, parsed)

    @property
    def request_id(self) -> str | None:
        """The server's `X-Request-Id`, if it sent one."""
        return self.headers.get("X-Request-Id")


def http_options(base_url: str) -> dict[str, Any]:
    """Return arguments of httpx's `Client` and `AsyncClient`."""
    return {
        # A server on this machine is never behind the proxy of the environment; certificates are read from it all the same.
        "trust_env": not is_loopback(urlsplit(base_url).hostname or ""),
        "verify": _ssl_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")),
    }


@lru_cache(maxsize=4)
def _ssl_context(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    """Return the context of all clients in this environment: reading the certificates takes 16 ms of the event loop each time."""
    return httpx.create_ssl_context()


# What a server is asked for before a browser is rented, and for the browser.
_FIRST_ANSWERS: Final = (Account, Page[BrowserSession], BrowserSession)


def prepare_models() -> None:
    """Build beforehand what the first answers are read into."""
    for model in _FIRST_ANSWERS:
        _build(model)


def prepare_http() -> None:
    """Do beforehand what the first client and its first requests need: imports, certificates, models. 0.1 s of CPU."""
    try:
        certificates = _ssl_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    except OSError as error:  # the client that is made next says what is wrong with them
        logger.debug("the certificates of the environment cannot be read: %s", error)
    else:
        # The first client imports half of httpx. This one opens no connection.
        httpx.Client(verify=certificates, trust_env=False).close()
    prepare_models()


@contextmanager
def readable_environment() -> Iterator[None]:
    """Run a block in which an httpx client is made, which reads the environment's proxies and certificates.

    Raises:
        ConfigurationError: They cannot be used.
    """
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"the certificates named by SSL_CERT_FILE or SSL_CERT_DIR cannot be used: {error}"
        ) from error
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        raise ConfigurationError(
            f"the environment's proxy (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) cannot be used ({type(error).__name__}): "
            "correct it, name the server in NO_PROXY, or install httpx[socks] for a SOCKS proxy"
        ) from error


def request_of(call: Call[Any], base_url: str, api_key: str, timeout_seconds: float) -> dict[str, Any]:
    """Return the arguments of httpx's `request`; all of them, since the client may be the user's own."""
    headers = {
        KEY_HEADER: api_key,
        "User-Agent": f"cdpbridge/{__version__}",
        "Accept": "application/json",
        **call.headers,
    }
    options: dict[str, Any] = {
        "method": call.method,
        "url": base_url + call.path,
        "headers": headers,
        # To connect, to read, to write, to get a connection.
        "timeout": (min(_CONNECT_SECONDS, timeout_seconds), *(timeout_seconds,) * 3),
        "follow_redirects": False,  # the key would go along
    }
    if call.query:
        options["params"] = dict(call.query)
    if call.body is not None:
        headers["Content-Type"] = "application/json"
        options["content"] = json.dumps(call.body).encode("ascii")  # httpx's own cannot send a lone surrogate
    return options


def timeout_of(call: Call[Any], timeout_seconds: float) -> float:
    """Return how long one try may take, seconds."""
    return max(timeout_seconds, _SLOW_SECONDS) if call.slow else timeout_seconds


def failure(call: Call[Any], error: httpx.HTTPError | httpx.InvalidURL) -> APIError:
    """Return the error for a request without an answer; raise it from `error`.

    `error` loses its own chain and frames: sixty lines of a library's inside bury the one that helps.
    """
    error.with_traceback(None)
    error.__cause__ = None
    error.__suppress_context__ = True
    for kind, ours, maybe_processed, words in _failures():
        if isinstance(error, kind):
            text = f"{words}{_server_of(error)}"
            if str(error):
                text += f" ({error})"
            text += _proxy_hint(error)
            if isinstance(error, httpx.ConnectError):
                text += "; does the server run, and is that its address?"
            return ours(text, method=call.method, path=call.path, maybe_processed=maybe_processed)
    return APIResponseError(f"{type(error).__name__}: {error}", method=call.method, path=call.path)


def read_answer(call: Call[T], response: HTTPAnswer, *, secret: str) -> T:
    """Return the model in an answer.

    Args:
        call: What was asked.
        response: What came.
        secret: The API key; a server that repeats it does not get it into our errors.

    Raises:
        APIStatusError: The status is 400 or above.
        APIResponseError: The answer is not what the contract says.
    """
    if response.status_code >= 400:
        raise _status_error(call, response, secret)
    if response.status_code >= 300:
        raise APIResponseError(
            f"{response.status_code}: the server redirects; correct the base URL",
            method=call.method,
            path=call.path,
        )
    if call.answer is None:
        return cast("T", None)
    try:
        return _adapter(call.answer).validate_json(response.content)
    except ValidationError as error:
        problems = problems_of(error, whole="body")
        text = _text(response, secret)
        if text and text[0] not in "{[":  # a page; torn JSON is not shown, it may hold addresses
            problems = f"it begins with {_visible(text)!r}; is the base URL the API's?"
        raise APIResponseError(
            f"{response.status_code} with an answer that does not fit the contract ({problems})",
            method=call.method,
            path=call.path,
            answer_id=_id_in(response),
        ) from error


class IgnoredFieldsLog:
    """Says once for each field that the server did not act on it.

    Our server names such fields in a header; others drop them without a word.
    """

    def __init__(self) -> None:
        self._said: set[tuple[str, str]] = set()

    def note(self, call: Call[Any], response: HTTPAnswer) -> None:
        """Warn of the fields named in `response` that were not warned of before, for calls of this kind."""
        text = response.headers.get(IGNORED_FIELDS_HEADER)
        if text is None:
            return
        kind = f"{call.method} /{call.path.split('/')[1]}"
        names = [unquote(name.strip()) for name in text.split(",")]
        new = [name for name in names if name and (kind, name) not in self._said]
        self._said.update((kind, name) for name in new)
        if new:
            logger.warning("%s: the server does not act on %s", kind, ", ".join(map(repr, new)))


def _id_in(response: HTTPAnswer) -> str | None:
    try:
        found = response.json()
        return str(UUID(found["id"])) if isinstance(found, dict) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _adapter(kind: type[T]) -> TypeAdapter[T]:
    # A call of the user's own may answer with `dict[str, int]`, which is no class.
    if get_origin(kind) is None and issubclass(kind, BaseModel):
        # An adapter of a model that is not built (`defer_build`) forgets `hide_input_in_errors`, and would show a `cdpUrl` or a key.
        _build(kind)
    return TypeAdapter(kind)


def _build(model: type[BaseModel]) -> None:
    # Older releases of pydantic have no lock for it, and take apart what another thread has just built.
    with _building:
        model.model_rebuild()


def _status_error(call: Call[Any], response: HTTPAnswer, secret: str) -> APIStatusError:
    text = _text(response, secret)
    try:
        body = json.loads(text)
        detail = body.get("detail", body.get("message")) if isinstance(body, dict) else None
    except (ValueError, RecursionError):  # not the API itself, e.g. a proxy's page
        detail = _visible(text) or None
    if isinstance(detail, list):
        detail = [_located(item) for item in detail]
    if response.status_code == 404 and (hint := _base_url_hint(call, response, detail)):
        detail = hint
    return _refusal(call, response, detail)


def _base_url_hint(call: Call[Any], response: HTTPAnswer, detail: Any) -> str:
    """Return what to correct when a server does not know the path, and the base URL has no version at its end."""
    try:
        url = cast("httpx.Response", response).request.url
    except (AttributeError, RuntimeError):  # of an embedded server, whose address is right; or made by hand
        return ""
    base_url = str(url.copy_with(query=None)).removesuffix(call.path)
    by_the_api = isinstance(detail, str) and detail != "Not Found" and "html" not in _media_type(response)
    if by_the_api or _VERSIONED.search(base_url):
        return ""
    return f"Not Found; the base URL {base_url} has no version at its end: is it {base_url}/api/v2?"


def _media_type(response: HTTPAnswer) -> str:
    return str(response.headers.get("Content-Type", "")).casefold()


def _refusal(call: Call[Any], response: HTTPAnswer, detail: Any) -> APIStatusError:
    kind = _STATUS_ERRORS.get(
        response.status_code, ServerError if response.status_code >= 500 else APIStatusError
    )
    return kind(
        status=response.status_code,
        method=call.method,
        path=call.path,
        detail=detail,
        request_id=response.headers.get("X-Request-Id"),
        retry_after=retry_after_seconds(response.headers.get("Retry-After"), now=datetime.now(UTC)),
    )


def transfer_timeout(timeout_seconds: float) -> httpx.Timeout:
    """Return the timeouts for files: they limit silence, not the whole transfer."""
    return httpx.Timeout(timeout_seconds, connect=min(_CONNECT_SECONDS, timeout_seconds))


def transfer_error(call: Call[Any], response: HTTPAnswer) -> APIError:
    """Return the error for a refused signed address. A store's page repeats the signature, so only its reason is kept."""
    if response.status_code < 400:
        return APIResponseError(
            f"{response.status_code}: the store of files redirects", method=call.method, path=call.path
        )
    text = response.content.decode("utf-8", "replace")
    try:
        body = json.loads(text)
        detail = body.get("detail") if isinstance(body, dict) else None
    except (ValueError, RecursionError):
        reasons = (_STORE_REASON.search(text), _STORE_MESSAGE.search(text))
        detail = ": ".join(_visible(found[1]) for found in reasons if found) or None
    return _refusal(call, response, detail)


def _text(response: HTTPAnswer, secret: str) -> str:
    text = response.content.decode("utf-8", "replace").strip()
    return text.replace(secret, "***") if len(secret) >= _SHORTEST_SECRET else text


def _visible(text: str) -> str:
    """Return the beginning of what a page shows."""
    return " ".join(_INVISIBLE.sub(" ", text).split())[:_SHOWN_CHARACTERS]


def _located(item: Any) -> Any:
    """Return an entry of a 422's list; a `loc` that is no list is not the reference's, and is left out."""
    if isinstance(item, dict) and not isinstance(item.get("loc", []), list):
        return {name: value for name, value in item.items() if name != "loc"}
    return item


def _server_of(error: httpx.HTTPError | httpx.InvalidURL) -> str:
    """Name the server that a request was for, by scheme, host and port."""
    request = getattr(error, "_request", None)
    if request is None:
        return ""
    url = request.url
    return f": {url.scheme}://{url.netloc.decode('ascii', 'replace').rpartition('@')[2]}"


def _proxy_hint(error: httpx.HTTPError | httpx.InvalidURL) -> str:
    """Name the proxy of the environment that stood in between, without its credentials."""
    request = getattr(error, "_request", None)
    if not isinstance(error, httpx.ConnectError | httpx.ProxyError | httpx.ConnectTimeout) or request is None:
        return ""
    if is_loopback(request.url.host):
        return ""
    names = (f"{request.url.scheme}_proxy", "all_proxy")
    for name in (spelling for base in names for spelling in (base, base.upper())):
        if value := os.environ.get(name):
            return f"; {name} sends requests through {urlsplit(value).hostname or 'a proxy'}"
    return ""
