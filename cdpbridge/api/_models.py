"""What travels over the REST API, as pydantic models. The client reads them, the embedded server answers with them.

Names and fields follow the REST reference (v2). Answers are read leniently: unknown fields are kept in `model_extra`,
unknown enum values stay plain strings, a date-time without a zone is read as UTC. Requests are checked strictly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictBool,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

__all__ = [
    "PROXY_COUNTRY_CODES",
    "Account",
    "BrowserDownload",
    "BrowserDownloads",
    "BrowserRecording",
    "BrowserSession",
    "BrowserSessionStatus",
    "CreateBrowserSessionRequest",
    "CustomProxy",
    "HostPatterns",
    "HostTraffic",
    "Metadata",
    "Page",
    "PlanInfo",
    "Profile",
    "ProfileCreateRequest",
    "ProfileUpdateRequest",
    "RecordingStill",
    "UpdateBrowserSessionRequest",
    "country_spelling",
]

PROXY_COUNTRY_CODES: Final = ("us", "uk", "fr", "it", "jp", "au", "de", "fi", "ca", "in")
"""Countries of the REST reference (schema ProxyCountryCode). A server may know more."""


def country_spelling(code: str) -> str:
    """Return a country code as the REST reference spells it: lower case, and `uk` for the ISO code `gb`."""
    spelled = code.strip().lower()
    return "uk" if spelled == "gb" else spelled


T = TypeVar("T")


def _aware(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


Instant = Annotated[datetime, AfterValidator(_aware)]
"""An aware date-time; the reference's own examples carry no zone, SDK 3.x refuses answers without one."""

Usd = Annotated[
    Decimal, PlainSerializer(float, return_type=float, when_used="json"), WithJsonSchema({"type": "number"})
]
"""An amount in USD: exact here, a JSON number in answers, as the reference's schema says."""

UsdText = Annotated[Decimal, PlainSerializer(lambda amount: f"{amount:f}", return_type=str, when_used="json")]
"""An amount in USD that the newer answers send as a string."""

ADMIN_PATH: Final = "/admin/v1"
"""Where a server has the operator's operations, beside `/api/v2`; `cdpbridge.api.admin` has their calls."""

IGNORED_FIELDS_HEADER: Final = "X-Cdpbridge-Ignored-Fields"
"""Names of the request's fields that the server did not act on: percent-encoded, with commas between."""

MAX_METADATA_BYTES: Final = 16_384
"""Size of `metadata` as JSON in UTF-8. The reference has no bound, and the newer cloud's ten pairs are not in it."""


def metadata_bytes(metadata: dict[str, str]) -> int:
    """Return the size of `metadata` as it is sent; a text that is no valid Unicode counts as escaped."""
    return len(
        json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    )


def _bounded(metadata: dict[str, str]) -> dict[str, str]:
    size = metadata_bytes(metadata)
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"metadata may have {MAX_METADATA_BYTES} bytes as JSON, not {size}")
    return metadata


def _whole(value: Any) -> Any:
    """Accept `5.0`, which is an integer in JSON Schema; all else is left to the strict check."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Integer = Annotated[int, BeforeValidator(_whole), Field(strict=True)]
"""An integer as JSON Schema has it: `5` and `5.0`, and neither `"5"` nor `true`."""

HostPatterns = Annotated[list[Annotated[str, Field(max_length=300)]], Field(max_length=1000)]
"""Patterns of hosts, as the rules of what a browser may reach take them."""

Metadata = Annotated[dict[str, str], AfterValidator(_bounded)]
ScreenWidth = Annotated[Integer, Field(ge=320, le=6144)]
ScreenHeight = Annotated[Integer, Field(ge=320, le=3456)]


class Answer(BaseModel):
    """A body the server sends: lenient when read. What does not fit is not quoted: it may hold a `cdpUrl`."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="allow",
        hide_input_in_errors=True,
        # A program uses few of them, and each takes half a millisecond.
        defer_build=True,
    )


class Request(BaseModel):
    """A body the client sends. The server names the fields of it that are not here, see `server.routes._fields`."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")


class BrowserSessionStatus:
    """Values of `BrowserSession.status`; open, so compare with these and expect others."""

    ACTIVE: Final = "active"
    STOPPED: Final = "stopped"


class Page(Answer, Generic[T]):
    """One page of a list.

    Attributes:
        page_number: From 1.
        page_size: Entries per page, 1 to 100.
        total_items: Entries on all pages.
    """

    items: list[T]
    total_items: int
    page_number: int
    page_size: int


class PlanInfo(Answer):
    """The account's subscription."""

    plan_name: str
    subscription_status: str | None
    subscription_id: str | None
    subscription_current_period_end: str | None
    subscription_canceled_at: str | None


class Account(Answer):
    """The account's credit and limits.

    Attributes:
        rate_limit: Concurrent sessions allowed; the reference's older word for `concurrent_session_limit`.
        concurrent_session_limit: Concurrent sessions allowed; not in every server's answer.
        active_session_count: Sessions active now; not in every server's answer.
        credits_simulated: True when the money of this server is simulated, False when it is not; None where it does not say.
        usd_per_hour: Price of a browser hour; None where the server does not say.
    """

    name: str | None = None
    monthly_credits_balance_usd: Usd
    additional_credits_balance_usd: Usd
    total_credits_balance_usd: Usd
    rate_limit: int
    plan_info: PlanInfo
    project_id: UUID
    concurrent_session_limit: int | None = None
    active_session_count: int | None = None
    credits_simulated: bool | None = None
    usd_per_hour: UsdText | None = None


class Profile(Answer):
    """Saved browser state: cookies, localStorage, IndexedDB.

    Attributes:
        cookie_domains: Domains it holds cookies for, None when it was never saved.
        allowed_hosts: The only hosts that browsers with it may reach; None for all, and where the server knows no such lists.
        denied_hosts: Hosts that browsers with it may not reach; None as above.
    """

    id: UUID
    name: str | None = None
    last_used_at: Instant | None = None
    created_at: Instant
    updated_at: Instant
    cookie_domains: list[str] | None = None
    allowed_hosts: list[str] | None = None
    denied_hosts: list[str] | None = None


class HostTraffic(Answer):
    """Payload that a browser has exchanged with one host (a cdpbridge server only).

    Attributes:
        host: Its name or address, without a port; None for all hosts that are not counted one by one.
        bytes_sent: Towards it: bodies of plain requests, and everything in encrypted connections.
        bytes_received: From it, counted in the same way.
    """

    host: str | None = None
    bytes_sent: int
    bytes_received: int


class BrowserSession(Answer):
    """A rented browser as the REST API records it.

    Attributes:
        cdp_url: Full control of the browser: treat it as a password. None while it starts and after it stopped.
        live_url: The page to watch it; a password too.
        timeout_at: The server stops it then.
        profile_writable: False when another rental holds the profile's write lease, so this one is not saved.
        blocked_requests: How many requests the server's block lists have refused; None when they do not apply.
        allowed_hosts: The only hosts that its order lets it reach; None for all, and where the server knows no such lists.
        denied_hosts: Hosts that its order keeps it from; None as above.
        host_traffic: Bytes by host, the most first; the last entry may stand for all the others. None where the server does not say.
        profile_not_kept: What the profile does not keep here, e.g. `passwords`: the build of Chromium has no place for it.
        browser_cost: USD charged less refunded, where the server says.
        proxy_used_mb: Traffic through the country proxy in megabytes, where the server says.
        agent_session_id: The agent session whose browser it is, where the server says; that session stops it.
        recording_url: Signed address of its video, which ends after a while: treat it as a password. None while there is none.
        recording_available: False when there will be no video, so that no client waits for one.
        proxy_cost: USD charged for traffic, where the server says.
        proxy_country_code: Country of its proxy, where the server says.
        proxy_simulated: True when the country has no proxy on this server, so that traffic goes out directly.
        end_reason: Why it ended, where the server says.
        ignored_fields: Fields of the request that the server did not act on, where it says.
    """

    id: UUID
    status: str
    live_url: str | None = Field(default=None, repr=False)
    cdp_url: str | None = Field(default=None, repr=False)
    timeout_at: Instant
    started_at: Instant
    finished_at: Instant | None = None
    profile_writable: bool | None = None
    profile_not_kept: list[str] | None = None
    blocked_requests: int | None = None
    allowed_hosts: list[str] | None = None
    denied_hosts: list[str] | None = None
    host_traffic: list[HostTraffic] | None = None
    browser_cost: UsdText | None = None
    proxy_used_mb: UsdText | None = None
    agent_session_id: UUID | None = None
    recording_url: str | None = Field(default=None, repr=False)
    recording_available: bool | None = None
    proxy_cost: UsdText | None = None
    profile_id: UUID | None = None
    proxy_country_code: str | None = None
    proxy_simulated: bool | None = None
    metadata: dict[str, Any] | None = None
    end_reason: str | None = None
    ignored_fields: list[str] | None = None


class CustomProxy(Request):
    """A proxy of the caller's own instead of a country's (newer than the reference).

    Fields that are not known here are sent as they are: the server says what it makes of them.
    """

    model_config = ConfigDict(extra="allow")

    host: Annotated[str, Field(min_length=1, max_length=253)]
    port: Annotated[Integer, Field(ge=1, le=65535)]
    username: str | None = Field(default=None, repr=False)
    password: str | None = Field(default=None, repr=False)
    ignore_cert_errors: StrictBool = False

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Leave out unknown fields: they may be passwords."""
        extra = self.model_extra or {}
        return ((name, value) for name, value in super().__repr_args__() if name not in extra)


class BrowserDownload(Answer):
    """A file that a browser has downloaded (newer than the reference).

    Attributes:
        path: Its name.
        size: Bytes.
        url: Signed address, where it was asked for; it ends after a while, so treat it as a password.
    """

    path: str
    size: int
    last_modified: Instant
    url: str | None = Field(default=None, repr=False)


class BrowserDownloads(Answer):
    """Some of a browser's downloads.

    Attributes:
        next_cursor: Where the next ones begin.
    """

    files: list[BrowserDownload]
    next_cursor: str | None = None
    has_more: bool | None = None


class RecordingStill(Answer):
    """A browser's page at one moment.

    Attributes:
        size: Bytes of the JPEG.
        url: Signed address, which ends after a while.
    """

    name: str
    taken_at: Instant
    size: int
    url: str = Field(repr=False)


class BrowserRecording(Answer):
    """A browser's recording (a cdpbridge server only; the cloud has the `recording_url` of `BrowserSession`).

    Attributes:
        status: `"recording"`, `"saved"`, or why it is not whole: `"size_limit"`, `"server_lost"`, `"empty"`, `"failed"`.
        note: The same in words, when something is missing.
        url: Signed address of the video, a WebM file; None until it is finished, and when it was removed.
        size: Bytes of the video.
        stills: One a minute, and the last picture, in the order of time.
    """

    status: str
    note: str | None = None
    url: str | None = Field(default=None, repr=False)
    size: int | None = None
    stills: list[RecordingStill]


class CreateBrowserSessionRequest(Request):
    """Body of `POST /browsers`. Everything below `timeout` is newer than the reference.

    Attributes:
        timeout: Minutes. The reference gives no bounds; ours are 1 to what the plan allows, default 60.
        browser_screen_width: CSS pixels.
        browser_screen_height: CSS pixels.
        metadata: The caller's own words; lists can be filtered by them.
        enable_recording: Whether a video is made.
        block_ads: Whether the server's block lists apply; by default they do.
        allowed_hosts: The only hosts that it may reach (an extension of this server). A pattern is `example.com`, `*.example.com`
            for it and every name below, an address, a network such as `192.0.2.0/24`, or `*`, perhaps with `:port`.
        denied_hosts: Hosts that it may not reach, even so (an extension of this server).
    """

    profile_id: UUID | None = None
    proxy_country_code: str | None = None
    timeout: Annotated[Integer, Field(ge=1)] = 60
    browser_screen_width: ScreenWidth | None = None
    browser_screen_height: ScreenHeight | None = None
    custom_proxy: CustomProxy | None = None
    metadata: Metadata | None = None
    enable_recording: StrictBool = False
    block_ads: StrictBool | None = None
    allowed_hosts: HostPatterns | None = None
    denied_hosts: HostPatterns | None = None


class UpdateBrowserSessionRequest(Request):
    """Body of `PATCH /browsers/{id}`; `stop` is the only action there is."""

    action: Literal["stop"]


class ProfileCreateRequest(Request):
    """Body of `POST /profiles`.

    Attributes:
        allowed_hosts: As in `CreateBrowserSessionRequest`, for every browser with this profile (an extension of this server).
        denied_hosts: The same.
    """

    name: Annotated[str, Field(max_length=100)] | None = None
    allowed_hosts: HostPatterns | None = None
    denied_hosts: HostPatterns | None = None


class ProfileUpdateRequest(Request):
    """Body of `PATCH /profiles/{id}`; fields as in `ProfileCreateRequest`. What is left out stays as it is."""

    name: Annotated[str, Field(max_length=100)] | None = None
    allowed_hosts: HostPatterns | None = None
    denied_hosts: HostPatterns | None = None
