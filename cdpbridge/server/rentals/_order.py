"""`Order`: the browser that a request asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

from cdpbridge.billing import Tariff
from cdpbridge.server.proxy import HostLists
from cdpbridge.server.store import NewAgentSession

__all__ = ["Order"]


@dataclass(frozen=True, slots=True)
class Order:
    """A browser that a client asks for, checked.

    Attributes:
        proxy: Upstream of the country, `"direct"`, or None for no proxy.
        own_proxy: `proxy` is the client's own (`customProxy`), not one of the operator's.
        proxy_simulated: The country has no upstream; its traffic goes out directly.
        ignored_fields: Fields of the request that nothing here acts on.
        key_id: Of the API key that it was ordered with.
        orderer_left: Returns True when the program that ordered it, one that shares the server, has ended.
        readable: Files and folders of this machine that it may read; None for those of the server's settings.
        labels: The caller's `metadata`.
        agent_session: Made with the browser, which is its own.
        start_url: Page that is open when the browser is ready, or soon after.
        screen: Width and height of its window, CSS pixels.
        ignore_certificate_errors: For a proxy that looks into TLS.
        recording: Whether a video is made.
        top_up: USD that the project is granted when its credits are used up; None to refuse then.
        block_ads: Whether the server's block lists apply.
        hosts: What the request lets it reach.
        profile_hosts: What its profile lets it reach; both apply, within what the server does.
    """

    timeout: timedelta
    tariff: Tariff
    limit: int
    profile_id: UUID | None = None
    proxy_country: str | None = None
    proxy: str | None = field(default=None, repr=False)
    own_proxy: bool = False
    proxy_simulated: bool = False
    ignored_fields: Sequence[str] | None = None
    key_id: UUID | None = None
    orderer_left: Callable[[], bool] = bool
    readable: tuple[Path, ...] | None = None
    labels: Mapping[str, str] | None = None
    agent_session: NewAgentSession | None = None
    start_url: str | None = None
    screen: tuple[int, int] | None = None
    ignore_certificate_errors: bool = False
    recording: bool = False
    top_up: Decimal | None = None
    block_ads: bool = True
    hosts: HostLists = field(default_factory=HostLists)
    profile_hosts: HostLists = field(default_factory=HostLists)
